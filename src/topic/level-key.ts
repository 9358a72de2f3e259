import { type HashKeys, hashBytes } from './hash.js';

export const SEPARATOR = 0x2f;
export const PLUS = 0x2b;
export const POUND = 0x23;
export const DOLLAR = 0x24;

/** A level of at most this many bytes is held and compared as two words. */
export const SHORT_BYTES = 8;

/**
 * One topic level, read from bytes into numbers; reused, so that walking a topic allocates nothing. `word0` and
 * `word1` hold the bytes of a short level (little-endian, zero-filled); `word0` of a longer one is its hash.
 */
export class LevelKey {
  bytes: Uint8Array = NO_BYTES;
  start = 0;
  length = 0;
  word0 = 0;
  word1 = 0;
  hash = 0;

  /** Reads the level at `at`; returns the position of the separator after it, or `end`. */
  read(keys: HashKeys, bytes: Uint8Array, at: number, end: number): number {
    let stop = at;
    while (stop < end && bytes[stop] !== SEPARATOR) stop++;
    const hash = hashBytes(keys, bytes, at, stop);
    const length = stop - at;
    this.bytes = bytes;
    this.start = at;
    this.length = length;
    this.hash = hash;
    if (length <= SHORT_BYTES) {
      let word0 = 0;
      let word1 = 0;
      const middle = length < 4 ? stop : at + 4;
      for (let i = middle - 1; i >= at; i--) word0 = (word0 << 8) | bytes[i]!;
      for (let i = stop - 1; i >= middle; i--) word1 = (word1 << 8) | bytes[i]!;
      this.word0 = word0;
      this.word1 = word1;
    } else {
      this.word0 = hash;
      this.word1 = 0;
    }
    return stop;
  }

  /** True when this level is the one character `code` (a wildcard). */
  is(code: number): boolean {
    return this.length === 1 && this.word0 === code;
  }
}

const NO_BYTES = new Uint8Array(0);

/**
 * UTF-8 of a string in memory that is reused. `bytes[0, length)` is valid until the next `encode`; callers finish
 * with it before they give control to anybody else.
 */
export class TextScratch {
  bytes: Buffer = Buffer.allocUnsafeSlow(1024);

  /** Returns the count of bytes. */
  encode(text: string): number {
    const need = text.length * 3;
    if (need > this.bytes.length) this.bytes = Buffer.allocUnsafeSlow(need * 2);
    return this.bytes.write(text, 0, 'utf8');
  }
}
