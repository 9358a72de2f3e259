import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Batch, Batcher, BatchLimit, type BatchLimits, KeyedBatcher } from '../../src/base/batch.js';

const LIMITS: BatchLimits = {
  itemsMax: 100,
  weightMax: 1_000,
  inFlightMax: 1,
  latencyTargetMs: 10,
  queueMax: 300,
  waitMaxMs: 50,
};

function setUp(limits: Partial<BatchLimits> = {}) {
  const time = { nowMs: 0 };
  const clock = { monotonicMs: () => time.nowMs, wallMs: () => 0 };
  const batches: Batch<number>[] = [];
  const batcher = new Batcher<number>({ ...LIMITS, ...limits }, clock, batch => batches.push(batch));
  return { time, clock, batches, batcher };
}

describe('a batcher', () => {
  it('sends at once when idle, and together what comes meanwhile', () => {
    const { batches, batcher } = setUp();
    for (let i = 0; i < 10; i++) expect(batcher.offer(i, 1)).toBe(true);
    expect(batches.map(({ items }) => items)).toEqual([[0]]);
    batcher.settled(batches[0]!);
    expect(batches[1]!.items).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    batcher.settled(batches[1]!);
    expect([batcher.isIdle, batches.length]).toEqual([true, 2]);
  });

  it('keeps the weight within bounds, but sends what is heavier alone', () => {
    const { batches, batcher } = setUp();
    for (const weight of [1, 600, 500, 5_000, 10]) batcher.offer(weight, weight);
    for (let i = 0; i < 4; i++) batcher.settled(batches[i]!);
    expect(batches.map(({ items }) => items)).toEqual([[1], [600], [500], [5_000], [10]]);
  });

  it('refuses at once what would wait too long at the pace of late', () => {
    const { time, batches, batcher } = setUp();
    batcher.offer(0, 1);
    time.nowMs += 5;
    batcher.settled(batches[0]!);
    let taken = 0;
    while (batcher.offer(1, 1)) taken++;
    // Five milliseconds an item: one under way, ten wait 50 ms; but a whole batch of 16 may always wait.
    expect(taken).toBe(17);
    expect(batcher.queued).toBe(16);
  });

  it('hands back what waits', () => {
    const { batches, batcher } = setUp();
    for (let i = 0; i < 4; i++) batcher.offer(i, 1);
    expect(batcher.takeQueued()).toEqual([1, 2, 3]);
    batcher.settled(batches[0]!);
    expect(batches).toHaveLength(1);
  });

  it('never exceeds a bound, loses nothing and keeps the order', () => {
    const steps = fc.array(
      fc.record({ offers: fc.nat(40), weight: fc.integer({ min: 0, max: 400 }), latencyMs: fc.nat(30) }),
      { maxLength: 80 },
    );
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 3 }), (script, inFlightMax) => {
        const { time, batches, batcher } = setUp({ inFlightMax });
        const weights: number[] = [];
        let settled = 0;
        for (const { offers, weight, latencyMs } of script) {
          for (let i = 0; i < offers; i++) {
            if (batcher.offer(weights.length, weight)) weights.push(weight);
            expect(batcher.queued).toBeLessThanOrEqual(LIMITS.queueMax);
            expect(batcher.inFlight).toBeLessThanOrEqual(inFlightMax);
          }
          time.nowMs += latencyMs;
          if (settled < batches.length) batcher.settled(batches[settled++]!);
        }
        while (settled < batches.length) batcher.settled(batches[settled++]!);
        expect(batches.flatMap(({ items }) => items)).toEqual(weights.map((_, at) => at));
        for (const { items } of batches) {
          expect(items.length).toBeLessThanOrEqual(LIMITS.itemsMax);
          const weight = items.reduce((sum, item) => sum + weights[item]!, 0);
          if (items.length > 1) expect(weight).toBeLessThanOrEqual(LIMITS.weightMax);
        }
      }),
    );
  });
});

describe('the limit of a batch', () => {
  it('grows while full batches come back in time, and shrinks when they are late', () => {
    const limit = new BatchLimit(1_000, 10);
    expect(limit.items).toBe(16);
    for (let i = 0; i < 10; i++) limit.settled(limit.items, 5, true);
    const grown = limit.items;
    expect(grown).toBeGreaterThan(300);
    for (let i = 0; i < 100; i++) limit.settled(5, 5, false);
    expect(limit.items).toBe(grown);
    limit.settled(grown, 11, true);
    expect(limit.items).toBe(Math.floor(grown * 0.75));
    for (let i = 0; i < 100; i++) limit.settled(5, 100, true);
    expect(limit.items).toBe(16);
  });

  it('finds what a server can do within the target', () => {
    // Each batch costs 2 ms and each item 0.1 ms: 80 items take the target of 10 ms.
    const limit = new BatchLimit(4_096, 10);
    const seen: number[] = [];
    for (let i = 0; i < 500; i++) {
      limit.settled(limit.items, 2 + limit.items * 0.1, true);
      if (i > 100) seen.push(limit.items);
    }
    const mean = seen.reduce((sum, items) => sum + items, 0) / seen.length;
    expect(mean).toBeGreaterThan(50);
    expect(mean).toBeLessThan(200);
  });
});

describe('batchers by key', () => {
  it('keep keys apart, and their number bounded', () => {
    const { clock } = setUp();
    const sent: [string, Batch<number>][] = [];
    const keyed = new KeyedBatcher<string, number>(LIMITS, 2, clock, (key, batch) => sent.push([key, batch]));
    expect(['a', 'a', 'b', 'c'].map((key, at) => keyed.offer(key, at, 1))).toEqual([true, true, true, false]);
    expect(sent.map(([key, { items }]) => [key, items])).toEqual([
      ['a', [0]],
      ['b', [2]],
    ]);
    keyed.settled('b', sent[1]![1]);
    expect([keyed.offer('c', 4, 1), keyed.keys]).toEqual([true, 2]);
    keyed.settled('a', sent[0]![1]);
    expect(sent.at(-1)).toMatchObject(['a', { items: [1] }]);
  });
});
