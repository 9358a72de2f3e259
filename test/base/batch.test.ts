import { describe, expect, it } from 'vitest';
import { BatchLimit } from '../../src/base/batch.js';

/** A limit, and the time of those who ask it: one batch is under way at a time. */
class Sender {
  readonly limit: BatchLimit;
  nowMs = 0;

  constructor(itemsMax: number) {
    this.limit = new BatchLimit({ itemsMax, inFlightMax: 1, latencyTargetMs: 10 });
  }

  settle(items: number, latencyMs: number, wasFull: boolean): void {
    const sentMs = this.nowMs;
    this.nowMs += latencyMs;
    this.limit.settled(items, sentMs, this.nowMs, wasFull);
  }

  expectedMs(items: number): number {
    return this.limit.expectedMs(items, this.nowMs);
  }

  /** The mean limit of the later half of so many full batches. */
  saturate(batches: number, latencyMs: (items: number) => number): number {
    let sum = 0;
    for (let i = 0; i < batches; i++) {
      const { items } = this.limit;
      this.settle(items, latencyMs(items), true);
      if (i >= batches / 2) sum += items;
    }
    return sum / Math.ceil(batches / 2);
  }
}

describe('the limit of a batch', () => {
  it('grows while full batches come back in time, and shrinks when they are late', () => {
    const sender = new Sender(1_000);
    const { limit } = sender;
    expect(limit.items).toBe(16);
    for (let i = 0; i < 20; i++) sender.settle(limit.items, 5, true);
    const grown = limit.items;
    expect(grown).toBeGreaterThan(300);
    for (let i = 0; i < 100; i++) sender.settle(5, 5, false);
    expect(limit.items).toBe(grown);
    sender.settle(grown, 16, true);
    expect(Math.abs(limit.items - grown * 0.75)).toBeLessThan(1.5);
    for (let i = 0; i < 20; i++) sender.settle(5, 100, true);
    expect(limit.items).toBe(16);
  });

  it('finds what a server can do within the target, however long the way to it is', () => {
    // Each item costs 0.1 ms: 100 items are the target of 10 ms.
    for (const wayMs of [0.5, 100]) {
      const mean = new Sender(4_096).saturate(20_000, items => wayMs + items * 0.1);
      expect(mean).toBeGreaterThan(70);
      expect(mean).toBeLessThan(200);
    }
  });

  it('is as large as may be where the size makes no difference', () => {
    expect(new Sender(1_024).saturate(200, () => 500)).toBeGreaterThan(900);
  });

  it('follows a way that has become longer', () => {
    const sender = new Sender(1_024);
    sender.saturate(100, () => 5);
    expect(sender.saturate(50, () => 80)).toBeLessThan(20);
    sender.saturate(100, () => 80);
    expect(sender.saturate(100, () => 80)).toBeGreaterThan(900);
  });

  it('stays small for a server that is late with every size, and knows what that means', () => {
    const sender = new Sender(1_024);
    expect(sender.saturate(5_000, items => items * 50)).toBeLessThan(60);
    expect(sender.expectedMs(100)).toBeCloseTo(5_000);
  });

  it('reckons only with full batches: one item that takes long does not say how long a hundred take', () => {
    const sender = new Sender(1_024);
    for (let i = 0; i < 100; i++) sender.settle(1, 50, false);
    expect(sender.expectedMs(1_000)).toBe(0);
    for (let i = 0; i < 100; i++) sender.settle(100, 50, true);
    expect(sender.expectedMs(1_000)).toBeCloseTo(500);
  });

  it('does not take the first batch, nor one pause, for the pace', () => {
    const sender = new Sender(1_024);
    sender.settle(16, 900, true);
    expect(sender.expectedMs(1_000)).toBe(0);
    for (let i = 0; i < 200; i++) sender.settle(100, 5, true);
    sender.settle(100, 400, true);
    expect(sender.expectedMs(1_000)).toBeLessThan(200);
  });

  it('forgets a pace', () => {
    const sender = new Sender(1_024);
    sender.saturate(100, items => items * 50);
    expect(sender.expectedMs(100)).toBeGreaterThan(4_000);
    sender.nowMs += 1_000_000;
    expect(sender.expectedMs(100)).toBe(0);
  });

  it('reckons with batches under way at the same time', () => {
    const limit = new BatchLimit({ itemsMax: 100, inFlightMax: 2, latencyTargetMs: 10 });
    // Each takes 100 ms behind the one before: 50 items in 50 ms.
    for (let nowMs = 100; nowMs < 5_000; nowMs += 50) limit.settled(50, nowMs - 100, nowMs, true);
    expect(Math.abs(limit.expectedMs(100, 5_000) - 100)).toBeLessThan(10);
  });
});
