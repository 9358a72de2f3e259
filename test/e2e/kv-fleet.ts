/** The processes of one test of the replicated storage, and what has to be true of them together. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { checkByKey, type KeyedOperation, OPERATION, verdictWords } from '../sim/linearizability.js';
import { type History, readHistory, sharedMs } from './kv-history.js';
import type { KvProcess } from './kv-process.js';
import type { KvLoadOptions, StoreSeen } from './kv-words.js';

/** Values of one life of one process; no process makes as many. */
const VALUES = 10_000_000;
const LOOK_MS = 100;

export const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;

export class KvFleet {
  readonly stores: readonly KvProcess[];
  /** They only call, and nothing happens to them. */
  readonly callers: readonly KvProcess[];
  private lives = 0;

  constructor(stores: readonly KvProcess[], callers: readonly KvProcess[]) {
    this.stores = stores;
    this.callers = callers;
  }

  get all(): readonly KvProcess[] {
    return [...this.stores, ...this.callers];
  }

  async load(some: readonly KvProcess[], options: Omit<KvLoadOptions, 'base'>): Promise<void> {
    await Promise.all(some.map(one => one.tell('load', { ...options, base: ++this.lives * VALUES })));
  }

  looks(): Promise<StoreSeen[]> {
    return Promise.all(this.stores.map(one => one.tell('look', {})));
  }

  /** Waits until one range has a leader and that many voters everywhere; yields how long it took. */
  async formed(voters: number, withinMs: number): Promise<number> {
    const beganMs = sharedMs();
    for (;;) {
      const seen = await this.looks();
      const replicas = seen.flatMap(one => one.replicas);
      const leading = replicas.filter(({ leads }) => leads);
      const isFormed =
        leading.length === 1 &&
        replicas.length === voters &&
        replicas.every(one => !one.changing && one.voters === voters && one.range === leading[0]!.range);
      if (isFormed) return sharedMs() - beganMs;
      if (sharedMs() - beganMs > withinMs) throw new Error(`not formed: ${JSON.stringify(seen)}`);
      await sleep(LOOK_MS);
    }
  }

  /** The store that leads, as far as those that run and are not stopped say. */
  async leader(): Promise<KvProcess> {
    for (const one of this.stores)
      if (one.isRunning && !one.isStopped && (await one.tell('look', {})).replicas.some(({ leads }) => leads))
        return one;
    throw new Error('nobody leads');
  }

  /** Milliseconds until the last of the callers had a write answered that it asked for after `sinceMs`. */
  async backSince(sinceMs: number, callers = this.callers): Promise<number> {
    const ends = await Promise.all(callers.map(one => one.tell('answered', { sinceMs })));
    return Math.max(...ends) - sinceMs;
  }

  /** All loads end, and a caller reads all registers once more. */
  async rest(): Promise<void> {
    await Promise.all(this.all.map(one => one.tell('rest', {})));
    expect(await this.callers[0]!.tell('reread', {}), 'all registers can be read').toBe(true);
  }

  /** All that was done can be explained, also what the registers hold at the end. In words, how much there was. */
  verdict(): string {
    const histories = this.all.map(one => readHistory(one.settings.history));
    const operations: KeyedOperation[] = histories.flatMap(one => one.operations);
    const wrong = checkByKey(operations, 0);
    expect(wrong && `register ${wrong.key}: ${verdictWords(wrong.verdict)}`).toBeUndefined();
    const sum = (of: (one: History) => number) => histories.reduce((total, one) => total + of(one), 0);
    const reads = operations.filter(({ kind }) => kind === OPERATION.READ).length;
    return `${sum(one => one.done)} operations done (${reads} reads), ${sum(one => one.notDone)} not done, ${sum(one => one.unknown)} unknown: linearizable`;
  }

  async close(): Promise<void> {
    for (const one of this.all) one.goOn();
    await Promise.all(this.all.map(one => one.kill9()));
  }
}
