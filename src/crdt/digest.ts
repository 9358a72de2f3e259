import { hashNumber } from '../base/hash.js';
import { BUCKETS_MAX, BUCKETS_MIN } from './message.js';
import type { Dot } from './origin.js';

/** Dots a bucket before there are twice as many buckets; half as many again at a quarter of it. */
const DOTS_PER_BUCKET = 16;
const HIGH_SEED = 0x3c6ef372;

/**
 * All live dots of a map by the hash of their key, with one digest a bucket and one over all: the exclusive or of the
 * dots' hashes, so order does not matter and a change costs the same however large the map. The whole has 64 bits in
 * two halves; buckets have the low half only, so equal buckets under different roots mean a collision.
 *
 * Bucket i of 2^n holds the hashes whose first n bits are i: two maps of different size compare at the smaller
 * number of buckets, as the digest of a coarser bucket is the exclusive or of its parts.
 */
export class DigestIndex {
  /** int32, as all digests in here. */
  low = 0;
  high = 0;
  count = 0;
  private shift = 32 - Math.log2(BUCKETS_MIN);
  private digests = new Int32Array(BUCKETS_MIN);
  private heads: (Dot | undefined)[] = new Array(BUCKETS_MIN).fill(undefined);

  get bucketCount(): number {
    return this.digests.length;
  }

  add(dot: Dot): void {
    this.toggle(dot);
    const bucket = dot.hash >>> this.shift;
    dot.nextInBucket = this.heads[bucket];
    this.heads[bucket] = dot;
    this.count++;
    if (this.count > this.bucketCount * DOTS_PER_BUCKET && this.bucketCount < BUCKETS_MAX) {
      this.rebuild(this.bucketCount * 2);
    }
  }

  /** `dot` is in here. */
  remove(dot: Dot): void {
    this.toggle(dot);
    const bucket = dot.hash >>> this.shift;
    let before = this.heads[bucket];
    if (before === dot) this.heads[bucket] = dot.nextInBucket;
    else {
      while (before !== undefined && before.nextInBucket !== dot) before = before.nextInBucket;
      before!.nextInBucket = dot.nextInBucket;
    }
    dot.nextInBucket = undefined;
    this.count--;
    if (this.count * 4 < this.bucketCount * DOTS_PER_BUCKET && this.bucketCount > BUCKETS_MIN) {
      this.rebuild(this.bucketCount / 2);
    }
  }

  /** One digest a bucket, unsigned, at this map's own number of buckets. */
  buckets(): number[] {
    return Array.from(this.digests, digest => digest >>> 0);
  }

  /** The parts of the hash space, `from, to` in turn, where `theirs` (see `buckets`) differs from what is here. */
  differences(theirs: readonly number[]): number[] {
    const count = Math.min(theirs.length, this.bucketCount);
    const width = 0x1_0000_0000 / count;
    const ranges: number[] = [];
    for (let i = 0; i < count; i++) {
      if (folded(theirs, count, i) === folded(this.digests, count, i)) continue;
      const from = i * width;
      if (ranges.length > 0 && ranges[ranges.length - 1] === from - 1) ranges.length--;
      else ranges.push(from);
      ranges.push(from + width - 1);
    }
    return ranges;
  }

  /** The dots whose unsigned hash is in `[from, to]`, ascending by hash. */
  within(from: number, to: number): Dot[] {
    const dots: Dot[] = [];
    for (let bucket = from >>> this.shift; bucket <= to >>> this.shift; bucket++) {
      const start = dots.length;
      for (let dot = this.heads[bucket]; dot !== undefined; dot = dot.nextInBucket) {
        const hash = dot.hash >>> 0;
        if (hash >= from && hash <= to) dots.push(dot);
      }
      if (dots.length - start > 1) {
        const sorted = dots.splice(start).sort((a, b) => (a.hash >>> 0) - (b.hash >>> 0));
        for (const dot of sorted) dots.push(dot);
      }
    }
    return dots;
  }

  private toggle(dot: Dot): void {
    const { replica, counter } = dot.entry;
    const low = hashNumber(replica, hashNumber(counter, dot.hash));
    this.low ^= low;
    this.high ^= hashNumber(replica, hashNumber(counter, dot.hash ^ HIGH_SEED) ^ HIGH_SEED);
    this.digests[dot.hash >>> this.shift]! ^= low;
  }

  private rebuild(count: number): void {
    const { heads } = this;
    const digests = new Int32Array(count);
    for (let i = 0; i < count; i++) digests[i] = folded(this.digests, count, i);
    const grown = count > this.digests.length;
    this.shift = 32 - Math.log2(count);
    this.heads = new Array(count).fill(undefined);
    for (const head of heads) {
      for (let dot = head, next: Dot | undefined; dot !== undefined; dot = next) {
        next = dot.nextInBucket;
        const bucket = dot.hash >>> this.shift;
        dot.nextInBucket = this.heads[bucket];
        this.heads[bucket] = dot;
        if (grown) {
          const { replica, counter } = dot.entry;
          digests[bucket]! ^= hashNumber(replica, hashNumber(counter, dot.hash));
        }
      }
    }
    this.digests = digests;
  }
}

/** Digest of bucket `index` of `count`, from `digests.length` finer ones; 0 where these are coarser. */
function folded(digests: ArrayLike<number>, count: number, index: number): number {
  if (count > digests.length) return 0;
  const parts = digests.length / count;
  let digest = 0;
  for (let i = index * parts; i < (index + 1) * parts; i++) digest ^= digests[i]!;
  return digest;
}
