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
 * `voters` and one of `outgoing` (Raft thesis, 4.3). All lists are sorted and free of repetition; a learner is in
 * neither list of voters. It is in force from the moment it is appended, not only once it is committed.
 */
export interface Configuration {
  readonly voters: readonly ReplicaId[];
  readonly outgoing: readonly ReplicaId[];
  readonly learners: readonly ReplicaId[];
}
