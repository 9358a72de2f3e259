import type { ByteWriter } from '../base/bytes.js';
import { copyOf, tenantKey } from '../kv/keys.js';

/** Topics in keys have U+0000 between levels, which no topic holds and which orders below every other byte. */
export function topicKey(
  writer: ByteWriter,
  service: number,
  tenant: string,
  kind: number,
  topic: Uint8Array,
): ByteWriter {
  tenantKey(writer, service, tenant, kind);
  const at = writer.length;
  writer.raw(topic);
  const { bytes, length } = writer;
  for (let i = at; i < length; i++) if (bytes[i] === SLASH) bytes[i] = 0;
  return writer;
}

const SLASH = 0x2f;
const PLUS = 0x2b;
const POUND = 0x23;
const DOLLAR = 0x24;

/**
 * A filter as a walk over topic keys in their order: says of each key whether it matches, and from which key on
 * the next match can be. Positions are relative to the topic's first byte.
 */
export class FilterWalk {
  private readonly levels: Uint8Array[] = [];
  private readonly kinds: number[] = [];
  /** The filter ends in `#`. */
  private readonly open: boolean;
  /** Where each level of the current topic begins; one more than there are levels. */
  private starts = new Int32Array(64);
  /** Where the next match can be, after `matches`; `seekLength` -1 when there can be none. */
  seek: Uint8Array = new Uint8Array(256);
  seekLength = 0;

  constructor(filter: Uint8Array) {
    let at = 0;
    for (let i = 0; i <= filter.length; i++) {
      if (i < filter.length && filter[i] !== SLASH) continue;
      const level = copyOf(filter, at, i);
      this.levels.push(level);
      this.kinds.push(level.length === 1 && (level[0] === PLUS || level[0] === POUND) ? level[0]! : LITERAL);
      at = i + 1;
    }
    this.open = this.kinds[this.kinds.length - 1] === POUND;
  }

  /** The bytes that all matching topics begin with, as far as whole literal levels go: where a walk starts. */
  get start(): Uint8Array {
    const parts: number[] = [];
    for (let i = 0; i < this.levels.length && this.kinds[i] === LITERAL; i++) {
      if (i > 0) parts.push(0);
      parts.push(...this.levels[i]!);
    }
    return Uint8Array.from(parts);
  }

  /**
   * Whether the topic at `key[at, end)` matches. Whatever the answer, `seek` then holds the least topic that can
   * match next; it is above this one.
   */
  matches(key: Uint8Array, at: number, end: number): boolean {
    if (key[at] === DOLLAR && end > at && this.kinds[0] !== LITERAL) {
      // [MQTT-4.7.2-1]: over all topics whose first level begins with $.
      this.seek[0] = DOLLAR + 1;
      this.seekLength = 1;
      return false;
    }
    const count = this.split(key, at, end);
    for (let i = 0; i < this.levels.length; i++) {
      const kind = this.kinds[i]!;
      if (kind === POUND) return this.found(key, at, end, END_SUCCESSOR);
      if (i >= count) return this.shorter(key, at, end, i);
      if (kind === PLUS) continue;
      const order = this.compareLevel(key, i);
      if (order === 0) continue;
      if (order > 0) this.skipParent(key, at, i - 1);
      else this.seekLevel(key, at, i);
      return false;
    }
    if (count === this.levels.length) {
      this.skipParent(key, at, this.levels.length - 1);
      return true;
    }
    this.skipParent(key, at, this.levels.length - 1);
    return false;
  }

  /** A topic that ends before the filter does: it may still be the parent that `#` includes. */
  private shorter(key: Uint8Array, at: number, end: number, level: number): boolean {
    if (this.open && level === this.levels.length - 1) return this.found(key, at, end, END_SUCCESSOR);
    this.setSeek(key, at, end);
    this.append(0);
    if (this.kinds[level] === LITERAL) this.appendAll(this.levels[level]!);
    return false;
  }

  private found(key: Uint8Array, at: number, end: number, successor: number): boolean {
    this.setSeek(key, at, end);
    this.append(successor);
    return true;
  }

  private split(key: Uint8Array, at: number, end: number): number {
    let count = 1;
    this.starts[0] = at;
    for (let i = at; i < end; i++) {
      if (key[i] !== 0) continue;
      if (count + 1 >= this.starts.length) {
        const grown = new Int32Array(this.starts.length * 2);
        grown.set(this.starts);
        this.starts = grown;
      }
      this.starts[count++] = i + 1;
    }
    this.starts[count] = end + 1;
    return count;
  }

  private compareLevel(key: Uint8Array, level: number): number {
    const wanted = this.levels[level]!;
    const start = this.starts[level]!;
    const length = this.starts[level + 1]! - 1 - start;
    const shared = Math.min(length, wanted.length);
    for (let i = 0; i < shared; i++) {
      const difference = key[start + i]! - wanted[i]!;
      if (difference !== 0) return difference;
    }
    return length - wanted.length;
  }

  /** The levels before `level` as they are, then the literal that is wanted there. */
  private seekLevel(key: Uint8Array, at: number, level: number): void {
    this.setSeek(key, at, this.starts[level]!);
    this.appendAll(this.levels[level]!);
  }

  /** Over everything below the deepest `+` at or above `level`: its next sibling. */
  private skipParent(key: Uint8Array, at: number, level: number): void {
    let plus = level;
    while (plus >= 0 && this.kinds[plus] !== PLUS) plus--;
    if (plus < 0) {
      this.seekLength = -1;
      return;
    }
    this.setSeek(key, at, this.starts[plus + 1]! - 1);
    this.append(1);
  }

  private setSeek(key: Uint8Array, at: number, end: number): void {
    const length = end - at;
    // Room for what is appended to it: one level and a separator.
    if (this.seek.length < length + SEEK_SLACK) this.seek = new Uint8Array((length + SEEK_SLACK) * 2);
    this.seek.set(key.subarray(at, end));
    this.seekLength = length;
  }

  private append(byte: number): void {
    this.seek[this.seekLength++] = byte;
  }

  private appendAll(bytes: Uint8Array): void {
    if (this.seekLength + bytes.length > this.seek.length) {
      const grown = new Uint8Array((this.seekLength + bytes.length) * 2);
      grown.set(this.seek.subarray(0, this.seekLength));
      this.seek = grown;
    }
    this.seek.set(bytes, this.seekLength);
    this.seekLength += bytes.length;
  }
}

const LITERAL = 0;
const SEEK_SLACK = 8;
/** The least key above `key` is the key with this behind it. */
const END_SUCCESSOR = 0;
