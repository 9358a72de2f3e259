import { assert } from '../../src/base/assert.js';

/** Something that events happen to. `what` is the actor's own numbering. */
export interface Actor {
  happen(what: number, payload: unknown): void;
}

const EVENTS_MAX = 8_000_000;

/**
 * Events by time, and among equal times by the order of adding: a binary heap of slot numbers, the keys in typed
 * arrays, so that an event costs no object of its own.
 */
export class EventQueue {
  #times = new Float64Array(1024);
  #orders = new Float64Array(1024);
  #whats = new Int32Array(1024);
  #heap = new Int32Array(1024);
  readonly #actors: (Actor | undefined)[] = [];
  readonly #payloads: unknown[] = [];
  readonly #free: number[] = [];
  #length = 0;
  #added = 0;

  get length(): number {
    return this.#length;
  }

  /** Time of the first event, Infinity when there is none. */
  get firstMs(): number {
    return this.#length === 0 ? Number.POSITIVE_INFINITY : this.#times[this.#heap[0]!]!;
  }

  add(atMs: number, actor: Actor, what: number, payload: unknown): void {
    const slot = this.#free.pop() ?? this.#newSlot();
    this.#times[slot] = atMs;
    this.#orders[slot] = this.#added;
    this.#whats[slot] = what;
    this.#actors[slot] = actor;
    this.#payloads[slot] = payload;
    this.#added += 1;
    this.#rise(this.#length, slot);
    this.#length += 1;
  }

  /** Takes the first event out and lets it happen. */
  fire(): void {
    const slot = this.#heap[0]!;
    this.#length -= 1;
    if (this.#length > 0) this.#sink(this.#heap[this.#length]!);
    const actor = this.#actors[slot]!;
    const payload = this.#payloads[slot];
    const what = this.#whats[slot]!;
    this.#actors[slot] = undefined;
    this.#payloads[slot] = undefined;
    this.#free.push(slot);
    actor.happen(what, payload);
  }

  #newSlot(): number {
    const slot = this.#actors.length;
    assert(slot < EVENTS_MAX, 'the world has more events under way than any scenario needs');
    if (slot === this.#times.length) this.#grow(slot * 2);
    this.#actors.push(undefined);
    this.#payloads.push(undefined);
    return slot;
  }

  #grow(size: number): void {
    const times = new Float64Array(size);
    times.set(this.#times);
    this.#times = times;
    const orders = new Float64Array(size);
    orders.set(this.#orders);
    this.#orders = orders;
    const whats = new Int32Array(size);
    whats.set(this.#whats);
    this.#whats = whats;
    const heap = new Int32Array(size);
    heap.set(this.#heap);
    this.#heap = heap;
  }

  #isBefore(left: number, right: number): boolean {
    const difference = this.#times[left]! - this.#times[right]!;
    return difference < 0 || (difference === 0 && this.#orders[left]! < this.#orders[right]!);
  }

  #rise(from: number, slot: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = this.#heap[parent]!;
      if (!this.#isBefore(slot, above)) break;
      this.#heap[at] = above;
      at = parent;
    }
    this.#heap[at] = slot;
  }

  #sink(slot: number): void {
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#length) break;
      if (child + 1 < this.#length && this.#isBefore(this.#heap[child + 1]!, this.#heap[child]!)) child += 1;
      const below = this.#heap[child]!;
      if (!this.#isBefore(below, slot)) break;
      this.#heap[at] = below;
      at = child;
    }
    this.#heap[at] = slot;
  }
}
