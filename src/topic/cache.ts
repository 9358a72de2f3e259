import { assert } from '../base/assert.js';
import { type HashKeys, hashBytes, mix } from './hash.js';
import { NameIndex } from './name-index.js';

/** What a `TopicTable` holds; extend it with what is known of the topic. Only the table writes these fields. */
export class TopicEntry {
  /** The table's own copy of the topic, UTF-8. */
  topicBytes: Buffer = NO_BYTES;
  /** Keyed hash of the topic. */
  hash = 0;
  /** Place in the table, or -1: evicted, deleted, or not yet inserted. */
  slot = -1;
  /** Set by each hit, cleared by the clock hand. */
  used = false;
}

const SLOTS_MIN = 16;
/** Entries that the clock hand passes at most before it takes one anyway. */
const CLOCK_STEPS_MAX = 16;
const SLAB_BYTES = 4096;
/** Topics longer than this get memory of their own. */
const SLAB_TOPIC_BYTES_MAX = 512;

/**
 * A bounded map from topic bytes to entries. A hit makes no string and no object (perf/micro/topic-cache.bench.ts).
 * Open addressing with linear probing at half load, deletion by shifting back, eviction by CLOCK with a bounded
 * scan. A `NameIndex` beside it answers which cached topics a filter matches. Memory follows the count of
 * entries up to `capacity`; the tables double on the way, which at 65,536 entries takes about a millisecond.
 */
export class TopicTable<E extends TopicEntry> {
  readonly capacity: number;
  private readonly keys: HashKeys;
  /** Two words a slot: place in `entries` plus one (0: empty), hash. */
  private slots = new Int32Array(SLOTS_MIN * 2);
  private mask = SLOTS_MIN - 1;
  private entries: E[] = [];
  private hand = 0;
  private names: NameIndex<E>;
  private slab: Buffer = NO_BYTES;
  private slabUsed = 0;
  /** Counters since the start, for metrics. */
  hits = 0;
  misses = 0;
  evictions = 0;

  /** @param capacity most entries held, at least 1. */
  constructor(keys: HashKeys, capacity: number) {
    assert(capacity >= 1 && capacity <= 1 << 28, 'capacity is 1 to 2^28 entries');
    this.keys = keys;
    this.capacity = capacity;
    this.names = new NameIndex(keys);
  }

  get size(): number {
    return this.entries.length;
  }

  find(bytes: Uint8Array, start: number, end: number): E | undefined {
    const hash = hashBytes(this.keys, bytes, start, end);
    const { slots, mask } = this;
    for (let slot = mix(hash) & mask; ; slot = (slot + 1) & mask) {
      const place = slots[slot * 2]!;
      if (place === 0) {
        this.misses++;
        return undefined;
      }
      if (slots[slot * 2 + 1] !== hash) continue;
      const entry = this.entries[place - 1]!;
      if (sameBytes(entry.topicBytes, bytes, start, end)) {
        this.hits++;
        entry.used = true;
        return entry;
      }
    }
  }

  /**
   * Takes `entry` (which must be in no table) under a copy of the topic. Returns the entry that had to go: the one
   * that held this topic, or one evicted when the table is full.
   */
  insert(bytes: Uint8Array, start: number, end: number, entry: E): E | undefined {
    assert(entry.slot < 0, 'an entry is in one table at most');
    entry.topicBytes = this.copyOf(bytes, start, end);
    entry.hash = hashBytes(this.keys, bytes, start, end);
    entry.used = false;
    const replaced = this.names.set(bytes, start, end, entry);
    let gone = replaced;
    if (replaced !== undefined) this.unplace(replaced);
    else if (this.entries.length === this.capacity) {
      gone = this.victim();
      this.delete(gone);
      this.evictions++;
    }
    entry.slot = this.entries.push(entry) - 1;
    if (this.entries.length * 2 > this.mask + 1) this.grow();
    else this.seat(entry);
    return gone;
  }

  /** Removes an entry; false if it is not in the table any more. */
  delete(entry: E): boolean {
    if (entry.slot < 0) return false;
    assert(this.entries[entry.slot] === entry, 'the entry belongs to this table');
    this.names.delete(entry.topicBytes, 0, entry.topicBytes.length);
    this.unplace(entry);
    return true;
  }

  /** Appends the entries whose topics the plain `filter` matches; they may then be deleted one by one. */
  collect(filter: string, out: E[]): void {
    this.names.collect(filter, out);
  }

  clear(): void {
    for (const entry of this.entries) entry.slot = -1;
    this.entries = [];
    this.slots = new Int32Array(SLOTS_MIN * 2);
    this.mask = SLOTS_MIN - 1;
    this.hand = 0;
    this.names.clear();
    this.slab = NO_BYTES;
    this.slabUsed = 0;
  }

  private victim(): E {
    const { entries } = this;
    for (let step = 1; ; step++) {
      if (this.hand >= entries.length) this.hand = 0;
      const entry = entries[this.hand++]!;
      if (!entry.used || step === CLOCK_STEPS_MAX) return entry;
      entry.used = false;
    }
  }

  private seat(entry: E): void {
    const { slots, mask } = this;
    let slot = mix(entry.hash) & mask;
    while (slots[slot * 2] !== 0) slot = (slot + 1) & mask;
    slots[slot * 2] = entry.slot + 1;
    slots[slot * 2 + 1] = entry.hash;
  }

  private grow(): void {
    const count = (this.mask + 1) * 2;
    this.slots = new Int32Array(count * 2);
    this.mask = count - 1;
    for (const entry of this.entries) this.seat(entry);
  }

  /** The slot that refers to the entry at `place`. */
  private slotOf(entry: E): number {
    const { slots, mask } = this;
    let slot = mix(entry.hash) & mask;
    while (slots[slot * 2] !== entry.slot + 1) slot = (slot + 1) & mask;
    return slot;
  }

  /** Empties the slot of `entry` and moves the last entry into its place. */
  private unplace(entry: E): void {
    this.vacate(this.slotOf(entry));
    const last = this.entries[this.entries.length - 1]!;
    if (last !== entry) {
      this.slots[this.slotOf(last) * 2] = entry.slot + 1;
      last.slot = entry.slot;
      this.entries[last.slot] = last;
    }
    this.entries.pop();
    entry.slot = -1;
  }

  /** Moves later members of the run back over the hole, so that no probe stops early. */
  private vacate(hole: number): void {
    const { slots, mask } = this;
    for (let slot = (hole + 1) & mask; slots[slot * 2] !== 0; slot = (slot + 1) & mask) {
      const home = mix(slots[slot * 2 + 1]!) & mask;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      slots[hole * 2] = slots[slot * 2]!;
      slots[hole * 2 + 1] = slots[slot * 2 + 1]!;
      hole = slot;
    }
    slots[hole * 2] = 0;
  }

  /** Short topics share slabs: a Buffer with memory of its own costs more than the topic. */
  private copyOf(bytes: Uint8Array, start: number, end: number): Buffer {
    const length = end - start;
    let copy: Buffer;
    if (length > SLAB_TOPIC_BYTES_MAX) copy = Buffer.allocUnsafeSlow(length);
    else {
      if (this.slabUsed + length > this.slab.length) {
        this.slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
        this.slabUsed = 0;
      }
      copy = this.slab.subarray(this.slabUsed, (this.slabUsed += length));
    }
    for (let i = 0; i < length; i++) copy[i] = bytes[start + i]!;
    return copy;
  }
}

function sameBytes(copy: Buffer, bytes: Uint8Array, start: number, end: number): boolean {
  const length = end - start;
  if (copy.length !== length) return false;
  let i = 0;
  let at = start;
  for (; i + 4 <= length; i += 4, at += 4) {
    const high = (copy[i]! ^ bytes[at]!) | (copy[i + 1]! ^ bytes[at + 1]!);
    const low = (copy[i + 2]! ^ bytes[at + 2]!) | (copy[i + 3]! ^ bytes[at + 3]!);
    if ((high | low) !== 0) return false;
  }
  for (; i < length; i++, at++) if (copy[i] !== bytes[at]) return false;
  return true;
}

const NO_BYTES = Buffer.alloc(0);
