import type { News } from './change-log.js';
import { type Entry, entryBytes } from './message.js';
import type { OrMap } from './or-map.js';
import type { Dot } from './origin.js';

const TRIPLE_BYTES = 24;

/**
 * One delta for one neighbour, filled with news until it is full. A dot that has ended since the news of it is
 * replaced by what stands under its key now: so a key that is written often is sent once, and what was dropped for
 * its sake never travels without what came after it.
 */
export class DeltaBuilder {
  readonly entries: Entry[] = [];
  readonly dropped: number[] = [];
  private bytes = 0;
  private readonly map: OrMap;
  private readonly bit: number;
  private readonly bytesMax: number;

  constructor(map: OrMap, bit: number, bytesMax: number) {
    this.map = map;
    this.bit = bit;
    this.bytesMax = bytesMax;
  }

  get isEmpty(): boolean {
    return this.bytes === 0;
  }

  /** False: it is full, and took nothing; the first news is always taken. */
  add(news: News): boolean {
    const { entries, dropped } = this;
    const count = entries.length;
    let bytes = 0;
    for (const dot of news.dots) {
      if (dot.isLive) bytes += this.addEntry(dot);
      else for (const heir of this.map.dots(dot.entry.key)) bytes += this.addEntry(heir);
    }
    const isKnown = (news.sourceBit & this.bit) !== 0;
    if (!isKnown) bytes += addedTriples(dropped, news.dropped) * TRIPLE_BYTES;
    if (this.bytes > 0 && this.bytes + bytes > this.bytesMax) {
      entries.length = count;
      return false;
    }
    if (!isKnown) addTriples(dropped, news.dropped);
    this.bytes += bytes;
    return true;
  }

  /** The bytes that it adds. */
  private addEntry({ entry, knownBy }: Dot): number {
    if ((knownBy & this.bit) !== 0 || this.entries.includes(entry)) return 0;
    this.entries.push(entry);
    return entryBytes(entry);
  }
}

/** Whether the first of `more` continues the last of `all`: a key that is written often drops one after the other. */
function continues(all: readonly number[], more: readonly number[]): boolean {
  const end = all.length;
  return end > 0 && more.length > 0 && all[end - 3] === more[0] && all[end - 1]! + 1 === more[1];
}

function addedTriples(all: readonly number[], more: readonly number[]): number {
  return more.length / 3 - (continues(all, more) ? 1 : 0);
}

function addTriples(all: number[], more: readonly number[]): void {
  let at = 0;
  if (continues(all, more)) {
    all[all.length - 1] = more[2]!;
    at = 3;
  }
  for (; at < more.length; at++) all.push(more[at]!);
}
