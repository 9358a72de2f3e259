/** All of one group must agree on them but for `tickMs`, `heartbeatMs` and `quiesceAfterMs`: leases count on the rest. */
export interface RaftTiming {
  /** About how often {@link Raft.tick} is called. */
  readonly tickMs: number;
  readonly heartbeatMs: number;
  /** Nobody campaigns, and nobody votes for another, sooner than this after it heard the leader. */
  readonly electionTimeoutMinMs: number;
  /** Exclusive. A leader that has not heard a quorum for this long steps down. */
  readonly electionTimeoutMaxMs: number;
  /** The fraction by which any clock may run fast or slow; undefined: no leases, every read asks a quorum. */
  readonly clockDriftMax: number | undefined;
  /** A group without work for this long goes quiet; 0: never. */
  readonly quiesceAfterMs: number;
}

export interface RaftLimits {
  /** Of the entries in one append; one entry may be larger. */
  readonly appendBytesMax: number;
  /** Appends that one follower has not answered. */
  readonly windowMessagesMax: number;
  readonly windowBytesMax: number;
  /**
   * To one follower in one ready; the last append may go over, and the rest is in the next. What a follower lacks after
   * it was given a state is read back from the disk: for two windows at once that held up a leader for 151 ms.
   */
  readonly burstBytesMax: number;
  /** Proposals that are appended and not committed; one may exceed the bytes if there is no other. */
  readonly uncommittedBytesMax: number;
  readonly uncommittedCountMax: number;
  /** Of the entries in `Ready.committed`. */
  readonly applyBytesMax: number;
  /** Reads that wait for their answer. */
  readonly readsMax: number;
  /** Of entries kept in memory for followers that lag. */
  readonly cacheBytesMax: number;
}

/**
 * A leader's death is noticed by whoever draws the shorter timeout: at the default, after 1.0 to 1.6 s without a heartbeat,
 * of which up to a quarter of a second had passed. Nobody could be elected sooner than the shortest timeout, however the
 * death became known, since until then a majority stands by the leader: its lease counts on that. Three heartbeats in a
 * row may be late or lost, so a process that does not run for some hundred milliseconds keeps its office; of one that
 * stands longer, pre-vote keeps the term.
 */
export const RAFT_TIMING: RaftTiming = {
  tickMs: 100,
  heartbeatMs: 250,
  electionTimeoutMinMs: 1_000,
  electionTimeoutMaxMs: 1_600,
  clockDriftMax: 0.05,
  quiesceAfterMs: 3_000,
};

export const RAFT_LIMITS: RaftLimits = {
  appendBytesMax: 256 * 1024,
  windowMessagesMax: 64,
  windowBytesMax: 4 * 1024 * 1024,
  burstBytesMax: 1024 * 1024,
  uncommittedBytesMax: 16 * 1024 * 1024,
  uncommittedCountMax: 4_096,
  applyBytesMax: 4 * 1024 * 1024,
  readsMax: 4_096,
  cacheBytesMax: 4 * 1024 * 1024,
};

/** What an entry counts for in all limits: its data and about what its fields take. */
export const ENTRY_OVERHEAD_BYTES = 32;

/**
 * How long a quorum's answer vouches for the leader, by the leader's clock: while its slow clock and a voter's fast one
 * measure this and the shortest election timeout, the leader's time is up first.
 */
export function leaseMs({ electionTimeoutMinMs, clockDriftMax }: RaftTiming): number {
  if (clockDriftMax === undefined) return 0;
  return Math.floor((electionTimeoutMinMs * (1 - clockDriftMax)) / (1 + clockDriftMax));
}
