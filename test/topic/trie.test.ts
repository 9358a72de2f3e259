import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hashKeys } from '../../src/topic/hash.js';
import { matches } from '../../src/topic/topic.js';
import { TopicTrie } from '../../src/topic/trie.js';
import { ADVERSARIAL_FILTERS, ADVERSARIAL_TOPICS, arbFilter, arbTopic } from './arbitrary.js';

const keys = hashKeys(7);

function found<V>(trie: TopicTrie<V>, topic: string): V[] {
  const out: V[] = [];
  trie.match(topic, out);
  return out.sort();
}

/** What the trie must be equal to: a plain list. */
function oracle<V>(pairs: readonly (readonly [string, V])[], topic: string): V[] {
  return pairs
    .filter(([filter]) => matches(filter, topic))
    .map(([, value]) => value)
    .sort();
}

function trieOf<V>(pairs: readonly (readonly [string, V])[]): TopicTrie<V> {
  const trie = new TopicTrie<V>(keys);
  for (const [filter, value] of pairs) trie.add(filter, value);
  return trie;
}

describe('TopicTrie', () => {
  test('agrees with the oracle on the awkward cases', () => {
    const pairs = ADVERSARIAL_FILTERS.map(filter => [filter, filter] as const);
    const trie = trieOf(pairs);
    for (const topic of ADVERSARIAL_TOPICS) expect(found(trie, topic), topic).toEqual(oracle(pairs, topic));
  });

  test('leading wildcards do not match $-topics, later ones do [MQTT-4.7.2-1]', () => {
    const trie = trieOf(['#', '+/x', '+/#', '$SYS/#', '$SYS/+', '$SYS/x', '/#'].map(f => [f, f] as const));
    expect(found(trie, '$SYS/x')).toEqual(['$SYS/#', '$SYS/+', '$SYS/x']);
    expect(found(trie, '$SYS')).toEqual(['$SYS/#']);
    expect(found(trie, 'a/$SYS')).toEqual(['#', '+/#']);
  });

  test('a/# matches a, but a/+/# does not match a', () => {
    const trie = trieOf(['a/#', 'a/+/#', 'a/+'].map(f => [f, f] as const));
    expect(found(trie, 'a')).toEqual(['a/#']);
    expect(found(trie, 'a/')).toEqual(['a/#', 'a/+', 'a/+/#']);
  });

  test('matches as the oracle does, after any adds and removes', () => {
    const step = fc.record({ filter: arbFilter, value: fc.nat(3), add: fc.boolean() });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 60 }),
        fc.array(arbTopic, { maxLength: 10 }),
        (steps, topics) => {
          const trie = new TopicTrie<number>(keys);
          const model = new Map<string, Set<number>>();
          for (const { filter, value, add } of steps) {
            const values = model.get(filter) ?? new Set();
            expect(add ? trie.add(filter, value) : trie.remove(filter, value)).toBe(
              add ? !values.has(value) : values.has(value),
            );
            if (add) model.set(filter, values.add(value));
            else if (values.delete(value) && values.size === 0) model.delete(filter);
          }
          const pairs = [...model].flatMap(([filter, values]) =>
            [...values].map(value => [filter, value] as [string, number]),
          );
          expect(trie.sizeFilters).toBe(model.size);
          expect(trie.sizeValues).toBe(pairs.length);
          expect([...trie.entries()].sort()).toEqual(pairs.sort());
          for (const [filter, values] of model) expect(trie.get(filter).sort()).toEqual([...values].sort());
          for (const topic of topics) expect(found(trie, topic)).toEqual(oracle(pairs, topic));
        },
      ),
      { numRuns: 500 },
    );
  });

  test('removal prunes: an emptied trie holds no node, and a partly emptied one only what is needed', () => {
    const trie = new TopicTrie<number>(keys);
    const filters = Array.from(
      { length: 3000 },
      (_, i) => `site/${i % 50}/a-rather-long-level-name-${i}/+/x${i}/#`,
    );
    for (const filter of filters) trie.add(filter, 1);
    const full = trie.nodeCount;
    for (const filter of filters.slice(10)) expect(trie.remove(filter, 1)).toBe(true);
    expect(trie.nodeCount).toBeLessThanOrEqual(2 + 10 * 4);
    for (const filter of filters.slice(10)) trie.add(filter, 1);
    expect(trie.nodeCount).toBe(full);
    for (const filter of filters) expect(trie.remove(filter, 1)).toBe(true);
    expect(trie.nodeCount).toBe(1);
    expect(trie.sizeFilters).toBe(0);
    expect(found(trie, 'site/1/x')).toEqual([]);
  });

  test('many values on one filter: each once, removed in any order', () => {
    const trie = new TopicTrie<number>(keys);
    for (let i = 0; i < 20_000; i++) expect(trie.add('a/+', i)).toBe(true);
    expect(trie.add('a/+', 777)).toBe(false);
    expect(trie.sizeFilters).toBe(1);
    for (let i = 0; i < 20_000; i += 2) expect(trie.remove('a/+', i)).toBe(true);
    expect(trie.remove('a/+', 2)).toBe(false);
    const out: number[] = [];
    trie.match('a/b', out);
    expect(out.sort((a, b) => a - b)).toEqual(Array.from({ length: 10_000 }, (_, i) => i * 2 + 1));
    for (let i = 1; i < 20_000; i += 2) expect(trie.remove('a/+', i)).toBe(true);
    expect(trie.sizeValues).toBe(0);
    expect(trie.nodeCount).toBe(1);
  });

  test('65,535 bytes of separators, and 65,535 bytes in one level', () => {
    const deep = '/'.repeat(65_535);
    const wide = 'é'.repeat(32_767);
    const plus = Array.from({ length: 32_768 }, () => '+').join('/');
    const pairs = [deep, wide, plus, '#', `${'/'.repeat(65_533)}/#`].map(f => [f, f.length] as const);
    const trie = trieOf(pairs);
    for (const topic of [deep, wide, `${wide}x`, '/'.repeat(32_767)])
      expect(found(trie, topic)).toEqual(oracle(pairs, topic));
    for (const [filter, value] of pairs) expect(trie.remove(filter, value)).toBe(true);
    expect(trie.nodeCount).toBe(1);
  });

  test('the widest frontier: every path of + and x to depth 10', () => {
    const filters: string[] = [];
    for (let i = 0; i < 1024; i++)
      filters.push(Array.from({ length: 10 }, (_, bit) => (i & (1 << bit) ? '+' : 'x')).join('/'));
    const trie = trieOf(filters.map(f => [f, f] as const));
    expect(found(trie, 'x/x/x/x/x/x/x/x/x/x')).toHaveLength(1024);
    expect(found(trie, 'x/x/x/x/x/x/x/x/x/y')).toHaveLength(512);
  });

  test('bytes in the middle of a buffer match as the string does', () => {
    const trie = trieOf([
      ['a/+/ü', 1],
      ['#', 2],
    ]);
    const packet = Buffer.from('##a/long-level-name/ü##');
    const out: number[] = [];
    trie.matchBytes(packet, 2, packet.length - 2, out);
    expect(out.sort()).toEqual([1, 2]);
  });

  test('clear empties, and the trie goes on', () => {
    const trie = trieOf([
      ['a/b', 1],
      ['#', 2],
    ]);
    trie.clear();
    expect(found(trie, 'a/b')).toEqual([]);
    expect([...trie.entries()]).toEqual([]);
    expect(trie.add('a/b', 3)).toBe(true);
    expect(found(trie, 'a/b')).toEqual([3]);
  });

  test('100,000 filters under one parent: all found after growth, none after removal', () => {
    const trie = new TopicTrie<number>(keys);
    for (let i = 0; i < 100_000; i++) trie.add(`sensors/${i}/temp`, i);
    for (let i = 0; i < 100_000; i += 97) expect(found(trie, `sensors/${i}/temp`)).toEqual([i]);
    for (let i = 0; i < 100_000; i += 2) trie.remove(`sensors/${i}/temp`, i);
    for (let i = 0; i < 100_000; i += 97) expect(found(trie, `sensors/${i}/temp`)).toEqual(i % 2 ? [i] : []);
  });

  test('long levels of every size keep their bytes, also when their memory is used again', () => {
    const trie = new TopicTrie<number>(keys);
    const filterAt = (i: number, round: number): string =>
      `${String(i * 7919 + round).padStart(9 + ((i * 37) % 3000), '.')}/end`;
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 600; i++) trie.add(filterAt(i, round), i);
      for (let i = 0; i < 600; i++) expect(found(trie, filterAt(i, round))).toEqual([i]);
      expect(found(trie, filterAt(3, round + 1))).toEqual([]);
      const listed = new Map(trie.entries());
      for (let i = round; i < 600; i++) expect(listed.get(filterAt(i, round))).toBe(i);
      for (let i = round + 1; i < 600; i++) trie.remove(filterAt(i, round), i);
    }
    for (let i = 0; i < 600; i++) expect(found(trie, filterAt(i, 2))).toEqual(i < 3 ? [i] : []);
  });
});
