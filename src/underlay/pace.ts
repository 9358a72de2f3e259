/** Keys that are remembered; the longest known is forgotten first, and may then be allowed too early. */
const KEYS_MAX = 1_024;

/** Allows something once in `gapMs` for each key, and for all keys together at most `ratePerSecond`. */
export class Pace<K> {
  private readonly lastMs = new Map<K, number>();
  private readonly gapMs: number;
  private readonly ratePerSecond: number;
  private tokens: number;
  private filledMs = 0;

  constructor(gapMs: number, ratePerSecond: number) {
    this.gapMs = gapMs;
    this.ratePerSecond = ratePerSecond;
    this.tokens = ratePerSecond;
  }

  get size(): number {
    return this.lastMs.size;
  }

  /** Counts as done when it returns true. */
  allows(key: K, nowMs: number): boolean {
    const last = this.lastMs.get(key);
    if (last !== undefined && nowMs - last < this.gapMs) return false;
    const { ratePerSecond } = this;
    this.tokens = Math.min(ratePerSecond, this.tokens + ((nowMs - this.filledMs) * ratePerSecond) / 1_000);
    this.filledMs = nowMs;
    if (this.tokens < 1) return false;
    this.tokens -= 1;
    this.lastMs.delete(key);
    this.lastMs.set(key, nowMs);
    if (this.lastMs.size > KEYS_MAX) this.lastMs.delete(this.lastMs.keys().next().value!);
    return true;
  }
}
