import { assert } from './assert.js';
import type { Clock } from './env.js';

/**
 * Adaptive batching. What comes while a batch is under way waits, and leaves with all that came meanwhile: alone
 * when there is little to do, together when there is much, with no timer in either case.
 *
 * How much may leave together adapts by additive increase and multiplicative decrease (Chiu and Jain 1989): a batch
 * that was cut off by the limit and came back within the target raises it, a batch that came back later lowers it. A
 * batch should take as long as the target at the most, because what waits, waits for one batch.
 *
 * How much may wait is bounded twice: by a number, and by the time that it would have to wait at the pace of the last
 * batches (Little's law). What exceeds it is refused at once, for the caller to pass the pressure on.
 */
export interface BatchLimits {
  /** Most items that leave together, whatever the latency allows. */
  readonly itemsMax: number;
  /** Most weight (bytes, mostly) of a batch; an item that is heavier leaves alone. */
  readonly weightMax: number;
  /** Batches under way. */
  readonly inFlightMax: number;
  /** What a batch may take, in milliseconds. */
  readonly latencyTargetMs: number;
  /** Most items that wait. */
  readonly queueMax: number;
  /** Longest time that an item is taken to have to wait, in milliseconds. */
  readonly waitMaxMs: number;
}

/** Where a limit begins, and below what it never falls: smaller batches help nobody, their overhead remains. */
const ITEMS_MIN = 16;
const DECREASE = 0.75;
/** Share of the largest limit that a full batch within the target adds. */
const INCREASE = 1 / 32;
/** Weight of the newest batch in the pace. */
const PACE_SHARE = 0.2;

/** The adaptive limit by itself, for those who have a queue of their own. */
export class BatchLimit {
  private readonly itemsMax: number;
  private readonly latencyTargetMs: number;
  private readonly increase: number;
  private limit: number;
  /** Smoothed milliseconds an item; 0 while nothing is known. */
  private paceMs = 0;

  constructor(itemsMax: number, latencyTargetMs: number) {
    assert(itemsMax >= 1 && latencyTargetMs > 0, 'a batch has room and time');
    this.itemsMax = itemsMax;
    this.latencyTargetMs = latencyTargetMs;
    this.increase = Math.max(1, itemsMax * INCREASE);
    this.limit = Math.min(ITEMS_MIN, itemsMax);
  }

  /** Items that may leave together now. */
  get items(): number {
    return Math.floor(this.limit);
  }

  /** A batch has come back. `wasFull`: the limit cut it off. */
  settled(items: number, latencyMs: number, wasFull: boolean): void {
    const paceMs = latencyMs / Math.max(1, items);
    this.paceMs = this.paceMs === 0 ? paceMs : this.paceMs + (paceMs - this.paceMs) * PACE_SHARE;
    if (latencyMs > this.latencyTargetMs)
      this.limit = Math.max(Math.min(ITEMS_MIN, this.itemsMax), this.limit * DECREASE);
    else if (wasFull) this.limit = Math.min(this.itemsMax, this.limit + this.increase);
  }

  /** How long `items` take at the pace of late, in milliseconds; 0 while nothing is known. */
  expectedMs(items: number): number {
    return items * this.paceMs;
  }
}

/** Items that have left together. */
export interface Batch<Item> {
  readonly items: readonly Item[];
  readonly sentMs: number;
  readonly wasFull: boolean;
}

/** Batches the calls of one key. */
export class Batcher<Item> {
  private readonly limits: BatchLimits;
  private readonly clock: Clock;
  private readonly send: (batch: Batch<Item>) => void;
  private readonly limit: BatchLimit;
  private items: Item[] = [];
  private weights: number[] = [];
  private inFlightNow = 0;

  /** `send` is given each batch as it leaves, and says `settled` when that has come back, however it ended. */
  constructor(limits: BatchLimits, clock: Clock, send: (batch: Batch<Item>) => void) {
    assert(limits.inFlightMax >= 1 && limits.queueMax >= 1, 'a batcher can send and hold at least one');
    this.limits = limits;
    this.clock = clock;
    this.send = send;
    this.limit = new BatchLimit(limits.itemsMax, limits.latencyTargetMs);
  }

  /** Items that wait. */
  get queued(): number {
    return this.items.length;
  }

  /** Batches under way. */
  get inFlight(): number {
    return this.inFlightNow;
  }

  get isIdle(): boolean {
    return this.inFlightNow === 0 && this.items.length === 0;
  }

  /** Takes the item; false when it would wait too long or too many wait: it is not taken, and told at once. */
  offer(item: Item, weight: number): boolean {
    const { limits } = this;
    if (this.inFlightNow >= limits.inFlightMax) {
      const queued = this.items.length;
      if (queued >= limits.queueMax) return false;
      // One batch may always wait: it is what makes batches.
      if (queued >= this.limit.items && this.limit.expectedMs(queued) > limits.waitMaxMs) return false;
    }
    this.items.push(item);
    this.weights.push(weight);
    this.pump();
    return true;
  }

  /** A batch has come back, answered or not. */
  settled(batch: Batch<Item>): void {
    assert(this.inFlightNow > 0, 'a batch settles once');
    this.inFlightNow--;
    this.limit.settled(batch.items.length, this.clock.monotonicMs() - batch.sentMs, batch.wasFull);
    this.pump();
  }

  /** Takes out what waits. */
  takeQueued(): Item[] {
    const { items } = this;
    this.items = [];
    this.weights = [];
    return items;
  }

  private pump(): void {
    while (this.items.length > 0 && this.inFlightNow < this.limits.inFlightMax) {
      const count = this.fitting();
      const items = count === this.items.length ? this.items : this.items.slice(0, count);
      const wasFull = count < this.items.length;
      this.items = wasFull ? this.items.slice(count) : [];
      this.weights = wasFull ? this.weights.slice(count) : [];
      this.inFlightNow++;
      this.send({ items, sentMs: this.clock.monotonicMs(), wasFull });
    }
  }

  /** How many of those that wait leave together: at least one. */
  private fitting(): number {
    const most = Math.min(this.limit.items, this.items.length);
    let weight = this.weights[0]!;
    let count = 1;
    while (count < most && weight + this.weights[count]! <= this.limits.weightMax)
      weight += this.weights[count++]!;
    return count;
  }
}

/** One batcher for each key that has something to do. */
export class KeyedBatcher<Key, Item> {
  private readonly limits: BatchLimits;
  private readonly clock: Clock;
  private readonly send: (key: Key, batch: Batch<Item>) => void;
  private readonly keysMax: number;
  private readonly byKey = new Map<Key, Batcher<Item>>();

  constructor(
    limits: BatchLimits,
    keysMax: number,
    clock: Clock,
    send: (key: Key, batch: Batch<Item>) => void,
  ) {
    this.limits = limits;
    this.keysMax = keysMax;
    this.clock = clock;
    this.send = send;
  }

  get keys(): number {
    return this.byKey.size;
  }

  /** As {@link Batcher.offer}; false as well when too many keys have something under way. */
  offer(key: Key, item: Item, weight: number): boolean {
    let batcher = this.byKey.get(key);
    if (batcher === undefined) {
      if (this.byKey.size >= this.keysMax && !this.forgetIdle()) return false;
      batcher = new Batcher<Item>(this.limits, this.clock, batch => this.send(key, batch));
      this.byKey.set(key, batcher);
    }
    return batcher.offer(item, weight);
  }

  settled(key: Key, batch: Batch<Item>): void {
    const batcher = this.byKey.get(key);
    assert(batcher !== undefined, 'a batch settles once');
    batcher.settled(batch);
  }

  /** Idle keys keep what they have learnt until room is wanted. False: there was none. */
  private forgetIdle(): boolean {
    for (const [key, batcher] of this.byKey) if (batcher.isIdle) this.byKey.delete(key);
    return this.byKey.size < this.keysMax;
  }
}
