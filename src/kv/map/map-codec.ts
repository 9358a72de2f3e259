import { copyOf, prefixEnd, SERVICE, utf8 } from '../keys.js';
import { VarintReader, VarintWriter } from '../raft/varint.js';

/**
 * What a map range is asked and what it answers, for both sides. Numbers are varints, a key is UTF-8, and either side
 * takes whatever comes: what cannot be read is `malformed` or `garbled`.
 *
 *   PUT     version, kind, nowMs, flag, [revision], blob key, blob value
 *   DELETE  version, kind, nowMs, flag, [revision], blob key
 *   GET     version, kind, blob key
 *   LIST    version, kind, blob prefix, blob from, entriesMax, bytesMax, flag whether with values
 *
 * With the flag a PUT or DELETE is done only if the entry has that revision, 0 if there must be none. `from` is a key of
 * the range (with the service before it) at which the listing goes on, since that is what says who is to be asked.
 */
export const MAP_VERSION = 1;
export const MAP_KEY_BYTES_MAX = 512;
export const MAP_VALUE_BYTES_MAX = 64 * 1024;
/** Entries in one answer. */
export const LIST_ENTRIES_MAX = 1000;
/** Bytes of keys and values in one answer, beside the first entry. */
export const LIST_BYTES_MAX = 256 * 1024;
/** `from` may be where some range begins, and that is any key. */
const FROM_BYTES_MAX = 4096;

const KIND = { PUT: 1, DELETE: 2, GET: 3, LIST: 4 } as const;

/** Of an answer, behind the version. */
export const MAP_STATUS = {
  PUT: 0,
  DELETED: 1,
  CONFLICT: 2,
  FOUND: 3,
  ABSENT: 4,
  LISTED: 5,
  /** The map has as many entries or bytes as it may; see map.ts. */
  FULL: 6,
  /** The key is not in the range that was asked. */
  OUTSIDE: 7,
  MALFORMED: 8,
  /** Of another version. */
  UNSUPPORTED: 9,
} as const;

export interface MapEntry {
  readonly key: string;
  /** Rises with each change of the entry, also from one life of the key to the next. */
  readonly revision: number;
  /** As whoever wrote it said; milliseconds since 1970. */
  readonly modifiedAtMs: number;
  /** Of the value. */
  readonly bytes: number;
  /** Undefined where only keys were asked for. */
  readonly value: Uint8Array | undefined;
}

// -- What is asked ---------------------------------------------------------------------------------------------

export interface MapPut {
  readonly key: string;
  readonly value: Uint8Array;
  readonly nowMs: number;
  /** The revision that the entry must have; 0: there must be none. */
  readonly expected?: number;
}

export interface MapListRequest {
  readonly prefix: string;
  readonly from: Uint8Array;
  readonly entriesMax: number;
  readonly bytesMax: number;
  readonly withValues: boolean;
}

/** Why a text cannot be a key, in words; undefined if it can. */
export function mapKeyFault(key: string): string | undefined {
  if (key === '') return 'a key is not empty';
  return prefixFault(key);
}

/** Why no key can begin so; undefined if some can. */
export function prefixFault(prefix: string): string | undefined {
  const bytes = Buffer.from(prefix);
  if (bytes.length > MAP_KEY_BYTES_MAX)
    return `a key has at most ${MAP_KEY_BYTES_MAX} bytes, not ${bytes.length}`;
  if (prefix.includes('\0')) return 'a key holds no U+0000';
  return bytes.toString() === prefix ? undefined : 'a key holds no half of a surrogate pair';
}

/** The key by which the range is found. */
export function mapKey(key: string): Uint8Array {
  return Buffer.concat([Uint8Array.of(SERVICE.MAP), Buffer.from(key)]);
}

export function encodePut({ key, value, nowMs, expected }: MapPut): Uint8Array {
  return change(KIND.PUT, nowMs, expected, key, value.length).blob(value).copy();
}

export function encodeDelete({ key, nowMs, expected }: Omit<MapPut, 'value'>): Uint8Array {
  return change(KIND.DELETE, nowMs, expected, key, 0).copy();
}

function change(kind: number, nowMs: number, expected: number | undefined, key: string, valueBytes: number) {
  const writer = new VarintWriter(64 + key.length * 3 + valueBytes);
  writer.byte(MAP_VERSION).byte(kind).number(nowMs);
  if (expected === undefined) writer.byte(0);
  else writer.byte(1).number(expected);
  return writer.blob(Buffer.from(key));
}

export function encodeGet(key: string): Uint8Array {
  return new VarintWriter(64).byte(MAP_VERSION).byte(KIND.GET).blob(Buffer.from(key)).copy();
}

export function encodeList({ prefix, from, entriesMax, bytesMax, withValues }: MapListRequest): Uint8Array {
  const writer = new VarintWriter(64).byte(MAP_VERSION).byte(KIND.LIST).blob(Buffer.from(prefix));
  return writer
    .blob(from)
    .number(entriesMax)
    .number(bytesMax)
    .byte(withValues ? 1 : 0)
    .copy();
}

// -- How a range reads it --------------------------------------------------------------------------------------

export type MapCommand =
  | { readonly kind: 'put'; readonly change: Change; readonly value: Uint8Array }
  | { readonly kind: 'delete'; readonly change: Change };

/** Keys with the service before them; views of what was read. */
export interface Change {
  readonly key: Uint8Array;
  readonly nowMs: number;
  /** -1: whatever there is. */
  readonly expected: number;
}

export type MapQuestion =
  | { readonly kind: 'get'; readonly key: Uint8Array }
  | ({ readonly kind: 'list'; readonly end: Uint8Array } & Omit<MapListRequest, 'prefix'>);

/** Why it cannot be done: a status. */
export interface Unread {
  readonly kind: 'unread';
  readonly status: number;
}

const MALFORMED: Unread = { kind: 'unread', status: MAP_STATUS.MALFORMED };
const UNSUPPORTED: Unread = { kind: 'unread', status: MAP_STATUS.UNSUPPORTED };

export function readCommand(bytes: Uint8Array, start: number, end: number): MapCommand | Unread {
  const reader = new VarintReader(bytes, start, end);
  const kind = readHead(reader);
  if (typeof kind !== 'number') return kind;
  if (kind !== KIND.PUT && kind !== KIND.DELETE) return MALFORMED;
  const nowMs = reader.number();
  const expected = reader.flag() ? reader.number() : -1;
  const key = ownKey(reader.blob());
  const value = kind === KIND.PUT ? reader.blob() : NOTHING;
  if (key === undefined || !reader.isDone || value.length > MAP_VALUE_BYTES_MAX) return MALFORMED;
  const change = { key, nowMs, expected };
  return kind === KIND.PUT ? { kind: 'put', change, value } : { kind: 'delete', change };
}

export function readQuestion(bytes: Uint8Array, start: number, end: number): MapQuestion | Unread {
  const reader = new VarintReader(bytes, start, end);
  const kind = readHead(reader);
  if (typeof kind !== 'number') return kind;
  if (kind === KIND.GET) {
    const key = ownKey(reader.blob());
    return key === undefined || !reader.isDone ? MALFORMED : { kind: 'get', key };
  }
  return kind === KIND.LIST ? readList(reader) : MALFORMED;
}

function readList(reader: VarintReader): MapQuestion | Unread {
  const prefix = reader.blob();
  const from = reader.blob();
  const entriesMax = reader.number();
  const bytesMax = reader.number();
  const withValues = reader.flag();
  if (!reader.isDone || !isText(prefix) || from.length > FROM_BYTES_MAX) return MALFORMED;
  if (entriesMax < 1 || entriesMax > LIST_ENTRIES_MAX || bytesMax > LIST_BYTES_MAX) return MALFORMED;
  const start = Buffer.concat([Uint8Array.of(SERVICE.MAP), prefix]);
  const isInside = Buffer.compare(start, from.subarray(0, start.length)) === 0;
  return isInside
    ? { kind: 'list', end: prefixEnd(start), from, entriesMax, bytesMax, withValues }
    : MALFORMED;
}

/** The kind, if the version is ours. */
function readHead(reader: VarintReader): number | Unread {
  const version = reader.byte();
  const kind = reader.byte();
  if (reader.broken) return MALFORMED;
  return version === MAP_VERSION ? kind : UNSUPPORTED;
}

function ownKey(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length === 0 || !isText(bytes)) return undefined;
  return Buffer.concat([Uint8Array.of(SERVICE.MAP), bytes]);
}

/** UTF-8 of at most the length of a key, without U+0000. */
function isText(bytes: Uint8Array): boolean {
  if (bytes.length > MAP_KEY_BYTES_MAX || bytes.includes(0)) return false;
  return Buffer.compare(Buffer.from(utf8(bytes, 0)), bytes) === 0;
}

// -- What a range holds ----------------------------------------------------------------------------------------

export interface StoredEntry {
  readonly revision: number;
  readonly modifiedAtMs: number;
  /** A view. */
  readonly value: Uint8Array;
}

/** An entry as it is stored: version, revision, modifiedAtMs, blob value. */
export function writeStored(
  writer: VarintWriter,
  revision: number,
  nowMs: number,
  value: Uint8Array,
): Uint8Array {
  return writer.reset().byte(STORED_VERSION).number(revision).number(nowMs).blob(value).view();
}

/** Undefined if it is of a newer layout. */
export function readStored(bytes: Uint8Array): StoredEntry | undefined {
  const reader = new VarintReader(bytes);
  const version = reader.byte();
  const entry = { revision: reader.number(), modifiedAtMs: reader.number(), value: reader.blob() };
  return version === STORED_VERSION && reader.isDone ? entry : undefined;
}

const STORED_VERSION = 1;

// -- What it answers -------------------------------------------------------------------------------------------

export type MapAnswer =
  | { readonly kind: 'put'; readonly revision: number }
  /** `revision`: that it had; 0: it was not there. */
  | { readonly kind: 'deleted'; readonly revision: number }
  /** Nothing was done. `revision`: that it has; 0: it is not there. */
  | { readonly kind: 'conflict'; readonly revision: number }
  | {
      readonly kind: 'found';
      readonly revision: number;
      readonly modifiedAtMs: number;
      readonly value: Uint8Array;
    }
  | { readonly kind: 'absent' }
  /** `next`: the key at which it goes on, there or in the next range; empty at its end. */
  | { readonly kind: 'listed'; readonly entries: readonly MapEntry[]; readonly next: Uint8Array }
  /** Nothing was done. */
  | { readonly kind: 'full' | 'outside' | 'malformed' | 'unsupported' }
  /** What was answered cannot be read. */
  | { readonly kind: 'garbled' };

/** Reads an answer; what it gives does not share its bytes. */
export function decodeMapAnswer(bytes: Uint8Array): MapAnswer {
  const reader = new VarintReader(bytes);
  const version = reader.byte();
  const answer = version === MAP_VERSION ? readAnswer(reader, reader.byte()) : GARBLED;
  return reader.isDone ? answer : GARBLED;
}

const GARBLED: MapAnswer = { kind: 'garbled' };

function readAnswer(reader: VarintReader, status: number): MapAnswer {
  switch (status) {
    case MAP_STATUS.PUT:
      return { kind: 'put', revision: reader.number() };
    case MAP_STATUS.DELETED:
      return { kind: 'deleted', revision: reader.number() };
    case MAP_STATUS.CONFLICT:
      return { kind: 'conflict', revision: reader.number() };
    case MAP_STATUS.FOUND: {
      const revision = reader.number();
      const modifiedAtMs = reader.number();
      return { kind: 'found', revision, modifiedAtMs, value: copyOf(reader.blob()) };
    }
    case MAP_STATUS.ABSENT:
      return { kind: 'absent' };
    case MAP_STATUS.LISTED:
      return readListed(reader);
    case MAP_STATUS.FULL:
      return { kind: 'full' };
    case MAP_STATUS.OUTSIDE:
      return { kind: 'outside' };
    case MAP_STATUS.MALFORMED:
      return { kind: 'malformed' };
    case MAP_STATUS.UNSUPPORTED:
      return { kind: 'unsupported' };
    default:
      return GARBLED;
  }
}

function readListed(reader: VarintReader): MapAnswer {
  const next = copyOf(reader.blob());
  const withValues = reader.flag();
  const entries: MapEntry[] = [];
  for (let left = reader.count(ENTRY_BYTES_MIN); left > 0 && !reader.broken; left--) {
    const key = utf8(reader.blob(), 0);
    const revision = reader.number();
    const modifiedAtMs = reader.number();
    const value = withValues ? copyOf(reader.blob()) : undefined;
    const bytes = value === undefined ? reader.number() : value.length;
    entries.push({ key, revision, modifiedAtMs, bytes, value });
  }
  return { kind: 'listed', entries, next };
}

const ENTRY_BYTES_MIN = 4;
const NOTHING = new Uint8Array(0);

/** Begins an answer; what belongs to the status follows. */
export function beginAnswer(writer: VarintWriter, status: number): VarintWriter {
  return writer.reset().byte(MAP_VERSION).byte(status);
}

/** Of an answer LISTED. */
export function writeEntry(
  writer: VarintWriter,
  key: Uint8Array,
  entry: StoredEntry,
  withValues: boolean,
): void {
  writer.blob(key.subarray(1)).number(entry.revision).number(entry.modifiedAtMs);
  if (withValues) writer.blob(entry.value);
  else writer.number(entry.value.length);
}
