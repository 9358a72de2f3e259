import { assert } from '../base/assert.js';
import { hashText } from '../base/hash.js';
import { COUNTER_MAX, OR_MAP_LIMITS, type OrMapLimits } from './crdt.js';
import { DigestIndex } from './digest.js';
import { type Delta, type Entry, isCounter, isReplica } from './message.js';
import { Dot, Origin } from './origin.js';
import { rangesCover } from './ranges.js';

const KEY_SEED = 0x1f83d9ab;

/** What one call changed in a map: the news in it, which is itself a delta to send on, and what was no news. */
export class Applied {
  /** Keys whose set of values changed; one that was overwritten may be named more than once. */
  readonly keys: string[] = [];
  /** Dots that began to live. */
  readonly dots: Dot[] = [];
  /** Dots that lived and do not any more. */
  readonly ended: Dot[] = [];
  /** Ranges that were not wholly dropped before: triples `replica, from, to`. */
  readonly dropped: number[] = [];
  /** Entries offered that were dropped here before. The sender should hear of it. */
  readonly stale: Entry[] = [];
  /** Dots offered that live here already. */
  readonly repeated: Dot[] = [];

  /** Something was dropped that was not seen here before: nobody can say under which key. */
  isBlind = false;

  get isNews(): boolean {
    return this.dots.length > 0 || this.dropped.length > 0;
  }

  toDelta(): Delta {
    return { entries: this.dots.map(dot => dot.entry), dropped: [...this.dropped] };
  }
}

/**
 * An observed-remove map with multi-value registers, delta-state based (Almeida, Shoker, Baquero 2018): see the
 * room's door for the lattice. Each method costs O(log n) in the dots of an origin, beside hashing the key.
 */
export class OrMap {
  readonly replica: number;
  readonly limits: OrMapLimits;
  readonly digest = new DigestIndex();
  /** Entries and ranges of deltas that broke a limit. */
  refused = 0;
  private counter = 0;
  /** First dot of each key, the greatest replica id and counter first. */
  private readonly keyDots = new Map<string, Dot>();
  private readonly origins = new Map<number, Origin>();
  /** Origins without a live dot, longest dormant first; never our own. */
  private readonly dormant = new Set<number>();

  /** `replica`: a random integer of [1, 2^53), of this process run alone. */
  constructor(replica: number, limits: Partial<OrMapLimits> = {}) {
    assert(isReplica(replica), 'a replica id is an integer of [1, 2^53)');
    this.replica = replica;
    this.limits = { ...OR_MAP_LIMITS, ...limits };
  }

  /** Number of keys. */
  get size(): number {
    return this.keyDots.size;
  }

  keys(): IterableIterator<string> {
    return this.keyDots.keys();
  }

  has(key: string): boolean {
    return this.keyDots.has(key);
  }

  /** The concurrent values of a key, in an order that is the same at all replicas; empty when there is none. */
  values(key: string): Uint8Array[] {
    return this.dots(key).map(dot => dot.entry.value);
  }

  /** The same with who wrote them. */
  entries(key: string): Entry[] {
    return this.dots(key).map(dot => dot.entry);
  }

  /** Writes `value`, kept by reference, over all that is seen under `key`. Undefined: a limit forbids it. */
  set(key: string, value: Uint8Array): Applied | undefined {
    if (!this.fits(key, value) || this.counter >= COUNTER_MAX) return undefined;
    const applied = new Applied();
    this.dropKey(key, applied);
    this.counter++;
    this.begin({ key, replica: this.replica, counter: this.counter, value }, applied);
    return applied;
  }

  /** Removes all that is seen under `key`. */
  remove(key: string): Applied {
    const applied = new Applied();
    this.dropKey(key, applied);
    return applied;
  }

  /** Removes what one replica has written under `key`, and leaves what others have. */
  removeOf(key: string, replica: number): Applied {
    const applied = new Applied();
    for (const { entry } of this.dots(key)) {
      if (entry.replica === replica) this.drop(replica, entry.counter, entry.counter, applied);
    }
    return applied;
  }

  /** Joins a delta, or a whole state. Entries and ranges that are malformed or break a limit are left out. */
  apply(delta: Delta): Applied {
    const applied = new Applied();
    const { dropped, entries } = delta;
    for (let i = 0; i + 2 < dropped.length; i += 3) {
      const [replica, from, to] = [dropped[i]!, dropped[i + 1]!, dropped[i + 2]!];
      if (isReplica(replica) && isCounter(from) && isCounter(to) && from <= to) {
        this.drop(replica, from, to, applied);
      } else this.refused++;
    }
    for (const entry of entries) this.join(entry, applied);
    return applied;
  }

  /** The whole state, to be joined elsewhere. */
  toDelta(): Delta {
    const entries: Entry[] = [];
    const dropped: number[] = [];
    for (const [replica, { dots, seen }] of this.origins) {
      let at = 0;
      for (let i = 0; i < seen.length; i += 2) {
        let from = seen[i]!;
        const to = seen[i + 1]!;
        for (; at < dots.length && dots[at]!.entry.counter <= to; at++) {
          const { counter } = dots[at]!.entry;
          if (counter > from) dropped.push(replica, from, counter - 1);
          if (counter >= from) from = counter + 1;
        }
        if (from <= to) dropped.push(replica, from, to);
      }
      for (const dot of dots) entries.push(dot.entry);
    }
    return { entries, dropped };
  }

  /** The live dots of a key. */
  dots(key: string): Dot[] {
    const dots: Dot[] = [];
    for (let dot = this.keyDots.get(key); dot !== undefined; dot = dot.nextOfKey) dots.push(dot);
    return dots;
  }

  /** The live dot, for repair. */
  live(replica: number, counter: number): Dot | undefined {
    return this.origins.get(replica)?.live(counter);
  }

  /** Whether the dot lives or was dropped here. */
  hasSeen(replica: number, counter: number): boolean {
    return this.origins.get(replica)?.hasSeen(counter) ?? false;
  }

  /** Origins that have no live dot, the longest dormant first: ask for each whether its process may still write. */
  dormantReplicas(): Iterable<number> {
    return this.dormant;
  }

  /** Number of origins known, live and dormant. */
  get originCount(): number {
    return this.origins.size;
  }

  /** Forgets what is known of a dormant origin, see the door; false when it is not dormant. */
  forget(replica: number): boolean {
    return this.dormant.delete(replica) && this.origins.delete(replica);
  }

  private fits(key: string, value: Uint8Array): boolean {
    const { limits } = this;
    return (
      key.length <= limits.keyLengthMax &&
      value.length <= limits.valueBytesMax &&
      (this.keyDots.size < limits.keysMax || this.keyDots.has(key))
    );
  }

  private join(entry: Entry, applied: Applied): void {
    const { replica, counter } = entry;
    if (!isReplica(replica) || !isCounter(counter)) {
      this.refused++;
      return;
    }
    const origin = this.origins.get(replica);
    const dot = origin?.live(counter);
    if (dot !== undefined) applied.repeated.push(dot);
    else if (origin !== undefined && rangesCover(origin.seen, counter, counter)) {
      applied.stale.push(entry);
    } else if (replica === this.replica) {
      // A write of ours that we never made: nobody shall keep it, nor take our next one for it.
      this.drop(replica, counter, counter, applied);
      applied.stale.push(entry);
    } else if (this.fits(entry.key, entry.value)) this.begin(entry, applied);
    else this.refused++;
  }

  /** Brings an unseen dot to life. */
  private begin(entry: Entry, applied: Applied): void {
    const { key, replica } = entry;
    const dot = new Dot(entry, hashText(key, KEY_SEED));
    const origin = this.origins.get(replica);
    if (origin === undefined) {
      this.origins.set(replica, new Origin([dot], [entry.counter, entry.counter]));
    } else {
      if (origin.dots.length === 0) this.dormant.delete(replica);
      origin.add(dot);
      this.trim(origin);
    }
    this.digest.add(dot);
    applied.dots.push(dot);
    applied.keys.push(key);
    this.linkToKey(dot, applied);
  }

  /** Keeps the order that all replicas agree on, and the bound on concurrent values. */
  private linkToKey(dot: Dot, applied: Applied): void {
    const { key } = dot.entry;
    let after = this.keyDots.get(key);
    if (after === undefined || precedes(dot, after)) {
      dot.nextOfKey = after;
      this.keyDots.set(key, dot);
    } else {
      while (after.nextOfKey !== undefined && !precedes(dot, after.nextOfKey)) after = after.nextOfKey;
      dot.nextOfKey = after.nextOfKey;
      after.nextOfKey = dot;
    }
    let last = this.keyDots.get(key)!;
    let count = 1;
    for (; last.nextOfKey !== undefined; last = last.nextOfKey) count++;
    if (count <= this.limits.dotsPerKeyMax) return;
    const { replica, counter } = last.entry;
    this.drop(replica, counter, counter, applied);
  }

  private dropKey(key: string, applied: Applied): void {
    for (let dot = this.keyDots.get(key); dot !== undefined; dot = this.keyDots.get(key)) {
      const { replica, counter } = dot.entry;
      this.drop(replica, counter, counter, applied);
    }
  }

  private drop(replica: number, from: number, to: number, applied: Applied): void {
    let origin = this.origins.get(replica);
    if (origin === undefined) {
      origin = new Origin([], []);
      this.origins.set(replica, origin);
    }
    const dots = origin.drop(from, to);
    if (dots === undefined) return;
    for (const dot of dots) this.end(dot, applied);
    if (dots.length === 0) applied.isBlind = true;
    applied.dropped.push(replica, from, to);
    this.trim(origin);
    if (replica === this.replica) this.counter = Math.max(this.counter, to);
    else if (origin.dots.length === 0 && !this.dormant.has(replica)) {
      this.dormant.add(replica);
      for (const oldest of this.dormant) {
        if (this.dormant.size <= this.limits.dormantMax) break;
        this.forget(oldest);
      }
    }
  }

  private end(dot: Dot, applied: Applied): void {
    const { key } = dot.entry;
    dot.isLive = false;
    applied.ended.push(dot);
    this.digest.remove(dot);
    applied.keys.push(key);
    let before = this.keyDots.get(key)!;
    if (before === dot) {
      if (dot.nextOfKey === undefined) this.keyDots.delete(key);
      else this.keyDots.set(key, dot.nextOfKey);
    } else {
      while (before.nextOfKey !== dot) before = before.nextOfKey!;
      before.nextOfKey = dot.nextOfKey;
    }
    dot.nextOfKey = undefined;
  }

  private trim(origin: Origin): void {
    const excess = origin.seen.length - 2 * this.limits.rangesPerOriginMax;
    if (excess > 0) origin.seen.splice(0, excess);
  }
}

/** The order of a key's values: the smallest replica id, and of one replica the oldest write, comes last. */
function precedes(a: Dot, b: Dot): boolean {
  const left = a.entry;
  const right = b.entry;
  return left.replica > right.replica || (left.replica === right.replica && left.counter > right.counter);
}
