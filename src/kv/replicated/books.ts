/**
 * Kinds of records that a store keeps about its replicas, under {@link bookKey}. Each record begins with the version
 * of its layout; a store with a newer one in its identity is not opened at all (identity.ts).
 */
export const BOOK = {
  /** Term, vote, commit, applied, and what the log begins after: one record, as all of it changes together (log.ts). */
  STATE: 0x73,
  /** Batches of entries, by the first one's index (log.ts). */
  LOG: 0x6c,
  /** Id, epoch, boundary, replicas (descriptor.ts). */
  DESCRIPTOR: 0x64,
  /** What has been applied of whose proposals. */
  SESSIONS: 0x70,
  /** Chunks of a state that is being received, by number (snapshot.ts). */
  STAGE: 0x63,
  /** What is in the stage, and how far it has been put in place. */
  RECEIVED: 0x72,
  /** Below which replica id nothing comes back here. */
  TOMBSTONE: 0x74,
  /** Keys of a replica that is gone, to be removed step by step (garbage.ts). */
  GARBAGE: 0x67,
  /** Who the store is; under range id 0. */
  IDENTITY: 0x69,
} as const;

/**
 * Raised when a layout changes; a store refuses what a newer one wrote, and reads what an older one did.
 *
 *   2  a command may tell the lowest number that its proposer has no answer to (commands.ts)
 */
export const BOOKS_VERSION = 2;
