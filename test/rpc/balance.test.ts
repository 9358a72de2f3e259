import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConsistentHash } from '../../src/rpc/balance/consistent-hash.js';
import { WeightedRandom } from '../../src/rpc/balance/weighted-random.js';
import { WeightedRoundRobin } from '../../src/rpc/balance/weighted-round-robin.js';
import { SeededRandom } from '../crdt/seeded.js';

/** Picks per index. */
function counts(picks: number, size: number, pick: () => number): number[] {
  const of = new Array<number>(size).fill(0);
  for (let i = 0; i < picks; i++) of[pick()]!++;
  return of;
}

function share(weights: readonly number[], at: number): number {
  return weights[at]! / weights.reduce((sum, weight) => sum + weight, 0);
}

/** How far a count may be from what is expected by chance: five standard deviations. */
function chance(picks: number, probability: number): number {
  return 5 * Math.sqrt(picks * probability * (1 - probability)) + 1;
}

const weightLists = fc.array(fc.integer({ min: 1, max: 10 }), { minLength: 1, maxLength: 40 });
const PICKS = 20_000;

function expectSpread(weights: readonly number[], of: readonly number[]): void {
  of.forEach((count, at) => {
    const expected = PICKS * share(weights, at);
    expect(Math.abs(count - expected)).toBeLessThanOrEqual(chance(PICKS, share(weights, at)));
  });
}

describe('weighted random', () => {
  it('serves each in proportion to its weight', () => {
    fc.assert(
      fc.property(weightLists, fc.integer(), (weights, seed) => {
        const random = new SeededRandom(seed);
        const balancer = new WeightedRandom(weights);
        expectSpread(
          weights,
          counts(PICKS, weights.length, () => balancer.pick(random)),
        );
      }),
      { numRuns: 15, seed: 1 },
    );
  });
});

describe('weighted round robin', () => {
  it('serves each exactly by its weight in every cycle', () => {
    fc.assert(
      fc.property(weightLists, fc.nat(), (weights, start) => {
        const balancer = new WeightedRoundRobin(weights, start);
        const cycle = weights.reduce((sum, weight) => sum + weight, 0);
        for (let i = 0; i < 3; i++)
          expect(counts(cycle, weights.length, () => balancer.pick())).toEqual(weights);
      }),
    );
  });

  it('spreads the turns of each evenly over the cycle', () => {
    const weights = [5, 1, 1, 1, 1, 1];
    const balancer = new WeightedRoundRobin(weights, 0);
    const turns = Array.from({ length: 100 }, () => balancer.pick());
    for (let at = 0; at < turns.length - 4; at++) {
      const heavy = turns.slice(at, at + 4).filter(index => index === 0).length;
      expect(heavy).toBeGreaterThanOrEqual(1);
      expect(heavy).toBeLessThanOrEqual(3);
    }
  });
});

describe('consistent hashing', () => {
  const ids = (count: number) => Array.from({ length: count }, (_, i) => `server-${i}`);
  const keys = Array.from({ length: PICKS }, (_, i) => `tenant-${i % 97}/client-${i}`);
  /** Id for each key. */
  const place = (names: readonly string[], weights: readonly number[]) => {
    const balancer = new ConsistentHash(names, weights);
    return keys.map(key => names[balancer.pick(key, -1)]!);
  };

  it('serves each in proportion to its weight', () => {
    fc.assert(
      fc.property(weightLists, weights => {
        const names = ids(weights.length);
        const placed = place(names, weights);
        expectSpread(
          weights,
          names.map(name => placed.filter(each => each === name).length),
        );
      }),
      { numRuns: 15, seed: 2 },
    );
  });

  it.each([2, 3, 10, 100, 300])('of %i moves only the keys of whoever comes or goes', count => {
    const names = ids(count);
    const weights = names.map(() => 1);
    const before = place(names, weights);
    const gone = names[count >> 1]!;
    const rest = names.filter(name => name !== gone);
    const after = place(
      rest,
      rest.map(() => 1),
    );
    let moved = 0;
    before.forEach((name, at) => {
      if (name === after[at]) return;
      expect(name).toBe(gone);
      moved++;
    });
    expect(moved).toBeLessThanOrEqual(PICKS / count + chance(PICKS, 1 / count));
  });

  it.each([2, 3, 10, 30])('of %i moves at most 1/N and a tenth of that, whoever comes or goes', count => {
    const names = ids(count);
    const before = place(
      names,
      names.map(() => 1),
    );
    const movedTo = (after: readonly string[]) => {
      const placed = place(
        after,
        after.map(() => 1),
      );
      return before.filter((name, at) => name !== placed[at]).length / keys.length;
    };
    for (const gone of names.slice(0, 4))
      expect(movedTo(names.filter(name => name !== gone))).toBeLessThanOrEqual(1.1 / count);
    for (const come of ['a', 'b', 'c', 'd'])
      expect(movedTo([...names, come])).toBeLessThanOrEqual(1.1 / (count + 1));
  });

  it('moves keys only towards a server whose weight grows, and as few as that takes', () => {
    const names = ids(20);
    const before = place(
      names,
      names.map(() => 5),
    );
    const after = place(
      names,
      names.map((_, at) => (at === 7 ? 10 : 5)),
    );
    const moved = before.filter((name, at) => name !== after[at]).length;
    before.forEach((name, at) => {
      if (name !== after[at]) expect(after[at]).toBe(names[7]);
    });
    const gain = 10 / 105 - 5 / 100;
    expect(Math.abs(moved - PICKS * gain)).toBeLessThanOrEqual(chance(PICKS, gain));
  });

  it('does not depend on the order of the servers', () => {
    const names = ids(30);
    const weights = names.map((_, at) => 1 + (at % 3));
    const turned = names.map((_, at) => (at * 7) % 30);
    expect(
      place(
        turned.map(at => names[at]!),
        turned.map(at => weights[at]!),
      ),
    ).toEqual(place(names, weights));
  });

  it('gives the second choice in place of one that is excluded: the first choice without it', () => {
    const names = ids(12);
    const balancer = new ConsistentHash(
      names,
      names.map(() => 1),
    );
    const without = new ConsistentHash(
      names.slice(1),
      names.slice(1).map(() => 1),
    );
    for (const key of keys.slice(0, 500)) expect(balancer.pick(key, 0)).toBe(without.pick(key, -1) + 1);
    expect(new ConsistentHash(['a'], [1]).pick('k', 0)).toBe(-1);
  });
});
