import type { Env } from '../base/env.js';
import { jittered } from '../underlay/chance.js';
import type { HostId } from '../underlay/message.js';

/** So long a host may be missing before its entries are removed: it may be new, or come back soon. Milliseconds. */
export const FORGET_MS = 15_000;

/** A host that writes its entries again each time: others see it. Not removed more often than this in the end. */
const FORGET_MAX_MS = 600_000;

/** It was somebody else's turn: looked at again after this. */
const AGAIN_MS = 5_000;

/** Hosts whose entries are removed in one go. */
const DUE_MAX = 64;

interface Absentee {
  dueMs: number;
  delayMs: number;
}

/** Hosts that own entries and are not in the landscape, and when to do something about it. */
export class Absentees {
  /** Not later than the first that is due. */
  nextMs = Number.POSITIVE_INFINITY;
  private readonly env: Env;
  private readonly hosts = new Map<HostId, Absentee>();

  constructor(env: Env) {
    this.env = env;
  }

  get size(): number {
    return this.hosts.size;
  }

  add(host: HostId): void {
    if (this.hosts.has(host)) return;
    const absentee = { dueMs: 0, delayMs: FORGET_MS };
    this.hosts.set(host, absentee);
    this.plan(absentee, this.env.clock.monotonicMs() + jittered(this.env.random, FORGET_MS));
  }

  delete(host: HostId): void {
    this.hosts.delete(host);
  }

  clear(): void {
    this.hosts.clear();
    this.nextMs = Number.POSITIVE_INFINITY;
  }

  /** Those that are due; the ones that own nothing any more are forgotten. For each `again` or `done` is to be called. */
  takeDue(nowMs: number, ownsEntries: (host: HostId) => boolean): HostId[] {
    const due: HostId[] = [];
    if (nowMs < this.nextMs) return due;
    this.nextMs = Number.POSITIVE_INFINITY;
    for (const [host, absentee] of this.hosts) {
      if (absentee.dueMs <= nowMs) {
        if (!ownsEntries(host)) {
          this.hosts.delete(host);
          continue;
        }
        if (due.length < DUE_MAX) due.push(host);
      }
      this.plan(absentee, absentee.dueMs);
    }
    return due;
  }

  again(host: HostId, nowMs: number): void {
    this.plan(this.hosts.get(host)!, nowMs + jittered(this.env.random, AGAIN_MS));
  }

  /** Its entries were removed; if they come back, more time is given. */
  done(host: HostId, nowMs: number): void {
    const absentee = this.hosts.get(host)!;
    absentee.delayMs = Math.min(FORGET_MAX_MS, 2 * absentee.delayMs);
    this.plan(absentee, nowMs + absentee.delayMs);
  }

  private plan(absentee: Absentee, dueMs: number): void {
    absentee.dueMs = dueMs;
    if (dueMs < this.nextMs) this.nextMs = dueMs;
  }
}
