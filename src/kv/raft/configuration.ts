/**
 * Names a replica within its group: a whole number from 1 to 2^53 - 1, given anew each time a replica is added, so that
 * one which lost its vote and log never comes back under the name it voted with. Which store holds it is the range's
 * knowledge, not Raft's.
 */
export type ReplicaId = number;

/** No replica: an unknown leader, a vote not given. */
export const NOBODY: ReplicaId = 0;

/**
 * Who takes part. While `outgoing` is not empty the configuration is joint: elections and commits need a majority of
 * `voters` and one of `outgoing` (Raft thesis, 4.3). All lists are sorted and free of repetition; a learner is not in
 * `voters`, but may be in `outgoing`: then it votes until the joint state is left. It is in force from the moment it is
 * appended, not only once it is committed.
 */
export interface Configuration {
  readonly voters: readonly ReplicaId[];
  readonly outgoing: readonly ReplicaId[];
  readonly learners: readonly ReplicaId[];
}

export function isJoint(configuration: Configuration): boolean {
  return configuration.outgoing.length > 0;
}

/** Whether `id` may campaign, and its vote and log count. */
export function isVoter(configuration: Configuration, id: ReplicaId): boolean {
  return configuration.voters.includes(id) || configuration.outgoing.includes(id);
}

/** Whether `id` alone is the quorum. */
export function isSoleVoter(configuration: Configuration, id: ReplicaId): boolean {
  const { voters, outgoing } = configuration;
  return voters.length === 1 && voters[0] === id && outgoing.length === 0;
}

/** Everyone who takes part, once and sorted. */
export function members({ voters, outgoing, learners }: Configuration): ReplicaId[] {
  return sortedIds([...voters, ...outgoing, ...learners]);
}

/** Sorted and without repetition. */
export function sortedIds(ids: Iterable<ReplicaId>): ReplicaId[] {
  return [...new Set(ids)].sort((a, b) => a - b);
}

/** The joint configuration between `now` and the wanted one. */
export function jointBetween(
  now: Configuration,
  wanted: { readonly voters: readonly ReplicaId[]; readonly learners: readonly ReplicaId[] },
): Configuration {
  const voters = sortedIds(wanted.voters);
  const learners = sortedIds(wanted.learners).filter(id => !voters.includes(id));
  return { voters, outgoing: now.voters, learners };
}

/** What a joint configuration leads to. */
export function leftJoint({ voters, learners }: Configuration): Configuration {
  return { voters, outgoing: [], learners };
}
