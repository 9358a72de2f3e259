/**
 * Memory that encoded packets are cut from, one after the other. A slab that is used up is left to those who still
 * refer to it, and a new one begun.
 */
export class Slab {
  /** Where the last `reserve` made room. */
  buffer: Buffer;
  private current: Buffer;
  private used = 0;

  constructor(bytes: number) {
    this.buffer = this.current = Buffer.allocUnsafeSlow(bytes);
  }

  /** Makes room for `length` bytes in `buffer`; returns where. A large packet gets memory of its own. */
  reserve(length: number): number {
    const { current } = this;
    if (length > current.length >> 2) {
      this.buffer = Buffer.allocUnsafeSlow(length);
      return 0;
    }
    if (this.used + length > current.length) {
      this.current = Buffer.allocUnsafeSlow(current.length);
      this.used = 0;
    }
    const at = this.used;
    this.used += length;
    this.buffer = this.current;
    return at;
  }

  /** Less was needed than reserved just now. */
  giveBack(count: number): void {
    if (this.buffer === this.current) this.used -= count;
  }
}
