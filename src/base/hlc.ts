import { assert } from './assert.js';

/**
 * A hybrid logical clock (Kulkarni et al. 2014): stamps follow the wall clock where they can, and causality where
 * they must. A stamp is one JavaScript number:
 *
 *     stamp = (milliseconds since 2025-01-01T00:00:00Z) × 4096 + counter
 *
 * It stays an exact integer below 2^53, so 2^41 ms are left for the time: 69.7 years, until September 2094. The
 * last 2^31 ms (25 days) of those are kept as room to count in: a wall clock beyond them reads as their begin.
 * More than 4,096 stamps in one millisecond carry over into the next millisecond, which keeps the order and lets
 * the clock run ahead of the wall only while 4 million stamps a second are drawn.
 *
 * A remote stamp may push this clock at most `aheadMaxMs` ahead of its own wall clock. What is further ahead is
 * refused, and then only the order between us and that host is lost; without the bound one broken clock would
 * drag every host of the cluster along, for good. An hour is the default: more than any clock that something
 * disciplines is ever wrong by, and the commonest blunder (a time zone, at least an hour) falls outside.
 */

/** 2025-01-01T00:00:00Z in milliseconds since 1970. */
export const HLC_EPOCH_MS = 1_735_689_600_000;
/** Default bound of how far a remote stamp may lead our wall clock, in milliseconds. */
export const HLC_AHEAD_MAX_MS = 3_600_000;

const COUNTS_PER_MS = 4096;
const TIME_MAX_MS = 2 ** 41 - 2 ** 31;

/** The wall clock of a stamp, milliseconds since 1970. */
export function hlcWallMs(stamp: number): number {
  return Math.floor(stamp / COUNTS_PER_MS) + HLC_EPOCH_MS;
}

/** One per process. Clocks are arguments, milliseconds since 1970, and may jump in both directions. */
export class HybridClock {
  /** The greatest stamp drawn or accepted. */
  last = 0;
  /** Remote stamps that were refused. */
  refused = 0;
  private readonly aheadMaxMs: number;

  /** `aheadMaxMs`: 0 to 2^30 (12 days). */
  constructor(aheadMaxMs = HLC_AHEAD_MAX_MS) {
    assert(aheadMaxMs >= 0 && aheadMaxMs <= 2 ** 30, 'the bound of a hybrid clock is 0 to 2^30 ms');
    this.aheadMaxMs = aheadMaxMs;
  }

  /** A stamp greater than all that this clock drew or accepted before. */
  next(wallMs: number): number {
    this.last = Math.max(this.last + 1, timeOf(wallMs) * COUNTS_PER_MS);
    return this.last;
  }

  /**
   * Takes in a stamp that came with a message, so that later stamps of ours exceed it. False: refused, because it
   * is no stamp or leads the wall clock by more than the bound; nothing changed then, except the count.
   */
  observe(remote: number, wallMs: number): boolean {
    const limit = (timeOf(wallMs) + this.aheadMaxMs + 1) * COUNTS_PER_MS;
    // What we hold already was accepted once; a wall clock that jumped back does not make it wrong.
    if (!Number.isSafeInteger(remote) || remote < 0 || (remote >= limit && remote > this.last)) {
      this.refused++;
      return false;
    }
    if (remote > this.last) this.last = remote;
    return true;
  }
}

/** Milliseconds since our epoch; a clock outside the representable years reads as the nearer end. */
function timeOf(wallMs: number): number {
  const time = Math.floor(wallMs) - HLC_EPOCH_MS;
  return time > 0 ? Math.min(time, TIME_MAX_MS) : 0;
}
