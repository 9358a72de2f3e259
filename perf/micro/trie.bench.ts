import Benchmark from 'benchmark';
import { hashKeys } from '../../src/topic/hash.js';
import { TopicTrie } from '../../src/topic/trie.js';

const FILTER_COUNT = 1_000_000;
const TOPIC_COUNT = 65_536;

const SITES = 2_000;
const MACHINES = 5_000;
const SENSORS = ['temperature', 'pressure', 'rpm', 'vibration', 'power', 'state', 'alarm', 'gps'];

/** A fixed sequence, so that every run measures the same trie. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / 0x100_0000;
  };
}

function pick(next: () => number, count: number): number {
  return Math.floor(next() * count);
}

function topicOf(next: () => number): string {
  return `site/${pick(next, SITES)}/machine-${pick(next, MACHINES)}/${SENSORS[pick(next, SENSORS.length)]}`;
}

/** 60 % exact, 25 % with `+`, 15 % with `#`; distinct as far as chance makes them. */
function filterOf(next: () => number): string {
  const levels = topicOf(next).split('/');
  const kind = next();
  if (kind < 0.6) return levels.join('/');
  if (kind < 0.85) {
    levels[1 + pick(next, 3)] = '+';
    return levels.join('/');
  }
  // Rarely close to the root, or every topic would yield thousands of values.
  return next() < 0.02 ? `${levels.slice(0, 2).join('/')}/#` : `${levels.slice(0, 3).join('/')}/#`;
}

/** A trie of a million distinct filters and topics to match; topics are many, so the processor caches stay cold. */
export function millionFilters(): {
  trie: TopicTrie<number>;
  topics: Buffer[];
  buildMs: number;
  slowestAddMs: number;
} {
  const next = random(42);
  const trie = new TopicTrie<number>(hashKeys(99));
  const topics = Array.from({ length: TOPIC_COUNT }, () => Buffer.from(topicOf(next)));
  let slowestAddMs = 0;
  const began = performance.now();
  for (let i = 0; trie.sizeFilters < FILTER_COUNT; i++) {
    const filter = filterOf(next);
    const before = performance.now();
    trie.add(filter, i);
    slowestAddMs = Math.max(slowestAddMs, performance.now() - before);
  }
  return { trie, topics, buildMs: performance.now() - began, slowestAddMs };
}

/** Uncached matches in a million filters; goal: median under 5 µs. */
export function suite(): Benchmark.Suite {
  const { trie, topics } = millionFilters();
  const texts = topics.map(topic => topic.toString());
  const out: number[] = [];
  let turn = 0;
  return new Benchmark.Suite('trie')
    .add('match bytes in 1,000,000 filters', () => {
      const topic = topics[turn++ & (TOPIC_COUNT - 1)]!;
      out.length = 0;
      trie.matchBytes(topic, 0, topic.length, out);
    })
    .add('match text in 1,000,000 filters', () => {
      out.length = 0;
      trie.match(texts[turn++ & (TOPIC_COUNT - 1)]!, out);
    })
    .add('add and remove one of 1,000,000 filters', () => {
      const filter = `${texts[turn++ & (TOPIC_COUNT - 1)]!}/+/x`;
      trie.add(filter, -1);
      trie.remove(filter, -1);
    });
}
