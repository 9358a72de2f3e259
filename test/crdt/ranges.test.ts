import fc from 'fast-check';
import { expect, it } from 'vitest';
import { rangesAdd, rangesCover } from '../../src/crdt/ranges.js';

it('ranges behave as a set of integers, in the shortest form', () => {
  const range = fc.tuple(fc.integer({ min: 1, max: 60 }), fc.nat(8));
  fc.assert(
    fc.property(fc.array(range, { maxLength: 30 }), fc.array(range, { maxLength: 10 }), (added, asked) => {
      const ranges: number[] = [];
      const set = new Set<number>();
      for (const [from, length] of added) {
        rangesAdd(ranges, from, from + length);
        for (let i = from; i <= from + length; i++) set.add(i);
      }
      for (let i = 0; i < ranges.length; i += 2) {
        expect(ranges[i]).toBeLessThanOrEqual(ranges[i + 1]!);
        if (i > 0) expect(ranges[i]).toBeGreaterThan(ranges[i - 1]! + 1);
      }
      for (let i = 0; i < 80; i++) expect(rangesCover(ranges, i, i)).toBe(set.has(i));
      for (const [from, length] of asked) {
        const all = Array.from({ length: length + 1 }, (_, i) => from + i).every(i => set.has(i));
        expect(rangesCover(ranges, from, from + length)).toBe(all);
      }
    }),
    { numRuns: 400 },
  );
});
