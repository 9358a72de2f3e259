import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HLC_AHEAD_MAX_MS, HLC_EPOCH_MS, HybridClock, hlcWallMs } from '../../src/base/hlc.js';

const NOW_MS = HLC_EPOCH_MS + 1_000_000_000;

describe('HybridClock', () => {
  it('reads as the wall clock where that goes forward', () => {
    const clock = new HybridClock();
    expect(hlcWallMs(clock.next(NOW_MS))).toBe(NOW_MS);
    expect(hlcWallMs(clock.next(NOW_MS + 5.9))).toBe(NOW_MS + 5);
  });

  it('strictly increases, stays exact, and follows what it accepts, whatever the clocks do', () => {
    const wall = fc.oneof(
      { weight: 8, arbitrary: fc.integer({ min: -5_000, max: 5_000 }).map(offset => NOW_MS + offset) },
      fc.constantFrom(0, -1, NOW_MS, 1e15, Number.MAX_SAFE_INTEGER, HLC_EPOCH_MS, NOW_MS + 0.5),
    );
    const remote = fc.oneof(
      fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
      fc
        .integer({ min: -20_000_000, max: 20_000_000 })
        .map(offset => new HybridClock().next(NOW_MS) + offset),
      fc.constantFrom(Number.NaN, -1, 0.5, Number.POSITIVE_INFINITY, 2 ** 53, Number.MAX_SAFE_INTEGER),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(wall, fc.option(remote))), steps => {
        const clock = new HybridClock();
        let last = 0;
        for (const [wallMs, stamp] of steps) {
          if (stamp !== null && clock.observe(stamp, wallMs)) {
            expect(clock.last).toBe(Math.max(last, stamp));
            last = clock.last;
          }
          const next = clock.next(wallMs);
          expect(next).toBeGreaterThan(last);
          expect(Number.isSafeInteger(next)).toBe(true);
          last = next;
        }
      }),
      { numRuns: 500 },
    );
  });

  it('carries more stamps than a millisecond has over into the next', () => {
    const clock = new HybridClock();
    const first = clock.next(NOW_MS);
    let last = first;
    for (let i = 0; i < 10_000; i++) last = clock.next(NOW_MS);
    expect(last).toBe(first + 10_000);
    expect(hlcWallMs(last)).toBe(NOW_MS + 2);
  });

  it('is pushed ahead up to the bound and no further', () => {
    const stampAt = (wallMs: number) => new HybridClock().next(wallMs);
    const clock = new HybridClock();
    expect(clock.observe(stampAt(NOW_MS + HLC_AHEAD_MAX_MS), NOW_MS)).toBe(true);
    const pushed = clock.next(NOW_MS);
    expect(hlcWallMs(pushed)).toBe(NOW_MS + HLC_AHEAD_MAX_MS);
    expect(clock.observe(stampAt(NOW_MS + HLC_AHEAD_MAX_MS + 1), NOW_MS)).toBe(false);
    expect(clock.refused).toBe(1);
    expect(clock.next(NOW_MS)).toBe(pushed + 1);
    // What others drew after us is welcome although our wall clock was set back meanwhile.
    expect(clock.observe(pushed, NOW_MS - 1_000_000)).toBe(true);
  });

  it('cannot be walked forward step by step', () => {
    const clock = new HybridClock(1_000);
    for (let i = 0; i < 100; i++) clock.observe(clock.last + 900 * 4096, NOW_MS);
    expect(hlcWallMs(clock.next(NOW_MS))).toBeLessThanOrEqual(NOW_MS + 1_001);
  });
});
