import { assert } from '../base/assert.js';
import type { KvReader } from './engine.js';
import { copyOf, latin1 } from './keys.js';
import { type Boundary, NO_HINTS, type RangeHints } from './range.js';

/** How many bytes of a key (one character each) its group begins with: a range may be divided where a group begins. */
export type Grouping = (key: string) => number;

/** Each key by itself. */
export const BY_KEY: Grouping = key => key.length;
/** All that a tenant has: service, tenant and terminator. */
export const BY_TENANT: Grouping = key => key.indexOf('\0') + 1;

/** Which entries are sampled, by what is read of them. Must say of each what {@link KeySample.put} was told of it. */
export interface Reading {
  /** Bytes that the entry stands for, its own or more; -1 if it is not sampled. */
  sizeOf(key: Uint8Array, value: Uint8Array): number;
  /** A key above, from which on the next one can be that is; asked of one that is not. */
  next?(key: Uint8Array): Uint8Array;
}

const EVERY_ENTRY: Reading = { sizeOf: (key, value) => key.length + value.length };

const SAMPLE_KEYS_MAX = 256;
/** With fewer, though there are more in the range, the sample is made anew with twice as many. */
const SAMPLE_KEYS_MIN = 64;
/** Longer keys are left out. */
const SAMPLED_KEY_BYTES_MAX = 1024;
/** One call walks so far after a reset. */
const WALK_ENTRIES = 512;
const WALK_BYTES = 256 * 1024;
/** What a seek costs, in entries. */
const SEEK_ENTRIES = 8;
/** A division in which one side has a smaller share than this is none. */
const SHARE_MIN = 1 / 8;
/** With this share on both sides a coarser grouping is good enough. */
const SHARE_GOOD = 1 / 4;
const ALL_HASHES = 2 ** 32;

/**
 * A sample of a range's keys, from which its bytes are estimated and a key is found that divides them in halves,
 * without ever looking at all of it at once. It is of those keys whose hash is below a limit, which is halved whenever
 * there are too many, and doubled when few are left: so each key is in it with the same chance, however often it is
 * written, and leaves it when it is removed. What is written goes by here; what lies there from before is walked over by
 * and by, a share at each call of {@link hints}.
 *
 * Accuracy: below 256 keys it is exact. Beyond, it is off by 6 to 12 % of the bytes (a standard error), and the key found
 * is 3 to 6 % of the keys away from the middle, if values are of about the same size; a few that hold most of the bytes
 * are likely to be missed. Until all has been walked over there is no key, and the bytes are what was seen so far: a
 * million entries take half an hour at a call a second, of which each is a millisecond of the store's thread.
 *
 * Cost: a hash of the key for each write, 50 ns for 40 bytes, or nothing but a comparison where whoever writes keeps that,
 * for all but the few keys that are in it. Not replicated; replicas need not agree.
 */
export class KeySample {
  private readonly groupings: readonly Grouping[];
  private readonly reading: Reading;
  /** Bytes by key, as Latin-1, which orders as bytes do. */
  private readonly sizes = new Map<string, number>();
  private bytes = 0;
  private limit = ALL_HASHES;
  private boundary: Boundary = { start: NO_HINTS.splitKey, end: NO_HINTS.splitKey };
  /** Where the walk goes on; undefined when all was walked over. */
  private cursor: Uint8Array | undefined;
  private isChanged = false;
  private last: RangeHints = NO_HINTS;

  /** `groupings`: coarse ones first, of which the first that is good is taken. */
  constructor(groupings: readonly Grouping[], reading: Reading = EVERY_ENTRY) {
    assert(groupings.length > 0, 'a range is divided where a group of keys begins');
    this.groupings = groupings;
    this.reading = reading;
  }

  /** Begins anew. `isFilled`: whoever has the range will put all that lies there, so there is nothing to walk over. */
  reset(boundary: Boundary, isFilled = false): void {
    this.sizes.clear();
    this.bytes = 0;
    this.limit = ALL_HASHES;
    this.boundary = boundary;
    this.cursor = isFilled ? undefined : boundary.start;
    this.isChanged = true;
  }

  /** Whether a key with this {@link hashOf} is one of those in the sample: of others it need not be told. */
  takes(hash: number): boolean {
    return hash < this.limit;
  }

  /** The entry is there and stands for `bytes`, its own or more. */
  put(key: Uint8Array, bytes: number): void {
    if (!this.takes(hashOf(key)) || key.length > SAMPLED_KEY_BYTES_MAX) return;
    const name = latin1(key);
    const former = this.sizes.get(name) ?? 0;
    if (former === bytes) return;
    this.sizes.set(name, bytes);
    this.bytes += bytes - former;
    this.isChanged = true;
    if (this.sizes.size > SAMPLE_KEYS_MAX) this.thin();
  }

  remove(key: Uint8Array): void {
    if (!this.takes(hashOf(key))) return;
    const name = latin1(key);
    this.bytes -= this.sizes.get(name) ?? 0;
    if (this.sizes.delete(name)) this.isChanged = true;
  }

  private thin(): void {
    while (this.sizes.size > SAMPLE_KEYS_MAX) {
      this.limit /= 2;
      for (const [name, size] of this.sizes) {
        if (this.takes(hashOf(Buffer.from(name, 'latin1')))) continue;
        this.sizes.delete(name);
        this.bytes -= size;
      }
    }
  }

  /** As `Coprocessor.hints`. `bytes`: what the range holds if that is known; estimated otherwise. */
  hints(reader: KvReader, bytes = -1, fanOut = 0): RangeHints {
    if (this.cursor === undefined && this.sizes.size < SAMPLE_KEYS_MIN && this.limit < ALL_HASHES) {
      this.limit *= 2;
      this.cursor = this.boundary.start;
    }
    const isWalking = this.cursor !== undefined;
    if (isWalking) this.walk(reader, this.cursor!);
    const held = bytes >= 0 ? bytes : Math.round(this.bytes * (ALL_HASHES / this.limit));
    const isSame = !this.isChanged && held === this.last.bytes && fanOut === this.last.fanOut;
    // Whoever asks until nothing is new asks until all was walked over.
    if (isSame && !isWalking) return this.last;
    const splitKey = this.isChanged ? this.splitKey() : this.last.splitKey;
    this.isChanged = false;
    this.last = { bytes: held, fanOut, splitKey };
    return this.last;
  }

  private walk(reader: KvReader, from: Uint8Array): void {
    const { reading } = this;
    let entries = WALK_ENTRIES;
    let bytes = WALK_BYTES;
    let next: Uint8Array | undefined = from;
    while (next !== undefined && entries > 0 && bytes > 0) {
      const start: Uint8Array = next;
      next = undefined;
      entries -= SEEK_ENTRIES;
      reader.scan(start, this.boundary.end, (key, value) => {
        const size = reading.sizeOf(key, value);
        if (entries-- <= 0 || bytes <= 0) next = copyOf(key);
        else if (size >= 0) this.put(key, size);
        else next = reading.next?.(key);
        bytes -= key.length + value.length;
        return next === undefined;
      });
    }
    this.cursor = next;
    if (next === undefined) this.isChanged = true;
  }

  private splitKey(): Uint8Array {
    if (this.cursor !== undefined) return NO_HINTS.splitKey;
    const keys = [...this.sizes.keys()].sort();
    let best = NOWHERE;
    for (const grouping of this.groupings) {
      const cut = this.bestCut(keys, grouping);
      if (cut.share > best.share) best = cut;
      if (best.share >= SHARE_GOOD) break;
    }
    return best.share < SHARE_MIN ? NO_HINTS.splitKey : Buffer.from(best.key, 'latin1');
  }

  private bestCut(keys: readonly string[], grouping: Grouping): Cut {
    const start = latin1(this.boundary.start);
    let best = NOWHERE;
    let below = 0;
    let group = '';
    for (const key of keys) {
      const own = key.slice(0, grouping(key));
      if (own !== group) {
        group = own;
        const share = Math.min(below, this.bytes - below) / this.bytes;
        if (own > start && share > best.share) best = { key: own, share };
      }
      below += this.sizes.get(key)!;
    }
    return best;
  }
}

interface Cut {
  readonly key: string;
  /** Of the bytes, on the lesser side. */
  readonly share: number;
}

const NOWHERE: Cut = { key: '', share: 0 };

/** 32 bits, four bytes of the key at a time. Nothing that is stored depends on it. */
export function hashOf(key: Uint8Array): number {
  const { length } = key;
  let hash = length;
  let at = 0;
  for (; at + 4 <= length; at += 4) {
    const word = key[at]! | (key[at + 1]! << 8) | (key[at + 2]! << 16) | (key[at + 3]! << 24);
    hash = Math.imul(hash ^ word, 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  for (; at < length; at++) {
    hash = Math.imul(hash ^ key[at]!, 0x85ebca6b);
    hash ^= hash >>> 13;
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
