import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { meshNeighbours } from '../../src/crdt/mesh.js';
import { SeededRandom } from './seeded.js';

function randomIds(seed: number, count: number): number[] {
  const random = new SeededRandom(seed);
  const ids = new Set<number>();
  while (ids.size < count) ids.add(random.replica());
  return [...ids].sort((a, b) => a - b);
}

/** Links from each id, checked to be mutual. */
function links(ids: readonly number[]): Map<number, number[]> {
  const all = new Map(ids.map(id => [id, meshNeighbours(ids, id)]));
  for (const [id, neighbours] of all) {
    expect(new Set(neighbours).size).toBe(neighbours.length);
    expect(neighbours).not.toContain(id);
    for (const other of neighbours) expect(all.get(other)).toContain(id);
  }
  return all;
}

/** Greatest number of hops from `start`; Infinity when not all can be reached. */
function eccentricity(all: ReadonlyMap<number, readonly number[]>, start: number): number {
  const hops = new Map([[start, 0]]);
  let last = 0;
  for (const id of hops.keys()) {
    last = hops.get(id)!;
    for (const other of all.get(id)!) if (!hops.has(other)) hops.set(other, last + 1);
  }
  return hops.size === all.size ? last : Number.POSITIVE_INFINITY;
}

describe('meshNeighbours', () => {
  it('is mutual and connected for any set of ids', () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 70 }), (seed, count) => {
        const ids = randomIds(seed, count);
        expect(eccentricity(links(ids), ids[0]!)).toBeLessThan(Number.POSITIVE_INFINITY);
      }),
      { numRuns: 150 },
    );
  });

  it('links a small cluster each to each', () => {
    const ids = randomIds(1, 7);
    for (const id of ids) expect(meshNeighbours(ids, id)).toEqual(ids.filter(other => other !== id));
    expect(meshNeighbours([5], 5)).toEqual([]);
    expect(meshNeighbours([], 5)).toEqual([]);
  });

  it.each([
    { hosts: 10, mean: 5.5, most: 7, hops: 3 },
    { hosts: 100, mean: 8, most: 11, hops: 6 },
    { hosts: 1_000, mean: 10.5, most: 14, hops: 7 },
  ])('has few neighbours and short ways among $hosts', ({ hosts, mean, most, hops }) => {
    for (let seed = 1; seed <= (hosts < 1_000 ? 20 : 2); seed++) {
      const ids = randomIds(seed, hosts);
      const all = links(ids);
      const degrees = [...all.values()].map(neighbours => neighbours.length);
      expect(degrees.reduce((sum, degree) => sum + degree, 0) / hosts).toBeLessThan(mean);
      expect(Math.max(...degrees)).toBeLessThanOrEqual(most);
      for (const id of ids.slice(0, 20)) expect(eccentricity(all, id)).toBeLessThanOrEqual(hops);
    }
  });

  it('changes few links when a host joins or leaves', () => {
    const ids = randomIds(3, 500);
    const before = links(ids);
    for (const gone of [ids[0]!, ids[250]!, ids[499]!]) {
      const after = links(ids.filter(id => id !== gone));
      let changed = 0;
      for (const [id, neighbours] of after) {
        changed += neighbours.filter(other => !before.get(id)!.includes(other)).length;
      }
      // Each of its links is replaced by at most one, seen from both ends.
      expect(changed).toBeLessThanOrEqual(2 * before.get(gone)!.length);
    }
  });

  it('stays connected when a tenth of the hosts is gone and nobody has noticed', () => {
    const ids = randomIds(4, 300);
    const all = links(ids);
    const random = new SeededRandom(5);
    const gone = new Set(ids.filter(() => random.chance(0.1)));
    const left = new Map(
      [...all]
        .filter(([id]) => !gone.has(id))
        .map(([id, others]) => [id, others.filter(other => !gone.has(other))]),
    );
    expect(eccentricity(left, [...left.keys()][0]!)).toBeLessThan(12);
  });

  it('finds neighbours for a host that is not listed yet', () => {
    const ids = randomIds(6, 200);
    for (const own of [1, ids[100]! + 1, Number.MAX_SAFE_INTEGER]) {
      const neighbours = meshNeighbours(ids, own);
      expect(neighbours.length).toBeGreaterThan(4);
      expect(neighbours).not.toContain(own);
    }
  });
});
