import type { Configuration, ReplicaId } from './configuration.js';

/** Grows to the largest group seen; sorting happens in it, so counting allocates nothing. */
let scratch = new Float64Array(16);

/**
 * The largest value that a majority of `ids` has reached: of match indices the one that is committed, of times the one
 * since which a majority was heard. `Infinity` for nobody, since the majority of an empty set asks for nothing.
 */
export function majorityReached(ids: readonly ReplicaId[], reached: (id: ReplicaId) => number): number {
  const count = ids.length;
  if (count === 0) return Number.POSITIVE_INFINITY;
  if (count === 1) return reached(ids[0]!);
  if (count > scratch.length) scratch = new Float64Array(count * 2);
  // Insertion sort, descending: groups are small.
  for (let i = 0; i < count; i++) {
    const value = reached(ids[i]!);
    let at = i;
    while (at > 0 && scratch[at - 1]! < value) {
      scratch[at] = scratch[at - 1]!;
      at--;
    }
    scratch[at] = value;
  }
  return scratch[count >>> 1]!;
}

/** What a quorum has reached: in a joint configuration a majority of each of the two sets (thesis, 4.3). */
export function quorumReached(configuration: Configuration, reached: (id: ReplicaId) => number): number {
  const incoming = majorityReached(configuration.voters, reached);
  if (configuration.outgoing.length === 0) return incoming;
  return Math.min(incoming, majorityReached(configuration.outgoing, reached));
}

export type Tally = 'won' | 'lost' | 'pending';

function tallyMajority(ids: readonly ReplicaId[], votes: ReadonlyMap<ReplicaId, boolean>): Tally {
  const needed = (ids.length >>> 1) + 1;
  let granted = 0;
  let refused = 0;
  for (const id of ids) {
    const vote = votes.get(id);
    if (vote === true) granted++;
    else if (vote === false) refused++;
  }
  if (granted >= needed || ids.length === 0) return 'won';
  return ids.length - refused < needed ? 'lost' : 'pending';
}

/** How an election stands. Votes of who is no voter do not count. */
export function tally(configuration: Configuration, votes: ReadonlyMap<ReplicaId, boolean>): Tally {
  const incoming = tallyMajority(configuration.voters, votes);
  const outgoing = tallyMajority(configuration.outgoing, votes);
  if (incoming === 'lost' || outgoing === 'lost') return 'lost';
  return incoming === 'won' && outgoing === 'won' ? 'won' : 'pending';
}
