import { assert } from '../base/assert.js';

const CHUNK_BYTES = 64 * 1024;
const LENGTH_BYTES = 4;

/** Frames one after another, each with a 32-bit length before it. */
interface Chunk {
  readonly bytes: Buffer;
  /** Where the next frame is written. */
  end: number;
}

/**
 * Frames that wait for room in a ring: first in, first out, copied. They lie in chunks of 64 KiB (a larger frame
 * has a chunk of its own), so a million small frames cost no object each, and one chunk is kept for reuse, so a
 * port that is congested now and then allocates nothing.
 */
export class Backlog {
  private chunks: Chunk[] = [];
  /** Index of the chunk that is read; those before it are dropped in batches. */
  private first = 0;
  private at = 0;
  private spare: Chunk | undefined;
  /** Number of frames that wait. */
  frames = 0;
  /** Their bytes, with 4 of bookkeeping for each frame. */
  depthBytes = 0;

  append(source: Uint8Array, start: number, end: number): void {
    const need = end - start + LENGTH_BYTES;
    let chunk = this.chunks[this.chunks.length - 1];
    if (chunk === undefined || chunk.bytes.length - chunk.end < need) {
      chunk = this.chunk(need);
      this.chunks.push(chunk);
    }
    chunk.bytes.writeInt32LE(end - start, chunk.end);
    chunk.bytes.set(source.subarray(start, end), chunk.end + LENGTH_BYTES);
    chunk.end += need;
    this.frames++;
    this.depthBytes += need;
  }

  /** The bytes that hold the oldest frame, which lies from `start` to `end`. Only when `frames` is not 0. */
  get bytes(): Buffer {
    return this.chunks[this.first]!.bytes;
  }

  get start(): number {
    return this.at + LENGTH_BYTES;
  }

  get end(): number {
    return this.at + LENGTH_BYTES + this.bytes.readInt32LE(this.at);
  }

  /** Drops the oldest frame. */
  shift(): void {
    assert(this.frames > 0, 'shift on an empty backlog');
    const end = this.end;
    this.depthBytes -= end - this.at;
    this.frames--;
    this.at = end;
    const chunk = this.chunks[this.first]!;
    if (end < chunk.end) return;
    this.at = 0;
    this.first++;
    if (chunk.bytes.length === CHUNK_BYTES) this.spare = chunk;
    // Shifting the array once for many chunks keeps a long backlog linear.
    if (this.first === this.chunks.length || this.first === 64) {
      this.chunks.splice(0, this.first);
      this.first = 0;
    }
  }

  private chunk(need: number): Chunk {
    const spare = this.spare;
    if (need > CHUNK_BYTES) return { bytes: Buffer.allocUnsafeSlow(need), end: 0 };
    this.spare = undefined;
    if (spare === undefined) return { bytes: Buffer.allocUnsafeSlow(CHUNK_BYTES), end: 0 };
    spare.end = 0;
    return spare;
  }
}
