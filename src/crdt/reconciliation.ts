import type { Random } from '../base/env.js';
import type { ReplicatorOptions } from './crdt.js';
import {
  type BucketsMessage,
  type CrdtMessage,
  type DotsMessage,
  type Entry,
  entryBytes,
  type RootMessage,
} from './message.js';
import type { Neighbour } from './neighbour.js';
import type { OrMap } from './or-map.js';
import type { Dot } from './origin.js';

/** All key hashes. */
const EVERYTHING = [0, 0xffff_ffff];
const NOTHING: readonly never[] = [];
/** Numbers a dot takes in a list, and the estimate of its bytes. */
const DOT_BYTES = 16;
/** So few dots in two maps are listed at once: that is as short as digests of their buckets. */
const LISTED_MAX = 64;
const TRIPLE_BYTES = 24;

/**
 * Finds out where two maps differ and mends both. The chain of messages, each answering the one before:
 *
 *     root → (equal: silence) buckets → dots → repair → repair
 *
 * Small and empty maps skip the buckets and list all dots at once. Who is listed dots answers with the entries that
 * are missing there, with what of the list it knows to be dropped, and with what it wants; what it sent needlessly
 * comes back as dropped. So both sides end up with the join, and neither needs the other's ranges of seen counters.
 *
 * Nothing is remembered between messages except whom this map is busy with: a second partner waits, because after
 * the first repair it mostly has nothing left to say. Every step makes the maps more equal, so lost messages, rounds
 * cut off by a limit and stale answers cost another round and no more.
 */
export class Reconciliation {
  /** Roots that differed. */
  repairs = 0;
  private readonly map: OrMap;
  private readonly random: Random;
  private readonly options: ReplicatorOptions;
  private readonly send: (to: number, message: CrdtMessage) => void;
  private partner = 0;
  private busyUntilMs = Number.NEGATIVE_INFINITY;
  private hasSentBuckets = false;
  /** Key hash where the last listing was cut off: the next one begins there, so that all are listed in time. */
  private cutAt = 0;

  constructor(
    map: OrMap,
    random: Random,
    options: ReplicatorOptions,
    send: (to: number, message: CrdtMessage) => void,
  ) {
    this.map = map;
    this.random = random;
    this.options = options;
    this.send = send;
  }

  root(): RootMessage {
    const { low, high, count } = this.map.digest;
    return { kind: 'root', low: low >>> 0, high: high >>> 0, count };
  }

  /** A random time of `[0, ms)`. */
  jitter(ms: number): number {
    return (this.random.u32() / 0x1_0000_0000) * ms;
  }

  /** When the next root is due in quiet times. */
  nextRootMs(nowMs: number): number {
    const { digestMs } = this.options;
    return nowMs + digestMs * 0.75 + this.jitter(digestMs * 0.5);
  }

  /** `neighbour`: undefined for a host that is none (yet, or any more): it is answered as well, and not retried. */
  answerRoot(from: number, theirs: RootMessage, neighbour: Neighbour | undefined, nowMs: number): void {
    const { digest } = this.map;
    if (theirs.low === digest.low >>> 0 && theirs.high === digest.high >>> 0) {
      if (neighbour !== undefined) {
        neighbour.rootDueMs = this.nextRootMs(nowMs);
        neighbour.quietRootDueMs = neighbour.rootDueMs;
        neighbour.repairs = 0;
      }
      return;
    }
    if (nowMs < this.busyUntilMs) {
      this.postpone(neighbour);
      return;
    }
    this.begin(from, nowMs);
    this.repairs++;
    this.expectProgress(neighbour, nowMs);
    if (digest.count === 0 || digest.count + theirs.count <= LISTED_MAX) {
      this.sendDots(from, EVERYTHING);
    } else {
      this.hasSentBuckets = true;
      this.send(from, { kind: 'buckets', digests: digest.buckets(), check: digest.high >>> 0 });
    }
  }

  answerBuckets(from: number, theirs: BucketsMessage, neighbour: Neighbour | undefined, nowMs: number): void {
    // Both sent their root at once and both answered: one of the two chains is enough.
    const isCrossed = this.hasSentBuckets && this.partner === from && nowMs < this.busyUntilMs;
    if (isCrossed && this.map.replica > from) return;
    if (!this.join(from, neighbour, nowMs)) return;
    const { digest } = this.map;
    const ranges = digest.differences(theirs.digests);
    if (ranges.length > 0) this.sendDots(from, ranges);
    else if (digest.high >>> 0 !== theirs.check) this.sendDots(from, EVERYTHING);
  }

  answerDots(from: number, theirs: DotsMessage, neighbour: Neighbour | undefined, nowMs: number): void {
    if (!this.join(from, neighbour, nowMs)) return;
    const listed = new Set<Dot>();
    const dropped: number[] = [];
    const wanted: number[] = [];
    const { dots, ranges } = theirs;
    for (let i = 0; i < dots.length; i += 2) {
      const replica = dots[i]!;
      const counter = dots[i + 1]!;
      const dot = this.map.live(replica, counter);
      if (dot !== undefined) listed.add(dot);
      else if (this.map.hasSeen(replica, counter)) dropped.push(replica, counter, counter);
      else wanted.push(replica, counter);
    }
    const missing: Dot[] = [];
    for (let i = 0; i < ranges.length; i += 2) {
      for (const dot of this.map.digest.within(ranges[i]!, ranges[i + 1]!)) {
        if (!listed.has(dot)) missing.push(dot);
      }
    }
    if (!this.sendRepair(from, missing, dropped, wanted)) this.hasten(neighbour, nowMs);
  }

  /**
   * `stale`: entries among what they sent that are dropped here: they hear so, and what stands under the key now, so
   * that it is not gone for them meanwhile. `wanted`: pairs that they ask for; what does not live any more is left
   * out, as they lack it anyway.
   */
  answerRepair(from: number, stale: readonly Entry[], wanted: readonly number[]): void {
    const dots = new Set<Dot>();
    const dropped: number[] = [];
    for (const { key, replica, counter } of stale) {
      dropped.push(replica, counter, counter);
      for (const dot of this.map.dots(key)) dots.add(dot);
    }
    for (let i = 0; i < wanted.length; i += 2) {
      const dot = this.map.live(wanted[i]!, wanted[i + 1]!);
      if (dot !== undefined) dots.add(dot);
    }
    this.sendRepair(from, [...dots], dropped, []);
  }

  private begin(partner: number, nowMs: number): void {
    this.partner = partner;
    this.hasSentBuckets = false;
    this.busyUntilMs = nowMs + this.options.repairMs;
  }

  /** Goes on with a partner, or takes one on; false while busy with another. */
  private join(from: number, neighbour: Neighbour | undefined, nowMs: number): boolean {
    if (nowMs < this.busyUntilMs && this.partner !== from) {
      this.postpone(neighbour);
      return false;
    }
    if (this.partner === from) this.busyUntilMs = nowMs + this.options.repairMs;
    else this.begin(from, nowMs);
    return true;
  }

  private postpone(neighbour: Neighbour | undefined): void {
    if (neighbour !== undefined) neighbour.rootDueMs = this.busyUntilMs + this.jitter(this.options.repairMs);
  }

  /** Looks again after a repair, later and later while that does not help. */
  private expectProgress(neighbour: Neighbour | undefined, nowMs: number): void {
    if (neighbour === undefined) return;
    const { digestMs, repairMs } = this.options;
    if (nowMs - neighbour.repairedMs > 2 * digestMs) neighbour.repairs = 0;
    neighbour.repairedMs = nowMs;
    neighbour.repairs = Math.min(neighbour.repairs + 1, 16);
    const delayMs = Math.min(digestMs, repairMs * 2 ** neighbour.repairs);
    neighbour.rootDueMs = nowMs + delayMs * 0.75 + this.jitter(delayMs * 0.5);
    neighbour.isEager = true;
  }

  /** A limit cut the answer off: the rest is not a failure, so it follows soon. */
  private hasten(neighbour: Neighbour | undefined, nowMs: number): void {
    if (neighbour === undefined) return;
    neighbour.repairs = 0;
    neighbour.rootDueMs = nowMs + this.options.repairMs + this.jitter(this.options.repairMs);
  }

  /** Lists our dots in `ranges`, cut between key hashes into pages; what exceeds the pages is left to another round. */
  private sendDots(to: number, ranges: readonly number[]): void {
    const dotsMax = Math.floor(this.options.bulkBytesMax / DOT_BYTES);
    const start = this.cutAt <= ranges[ranges.length - 1]! ? this.cutAt : 0;
    this.cutAt = 0;
    let page = { kind: 'dots' as const, ranges: [] as number[], dots: [] as number[] };
    let pages = 1;
    for (let i = 0; i < ranges.length; i += 2) {
      const end = ranges[i + 1]!;
      if (end < start) continue;
      let from = Math.max(start, ranges[i]!);
      let last = -1;
      for (const dot of this.map.digest.within(from, end)) {
        const hash = dot.hash >>> 0;
        if (page.dots.length >= dotsMax * 2 && hash !== last) {
          if (hash > from) page.ranges.push(from, hash - 1);
          this.send(to, page);
          if (++pages > this.options.repairPagesMax) {
            this.cutAt = hash;
            return;
          }
          page = { kind: 'dots', ranges: [], dots: [] };
          from = hash;
        }
        page.dots.push(dot.entry.replica, dot.entry.counter);
        last = hash;
      }
      page.ranges.push(from, end);
    }
    this.send(to, page);
  }

  /** Entries first, so that a value that replaces another is there before the other goes. False: cut off by the limit. */
  private sendRepair(
    to: number,
    dots: readonly Dot[],
    dropped: readonly number[],
    wanted: readonly number[],
  ): boolean {
    const { bulkBytesMax, repairPagesMax } = this.options;
    let [dotAt, droppedAt, wantedAt] = [0, 0, 0];
    for (let page = 0; page < repairPagesMax; page++) {
      const entries: Entry[] = [];
      let bytes = 0;
      for (; dotAt < dots.length && bytes < bulkBytesMax; dotAt++) {
        const { entry } = dots[dotAt]!;
        const size = entryBytes(entry);
        if (bytes > 0 && bytes + size > bulkBytesMax) break;
        entries.push(entry);
        bytes += size;
      }
      const room = dotAt < dots.length ? 0 : bulkBytesMax - bytes;
      const droppedEnd = Math.min(dropped.length, droppedAt + 3 * Math.floor(room / TRIPLE_BYTES));
      const left = room - (droppedEnd - droppedAt) * 8;
      const wantedEnd = Math.min(wanted.length, wantedAt + 2 * Math.floor(Math.max(0, left) / DOT_BYTES));
      if (entries.length === 0 && droppedEnd === droppedAt && wantedEnd === wantedAt) break;
      this.send(to, {
        kind: 'repair',
        entries: entries.length > 0 ? entries : NOTHING,
        dropped: dropped.slice(droppedAt, droppedEnd),
        wanted: wanted.slice(wantedAt, wantedEnd),
      });
      droppedAt = droppedEnd;
      wantedAt = wantedEnd;
    }
    return dotAt === dots.length && droppedAt === dropped.length && wantedAt === wanted.length;
  }
}
