import { assert } from '../base/assert.js';
import type { ByteWriter } from '../base/bytes.js';
import type { KvReader } from './engine.js';

/**
 * How keys of ranges are made. `service, tenant, 0x00, kind, rest`: all that belongs to a tenant lies together,
 * so a range boundary is a tenant or a place within one. Texts hold no U+0000, so the terminator orders rightly.
 * The map belongs to who runs the cluster and to no tenant: its keys are `service, text` (map/map-codec.ts).
 * Counters that belong to a range and not to a tenant lie under `LOCAL, service, range id`, what the replicated store
 * keeps about its ranges under `LOCAL, 0x01` (replicated/).
 */
export const SERVICE = { DIST: 0x64, INBOX: 0x69, MAP: 0x6d, RETAIN: 0x72 } as const;

const LOCAL = 0x4c;
/** Stands where a service does. */
const BOOKS = 0x01;
/** Range ids from here on follow in full. */
const WIDE_RANGE_ID = 0xffff_ffff;

/** Starts a key of `service` in `tenant`. `tenant` must not hold U+0000. */
export function tenantKey(writer: ByteWriter, service: number, tenant: string, kind: number): ByteWriter {
  writer.reset().u8(service);
  rawText(writer, tenant);
  return writer.u8(0).u8(kind);
}

/** A key that belongs to one range and no tenant. */
export function localKey(writer: ByteWriter, service: number, rangeId: number, kind: number): ByteWriter {
  return localPrefix(writer, service, rangeId).u8(kind);
}

/** What keys of {@link localKey} begin with. None of them is the beginning of another's. */
export function localPrefix(writer: ByteWriter, service: number, rangeId: number): ByteWriter {
  bigEndian32(writer.reset().u8(LOCAL).u8(service), Math.min(rangeId, WIDE_RANGE_ID));
  return rangeId < WIDE_RANGE_ID ? writer : ordered53(writer, rangeId);
}

/**
 * A key of the replicated store's own books, which no coprocessor sees: `LOCAL, 0x01, kind, range id`, so that the
 * records of one kind lie together; a log's go on with an index.
 */
export function bookKey(writer: ByteWriter, kind: number, rangeId: number): ByteWriter {
  return ordered53(writer.reset().u8(LOCAL).u8(BOOKS).u8(kind), rangeId);
}

/** All records of a kind. */
export function bookSpan(kind: number): { readonly start: Uint8Array; readonly end: Uint8Array } {
  return { start: Uint8Array.of(LOCAL, BOOKS, kind), end: Uint8Array.of(LOCAL, BOOKS, kind + 1) };
}

/** Range id of a key made by {@link bookKey}. */
export const BOOK_RANGE_AT = 3;
/** Where that which follows the range id begins. */
export const BOOK_REST_AT = 10;

/** UTF-8 without a length before it. */
export function rawText(writer: ByteWriter, text: string): ByteWriter {
  writer.reserve(text.length * 3);
  writer.length += writer.bytes.write(text, writer.length, 'utf8');
  return writer;
}

/** A u53 in seven bytes whose order is that of the numbers. */
export function ordered53(writer: ByteWriter, value: number): ByteWriter {
  assert(value >= 0 && Number.isSafeInteger(value), 'ordered53 takes a safe non-negative integer');
  const high = Math.floor(value / 0x1_0000_0000);
  writer.reserve(7);
  const { bytes } = writer;
  bytes[writer.length++] = high >>> 16;
  bytes[writer.length++] = high >>> 8;
  bytes[writer.length++] = high;
  return bigEndian32(writer, value % 0x1_0000_0000);
}

function bigEndian32(writer: ByteWriter, value: number): ByteWriter {
  return writer
    .u8((value >>> 24) & 255)
    .u8((value >>> 16) & 255)
    .u8((value >>> 8) & 255)
    .u8(value & 255);
}

/** Reads what {@link ordered53} wrote at `at`. */
export function readOrdered53(key: Uint8Array, at: number): number {
  const high = (key[at]! << 16) | (key[at + 1]! << 8) | key[at + 2]!;
  const low = (key[at + 3]! << 24) | (key[at + 4]! << 16) | (key[at + 5]! << 8) | key[at + 6]!;
  return high * 0x1_0000_0000 + (low >>> 0);
}

/** The smallest key above all that begin with `prefix`, whose last byte must not be 0xff. */
export function prefixEnd(prefix: Uint8Array): Uint8Array {
  const end = copyOf(prefix);
  assert(end.length > 0 && end[end.length - 1]! < 0xff, 'a prefix ends below 0xff');
  end[end.length - 1]! += 1;
  return end;
}

/** Position of the kind byte: behind service, tenant and terminator. */
export function kindAt(key: Uint8Array): number {
  return key.indexOf(0) + 1;
}

/** The tenant of a key made by {@link tenantKey}. */
export function tenantOf(key: Uint8Array): string {
  return utf8(key, 1, key.indexOf(0));
}

export function utf8(bytes: Uint8Array, start: number, end = bytes.length): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8');
}

/** Bytes as a string of as many characters: a key of a Map. */
export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

/** The first key of [start, end), as a copy. */
export function firstKey(reader: KvReader, start: Uint8Array, end: Uint8Array): Uint8Array | undefined {
  let found: Uint8Array | undefined;
  reader.scan(start, end, key => {
    found = copyOf(key);
    return false;
  });
  return found;
}

/** A copy that outlives the view (`Buffer.slice` would be another view). */
export function copyOf(bytes: Uint8Array, start = 0, end = bytes.length): Uint8Array {
  return Uint8Array.prototype.slice.call(bytes, start, end);
}
