/**
 * Schemas of what nodes say to each other, and the code generated from them.
 *
 * Each room that speaks has its schema, an `.fbs` file here; `npm run schema` (`generate.sh`) writes `gen/`, which is
 * committed and never edited; a test compares the two where `flatc` is installed. Only this room knows the FlatBuffers
 * runtime: others use the generated tables together with {@link MessageBuilder} and {@link CheckedBuffer}.
 *
 * ## Why FlatBuffers
 *
 * Tables carry the offsets of their fields, so either side may know more fields than the other, which is what a
 * cluster needs whose nodes are upgraded one by one. The rules for changes stand at the head of `underlay.fbs`. Integers
 * below 2^53 (host ids, clocks, versions) are doubles: exact, eight bytes, and read without BigInt.
 *
 * ## Hostile bytes
 *
 * The TypeScript runtime has no verifier, and its own reads are lax: beyond the end they give zeros, a length from
 * the wire is believed, and many offsets may point to one string, so that a small packet grows without bound as it
 * is read. {@link CheckedBuffer} closes that at the few places through which all generated code reads:
 *
 * - a read outside the packet throws {@link MALFORMED};
 * - an offset points forwards, so tables cannot form a circle;
 * - a string or vector lies within the packet;
 * - every table, string and vector that is opened is paid for from a budget as large as the packet. An honest packet
 *   refers to each of its parts once and never runs out; what is made of any packet is bounded by its size.
 *
 * MALFORMED is one object made in advance: throwing it costs no stack trace, so garbage is cheap to refuse. Whoever
 * reads catches it at the packet's border; nothing else is thrown for what bytes contain.
 *
 * Text that is not well-formed UTF-8 reads with U+FFFD in place of what is wrong.
 */
import { Builder, ByteBuffer } from 'flatbuffers';

/** Thrown by {@link CheckedBuffer} for bytes that are no packet; compare by identity. */
export const MALFORMED = new Error('malformed packet');

/** A vector of zero-length elements does not exist, so each part of a packet takes at least its offset or length. */
const PART_BYTES = 4;

/** Reads untrusted bytes; one object serves many packets (`over`). */
export class CheckedBuffer extends ByteBuffer {
  private data: Uint8Array = EMPTY;
  private budget = 0;

  constructor() {
    super(EMPTY);
  }

  over(bytes: Uint8Array): this {
    this.data = bytes;
    this.budget = bytes.length;
    return this;
  }

  /** What `make` reads of the bytes through this buffer; undefined where they are no packet. */
  read<T>(bytes: Uint8Array, make: () => T | undefined): T | undefined {
    try {
      this.over(bytes);
      return make();
    } catch (error) {
      if (error !== MALFORMED) throw error;
      return undefined;
    } finally {
      this.release();
    }
  }

  /** Lets go of the bytes, so that a reused reader keeps no packet alive. */
  release(): void {
    this.data = EMPTY;
  }

  override bytes(): Uint8Array {
    return this.data;
  }

  override capacity(): number {
    return this.data.length;
  }

  override readUint8(offset: number): number {
    if (offset < 0 || offset >= this.data.length) throw MALFORMED;
    return this.data[offset]!;
  }

  override readUint16(offset: number): number {
    const { data } = this;
    if (offset < 0 || offset + 2 > data.length) throw MALFORMED;
    return data[offset]! | (data[offset + 1]! << 8);
  }

  override readInt32(offset: number): number {
    const { data } = this;
    if (offset < 0 || offset + 4 > data.length) throw MALFORMED;
    return data[offset]! | (data[offset + 1]! << 8) | (data[offset + 2]! << 16) | (data[offset + 3]! << 24);
  }

  override __indirect(offset: number): number {
    this.spend(PART_BYTES);
    return this.follow(offset);
  }

  override __union<T extends { bb_pos: number; bb: ByteBuffer | null }>(table: T, offset: number): T {
    table.bb_pos = this.__indirect(offset);
    table.bb = this;
    return table;
  }

  override __string(offset: number): string {
    const at = this.follow(offset);
    const length = this.lengthAt(at);
    const start = at + PART_BYTES;
    return length === 0 ? '' : textOf(this.data, start, start + length);
  }

  override __vector(offset: number): number {
    return this.follow(offset) + PART_BYTES;
  }

  override __vector_len(offset: number): number {
    return this.lengthAt(this.follow(offset));
  }

  private follow(offset: number): number {
    const distance = this.readInt32(offset);
    if (distance <= 0) throw MALFORMED;
    return offset + distance;
  }

  /** The length of a string or vector of at least one byte an element. */
  private lengthAt(at: number): number {
    const length = this.readInt32(at);
    if (length < 0 || length > this.data.length - at - PART_BYTES) throw MALFORMED;
    this.spend(PART_BYTES + length);
    return length;
  }

  private spend(bytes: number): void {
    this.budget -= bytes;
    if (this.budget < 0) throw MALFORMED;
  }
}

/** Up to here, a loop over characters is faster than a call into the runtime. */
const SHORT_TEXT = 24;

/** Writes packets; one object serves many (`clear`). */
export class MessageBuilder extends Builder {
  /** As the runtime's, but without an object for short ASCII texts, which is what names and addresses are. */
  override createString(text: string | Uint8Array | null | undefined): number {
    if (typeof text !== 'string' || text.length > SHORT_TEXT || !isAscii(text))
      return super.createString(text);
    const { length } = text;
    this.addInt8(0);
    this.startVector(1, length, 1);
    this.pad(length);
    const buffer = this.dataBuffer();
    const bytes = buffer.bytes();
    const start = buffer.capacity() - this.offset();
    for (let at = 0; at < length; at++) bytes[start + at] = text.charCodeAt(at);
    return this.endVector();
  }
}

const EMPTY = new Uint8Array(0);

function isAscii(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (text.charCodeAt(at) > 0x7f) return false;
  return true;
}

function textOf(bytes: Uint8Array, start: number, end: number): string {
  if (end - start > SHORT_TEXT) return longText(bytes, start, end);
  let text = '';
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!;
    if (byte > 0x7f) return longText(bytes, start, end);
    text += String.fromCharCode(byte);
  }
  return text;
}

function longText(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8');
}
