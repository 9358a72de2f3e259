import Benchmark from 'benchmark';
import { TopicEntry, TopicTable } from '../../src/topic/cache.js';
import { hashKeys } from '../../src/topic/hash.js';

const CAPACITY = 65_536;

function topicsOf(count: number): Buffer[] {
  return Array.from({ length: count }, (_, i) => Buffer.from(`site/${i % 977}/m-${i}/temp`));
}

function filled(topics: readonly Buffer[]): TopicTable<TopicEntry> {
  const table = new TopicTable<TopicEntry>(hashKeys(99), CAPACITY);
  for (const topic of topics) table.insert(topic, 0, topic.length, new TopicEntry());
  return table;
}

/** Cached finds of topics of 17 to 24 bytes; goal: under 60 ns where the entries are in the processor's cache. */
export function suite(): Benchmark.Suite {
  const few = topicsOf(1024);
  const many = topicsOf(CAPACITY);
  const small = filled(few);
  const full = filled(many);
  const absent = Buffer.from('site/12/m-none/temp');
  const out: TopicEntry[] = [];
  let turn = 0;
  return new Benchmark.Suite('topic cache')
    .add('find a hit, 1,024 topics', () => {
      const topic = few[turn++ & 1023]!;
      small.find(topic, 0, topic.length);
    })
    .add('find a hit, 65,536 topics', () => {
      const topic = many[turn++ & (CAPACITY - 1)]!;
      full.find(topic, 0, topic.length);
    })
    .add('find a miss, 65,536 topics', () => {
      full.find(absent, 0, absent.length);
    })
    .add('insert with eviction, 65,536 topics', () => {
      const topic = Buffer.from(`other/${turn++}/x`);
      full.insert(topic, 0, topic.length, new TopicEntry());
    })
    .add('collect an exact filter', () => {
      out.length = 0;
      small.collect('site/5/m-5/temp', out);
    })
    .add('collect site/+/m-5/temp of 1,024', () => {
      out.length = 0;
      small.collect('site/+/m-5/temp', out);
    });
}
