import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { hashKeys } from '../../src/topic/hash.js';
import { NameIndex } from '../../src/topic/name-index.js';
import { TopicTrie } from '../../src/topic/trie.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Heap and typed arrays of this thread, after a collection: what the trie keeps is mostly outside the heap. */
function usedBytes(): number {
  collectGarbage();
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const COUNT = 100_000;
const keys = hashKeys(1);

/** Bytes that `make` leaves behind for each of `count` parts. */
function bytesEach<T>(count: number, make: () => T): [bytes: number, made: T] {
  const before = usedBytes();
  const made = make();
  return [(usedBytes() - before) / count, made];
}

function filled(filterOf: (i: number) => string): TopicTrie<number> {
  const trie = new TopicTrie<number>(keys);
  for (let i = 0; i < COUNT; i++) trie.add(filterOf(i), i);
  return trie;
}

test.each([
  ['sensors/<i>/temp', 110, (i: number) => `sensors/${i}/temp`],
  ['sensors/<i>/+', 110, (i: number) => `sensors/${i}/+`],
  ['sensors/<i>/#', 65, (i: number) => `sensors/${i}/#`],
  ['devices/<36 characters>/temp', 160, (i: number) => `devices/${String(i).padStart(36, '0')}/temp`],
] as const)('a filter like %s costs at most %i bytes, its text included', (_, bytesMax, filterOf) => {
  const [bytes, trie] = bytesEach(COUNT, () => filled(filterOf));
  expect(trie.sizeFilters).toBe(COUNT);
  expect(bytes).toBeLessThan(bytesMax);
  expect(bytes).toBeGreaterThan(8);
});

test('an emptied trie gives its memory back', () => {
  const [bytes, trie] = bytesEach(COUNT, () => {
    const emptied = filled(i => `sensors/${i}/temp`);
    for (let i = 0; i < COUNT; i++) emptied.remove(`sensors/${i}/temp`, i);
    return emptied;
  });
  expect(trie.nodeCount).toBe(1);
  expect(bytes).toBeLessThan(8);
});

test('a removed and re-added half does not grow the trie', () => {
  const trie = filled(i => `devices/${String(i).padStart(36, '0')}/temp`);
  const before = usedBytes();
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < COUNT; i += 2) trie.remove(`devices/${String(i).padStart(36, '0')}/temp`, i);
    for (let i = 0; i < COUNT; i += 2) trie.add(`devices/${String(i).padStart(36, '0')}/temp`, i);
  }
  expect((usedBytes() - before) / COUNT).toBeLessThan(16);
  expect(trie.sizeFilters).toBe(COUNT);
});

test('small tries are small: a tenant with ten filters', () => {
  const [bytes, tries] = bytesEach(1000, () =>
    Array.from({ length: 1000 }, () => {
      const trie = new TopicTrie<number>(keys);
      for (let i = 0; i < 10; i++) trie.add(`sensors/${i}/temp`, i);
      return trie;
    }),
  );
  expect(tries).toHaveLength(1000);
  expect(bytes).toBeLessThan(4000);
});

test('a cached name costs at most 150 bytes in the index, its text included', () => {
  const [bytes, index] = bytesEach(COUNT, () => {
    const names = new NameIndex<number>(keys);
    for (let i = 0; i < COUNT; i++) {
      const name = Buffer.from(`sensors/${i}/temp`);
      names.set(name, 0, name.length, i);
    }
    return names;
  });
  expect(index.size).toBe(COUNT);
  expect(bytes).toBeLessThan(150);
});
