/** The bytes of a number of up to 2^53 - 1, seven bits each. */
const VARINT_BYTES_MAX = 8;

/** Writes into a buffer that grows; one is reused for many messages. */
export class VarintWriter {
  bytes: Uint8Array;
  length = 0;

  constructor(capacityBytes = 1024) {
    this.bytes = new Uint8Array(capacityBytes);
  }

  reset(): this {
    this.length = 0;
    return this;
  }

  private reserve(count: number): void {
    const need = this.length + count;
    if (need <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(need, this.bytes.length * 2));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  byte(value: number): this {
    this.reserve(1);
    this.bytes[this.length++] = value;
    return this;
  }

  number(value: number): this {
    this.reserve(VARINT_BYTES_MAX);
    const { bytes } = this;
    let rest = value;
    // Beyond 31 bits the operators on bits would cut it.
    while (rest > 0x7fff_ffff) {
      bytes[this.length++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    while (rest > 127) {
      bytes[this.length++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    bytes[this.length++] = rest;
    return this;
  }

  blob(source: Uint8Array): this {
    this.number(source.length);
    this.reserve(source.length);
    this.bytes.set(source, this.length);
    this.length += source.length;
    return this;
  }

  /** A view, valid until the next write. */
  view(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }

  copy(): Uint8Array {
    return this.bytes.slice(0, this.length);
  }
}

/**
 * Reads what may come from anybody: past the end or past 2^53 - 1 it gives 0 and is `broken` from then on, so the
 * caller checks once, at the end.
 */
export class VarintReader {
  private bytes: Uint8Array;
  private position: number;
  private end: number;
  broken = false;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.position = start;
    this.end = end;
  }

  get remaining(): number {
    return this.end - this.position;
  }

  /** All was read, and nothing failed. */
  get isDone(): boolean {
    return !this.broken && this.position === this.end;
  }

  byte(): number {
    if (this.position >= this.end) {
      this.broken = true;
      return 0;
    }
    return this.bytes[this.position++]!;
  }

  /** A byte of 0 or 1. */
  flag(): boolean {
    const byte = this.byte();
    if (byte > 1) this.broken = true;
    return byte === 1;
  }

  number(): number {
    let value = 0;
    let unit = 1;
    for (let i = 0; i < VARINT_BYTES_MAX; i++) {
      const byte = this.byte();
      value += (byte & 127) * unit;
      if (byte < 128) {
        if (value <= Number.MAX_SAFE_INTEGER) return value;
        break;
      }
      unit *= 128;
    }
    this.broken = true;
    return 0;
  }

  /** A count of things of at least `bytesMin` each: what cannot be there is not believed. */
  count(bytesMin: number): number {
    const count = this.number();
    if (count * bytesMin <= this.remaining) return count;
    this.broken = true;
    return 0;
  }

  /** A view of the bytes that are read. */
  blob(): Uint8Array {
    const count = this.count(1);
    const at = this.position;
    this.position += count;
    return this.bytes.subarray(at, at + count);
  }
}
