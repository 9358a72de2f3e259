import type { Entry } from './message.js';
import { rangesAdd, rangesCover } from './ranges.js';

/** A live write, or one that was live: an object, so that those who hold it see it die. */
export class Dot {
  readonly entry: Entry;
  /** Of the key, int32. */
  readonly hash: number;
  isLive = true;
  /** Bits of the neighbours that are known to have seen it; see neighbour.ts. */
  knownBy = 0;
  nextOfKey: Dot | undefined;
  nextInBucket: Dot | undefined;

  constructor(entry: Entry, hash: number) {
    this.entry = entry;
    this.hash = hash;
    this.nextOfKey = undefined;
    this.nextInBucket = undefined;
  }
}

/** What one map knows of one replica's writes. */
export class Origin {
  /** Ascending by counter. */
  readonly dots: Dot[];
  /** Counters of the dots that live or were dropped, as ranges. */
  readonly seen: number[];

  constructor(dots: Dot[], seen: number[]) {
    this.dots = dots;
    this.seen = seen;
  }

  live(counter: number): Dot | undefined {
    const dot = this.dots[this.position(counter)];
    return dot !== undefined && dot.entry.counter === counter ? dot : undefined;
  }

  /** Also when live and beyond what the ranges still remember. */
  hasSeen(counter: number): boolean {
    return rangesCover(this.seen, counter, counter) || this.live(counter) !== undefined;
  }

  add(dot: Dot): void {
    const { counter } = dot.entry;
    this.dots.splice(this.position(counter), 0, dot);
    rangesAdd(this.seen, counter, counter);
  }

  /** Takes the live dots in `[from, to]` out and marks the range as seen. Undefined: all of it was dropped before. */
  drop(from: number, to: number): Dot[] | undefined {
    const start = this.position(from);
    const end = this.position(to + 1);
    if (start === end && rangesCover(this.seen, from, to)) return undefined;
    rangesAdd(this.seen, from, to);
    return this.dots.splice(start, end - start);
  }

  /** Index of the first live dot whose counter is not below `counter`. */
  private position(counter: number): number {
    const { dots } = this;
    let low = 0;
    let high = dots.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (dots[middle]!.entry.counter < counter) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
