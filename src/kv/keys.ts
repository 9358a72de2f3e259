import { assert } from '../base/assert.js';
import type { ByteWriter } from '../base/bytes.js';
import type { KvReader } from './engine.js';

/**
 * How keys of ranges are made. `service, tenant, 0x00, kind, rest`: all that belongs to a tenant lies together,
 * so a range boundary is a tenant or a place within one. Texts hold no U+0000, so the terminator orders rightly.
 * Counters that belong to a range and not to a tenant lie under `LOCAL, service, range id`.
 */
export const SERVICE = { DIST: 0x64, INBOX: 0x69, RETAIN: 0x72 } as const;

const LOCAL = 0x4c;

/** Starts a key of `service` in `tenant`. `tenant` must not hold U+0000. */
export function tenantKey(writer: ByteWriter, service: number, tenant: string, kind: number): ByteWriter {
  writer.reset().u8(service);
  rawText(writer, tenant);
  return writer.u8(0).u8(kind);
}

/** A key that belongs to one range and no tenant. */
export function localKey(writer: ByteWriter, service: number, rangeId: number, kind: number): ByteWriter {
  return bigEndian32(writer.reset().u8(LOCAL).u8(service), rangeId).u8(kind);
}

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

export function bigEndian32(writer: ByteWriter, value: number): ByteWriter {
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
