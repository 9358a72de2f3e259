import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ReplicaId } from '../../../src/kv/raft/configuration.js';
import { majorityReached, quorumReached, tally } from '../../../src/kv/raft/quorum.js';

const ids = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { maxLength: 9 });
const someone = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 9 });
const values = fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 10, maxLength: 10 });

/** By definition: the largest value that more than half have reached. */
function naiveMajority(voters: readonly ReplicaId[], reached: (id: ReplicaId) => number): number {
  const candidates = voters.map(reached).sort((a, b) => b - a);
  return (
    candidates.find(value => voters.filter(id => reached(id) >= value).length * 2 > voters.length) ??
    Number.POSITIVE_INFINITY
  );
}

describe('majorityReached', () => {
  it('is the largest value that more than half have reached', () => {
    fc.assert(
      fc.property(ids, values, (voters, all) => {
        const reached = (id: ReplicaId) => all[id]!;
        expect(majorityReached(voters, reached)).toBe(naiveMajority(voters, reached));
      }),
      { numRuns: 1_000 },
    );
  });

  it('is not confused by times before all time', () => {
    const never = Number.NEGATIVE_INFINITY;
    expect(majorityReached([1, 2, 3], id => [0, 5, never, never][id]!)).toBe(never);
    expect(majorityReached([1, 2, 3], id => [0, 5, never, 4][id]!)).toBe(4);
  });

  it('grows with the group', () => {
    const many = Array.from({ length: 101 }, (_, i) => i + 1);
    expect(majorityReached(many, id => id)).toBe(51);
  });
});

describe('quorumReached', () => {
  it('needs both sets of a joint configuration', () => {
    fc.assert(
      fc.property(someone, ids, values, (voters, outgoing, all) => {
        const reached = (id: ReplicaId) => all[id]!;
        const both = Math.min(naiveMajority(voters, reached), naiveMajority(outgoing, reached));
        expect(quorumReached({ voters, outgoing, learners: [] }, reached)).toBe(both);
      }),
      { numRuns: 1_000 },
    );
  });

  it('of one configuration and of the next overlap', () => {
    fc.assert(
      fc.property(someone, someone, values, values, (before, after, seen, voted) => {
        const joint = { voters: after, outgoing: before, learners: [] };
        const reachedOne = quorumReached(joint, id => (seen[id]! > 6 ? 1 : 0)) === 1;
        for (const configuration of [
          { ...joint, outgoing: [] },
          { ...joint, voters: before, outgoing: [] },
        ]) {
          const electedOther = quorumReached(configuration, id => (voted[id]! > 6 ? 1 : 0)) === 1;
          const overlap = [...before, ...after].some(id => seen[id]! > 6 && voted[id]! > 6);
          if (reachedOne && electedOther) expect(overlap).toBe(true);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('tally', () => {
  const votes = fc.array(fc.option(fc.boolean(), { nil: undefined }), { minLength: 10, maxLength: 10 });

  it('is won when a majority of each set granted, lost when that cannot come any more', () => {
    fc.assert(
      fc.property(someone, ids, votes, (voters, outgoing, cast) => {
        const given = new Map(
          [...cast.entries()].filter((vote): vote is [number, boolean] => vote[1] !== undefined),
        );
        const wins = (yes: (id: ReplicaId) => boolean) =>
          [voters, outgoing].every(set => set.length === 0 || set.filter(yes).length * 2 > set.length);
        const isWon = wins(id => given.get(id) === true);
        const isLost = !wins(id => given.get(id) !== false);
        expect(tally({ voters, outgoing, learners: [] }, given)).toBe(
          isWon ? 'won' : isLost ? 'lost' : 'pending',
        );
      }),
      { numRuns: 1_000 },
    );
  });

  it('does not count who has no vote', () => {
    const configuration = { voters: [1, 2, 3], outgoing: [], learners: [4, 5] };
    const granted = new Map([1, 4, 5].map(id => [id, true]));
    expect(tally(configuration, granted)).toBe('pending');
  });
});
