import { assert } from './assert.js';

/** What a limit is made for. */
export interface BatchSettings {
  /** Most items that leave together, whatever the latency allows. */
  readonly itemsMax: number;
  /** Batches under way at a time. */
  readonly inFlightMax: number;
  /** How much longer a batch may take for being a batch, in milliseconds. */
  readonly latencyTargetMs: number;
}

/** Where a limit begins, and below what it never falls: smaller batches help nobody, their overhead remains. */
const ITEMS_MIN = 16;
const DECREASE = 0.75;
/** What a full batch within the target adds: a share of the largest limit, and no more than a share of this one. */
const INCREASE = 1 / 32;
const INCREASE_OF_LIMIT = 1 / 4;
/** The pace is measured for so long, milliseconds, and for so many latencies: one pause is not a pace. */
const PACE_MS = 1_000;
const PACE_LATENCIES = 8;
/** A limit that has become so much larger meanwhile was still growing. */
const GROWING = 1.5;
/** Lengths of its measuring after which a pace is forgotten. */
const PACE_KEPT = 10;
/** How long the shortest latency is believed, milliseconds; then a few small batches measure it anew. */
const PROBE_MS = 10_000;

/**
 * Adaptive batching: what comes while batches are under way waits, and leaves with all that came meanwhile: alone when
 * there is little to do, together when there is much, with no timer in either case. Whoever has such a queue asks here
 * how much may leave together, and how long what waits will have to.
 *
 * The limit adapts by additive increase and multiplicative decrease (Chiu and Jain 1989): a batch that was cut off by
 * the limit and came back in time raises it, a batch that was late lowers it. In time is what exceeds the shortest
 * latency by no more than the target: a long way, or a handler that takes its time for each item, is no reason for
 * small batches; a batch that takes longer the larger it is, is one, for what waits, waits for it. The shortest latency
 * is measured anew now and then with small batches, as BBR (Cardwell and others 2016) does.
 */
export class BatchLimit {
  private readonly settings: BatchSettings;
  private readonly itemsMin: number;
  private limit: number;
  private shortestMs = Number.POSITIVE_INFINITY;
  /** Of the probe that runs. */
  private probedMs = Number.POSITIVE_INFINITY;
  private probesLeft = 0;
  private nextProbeMs = Number.NaN;
  private settledAtMs = Number.NEGATIVE_INFINITY;
  /** What full batches have taken since the measuring began, and their items. */
  private busyMs = 0;
  private busyItems = 0;
  /** What the limit was then. */
  private busyLimit = 0;
  /** The last that was measured, milliseconds an item, and until when it counts. */
  private paceMs = 0;
  private paceUntilMs = Number.NEGATIVE_INFINITY;

  constructor(settings: BatchSettings) {
    const { itemsMax, inFlightMax, latencyTargetMs } = settings;
    assert(itemsMax >= 1 && inFlightMax >= 1 && latencyTargetMs > 0, 'a batch has room and time');
    this.settings = settings;
    this.itemsMin = Math.min(ITEMS_MIN, itemsMax);
    this.limit = this.itemsMin;
  }

  /** Items that may leave together now. */
  get items(): number {
    return this.probesLeft > 0 ? this.itemsMin : Math.floor(this.limit);
  }

  /** A batch has come back, in the order of sending. `wasFull`: more was waiting than could leave with it. */
  settled(items: number, sentMs: number, nowMs: number, wasFull: boolean): void {
    const { itemsMax, latencyTargetMs } = this.settings;
    const latencyMs = nowMs - sentMs;
    const sinceMs = nowMs - Math.max(sentMs, this.settledAtMs);
    this.settledAtMs = nowMs;
    this.shortestMs = Math.min(this.shortestMs, latencyMs);
    if (this.isProbing(latencyMs, nowMs)) return;
    if (wasFull) this.measure(items, sinceMs, nowMs);
    if (latencyMs - this.shortestMs > latencyTargetMs)
      this.limit = Math.max(this.itemsMin, this.limit * DECREASE);
    else if (wasFull) this.limit = Math.min(itemsMax, this.limit + this.increase);
  }

  /** How long so many items take at the pace of the last full batches, in milliseconds; 0 while nothing is known. */
  expectedMs(items: number, nowMs: number): number {
    return nowMs < this.paceUntilMs ? items * this.paceMs : 0;
  }

  /** While the limit still grows it is the limit that holds batches back, and nothing is learnt of the server. */
  private measure(items: number, sinceMs: number, nowMs: number): void {
    if (this.busyItems === 0) this.busyLimit = this.limit;
    this.busyMs += sinceMs;
    this.busyItems += items;
    if (this.busyMs < Math.max(PACE_MS, PACE_LATENCIES * this.shortestMs)) return;
    if (this.limit < this.busyLimit * GROWING) {
      this.paceMs = this.busyMs / Math.max(1, this.busyItems);
      this.paceUntilMs = nowMs + PACE_KEPT * this.busyMs;
    }
    this.busyMs = 0;
    this.busyItems = 0;
  }

  private get increase(): number {
    return Math.max(1, Math.min(this.settings.itemsMax * INCREASE, this.limit * INCREASE_OF_LIMIT));
  }

  /** A probe lasts until batches have come back that were sent behind small ones only. */
  private isProbing(latencyMs: number, nowMs: number): boolean {
    if (this.probesLeft > 0) {
      this.probedMs = Math.min(this.probedMs, latencyMs);
      if (--this.probesLeft === 0) this.shortestMs = this.probedMs;
      return true;
    }
    if (nowMs < this.nextProbeMs) return false;
    if (!Number.isNaN(this.nextProbeMs)) {
      this.probesLeft = 2 * this.settings.inFlightMax;
      this.probedMs = Number.POSITIVE_INFINITY;
    }
    this.nextProbeMs = nowMs + PROBE_MS;
    return false;
  }
}
