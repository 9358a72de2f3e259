import type { Balancer, Command, Sight } from './balancer.js';
import { bootstrap } from './bootstrap.js';
import { deadReplica } from './dead-replica.js';
import { sharedOf } from './landscape.js';
import { leaderSpread } from './leader-spread.js';
import { merge } from './merge.js';
import { placement } from './placement.js';
import { redundant } from './redundant.js';
import { replicaCount } from './replica-count.js';
import { split } from './split.js';

/** In the order in which they are asked: what is missing before what is superfluous, safety before comfort. */
export const BALANCERS: readonly Balancer[] = [
  bootstrap,
  redundant,
  deadReplica,
  replicaCount,
  split,
  merge,
  leaderSpread,
  placement,
];

/** What `shoalmq kv balancers` shows. */
export interface BalancerState {
  readonly name: string;
  readonly running: boolean;
  /** Commands given since the start, and those that were refused or failed. */
  readonly commands: number;
  readonly failures: number;
  /** The last command; undefined if there was none. */
  readonly last: Command | undefined;
  /** When it was given; 0 if there was none. */
  readonly lastMs: number;
  /** Not asked before this; 0 if it may be. */
  readonly restsUntilMs: number;
}

/**
 * Asks the balancers in turn and has one command under way at a time. They never see the ranges that stores have for
 * themselves. After a command it lets the news of it come round (`PAUSE_MS`) before it looks again; a balancer whose
 * command failed rests, twice as long each time. While landscape and rules are the same objects, they are not asked
 * again before the earliest time that one of them named.
 */
export class Governor {
  private readonly desks: Desk[];
  /** Whose command is under way. */
  private under: Desk | undefined;
  private nextMs = 0;
  private restingUntilMs = 0;
  /** What was looked at last, and said nothing that is due before `nextMs`. */
  private seen: Pick<Sight, 'landscape' | 'rules'> | undefined;

  constructor(balancers: readonly Balancer[] = BALANCERS) {
    this.desks = balancers.map(balancer => ({
      balancer,
      running: true,
      commands: 0,
      failures: 0,
      inARow: 0,
      last: undefined,
      lastMs: 0,
      restsUntilMs: 0,
    }));
  }

  /** When {@link decide} has something to do next, changes of landscape and rules aside. */
  get nextDeadlineMs(): number {
    return this.under === undefined ? this.nextMs : Number.POSITIVE_INFINITY;
  }

  /** The command to carry out now, if there is one. {@link finished} must follow before there is another. */
  decide(seen: Sight): Command | undefined {
    const { nowMs } = seen;
    if (this.under !== undefined || nowMs < this.restingUntilMs) return undefined;
    const isSeen = seen.landscape === this.seen?.landscape && seen.rules === this.seen.rules;
    if (isSeen && nowMs < this.nextMs) return undefined;
    this.seen = { landscape: seen.landscape, rules: seen.rules };
    const sight = { ...seen, landscape: sharedOf(seen.landscape) };
    this.nextMs = nowMs + LOOK_MS;
    for (const desk of this.desks) {
      if (!desk.running) continue;
      if (nowMs < desk.restsUntilMs) {
        this.nextMs = Math.min(this.nextMs, desk.restsUntilMs);
        continue;
      }
      const decision = desk.balancer.decide(sight);
      if (decision.kind === 'content') continue;
      if (decision.kind === 'later') {
        this.nextMs = Math.min(this.nextMs, Math.max(decision.atMs, nowMs + 1));
        continue;
      }
      desk.commands++;
      desk.last = decision;
      desk.lastMs = nowMs;
      this.under = desk;
      return decision;
    }
    return undefined;
  }

  /** The command given last has been carried out, or could not be. */
  finished(isDone: boolean, nowMs: number, spread: number): void {
    const desk = this.under;
    if (desk === undefined) return;
    this.under = undefined;
    this.seen = undefined;
    this.restingUntilMs = nowMs + PAUSE_MS * (1 + spread);
    this.nextMs = this.restingUntilMs;
    if (isDone) {
      desk.inARow = 0;
      return;
    }
    desk.failures++;
    desk.restsUntilMs = nowMs + Math.min(REST_MS * 2 ** desk.inARow++, REST_MAX_MS) * (1 + spread);
  }

  /** False if there is no balancer of that name. What is under way is finished. */
  setRunning(name: string, running: boolean): boolean {
    const desk = this.desks.find(({ balancer }) => balancer.name === name);
    if (desk === undefined) return false;
    desk.running = running;
    desk.restsUntilMs = 0;
    desk.inARow = 0;
    this.seen = undefined;
    this.nextMs = Math.min(this.nextMs, this.restingUntilMs);
    return true;
  }

  /** What only evens things out stands still until then: what an operator does is not to be undone at once. */
  standBack(untilMs: number): void {
    for (const desk of this.desks)
      if (COMFORT.has(desk.balancer.name)) desk.restsUntilMs = Math.max(desk.restsUntilMs, untilMs);
  }

  states(): readonly BalancerState[] {
    return this.desks.map(
      ({ balancer: { name }, running, commands, failures, last, lastMs, restsUntilMs }) => ({
        name,
        running,
        commands,
        failures,
        last,
        lastMs,
        restsUntilMs,
      }),
    );
  }
}

const COMFORT: ReadonlySet<string> = new Set([split, merge, leaderSpread, placement].map(({ name }) => name));

interface Desk {
  readonly balancer: Balancer;
  running: boolean;
  commands: number;
  failures: number;
  /** Failures since the last success. */
  inARow: number;
  last: Command | undefined;
  lastMs: number;
  restsUntilMs: number;
}

/** Until others have heard of what was done. */
const PAUSE_MS = 1000;
/** Without any change the landscape is looked at again after this. */
const LOOK_MS = 30_000;
const REST_MS = 5000;
const REST_MAX_MS = 300_000;
