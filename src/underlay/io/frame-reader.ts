/** Length of a frame, big-endian, before its bytes. */
export const FRAME_HEADER_BYTES = 4;

const EMPTY = Buffer.alloc(0);
const KEPT_BYTES_MIN = 512;

/**
 * Cuts a stream of bytes into frames. Memory follows what has arrived (at most twice that, however small the pieces),
 * never what is announced; a frame longer than the limit makes the rest unreadable.
 */
export class FrameReader {
  private readonly frameBytesMax: number;
  private kept = EMPTY;
  /** Bytes kept of a frame that is not complete. */
  pendingBytes = 0;

  constructor(frameBytesMax: number) {
    this.frameBytesMax = frameBytesMax;
  }

  /** Calls `take` with each complete frame, whose memory is the receiver's. False: the stream is to be closed. */
  push(chunk: Buffer, take: (frame: Buffer) => boolean): boolean {
    const bytes = this.pendingBytes === 0 ? chunk : this.append(chunk);
    let at = 0;
    while (bytes.length - at >= FRAME_HEADER_BYTES) {
      const length = bytes.readUInt32BE(at);
      if (length > this.frameBytesMax) return false;
      const end = at + FRAME_HEADER_BYTES + length;
      if (end > bytes.length) break;
      if (!take(bytes.subarray(at + FRAME_HEADER_BYTES, end))) return false;
      at = end;
    }
    this.keep(bytes, at);
    return true;
  }

  private append(chunk: Buffer): Buffer {
    const need = this.pendingBytes + chunk.length;
    if (need > this.kept.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(need, this.kept.length * 2));
      this.kept.copy(grown, 0, 0, this.pendingBytes);
      this.kept = grown;
    }
    chunk.copy(this.kept, this.pendingBytes);
    return this.kept.subarray(0, need);
  }

  private keep(bytes: Buffer, from: number): void {
    const isWaiting = this.pendingBytes > 0 && from === 0;
    this.pendingBytes = bytes.length - from;
    if (isWaiting) return;
    if (this.pendingBytes === 0) {
      this.kept = EMPTY;
      return;
    }
    // Always a copy: frames given away still use the memory before.
    this.kept = Buffer.allocUnsafeSlow(Math.max(KEPT_BYTES_MIN, this.pendingBytes));
    bytes.copy(this.kept, 0, from);
  }
}
