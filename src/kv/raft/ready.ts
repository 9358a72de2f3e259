import type { Configuration, ReplicaId } from './configuration.js';
import type { Message } from './message.js';

/** What an entry of the log is for. */
export const ENTRY = { COMMAND: 0, CONFIGURATION: 1, EMPTY: 2 } as const;

export interface Entry {
  readonly term: number;
  /** From 1 on, without a gap. */
  readonly index: number;
  /** One of {@link ENTRY}. `EMPTY` is the first of a leader's term. */
  readonly kind: number;
  /**
   * Whose proposal it is, and which of theirs: what is proposed again under the same pair is applied once
   * (proposals.ts keeps the table). 0, 0 for what Raft itself appends.
   */
  readonly session: number;
  readonly sequence: number;
  readonly data: Uint8Array;
}

/** What a replica must never forget. */
export interface HardState {
  readonly term: number;
  /** Whom it voted for in `term`. */
  readonly vote: ReplicaId;
  /** May be behind: a hint that saves work after a restart. */
  readonly commit: number;
}

/** The state that stands for all entries up to `index`. */
export interface SnapshotMeta {
  readonly index: number;
  readonly term: number;
  readonly configuration: Configuration;
}

/** What is stored: read by the machine when it starts, and when a follower needs entries that left its memory. */
export interface StoredLog {
  readonly hardState: HardState;
  /** Stands before the first entry: index 0, term 0 and the first configuration in a new group. */
  readonly snapshot: SnapshotMeta;
  /** Entries are applied up to here. */
  readonly applied: number;
  /** snapshot.index when there is no entry. */
  readonly lastIndex: number;
  /** The term of an entry in [snapshot.index, lastIndex]; undefined outside. */
  term(index: number): number | undefined;
  /** Entries from `from` up to `to`, both included, at least one, and no more than fit `bytesMax` but for the first. */
  entries(from: number, to: number, bytesMax: number): readonly Entry[];
}

/** A linearizable read may run once entries up to `index` are applied. */
export interface ReadReady {
  readonly context: number;
  readonly index: number;
}

/**
 * Why something was not taken. `not-leader` and `quorum-lost` say whom to ask, if that is known; `not-voter` and
 * `aborted` are of transfers.
 */
export const REFUSAL_REASONS = [
  'not-leader',
  'overloaded',
  'transferring',
  'changing',
  'quorum-lost',
  'not-voter',
  'aborted',
] as const;
export type RefusalReason = (typeof REFUSAL_REASONS)[number];

export interface Refusal {
  readonly what: 'proposal' | 'read' | 'change' | 'transfer';
  readonly session: number;
  /** Of a proposal or change; the context of a read; the target of a transfer. */
  readonly sequence: number;
  readonly reason: RefusalReason;
  readonly leader: ReplicaId;
  /**
   * False for a proposal that was passed on: the network may double a message, so a copy may have been taken all the
   * same, and the outcome of it is unknown. Ask again under the same session and sequence.
   */
  readonly isCertain: boolean;
}

/**
 * What the machine wants done, in this order:
 *   1. `messages` may leave at once, whatever else happens.
 *   2. `snapshot`, then `entries` (which replace all that is stored from the first one's index on) and `hardState`
 *      are written in one transaction; `committed` may be applied in the same one.
 *   3. Once that is durable, `afterDurable` leaves and {@link Raft.durable} is called with `number`.
 * A later ready may be taken before an earlier one is durable; they become durable in order.
 */
export interface Ready {
  /** Counts up from 1. */
  readonly number: number;
  readonly hardState: HardState | undefined;
  readonly entries: readonly Entry[];
  /** The received state, named by `Raft.snapshotReceived`, takes the place of log and state. */
  readonly snapshot: SnapshotMeta | undefined;
  readonly messages: readonly Message[];
  readonly afterDurable: readonly Message[];
  /**
   * To be applied in order, then told by `Raft.applied`. Never more than `applyBytesMax`, but for the first. In a group
   * of one voter these are committed by this very ready becoming durable, and nobody may see their effect before.
   */
  readonly committed: readonly Entry[];
  readonly reads: readonly ReadReady[];
  readonly refusals: readonly Refusal[];
  /** Followers that need the state and not the log: the driver sends it, and tells by `Raft.snapshotSent` how it went. */
  readonly snapshotsWanted: readonly ReplicaId[];
}
