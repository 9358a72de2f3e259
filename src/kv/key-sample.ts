import { assert } from '../base/assert.js';
import type { EntryVisitor, KvReader, KvWriter } from './engine.js';
import { copyOf, latin1 } from './keys.js';
import { type Boundary, NO_HINTS, type RangeHints } from './range.js';

/** How many bytes of a key (one character each) its group begins with: a range may be divided where a group begins. */
export type Grouping = (key: string) => number;

/** Each key by itself. */
export const BY_KEY: Grouping = key => key.length;
/** All that a tenant has: service, tenant and terminator. */
export const BY_TENANT: Grouping = key => key.indexOf('\0') + 1;

const SAMPLE_KEYS_MAX = 256;
/** With fewer, though there are more in the range, the sample is made anew with twice as many. */
const SAMPLE_KEYS_MIN = 64;
/** Longer keys are left out. */
const SAMPLED_KEY_BYTES_MAX = 1024;
/** One call walks so far after a reset. */
const WALK_ENTRIES = 512;
const WALK_BYTES = 256 * 1024;
/** A division in which one side has a smaller share than this is none. */
const SHARE_MIN = 1 / 8;
/** With this share on both sides a coarser grouping is good enough. */
const SHARE_GOOD = 1 / 4;
const ALL_HASHES = 2 ** 32;

/**
 * A sample of a range's keys, from which its bytes are estimated and a key is found that divides them in halves,
 * without ever looking at all of it at once. It is of those keys whose hash is below a limit, which is halved whenever
 * there are too many, and doubled when few are left: so each key is in it with the same chance, however often it is
 * written, and leaves it when it is removed. What is written goes by here; what lies there from before is walked over by and by, a share at each call
 * of {@link hints}.
 *
 * Accuracy: below 256 keys it is exact. Beyond, it is off by 6 to 12 % of the bytes (a standard error), and the key found
 * is 3 to 6 % of the keys away from the middle, if values are of about the same size; a few that hold most of the bytes
 * are likely to be missed. Until all has been walked over there is no key, and the bytes are what was seen so far: a
 * million entries take half an hour at a call a second, of which each is a millisecond of the store's thread.
 *
 * Cost: a hash of the key for each write, 15 ns for 40 bytes, and nothing else for all but the few keys that are in it.
 * Not replicated; replicas need not agree.
 */
export class KeySample {
  private readonly groupings: readonly Grouping[];
  private readonly service: number;
  private readonly tracked: TrackedWriter;
  /** Bytes of key and value by key, as Latin-1, which orders as bytes do. */
  private readonly sizes = new Map<string, number>();
  private bytes = 0;
  private limit = ALL_HASHES;
  private boundary: Boundary = { start: NO_HINTS.splitKey, end: NO_HINTS.splitKey };
  /** Where the walk goes on; undefined when all was walked over. */
  private cursor: Uint8Array | undefined;
  private isChanged = false;
  private last: RangeHints = NO_HINTS;

  /** `service`: whose keys; others pass unseen. `groupings`: coarse ones first, of which the first that is good is taken. */
  constructor(service: number, groupings: readonly Grouping[]) {
    assert(groupings.length > 0, 'a range is divided where a group of keys begins');
    this.service = service;
    this.groupings = groupings;
    this.tracked = new TrackedWriter(this);
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

  /** The writer, with what is written through it seen here. Valid until the next call. */
  through(writer: KvWriter): KvWriter {
    this.tracked.target = writer;
    return this.tracked;
  }

  put(key: Uint8Array, valueBytes: number): void {
    if (key[0] !== this.service || key.length > SAMPLED_KEY_BYTES_MAX || hashOf(key) >= this.limit) return;
    const name = latin1(key);
    const size = key.length + valueBytes;
    const former = this.sizes.get(name) ?? 0;
    if (former === size) return;
    this.sizes.set(name, size);
    this.bytes += size - former;
    this.isChanged = true;
    if (this.sizes.size > SAMPLE_KEYS_MAX) this.thin();
  }

  remove(key: Uint8Array): void {
    if (key[0] !== this.service || hashOf(key) >= this.limit) return;
    const name = latin1(key);
    this.bytes -= this.sizes.get(name) ?? 0;
    if (this.sizes.delete(name)) this.isChanged = true;
  }

  private thin(): void {
    while (this.sizes.size > SAMPLE_KEYS_MAX) {
      this.limit /= 2;
      for (const [name, size] of this.sizes) {
        if (hashOf(Buffer.from(name, 'latin1')) < this.limit) continue;
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
    let entries = WALK_ENTRIES;
    let bytes = WALK_BYTES;
    this.cursor = undefined;
    reader.scan(from, this.boundary.end, (key, value) => {
      if (entries-- <= 0 || bytes <= 0) {
        this.cursor = copyOf(key);
        return false;
      }
      bytes -= key.length + value.length;
      this.put(key, value.length);
      return true;
    });
    if (this.cursor === undefined) this.isChanged = true;
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

class TrackedWriter implements KvWriter {
  private readonly sample: KeySample;
  target!: KvWriter;

  constructor(sample: KeySample) {
    this.sample = sample;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.target.get(key);
  }

  scan(start: Uint8Array, end: Uint8Array, visit: EntryVisitor, reverse?: boolean): void {
    this.target.scan(start, end, visit, reverse);
  }

  put(key: Uint8Array, value: Uint8Array): void {
    this.sample.put(key, value.length);
    this.target.put(key, value);
  }

  remove(key: Uint8Array): void {
    this.sample.remove(key);
    this.target.remove(key);
  }
}

/** 32 bits, four bytes of the key at a time. Nothing that is stored depends on it. */
function hashOf(key: Uint8Array): number {
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
