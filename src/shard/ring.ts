import { assert } from '../base/assert.js';
import { FRAME_BYTES_MAX, type FrameHandler, RING_BYTES, type RingMemory } from './shard.js';

/**
 * One writer, one reader, bounded, over a SharedArrayBuffer.
 *
 * Header: three 32-bit words, each on a cache line pair of its own (adjacent lines are fetched together):
 * HEAD (bytes written, mod 2^32), TAIL (bytes read, mod 2^32), STARVING (the writer waits for room).
 * Data: records at offsets divisible by 8. A record is a 32-bit word and the payload after it:
 *
 *   word = length                   a whole frame of at most a quarter of the ring
 *   word = length | MORE            first fragment; the payload begins with the frame's length, 32 bits
 *   word = length | MORE | CONTINUED   a fragment between
 *   word = length | CONTINUED       last fragment
 *   word = PAD                      nothing until the end of the memory; records never wrap
 *
 * A record takes at most a quarter of the ring, and padding less than the record that caused it, so half a
 * ring of room always suffices: a reader that has emptied half of it can tell a starving writer to go on.
 * Each side keeps a copy of the other's position and looks at the shared word only when the copy does not do.
 * Positions are compared by subtraction, so their wrap at 2^32 needs no care.
 */

const HEAD = 0;
const TAIL = 32;
const STARVING = 64;
const HEADER_WORDS = 96;
const RECORD_HEADER_BYTES = 4;
const MORE = 1 << 30;
const CONTINUED = 1 << 29;
const LENGTH_MASK = CONTINUED - 1;
const PAD = -1;
/**
 * Up to here a loop that stores whole words beats `set`, which needs a `subarray`: 43 against 81 ns for 64 bytes,
 * equal between 128 and 256. A loop over bytes takes 95 ns. perf/micro/ring.bench.ts shows the whole of it.
 */
const LOOP_BYTES_MAX = 160;

assert(new Uint8Array(new Int32Array([1]).buffer)[0] === 1, 'rings need a little-endian machine');

/** Memory for a ring. Capacity in bytes: a power of two from 64 to 2^30. */
export function createRing(capacityBytes = RING_BYTES, frameBytesMax = FRAME_BYTES_MAX): RingMemory {
  assert(
    capacityBytes >= 64 && capacityBytes <= 1 << 30 && (capacityBytes & (capacityBytes - 1)) === 0,
    'a ring has a power of two of bytes, from 64 to 2^30',
  );
  assert(frameBytesMax >= 0 && frameBytesMax < 2 ** 31, 'a frame has less than 2^31 bytes');
  return { memory: new SharedArrayBuffer(HEADER_WORDS * 4 + capacityBytes), capacityBytes, frameBytesMax };
}

/** Largest frame that crosses `ring` in one record. */
function recordBytesMax(ring: RingMemory): number {
  return ring.capacityBytes / 4 - 2 * RECORD_HEADER_BYTES;
}

export class RingWriter {
  private readonly header: Int32Array;
  private readonly words: Int32Array;
  private readonly view: Buffer;
  private readonly capacity: number;
  private readonly mask: number;
  private readonly publishBytes: number;
  private readonly recordMax: number;
  private readonly frameMax: number;
  private head: number;
  /** The reader's position as last seen. */
  private tail: number;
  private published: number;
  private announced: number;
  /** What `push` takes in one record: -1 while a frame is partly sent, so that only its rest gets through. */
  private directMax: number;
  private partTotal = 0;
  private partSent = 0;

  constructor(ring: RingMemory) {
    this.header = new Int32Array(ring.memory, 0, HEADER_WORDS);
    this.words = new Int32Array(ring.memory, HEADER_WORDS * 4, ring.capacityBytes / 4);
    this.view = Buffer.from(ring.memory, HEADER_WORDS * 4, ring.capacityBytes);
    this.capacity = ring.capacityBytes;
    this.mask = ring.capacityBytes - 1;
    this.publishBytes = ring.capacityBytes / 4;
    this.recordMax = recordBytesMax(ring);
    this.directMax = this.recordMax;
    this.frameMax = ring.frameBytesMax;
    this.head = Atomics.load(this.header, HEAD);
    this.tail = Atomics.load(this.header, TAIL);
    this.published = this.head;
    this.announced = this.head;
  }

  /**
   * Takes one frame. False: the ring is full, and nothing was taken. A frame over a quarter of the ring may have
   * been taken in part (`partial`): the next push must then be the same frame, and goes on where it stopped.
   */
  push(bytes: Uint8Array, start: number, end: number): boolean {
    const length = end - start;
    if (length > this.directMax) return this.pushFragments(bytes, start, length);
    const at = this.claim(length);
    if (at < 0) return false;
    this.words[at >> 2] = length;
    this.copy(bytes, start, end, at + RECORD_HEADER_BYTES);
    return true;
  }

  /** A frame was taken in part, and its rest must be pushed next. */
  get partial(): boolean {
    return this.partTotal !== 0;
  }

  /** Makes all that was pushed visible. True when anything became visible since the last call. */
  commit(): boolean {
    if (this.head === this.announced) return false;
    this.publish();
    this.announced = this.head;
    return true;
  }

  /** The writer found the ring full, and the reader has not said since that half of it is free. */
  get starving(): boolean {
    return Atomics.load(this.header, STARVING) === 1;
  }

  /** Bytes written and not yet read, record headers and padding included. */
  get depthBytes(): number {
    return (this.head - Atomics.load(this.header, TAIL)) | 0;
  }

  private publish(): void {
    if (this.head === this.published) return;
    this.published = this.head;
    Atomics.store(this.header, HEAD, this.head);
  }

  /** Reserves a record for `length` payload bytes and moves the head past it; its offset, or -1 for full. */
  private claim(length: number): number {
    const need = (length + RECORD_HEADER_BYTES + 7) & ~7;
    const head = this.head;
    let at = head & this.mask;
    const pad = need > this.capacity - at ? this.capacity - at : 0;
    if (this.capacity - ((head - this.tail) | 0) < pad + need && !this.findRoom(pad + need)) return -1;
    if (pad !== 0) {
      this.words[at >> 2] = PAD;
      at = 0;
    }
    // The record is published by a later call, when its payload is written.
    if (((head - this.published) | 0) >= this.publishBytes) this.publish();
    this.head = (head + pad + need) | 0;
    return at;
  }

  private findRoom(need: number): boolean {
    this.tail = Atomics.load(this.header, TAIL);
    if (this.capacity - ((this.head - this.tail) | 0) >= need) return true;
    // The reader can only make room out of what it sees.
    this.publish();
    Atomics.store(this.header, STARVING, 1);
    this.tail = Atomics.load(this.header, TAIL);
    if (this.capacity - ((this.head - this.tail) | 0) < need) return false;
    Atomics.store(this.header, STARVING, 0);
    return true;
  }

  private pushFragments(bytes: Uint8Array, start: number, total: number): boolean {
    assert(total <= this.frameMax, 'frame is larger than frameBytesMax');
    assert(this.partTotal === 0 || this.partTotal === total, 'a frame partly sent must be pushed again');
    let sent = this.partSent;
    while (sent < total) {
      const first = sent === 0;
      const length = Math.min(total - sent, first ? this.recordMax - 4 : this.recordMax);
      const last = sent + length === total;
      const at = this.claim(first ? length + 4 : length);
      if (at < 0) return false;
      let to = at + RECORD_HEADER_BYTES;
      if (first) {
        this.words[at >> 2] = (length + 4) | MORE;
        this.words[to >> 2] = total;
        to += 4;
      } else {
        this.words[at >> 2] = length | CONTINUED | (last ? 0 : MORE);
      }
      this.copy(bytes, start + sent, start + sent + length, to);
      sent += length;
      this.partSent = last ? 0 : sent;
      this.partTotal = last ? 0 : total;
      this.directMax = last ? this.recordMax : -1;
    }
    return true;
  }

  /** `to` is divisible by 4. */
  private copy(bytes: Uint8Array, start: number, end: number, to: number): void {
    const { view } = this;
    if (end - start > LOOP_BYTES_MAX) {
      view.set(end - start === bytes.length ? bytes : bytes.subarray(start, end), to);
      return;
    }
    const { words } = this;
    let from = start;
    let word = to >> 2;
    for (; from + 4 <= end; from += 4) {
      words[word++] =
        bytes[from]! | (bytes[from + 1]! << 8) | (bytes[from + 2]! << 16) | (bytes[from + 3]! << 24);
    }
    for (let rest = word << 2; from < end; from++) view[rest++] = bytes[from]!;
  }
}

export class RingReader {
  private readonly header: Int32Array;
  private readonly words: Int32Array;
  private readonly view: Buffer;
  private readonly capacity: number;
  private readonly mask: number;
  private readonly publishBytes: number;
  private readonly recordMax: number;
  private readonly frameMax: number;
  private readonly onRoom: () => void;
  /** The writer's position as last seen. */
  private head: number;
  private tail: number;
  private published: number;
  private assembly: Buffer | undefined;
  private assembled = 0;
  private draining = false;
  private closed = false;

  /** `onRoom` is called when a writer that found the ring full has half of it free again. */
  constructor(ring: RingMemory, onRoom: () => void) {
    this.header = new Int32Array(ring.memory, 0, HEADER_WORDS);
    this.words = new Int32Array(ring.memory, HEADER_WORDS * 4, ring.capacityBytes / 4);
    this.view = Buffer.from(ring.memory, HEADER_WORDS * 4, ring.capacityBytes);
    this.capacity = ring.capacityBytes;
    this.mask = ring.capacityBytes - 1;
    this.publishBytes = ring.capacityBytes / 4;
    this.recordMax = recordBytesMax(ring);
    this.frameMax = ring.frameBytesMax;
    this.onRoom = onRoom;
    this.tail = Atomics.load(this.header, TAIL);
    this.head = this.tail;
    this.published = this.tail;
  }

  /**
   * Hands at most `framesMax` frames to `handler`, and stops after `bytesMax` ring bytes (fragments count, so a
   * frame larger than that takes several calls). Returns the number of frames. Not to be called from a handler.
   * When the handler throws, its frame counts as read.
   */
  drain(handler: FrameHandler, framesMax: number, bytesMax = 0x7fff_ffff): number {
    assert(!this.draining, 'a handler must not drain its own ring');
    this.head = Atomics.load(this.header, HEAD);
    const { words, view, mask, recordMax } = this;
    const begin = this.tail;
    let frames = 0;
    this.draining = true;
    try {
      while (this.tail !== this.head && frames < framesMax && ((this.tail - begin) | 0) < bytesMax) {
        if (this.closed) break;
        if (((this.tail - this.published) | 0) >= this.publishBytes) this.publish();
        const tail = this.tail;
        const at = tail & mask;
        const word = words[at >> 2]!;
        if (word >>> 0 <= recordMax) {
          this.tail = (tail + ((word + RECORD_HEADER_BYTES + 7) & ~7)) | 0;
          frames++;
          handler(view, at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + word);
        } else if (word === PAD) {
          this.tail = (tail + this.capacity - at) | 0;
        } else {
          frames += this.takeFragment(handler, at, word);
        }
      }
    } finally {
      this.draining = false;
      this.publish();
    }
    return frames;
  }

  /** Whether anything is to be read, by a fresh look at the writer's position. */
  get waits(): boolean {
    return this.tail !== Atomics.load(this.header, HEAD);
  }

  /** Bytes taken from the ring so far, mod 2^32; for byte budgets. */
  get position(): number {
    return this.tail;
  }

  /** Bytes that wait to be read. */
  get depthBytes(): number {
    return (Atomics.load(this.header, HEAD) - this.tail) | 0;
  }

  /** Ends a drain that is under way and lets later ones do nothing; how many published frames go unread. */
  close(): number {
    this.closed = true;
    let partial = this.assembly !== undefined;
    this.assembly = undefined;
    let frames = 0;
    const head = Atomics.load(this.header, HEAD);
    for (let tail = this.tail; tail !== head; ) {
      const at = tail & this.mask;
      const word = this.words[at >> 2]!;
      if (word === PAD) {
        tail = (tail + this.capacity - at) | 0;
      } else {
        partial = (word & MORE) !== 0;
        if (!partial) frames++;
        tail = (tail + (((word & LENGTH_MASK) + RECORD_HEADER_BYTES + 7) & ~7)) | 0;
      }
    }
    return partial ? frames + 1 : frames;
  }

  private publish(): void {
    if (this.tail === this.published) return;
    this.published = this.tail;
    Atomics.store(this.header, TAIL, this.tail);
    if (Atomics.load(this.header, STARVING) === 1) {
      this.head = Atomics.load(this.header, HEAD);
      if (((this.head - this.tail) | 0) > this.capacity / 2) return;
      Atomics.store(this.header, STARVING, 0);
      this.onRoom();
    }
  }

  /** Adds one fragment to the frame in assembly; 1 when that completed it. */
  private takeFragment(handler: FrameHandler, at: number, word: number): number {
    let from = at + RECORD_HEADER_BYTES;
    const end = from + (word & LENGTH_MASK);
    assert(word > 0 && end - from <= this.recordMax, 'ring record is corrupt');
    if ((word & CONTINUED) === 0) {
      assert(this.assembly === undefined, 'a frame began inside another');
      const total = this.words[from >> 2]!;
      assert(total >= 0 && total <= this.frameMax, 'frame is larger than frameBytesMax');
      this.assembly = Buffer.allocUnsafeSlow(total);
      this.assembled = 0;
      from += 4;
    }
    const assembly = this.assembly;
    assert(assembly !== undefined, 'a fragment without its beginning');
    assert(this.assembled + end - from <= assembly.length, 'fragments exceed their frame');
    assembly.set(this.view.subarray(from, end), this.assembled);
    this.assembled += end - from;
    this.tail = (this.tail + (((word & LENGTH_MASK) + RECORD_HEADER_BYTES + 7) & ~7)) | 0;
    if ((word & MORE) !== 0) return 0;
    assert(this.assembled === assembly.length, 'fragments fall short of their frame');
    this.assembly = undefined;
    handler(assembly, 0, assembly.length);
    return 1;
  }
}
