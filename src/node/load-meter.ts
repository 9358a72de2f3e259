import { LOAD_WINDOW_MS, type RangeLoad } from '../kv/balance/landscape.js';

/** What ranges are asked. */
export type Load = Pick<RangeLoad, 'writesPerSecond' | 'queriesPerSecond' | 'queryMicros'>;

interface Counts {
  sinceMs: number;
  writes: number;
  queries: number;
  /** Queries that were run, which may be fewer, and how long they took together. */
  runs: number;
  ranMs: number;
  load: Load;
}

/** Means over a window that has just ended; of the ranges that were asked in it. */
export class LoadMeter {
  private readonly nowMs: () => number;
  private readonly byRange = new Map<number, Counts>();

  constructor(nowMs: () => number) {
    this.nowMs = nowMs;
  }

  asked(range: number, isWrite: boolean): void {
    const counts = this.byRange.get(range) ?? this.begin(range);
    if (isWrite) counts.writes++;
    else counts.queries++;
  }

  /** A query was run, and took so long. */
  ran(range: number, tookMs: number): void {
    const counts = this.byRange.get(range);
    if (counts === undefined) return;
    counts.runs++;
    counts.ranMs += tookMs;
  }

  private begin(range: number): Counts {
    if (this.byRange.size >= METERED_MAX) this.byRange.clear();
    const counts = { sinceMs: this.nowMs(), writes: 0, queries: 0, runs: 0, ranMs: 0, load: IDLE };
    this.byRange.set(range, counts);
    return counts;
  }

  of(range: number): Load {
    const counts = this.byRange.get(range);
    if (counts === undefined) return IDLE;
    const nowMs = this.nowMs();
    const tookMs = nowMs - counts.sinceMs;
    if (tookMs < LOAD_WINDOW_MS) return counts.load;
    const { writes, queries, runs, ranMs } = counts;
    if (writes + queries === 0) {
      this.byRange.delete(range);
      return IDLE;
    }
    counts.load = {
      writesPerSecond: (writes * 1000) / tookMs,
      queriesPerSecond: (queries * 1000) / tookMs,
      queryMicros: runs === 0 ? 0 : (ranMs * 1000) / runs,
    };
    counts.sinceMs = nowMs;
    counts.writes = counts.queries = counts.runs = counts.ranMs = 0;
    return counts.load;
  }
}

/** Ranges that are counted. Those that went are forgotten with all others, which only begin anew. */
const METERED_MAX = 16_384;
const IDLE: Load = { writesPerSecond: 0, queriesPerSecond: 0, queryMicros: 0 };
