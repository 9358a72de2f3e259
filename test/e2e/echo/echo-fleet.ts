/** Processes that call each other, and what has to be true of what they get to see. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { eventually } from '../cluster-host.js';
import type { EchoProcess } from './echo-process.js';
import type { Account, Lap, MethodName } from './echo-service.js';

const IDEMPOTENT = ['any', 'turn', 'keyed', 'line'] as const;
const METHODS = [...IDEMPOTENT, 'once'] as const;
const WORKERS = 2;
/** No escape: the underlay is faster. */
const DEADLINE_MS = 25_000;
const WARM_MS = 1_500;
/** For a host that is dead to be given up, for another to join, and for the news of that, on a busy machine. */
const SETTLE_MS = 40_000;

export type Laps = Partial<Record<MethodName, Lap>>;

/** What callers have seen of some disturbance. */
export interface Seen {
  /** The longest that any idempotent call took. */
  readonly longestMs: number;
  /** Calls that are not idempotent and whose outcome nobody knows. */
  readonly doubtful: number;
  readonly words: string;
}

export class EchoFleet {
  readonly all: readonly EchoProcess[];
  private readonly pauseMs: number;
  /** Of loads that have ended, also of processes that were stopped since. */
  private accounts: Account[] = [];

  /** `pauseMs`: of each caller after each answer; five methods, two callers of each in a process. */
  constructor(all: readonly EchoProcess[], pauseMs: number) {
    this.all = all;
    this.pauseMs = pauseMs;
  }

  get running(): EchoProcess[] {
    return this.all.filter(({ isRunning }) => isRunning);
  }

  /** Whatever there was before: all run and see each other, and just `servers` serve. */
  async settle(servers: readonly EchoProcess[]): Promise<void> {
    for (const one of this.all) one.signal('SIGCONT');
    const serving = await this.serving();
    await Promise.all(
      this.all.map(async one => {
        if (one.isRunning && serving.has(one.name) && !servers.includes(one)) await this.stop(one);
        const isNew = !one.isRunning;
        if (isNew) await one.start();
        if (servers.includes(one) && (isNew || !serving.has(one.name))) await this.serve(one);
      }),
    );
    await this.agree(this.all, servers);
  }

  /** Names of those that serve. */
  private async serving(): Promise<Set<string>> {
    const seen = await Promise.all(this.running.map(one => one.tell('servers', {})));
    const own = this.running.filter((_, at) => seen[at]!.some(({ isLocal }) => isLocal));
    return new Set(own.map(({ name }) => name));
  }

  async serve(one: EchoProcess): Promise<void> {
    await one.tell('serve', { id: one.serverId });
  }

  /** In order, after the end of its load. */
  async stop(one: EchoProcess): Promise<Laps> {
    const laps = await this.rest(one);
    expect(await one.stop(), `the exit code of ${one.name}`).toBe(0);
    return laps;
  }

  async close(): Promise<void> {
    for (const one of this.all) one.signal('SIGCONT');
    const codes = await Promise.all(this.all.map(one => one.stop()));
    expect(codes).toEqual(this.all.map(() => 0));
  }

  /** Each of `all` sees them and nobody else, and has just those servers in rotation; how long that took. */
  async agree(
    all: readonly EchoProcess[],
    servers: readonly EchoProcess[],
    withinMs = SETTLE_MS,
  ): Promise<number> {
    const sinceMs = performance.now();
    const names = all.map(({ name }) => name).sort();
    const ids = servers.map(({ serverId }) => serverId).sort();
    await eventually(withinMs, async () => {
      for (const one of all) {
        const [hosts, seen] = await Promise.all([one.tell('hosts', {}), one.tell('servers', {})]);
        const inRotation = seen.filter(({ isBroken }) => !isBroken).map(({ id }) => id);
        expect([one.name, hosts, inRotation]).toEqual([one.name, names, ids]);
      }
    });
    return performance.now() - sinceMs;
  }

  // -- Load --------------------------------------------------------------------------------------------------

  /** What they saw while nothing was wrong. */
  async load(callers: readonly EchoProcess[]): Promise<Laps[]> {
    const load = { methods: METHODS, workers: WORKERS, pauseMs: this.pauseMs, deadlineMs: DEADLINE_MS };
    await Promise.all(callers.map(one => one.tell('load', load)));
    await sleep(WARM_MS);
    return this.laps(callers);
  }

  laps(callers: readonly EchoProcess[]): Promise<Laps[]> {
    return Promise.all(callers.map(one => one.tell('lap', {})));
  }

  rested(callers: readonly EchoProcess[]): Promise<Laps[]> {
    return Promise.all(callers.map(one => this.rest(one)));
  }

  async rest(one: EchoProcess): Promise<Laps> {
    const laps = await one.tell('rest', {});
    const account = await one.tell('account', {});
    this.accounts = [...this.accounts.filter(({ prefix }) => prefix !== account.prefix), account];
    return laps;
  }

  /**
   * Ends all loads. Every way in which what callers of `once` were told is not what servers have done; none if all is
   * well.
   */
  async untruths(): Promise<string[]> {
    await this.rested(this.running);
    const times = new Map<string, number>();
    for (const one of this.all)
      for (const request of one.carriedOut()) times.set(request, (times.get(request) ?? 0) + 1);
    const found: string[] = [];
    for (const [request, count] of times)
      if (count > 1) found.push(`${request} was carried out ${count} times`);
    for (const { prefix, issued, refused, unknown } of this.accounts) {
      const unanswered = new Set([...refused, ...unknown]);
      for (const request of refused)
        if (times.has(request)) found.push(`${request} was refused and carried out`);
      for (let at = 0; at < issued; at++) {
        const request = `${prefix}${at}`;
        if (!unanswered.has(request) && !times.has(request)) found.push(`${request} was answered by nobody`);
      }
    }
    return found;
  }
}

/** That no idempotent call has failed and each method was answered; of the others only such whose outcome is not known. */
export function unnoticed(laps: readonly Laps[]): Seen {
  let longestMs = 0;
  const answered = { any: 0, turn: 0, keyed: 0, line: 0, once: 0 };
  let doubtful = 0;
  for (const lap of laps) {
    for (const method of METHODS) {
      const seen = lap[method]!;
      answered[method] += seen.answered;
      if (method === 'once') {
        expect(seen.failures.filter(words => !words.startsWith('unknown-outcome: '))).toEqual([]);
        doubtful += seen.failed;
      } else {
        expect([method, seen.failed, seen.failures]).toEqual([method, 0, []]);
        longestMs = Math.max(longestMs, seen.longestMs);
      }
    }
  }
  expect(Math.min(...Object.values(answered)), 'answers of each method').toBeGreaterThan(0);
  const { once, ...idempotent } = answered;
  const sum = Object.values(idempotent).reduce((left, right) => left + right);
  const others = `of ${once + doubtful} others ${doubtful} with an unknown outcome`;
  const words = `longest wait ${Math.round(longestMs)} ms, 0 of ${sum} idempotent calls failed, ${others}`;
  return { longestMs, doubtful, words };
}

/** That each failure says whether the call was carried out, or that this cannot be known. */
export function definite(laps: readonly Laps[]): void {
  const all = laps.flatMap(lap => Object.values(lap).flatMap(({ failures }) => failures));
  const others = all.filter(words => !/^(server-not-found|unavailable|unknown-outcome): /.test(words));
  expect(others).toEqual([]);
}

/** Which servers have answered them. */
export function serversOf(laps: readonly Laps[]): string[] {
  const ids = laps.flatMap(lap => Object.values(lap).flatMap(({ by }) => Object.keys(by)));
  return [...new Set(ids)].sort();
}
