import type { Random } from '../base/env.js';
import { below, jittered } from './chance.js';
import type { HostId, HostRecord } from './message.js';
import type { UnderlayTiming } from './underlay.js';

/** Lost hosts that are looked for; above that, the one that was lost first is given up. There is no time limit. */
export const LOST_MAX = 4_096;

/** Directed joins that a cluster of any size sends in each interval, all hosts together. */
const CLUSTER_PROBES = 3;

export interface Lost {
  readonly record: HostRecord;
  readonly sinceMs: number;
}

/**
 * The hosts that failed, as far as this host can tell. They may be on the other side of a cut, so they are looked for
 * with directed joins, for ever. One that is reached is enough: the host maps of both sides flow together over it. So
 * the whole cluster needs few probes, and each host sends its share by chance.
 */
export class Healer {
  private readonly random: Random;
  private readonly timing: UnderlayTiming;
  private readonly lost = new Map<HostId, Lost>();
  /** Still to be looked for in this round, the next one last. */
  private round: HostId[] = [];
  nextMs = Number.POSITIVE_INFINITY;

  constructor(random: Random, timing: UnderlayTiming) {
    this.random = random;
    this.timing = timing;
  }

  get size(): number {
    return this.lost.size;
  }

  all(): Lost[] {
    return [...this.lost.values()];
  }

  get(id: HostId): Lost | undefined {
    return this.lost.get(id);
  }

  add(record: HostRecord, wallMs: number, nowMs: number): void {
    this.lost.delete(record.id);
    this.lost.set(record.id, { record, sinceMs: wallMs });
    if (this.lost.size > LOST_MAX) this.lost.delete(this.lost.keys().next().value!);
    if (this.nextMs === Number.POSITIVE_INFINITY) this.plan(nowMs);
  }

  /** True when it was looked for. */
  delete(id: HostId): boolean {
    if (!this.lost.delete(id)) return false;
    if (this.lost.size === 0) {
      this.nextMs = Number.POSITIVE_INFINITY;
      this.round = [];
    }
    return true;
  }

  /** Whom to send a directed join now, if it is this host's turn. `hosts`: size of the view, this host included. */
  due(nowMs: number, hosts: number): HostRecord | undefined {
    if (nowMs < this.nextMs) return undefined;
    this.plan(nowMs);
    if (hosts > CLUSTER_PROBES && below(this.random, hosts) >= CLUSTER_PROBES) return undefined;
    for (;;) {
      if (this.round.length === 0) this.newRound();
      const id = this.round.pop();
      if (id === undefined) return undefined;
      const lost = this.lost.get(id);
      if (lost !== undefined) return lost.record;
    }
  }

  private plan(nowMs: number): void {
    this.nextMs = nowMs + jittered(this.random, this.timing.healIntervalMs);
  }

  private newRound(): void {
    this.round = [...this.lost.keys()];
    for (let at = this.round.length - 1; at > 0; at--) {
      const other = below(this.random, at + 1);
      const id = this.round[at]!;
      this.round[at] = this.round[other]!;
      this.round[other] = id;
    }
  }
}
