import { describe, expect, it } from 'vitest';
import { DigestIndex } from '../../src/crdt/digest.js';
import { BUCKETS_MAX } from '../../src/crdt/message.js';
import { Dot } from '../../src/crdt/origin.js';
import { SeededRandom } from './seeded.js';

function randomDots(random: SeededRandom, count: number): Dot[] {
  return Array.from({ length: count }, (_, i) => {
    const entry = {
      key: `key ${i}`,
      replica: random.replica(),
      counter: 1 + random.below(50),
      value: new Uint8Array(),
    };
    return new Dot(entry, random.u32() | 0);
  });
}

function filled(dots: readonly Dot[]): DigestIndex {
  const index = new DigestIndex();
  for (const { entry, hash } of dots) index.add(new Dot(entry, hash));
  return index;
}

/** Whether the hash is in one of the ranges `from, to, from, to`. */
function isWithin(ranges: readonly number[], hash: number): boolean {
  for (let i = 0; i < ranges.length; i += 2) {
    if (hash >>> 0 >= ranges[i]! && hash >>> 0 <= ranges[i + 1]!) return true;
  }
  return false;
}

describe('DigestIndex', () => {
  it('depends on what is in it, not on the way there, through all its sizes', () => {
    const random = new SeededRandom(1);
    const dots = randomDots(random, 3_000);
    const index = new DigestIndex();
    for (const dot of dots) index.add(dot);
    expect(index.bucketCount).toBe(256);
    for (let left = dots.length; left > 0; left -= 500) {
      const rest = dots.slice(0, left);
      const fresh = filled([...rest].reverse());
      expect([index.low, index.high, index.count]).toEqual([fresh.low, fresh.high, fresh.count]);
      expect(index.differences(fresh.buckets())).toEqual([]);
      expect(fresh.differences(index.buckets())).toEqual([]);
      expect(new Set(index.within(0, 0xffff_ffff))).toEqual(new Set(rest));
      for (const dot of dots.slice(left - 500, left)) index.remove(dot);
    }
    expect([index.low, index.high, index.count, index.bucketCount]).toEqual([0, 0, 0, 16]);
  });

  it('has a bounded number of buckets', () => {
    const index = filled(randomDots(new SeededRandom(2), 40_000));
    expect(index.bucketCount).toBe(BUCKETS_MAX);
    expect(index.buckets()).toHaveLength(BUCKETS_MAX);
  });

  it('yields the dots of a part of the hashes, in order', () => {
    const random = new SeededRandom(3);
    const dots = randomDots(random, 1_000);
    const index = filled(dots);
    for (let i = 0; i < 50; i++) {
      const [from, to] = [random.u32(), random.u32()].sort((a, b) => a - b) as [number, number];
      const expected = dots.map(({ hash }) => hash >>> 0).filter(hash => hash >= from && hash <= to);
      expect(index.within(from, to).map(({ hash }) => hash >>> 0)).toEqual(expected.sort((a, b) => a - b));
    }
  });

  it.each([10, 300, 5_000])('finds small parts that hold all differences, in a map of %i', count => {
    const random = new SeededRandom(count);
    const common = randomDots(random, count);
    const [mine, theirs] = [randomDots(random, 5), randomDots(random, count === 10 ? 4_000 : 3)];
    const index = filled([...common, ...mine]);
    const other = filled([...common, ...theirs]);
    for (const ranges of [index.differences(other.buckets()), other.differences(index.buckets())]) {
      for (const dot of [...mine, ...theirs]) expect(isWithin(ranges, dot.hash)).toBe(true);
      for (let i = 2; i < ranges.length; i += 2) expect(ranges[i]).toBeGreaterThan(ranges[i - 1]! + 1);
      if (theirs.length > 3) continue;
      const share = common.filter(({ hash }) => isWithin(ranges, hash)).length / count;
      expect(share).toBeLessThan(count === 300 ? 0.4 : 0.05);
    }
  });
});
