import type { Applied } from './or-map.js';
import type { Dot } from './origin.js';

/** What one call changed: sent as a whole or not at all, so that no one sees a key between its old and new value. */
export interface News {
  readonly dots: readonly Dot[];
  dropped: readonly number[];
  /** Bit of the neighbour that it came from; 0 when local or from elsewhere. */
  sourceBit: number;
}

/** Most numbers of ranges that news takes over from what it replaced, so that endless rewriting stays bounded. */
const INHERITED_NUMBERS_MAX = 192;

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

  append(applied: Applied, sourceBit: number): void {
    const news: News = { dots: applied.dots, dropped: applied.dropped, sourceBit };
    for (const dot of applied.ended) this.inherit(news, dot);
    for (const dot of news.dots) dot.loggedAt = this.end;
    this.items.push(news);
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

  /**
   * News that brought only what has ended since is not worth sending. What it dropped goes with what followed it:
   * sent alone it would take the old value away before the new one comes.
   */
  private inherit(news: News, ended: Dot): void {
    if (ended.loggedAt < this.start) return;
    const before = this.at(ended.loggedAt);
    if (before.dropped.length === 0 || hasLiveDot(before)) return;
    if (before.dropped.length + news.dropped.length > INHERITED_NUMBERS_MAX) return;
    const dropped: number[] = [];
    addTriples(dropped, before.dropped);
    addTriples(dropped, news.dropped);
    news.dropped = dropped;
    news.sourceBit &= before.sourceBit;
    before.dropped = [];
  }
}

export function hasLiveDot(news: News): boolean {
  const { dots } = news;
  for (let i = 0; i < dots.length; i++) if (dots[i]!.isLive) return true;
  return false;
}

/** Appends ranges, joined to the last one where they continue it: a key that is written often drops in a row. */
export function addTriples(all: number[], more: readonly number[]): void {
  for (let i = 0; i < more.length; i += 3) {
    const end = all.length;
    const continues = end > 0 && all[end - 3] === more[i] && all[end - 1] === more[i + 1]! - 1;
    if (continues) all[end - 1] = more[i + 2]!;
    else all.push(more[i]!, more[i + 1]!, more[i + 2]!);
  }
}
