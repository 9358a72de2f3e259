/**
 * Room `crdt`: one map, many replicas, no leader; all replicas that have heard of the same changes are equal.
 *
 * | file | abstraction |
 * | --- | --- |
 * | or-map.ts | `OrMap`: key → concurrent values; `set`, `remove`, and `apply`, the join |
 * | origin.ts, ranges.ts | what is known of one replica's writes: which live, which were seen |
 * | digest.ts | `DigestIndex`: hashes of all and of parts of a map, kept up in O(1) a change |
 * | anti-entropy.ts | `Replicator`: keeps a map equal to the neighbours' maps |
 * | change-log.ts, delta-builder.ts, neighbour.ts | its fast path: what each neighbour has yet to hear |
 * | reconciliation.ts | its slow path: finds out where two maps differ, and repairs that |
 * | mesh.ts | whom to have as neighbours |
 * | message.ts | what replicators say to each other |
 *
 * ## The lattice
 *
 * A write is a dot (replica, counter); a replica numbers its writes 1, 2, 3 … Each dot goes one way: unseen → live,
 * with a key and a value → dropped. The join of two states takes, dot by dot, the later of the two: that is
 * commutative, associative and idempotent by construction. A write drops the dots that the writer saw under the key,
 * a removal drops them and adds none; so a write concurrent to a removal survives it (add-wins), and concurrent
 * writes stay side by side until somebody overwrites both. A delta is a small state: some live dots, some dropped.
 *
 * Dropped dots are not listed: per replica we keep ranges of counters seen; what was seen and is not live, is
 * dropped. It is one range for nearly every replica, also for one that joined late and saw only the newest writes.
 *
 * ## Invariants
 *
 * - A live dot is listed once under its key, once under its origin, once in the digests, and is among the seen.
 * - A replica id is used by one process run only; who makes the map draws it at random from [1, 2^53).
 * - Values are opaque and immutable, and shared by reference. A dot has one value; who breaks that goes unnoticed.
 * - Whatever is news to a map goes on to the neighbours that are not known to have it, once. Nothing else is
 *   forwarded, so floods end.
 * - What one call changed travels in one message, so no replica sees a key vanish between its old and new value
 *   (but for a repair larger than one message).
 *
 * ## How news spreads
 *
 * Each neighbour starts eager: it is pushed all news. Who gets a delta that mostly repeats what it knows says so in
 * its acknowledgement, and the two become lazy to each other, as in Plumtree (Leitão, Pereira, Rodrigues 2007), but
 * never below three eager neighbours, so no single loss delays anything. A lazy neighbour is shown the root digest
 * when the news has had time to go round; if it lacks something, the repair makes it eager again. For 1,000 hosts with
 * ten neighbours each this halves what a change costs, and spends a third on a start of all at once.
 *
 * ## Forgetting
 *
 * Identities are new at each start, so what is known of origins would grow for ever. An origin without a live dot is
 * dormant; beyond a limit the one that is dormant longest is forgotten. If a dot of such an origin then turns up late, say from a half of
 * the cluster that was cut off, it is taken for new and lives again. That does no lasting harm: either a neighbour
 * still knows better and says "dropped" the moment it is offered the dot, or nobody does, and then the key stands for
 * a process that does not answer: its failure is found out again, by the same detector, and it is removed again.
 * Forgetting one side's drops never brings back what nobody holds any more.
 *
 * ## Limits
 *
 * `OrMapLimits` and `ReplicatorOptions`. What exceeds the former in a message is refused and counted
 * (`OrMap.refused`), except that a key with too many concurrent values drops the one of the smallest replica id:
 * all replicas choose the same, so they stay equal. A member of the cluster can remove any key: this room protects
 * from broken and oversized messages, not from liars that hold the cluster's key. A replica that is told of writes
 * of its own that it never made continues above them, so lies about it do not outlast its next write.
 *
 * ## Where it differs from BifroMQ
 *
 * There a replica keeps an event index per neighbour and probes for it, keeps removals as a history of 20 s, and
 * sends whole contexts to find out what a neighbour lacks. Here a neighbour is a cursor into one log of news, nothing
 * expires by time, and equal maps prove it to each other with one message of about 50 bytes.
 */

/** Greatest counter of a dot: leaves room for sums below 2^53. */
export const COUNTER_MAX = 2 ** 52;

export interface OrMapLimits {
  /** Most UTF-16 units of a key. */
  readonly keyLengthMax: number;
  /** Most bytes of a value. */
  readonly valueBytesMax: number;
  /** Most keys. */
  readonly keysMax: number;
  /** Most concurrent values of a key. */
  readonly dotsPerKeyMax: number;
  /** Most ranges of counters kept of one origin; beyond it the lowest is forgotten. */
  readonly rangesPerOriginMax: number;
  /** Most origins without a live dot. */
  readonly dormantMax: number;
}

export const OR_MAP_LIMITS: OrMapLimits = {
  keyLengthMax: 512,
  valueBytesMax: 32_768,
  keysMax: 100_000,
  dotsPerKeyMax: 16,
  rangesPerOriginMax: 32,
  dormantMax: 10_000,
};

export interface ReplicatorOptions {
  /** News is gathered and sent to all neighbours at most this often. */
  readonly flushMs: number;
  /** A delta is filled up to this estimate; one that holds a single larger piece of news may exceed it. */
  readonly deltaBytesMax: number;
  /** Deltas that one neighbour may leave unacknowledged. */
  readonly windowDeltas: number;
  /** An unacknowledged delta is sent again after this, doubled each time up to `resendMaxMs`, jittered. */
  readonly resendMs: number;
  readonly resendMaxMs: number;
  /** Then the neighbour counts as silent: until it is heard again it gets digests only. */
  readonly resendsMax: number;
  /** Neighbours that are always pushed news; beyond them, one that mostly repeats what others said becomes lazy. */
  readonly eagerMin: number;
  /** Lazy neighbours are shown the root this long after the last news, in place of the news. */
  readonly lazyMs: number;
  /** News that some neighbour has yet to be sent; one that is further behind is repaired instead. */
  readonly newsMax: number;
  /** A neighbour gets the root digest about this often; a root that arrives from it counts as well. */
  readonly digestMs: number;
  /** One repair at a time: how long a partner may keep others waiting. Also the first retry after a repair. */
  readonly repairMs: number;
  /** More news than this waiting for one neighbour goes in large deltas: fewer to handle, and to acknowledge. */
  readonly bulkNewsMin: number;
  /** A large delta or a repair message is filled up to this estimate. */
  readonly bulkBytesMax: number;
  /** Most messages that answer one repair message; what is left over waits for the next round. */
  readonly repairPagesMax: number;
  /** A larger repair message is not pushed on to the other neighbours: they are shown the new root instead. */
  readonly pushedBytesMax: number;
}

export const REPLICATOR_OPTIONS: ReplicatorOptions = {
  flushMs: 200,
  deltaBytesMax: 1_000,
  windowDeltas: 4,
  resendMs: 500,
  resendMaxMs: 4_000,
  resendsMax: 6,
  eagerMin: 3,
  lazyMs: 1_000,
  newsMax: 1_024,
  digestMs: 10_000,
  repairMs: 400,
  bulkNewsMin: 24,
  bulkBytesMax: 16_000,
  repairPagesMax: 8,
  pushedBytesMax: 4_000,
};
