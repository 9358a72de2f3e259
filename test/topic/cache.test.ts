import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TopicEntry, TopicTable } from '../../src/topic/cache.js';
import { hashKeys } from '../../src/topic/hash.js';
import { matches } from '../../src/topic/topic.js';
import { arbFilter, arbTopic } from './arbitrary.js';

class NamedEntry extends TopicEntry {
  readonly name: string;
  constructor(name: string) {
    super();
    this.name = name;
  }
}

const keys = hashKeys(3);

function find(table: TopicTable<NamedEntry>, name: string): NamedEntry | undefined {
  const bytes = Buffer.from(`0${name}1`);
  return table.find(bytes, 1, bytes.length - 1);
}

function insert(table: TopicTable<NamedEntry>, name: string): [NamedEntry, NamedEntry | undefined] {
  const bytes = Buffer.from(`0${name}1`);
  const entry = new NamedEntry(name);
  return [entry, table.insert(bytes, 1, bytes.length - 1, entry)];
}

describe('TopicTable', () => {
  test('behaves as a Map while there is room', () => {
    const step = fc.record({ name: arbTopic, action: fc.constantFrom('insert', 'delete', 'find') });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), arbFilter, (steps, filter) => {
        const table = new TopicTable<NamedEntry>(keys, 1000);
        const model = new Map<string, NamedEntry>();
        for (const { name, action } of steps) {
          const held = model.get(name);
          if (action === 'insert') {
            const [entry, gone] = insert(table, name);
            expect(gone).toBe(held);
            if (held) expect(held.slot).toBe(-1);
            model.set(name, entry);
          } else if (action === 'delete' && held) {
            expect(table.delete(held)).toBe(true);
            expect(table.delete(held)).toBe(false);
            model.delete(name);
          } else expect(find(table, name)).toBe(held);
        }
        expect(table.size).toBe(model.size);
        for (const [name, entry] of model) {
          expect(find(table, name)).toBe(entry);
          expect(entry.topicBytes.toString()).toBe(name);
        }
        const out: NamedEntry[] = [];
        table.collect(filter, out);
        const wanted = [...model.keys()].filter(name => matches(filter, name));
        expect(out.map(entry => entry.name).sort()).toEqual(wanted.sort());
      }),
      { numRuns: 300 },
    );
  });

  test('never holds more than its capacity, and stays consistent while evicting', () => {
    const names = fc.array(
      fc.nat(60).map(n => `t/${n}/${n % 7 === 0 ? 'a-long-level-indeed' : 'x'}`),
      { maxLength: 400 },
    );
    fc.assert(
      fc.property(names, fc.integer({ min: 1, max: 20 }), (inserted, capacity) => {
        const table = new TopicTable<NamedEntry>(keys, capacity);
        const model = new Map<string, NamedEntry>();
        for (const name of inserted) {
          const known = find(table, name);
          expect(known).toBe(model.get(name));
          if (known) continue;
          const [entry, gone] = insert(table, name);
          if (gone) {
            expect(model.delete(gone.name)).toBe(true);
            expect(gone.slot).toBe(-1);
          }
          model.set(name, entry);
          expect(table.size).toBeLessThanOrEqual(capacity);
        }
        const out: NamedEntry[] = [];
        table.collect('#', out);
        expect(new Set(out)).toEqual(new Set(model.values()));
      }),
      { numRuns: 200 },
    );
  });

  test('what is hit stays, what is not goes', () => {
    const table = new TopicTable<NamedEntry>(keys, 100);
    const hot = Array.from({ length: 10 }, (_, i) => `hot/${i}`);
    for (const name of hot) insert(table, name);
    for (let i = 0; i < 5000; i++) {
      insert(table, `cold/${i}`);
      for (const name of hot) expect(find(table, name)?.name).toBe(name);
    }
    expect(table.evictions).toBe(5010 - 100);
    expect(table.hits).toBe(50_000);
    expect(find(table, 'cold/0')).toBeUndefined();
    expect(table.misses).toBe(1);
  });

  test('entries collected can be deleted one by one (invalidation)', () => {
    const table = new TopicTable<NamedEntry>(keys, 10_000);
    for (let i = 0; i < 10_000; i++) insert(table, `a/${i % 100}/${i}`);
    const out: NamedEntry[] = [];
    table.collect('a/+/42', out);
    table.collect('a/7/#', out);
    expect(out).toHaveLength(101);
    for (const entry of out) table.delete(entry);
    expect(table.size).toBe(10_000 - 101);
    for (let i = 0; i < 10_000; i++)
      expect(find(table, `a/${i % 100}/${i}`) === undefined).toBe(i === 42 || i % 100 === 7);
  });

  test('the topic is a copy: the packet may be overwritten', () => {
    const table = new TopicTable<NamedEntry>(keys, 10);
    for (const name of ['short/topic', 'long/'.repeat(200)]) {
      const packet = Buffer.from(name);
      table.insert(packet, 0, packet.length, new NamedEntry(name));
      packet.fill(0x78);
      expect(find(table, name)?.topicBytes.toString()).toBe(name);
    }
  });

  test('clear lets every entry go', () => {
    const table = new TopicTable<NamedEntry>(keys, 10);
    const [entry] = insert(table, 'a');
    table.clear();
    expect(entry.slot).toBe(-1);
    expect(find(table, 'a')).toBeUndefined();
    insert(table, 'a');
    expect(find(table, 'a')?.name).toBe('a');
  });

  test('an entry belongs to one table', () => {
    const one = new TopicTable<NamedEntry>(keys, 10);
    const [entry] = insert(one, 'a');
    expect(() => one.insert(Buffer.from('b'), 0, 1, entry)).toThrow(/one table/);
  });
});
