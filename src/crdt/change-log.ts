import type { Dot } from './origin.js';

/** What one call changed: sent as a whole or not at all, so that no one sees a key between its old and new value. */
export interface News {
  /** What began to live. */
  readonly dots: readonly Dot[];
  /** What was dropped: triples `replica, from, to`. */
  readonly dropped: readonly number[];
  /** Bit of the neighbour that it came from; 0 when local or from elsewhere. */
  readonly sourceBit: number;
}

/** News in order, numbered from 0 on; each neighbour holds the number of what it has to be sent next. */
export class ChangeLog {
  /** Number of the next news. */
  end = 0;
  private items: News[] = [];

  /** Number of the oldest news that is still held. */
  get start(): number {
    return this.end - this.items.length;
  }

  get length(): number {
    return this.items.length;
  }

  append(dots: readonly Dot[], dropped: readonly number[], sourceBit: number): void {
    this.items.push({ dots, dropped, sourceBit });
    this.end++;
  }

  at(position: number): News {
    return this.items[position - this.start]!;
  }

  /** Forgets what is before `position`. */
  trim(position: number): void {
    const count = position - this.start;
    if (count <= 0) return;
    if (count === this.items.length) this.items = [];
    else this.items.splice(0, count);
  }
}
