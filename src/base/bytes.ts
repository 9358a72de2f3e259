import { assert } from './assert.js';

/**
 * A growing little-endian buffer for ring frames and stored records. One writer is reused for many frames:
 * `reset()` keeps the memory. Positions are bytes.
 */
export class ByteWriter {
  bytes: Buffer;
  length = 0;

  constructor(capacityBytes = 1024) {
    this.bytes = Buffer.allocUnsafeSlow(capacityBytes);
  }

  reset(): this {
    this.length = 0;
    return this;
  }

  /** Makes room for `count` more bytes; doubles, so appending stays linear. */
  reserve(count: number): void {
    const need = this.length + count;
    if (need <= this.bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(need, this.bytes.length * 2));
    this.bytes.copy(grown, 0, 0, this.length);
    this.bytes = grown;
  }

  u8(value: number): this {
    this.reserve(1);
    this.bytes[this.length++] = value;
    return this;
  }

  u16(value: number): this {
    this.reserve(2);
    const { bytes } = this;
    bytes[this.length++] = value;
    bytes[this.length++] = value >>> 8;
    return this;
  }

  u32(value: number): this {
    this.reserve(4);
    const { bytes } = this;
    bytes[this.length++] = value;
    bytes[this.length++] = value >>> 8;
    bytes[this.length++] = value >>> 16;
    bytes[this.length++] = value >>> 24;
    return this;
  }

  /** A safe integer of at most 2^53 - 1 (milliseconds, sequence numbers), as eight bytes. */
  u53(value: number): this {
    assert(value >= 0 && Number.isSafeInteger(value), 'u53 takes a safe non-negative integer');
    return this.u32(value % 0x1_0000_0000).u32(Math.floor(value / 0x1_0000_0000));
  }

  f64(value: number): this {
    this.reserve(8);
    this.bytes.writeDoubleLE(value, this.length);
    this.length += 8;
    return this;
  }

  /** Raw bytes, with no length before them. */
  raw(source: Uint8Array, start = 0, end = source.length): this {
    const count = end - start;
    this.reserve(count);
    if (count > 0) {
      this.bytes.set(
        start === 0 && end === source.length ? source : source.subarray(start, end),
        this.length,
      );
      this.length += count;
    }
    return this;
  }

  /** Bytes with a u32 length before them. */
  blob(source: Uint8Array, start = 0, end = source.length): this {
    return this.u32(end - start).raw(source, start, end);
  }

  /** UTF-8 text with a u32 length before it. */
  text(value: string): this {
    this.reserve(4 + value.length * 3);
    const count = this.bytes.write(value, this.length + 4, 'utf8');
    this.u32(count);
    this.length += count;
    return this;
  }

  /** A view, valid until the next write. */
  view(): Buffer {
    return this.bytes.subarray(0, this.length);
  }

  /** A copy to keep. */
  copy(): Buffer {
    return Buffer.from(this.bytes.subarray(0, this.length));
  }
}

/** Reads what {@link ByteWriter} wrote; asserts on truncation, since frames and records are our own. */
export class ByteReader {
  bytes: Uint8Array;
  position: number;
  end: number;

  constructor(bytes: Uint8Array = EMPTY, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.position = start;
    this.end = end;
  }

  /** Points this reader at other bytes, so one object serves many frames. */
  over(bytes: Uint8Array, start = 0, end = bytes.length): this {
    this.bytes = bytes;
    this.position = start;
    this.end = end;
    return this;
  }

  get remaining(): number {
    return this.end - this.position;
  }

  private take(count: number): number {
    const at = this.position;
    assert(at + count <= this.end, 'frame or record is truncated');
    this.position = at + count;
    return at;
  }

  u8(): number {
    return this.bytes[this.take(1)]!;
  }

  u16(): number {
    const at = this.take(2);
    return this.bytes[at]! | (this.bytes[at + 1]! << 8);
  }

  u32(): number {
    const at = this.take(4);
    const { bytes } = this;
    return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
  }

  u53(): number {
    const low = this.u32();
    return low + this.u32() * 0x1_0000_0000;
  }

  f64(): number {
    const at = this.take(8);
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset + at, 8).readDoubleLE(0);
  }

  /** A view of the next `count` bytes, valid as long as the underlying bytes are. */
  raw(count: number): Uint8Array {
    const at = this.take(count);
    return this.bytes.subarray(at, at + count);
  }

  blob(): Uint8Array {
    return this.raw(this.u32());
  }

  text(): string {
    const count = this.u32();
    const at = this.take(count);
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset + at, count).toString('utf8');
  }
}

const EMPTY = new Uint8Array(0);
