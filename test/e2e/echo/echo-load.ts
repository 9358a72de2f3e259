import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '../../../src/rpc/client.js';
import type { RpcResult } from '../../../src/rpc/failure.js';
import type { Account, echo, Lap, LoadOptions, MethodName } from './echo-service.js';

const WORDS_MAX = 5;

class LapCounter {
  /** When those were asked that have no answer yet. */
  readonly open = new Set<{ readonly sinceMs: number }>();
  private answered = 0;
  private failed = 0;
  private longestMs = 0;
  private by: Record<string, number> = {};
  private failures: string[] = [];

  heard(result: RpcResult<string>, tookMs: number): void {
    this.longestMs = Math.max(this.longestMs, tookMs);
    if (result.kind === 'ok') {
      this.answered++;
      this.by[result.value] = (this.by[result.value] ?? 0) + 1;
    } else {
      this.failed++;
      if (this.failures.length < WORDS_MAX) this.failures.push(`${result.kind}: ${result.detail}`);
    }
  }

  take(): Lap {
    const nowMs = performance.now();
    const waiting = [...this.open].map(({ sinceMs }) => nowMs - sinceMs);
    const { answered, failed, by, failures } = this;
    const lap = { answered, failed, by, failures, longestMs: Math.max(this.longestMs, ...waiting) };
    this.answered = 0;
    this.failed = 0;
    this.longestMs = 0;
    this.by = {};
    this.failures = [];
    return lap;
  }
}

/** Callers who ask and ask again, and what they get to see. */
export class Load {
  private readonly client: Client<typeof echo.methods>;
  private readonly counters = new Map<MethodName, LapCounter>();
  private readonly prefix: string;
  private readonly refused: string[] = [];
  private readonly unknown: string[] = [];
  private issued = 0;
  private isOver = true;
  private workers: Promise<void>[] = [];

  /** `prefix`: of requests to `once`, told apart from those of all other processes. */
  constructor(client: Client<typeof echo.methods>, prefix: string) {
    this.client = client;
    this.prefix = prefix;
  }

  begin(options: LoadOptions): void {
    this.isOver = false;
    for (const method of options.methods) {
      const counter = this.counters.get(method) ?? new LapCounter();
      this.counters.set(method, counter);
      for (let at = 0; at < options.workers; at++) this.workers.push(this.work(method, at, counter, options));
    }
  }

  lap(): Partial<Record<MethodName, Lap>> {
    return Object.fromEntries([...this.counters].map(([method, counter]) => [method, counter.take()]));
  }

  async rest(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.workers);
    this.workers = [];
  }

  account(): Account {
    const { prefix, issued, refused, unknown } = this;
    return { prefix, issued, refused, unknown };
  }

  private async work(
    method: MethodName,
    at: number,
    counter: LapCounter,
    options: LoadOptions,
  ): Promise<void> {
    const { pauseMs, deadlineMs } = options;
    const line =
      method === 'line' ? this.client.line.open({ key: `${this.prefix}${at}`, deadlineMs }) : undefined;
    // Not all at one time.
    await sleep((pauseMs * at) / options.workers);
    for (let turn = 0; !this.isOver; turn++) {
      const request = method === 'once' ? `${this.prefix}${this.issued++}` : `${at}.${turn}`;
      const open = { sinceMs: performance.now() };
      counter.open.add(open);
      const result = await (line?.ask(request) ??
        this.client[method as Exclude<MethodName, 'line'>].ask(request, { deadlineMs }));
      counter.open.delete(open);
      counter.heard(result, performance.now() - open.sinceMs);
      if (method === 'once') this.book(request, result);
      await sleep(pauseMs);
    }
    line?.close();
  }

  private book(request: string, { kind }: RpcResult<string>): void {
    if (kind === 'unknown-outcome' || kind === 'deadline') this.unknown.push(request);
    else if (kind !== 'ok') this.refused.push(request);
  }
}
