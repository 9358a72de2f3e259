import { COUNTER_MAX } from './crdt.js';

/**
 * What replicas say to each other: plain data, immutable once sent, so a simulator may pass it by reference. A
 * decoder makes fresh objects with fields of these types only, and copies `value` out of the packet: both are kept
 * as long as the entry lives.
 *
 * Dots travel flat: pairs `replica, counter`, and inclusive ranges as triples `replica, from, to`.
 *
 * | kind | says | answered by |
 * | --- | --- | --- |
 * | delta | these dots live, those are dropped | ack with the same `seq` |
 * | ack | the delta was applied, and whether it was worth sending | |
 * | root | digest of all I hold | silence when equal; otherwise buckets, dots or repair |
 * | buckets | digest of each 2^n-th of the key hashes | dots, for the parts that differ |
 * | dots | all my live dots in these parts | repair |
 * | repair | what you lack, what I know to be dropped, and what I want | repair, if anything is wanted or stale |
 */

/** One live dot: `replica`'s write number `counter`. */
export interface Entry {
  readonly key: string;
  readonly replica: number;
  readonly counter: number;
  readonly value: Uint8Array;
}

/** A part of a state, joined by `OrMap.apply`. A dot that is among both is dropped. */
export interface Delta {
  readonly entries: readonly Entry[];
  /** Triples `replica, from, to`: none of these dots lives any more. */
  readonly dropped: readonly number[];
}

export interface DeltaMessage extends Delta {
  readonly kind: 'delta';
  /** Even, and not used again by this sender. */
  readonly seq: number;
}

export interface AckMessage {
  readonly kind: 'ack';
  /** That of the delta; one more when most of the delta was known already. */
  readonly seq: number;
}

export interface RootMessage {
  readonly kind: 'root';
  /** The two 32-bit halves of the digest, unsigned. */
  readonly low: number;
  readonly high: number;
  /** Live dots. */
  readonly count: number;
}

export interface BucketsMessage {
  readonly kind: 'buckets';
  /** 16 to 1,024 of them, a power of two; bucket i holds the keys whose hash begins with the bits of i. Unsigned. */
  readonly digests: readonly number[];
  /** The sender's `RootMessage.high`: tells equal buckets from a collision. */
  readonly check: number;
}

export interface DotsMessage {
  readonly kind: 'dots';
  /** Inclusive ranges of unsigned key hashes, `from, to` in turn: in these the sender has the dots below and no more. */
  readonly ranges: readonly number[];
  /** Pairs `replica, counter`. */
  readonly dots: readonly number[];
}

export interface RepairMessage extends Delta {
  readonly kind: 'repair';
  /** Pairs `replica, counter`: dots that the receiver listed and the sender never saw. */
  readonly wanted: readonly number[];
}

export type CrdtMessage =
  | DeltaMessage
  | AckMessage
  | RootMessage
  | BucketsMessage
  | DotsMessage
  | RepairMessage;

/** Most numbers in one array of a message, and most entries in one. */
const MESSAGE_NUMBERS_MAX = 65_536;
const MESSAGE_ENTRIES_MAX = 4_096;
export const BUCKETS_MIN = 16;
export const BUCKETS_MAX = 1_024;

/** What an entry takes beside key and value, encoded as a table with two vectors. */
const ENTRY_OVERHEAD_BYTES = 56;
const MESSAGE_OVERHEAD_BYTES = 32;
const NUMBER_BYTES = 8;
const HASH_BYTES = 4;

export function entryBytes(entry: Entry): number {
  return ENTRY_OVERHEAD_BYTES + entry.key.length + entry.value.length;
}

/** A close estimate of the encoded size, in bytes; exact for no encoding. */
export function crdtMessageBytes(message: CrdtMessage): number {
  switch (message.kind) {
    case 'delta':
      return MESSAGE_OVERHEAD_BYTES + NUMBER_BYTES + deltaBytes(message);
    case 'repair':
      return MESSAGE_OVERHEAD_BYTES + deltaBytes(message) + message.wanted.length * NUMBER_BYTES;
    case 'ack':
      return MESSAGE_OVERHEAD_BYTES + NUMBER_BYTES;
    case 'root':
      return MESSAGE_OVERHEAD_BYTES + 3 * HASH_BYTES;
    case 'buckets':
      return MESSAGE_OVERHEAD_BYTES + (message.digests.length + 1) * HASH_BYTES;
    case 'dots':
      return MESSAGE_OVERHEAD_BYTES + message.ranges.length * HASH_BYTES + message.dots.length * NUMBER_BYTES;
  }
}

function deltaBytes(delta: Delta): number {
  let bytes = delta.dropped.length * NUMBER_BYTES;
  for (const entry of delta.entries) bytes += entryBytes(entry);
  return bytes;
}

/** Whether `value` is a message whose fields have the right types and are within the limits of this file. */
export function isCrdtMessage(value: unknown): value is CrdtMessage {
  if (typeof value !== 'object' || value === null) return false;
  const message = value as Record<string, unknown>;
  switch (message.kind) {
    case 'delta':
      return isCounter(message.seq) && isDelta(message);
    case 'repair':
      return isDelta(message) && isDots(message.wanted);
    case 'ack':
      return isReplica(message.seq);
    case 'root':
      return isHash(message.low) && isHash(message.high) && isHash(message.count);
    case 'buckets':
      return isHash(message.check) && isBuckets(message.digests);
    case 'dots':
      return isHashRanges(message.ranges) && isDots(message.dots);
    default:
      return false;
  }
}

/** Replica ids, and what acknowledges: 1 to 2^53 - 1. */
export function isReplica(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}

/** Counters of dots, and sequence numbers of deltas. */
export function isCounter(value: unknown): value is number {
  return isReplica(value) && value <= COUNTER_MAX;
}

function isHash(value: unknown): value is number {
  return typeof value === 'number' && value >>> 0 === value;
}

function isDelta(message: Record<string, unknown>): boolean {
  const { entries, dropped } = message;
  if (!Array.isArray(entries) || entries.length > MESSAGE_ENTRIES_MAX) return false;
  for (const entry of entries) if (!isEntry(entry)) return false;
  if (!isNumbers(dropped, 3)) return false;
  for (let i = 0; i < dropped.length; i += 3) {
    const from = dropped[i + 1];
    const to = dropped[i + 2];
    if (!isReplica(dropped[i]) || !isCounter(from) || !isCounter(to) || from > to) return false;
  }
  return true;
}

function isEntry(value: unknown): value is Entry {
  if (typeof value !== 'object' || value === null) return false;
  const entry = value as Record<string, unknown>;
  return (
    typeof entry.key === 'string' &&
    isReplica(entry.replica) &&
    isCounter(entry.counter) &&
    entry.value instanceof Uint8Array
  );
}

function isDots(value: unknown): boolean {
  if (!isNumbers(value, 2)) return false;
  for (let i = 0; i < value.length; i += 2) {
    if (!isReplica(value[i]) || !isCounter(value[i + 1])) return false;
  }
  return true;
}

function isBuckets(value: unknown): boolean {
  if (!isNumbers(value, BUCKETS_MIN) || !value.every(isHash)) return false;
  const { length } = value;
  return length >= BUCKETS_MIN && length <= BUCKETS_MAX && (length & (length - 1)) === 0;
}

/** Ascending and disjoint, so that nobody is made to look at the same part twice. */
function isHashRanges(value: unknown): boolean {
  if (!isNumbers(value, 2) || !value.every(isHash)) return false;
  let last = -1;
  for (let i = 0; i < value.length; i += 2) {
    const from = value[i] as number;
    const to = value[i + 1] as number;
    if (from <= last || to < from) return false;
    last = to;
  }
  return true;
}

function isNumbers(value: unknown, multiple: number): value is unknown[] {
  return Array.isArray(value) && value.length <= MESSAGE_NUMBERS_MAX && value.length % multiple === 0;
}
