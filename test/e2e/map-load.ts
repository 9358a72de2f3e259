/** Callers of the cluster's map through the administration ports of its nodes, all that they do written down. */
import { askAdmin } from '../../src/node/admin-client.js';
import type { MapFound, MapOutcome } from '../../src/node/kv-map-routes.js';
import { type KeyedOperation, OPERATION } from '../sim/linearizability.js';
import { sleep } from './client/client.js';
import type { ClusterHost } from './cluster-host.js';

export interface MapLoadOptions {
  readonly keys: number;
  /** For each node; each asks, waits for the answer, pauses, and asks again. */
  readonly workers: number;
  readonly pauseMs: number;
}

const READS = 0.4;
/** For the first look at a node that does not answer. */
const AGAIN_MS = 50;
const TIMEOUT_MS = 4_000;

export class MapLoad {
  /** Values begin at 1; 0 is a key that is not there. */
  readonly operations: KeyedOperation[] = [];
  private readonly options: MapLoadOptions;
  private readonly workers: Promise<void>[];
  private readonly writes: {
    readonly host: ClusterHost;
    readonly beganMs: number;
    readonly endedMs: number;
  }[] = [];
  private last = 0;
  private isOver = false;

  constructor(hosts: readonly ClusterHost[], options: MapLoadOptions) {
    this.options = options;
    this.workers = hosts.flatMap(host => Array.from({ length: options.workers }, () => this.work(host)));
  }

  async rest(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.workers);
  }

  /** Milliseconds until the last of `hosts` had acknowledged a write that it was asked for after `sinceMs`. */
  async backSince(sinceMs: number, hosts: readonly ClusterHost[], withinMs: number): Promise<number> {
    for (;;) {
      const ends = hosts.map(host => {
        return this.writes.find(write => write.host === host && write.beganMs >= sinceMs)?.endedMs;
      });
      if (ends.every(end => end !== undefined)) return Math.max(...(ends as number[])) - sinceMs;
      if (performance.now() - sinceMs > withinMs)
        throw new Error(`no write is acknowledged after ${withinMs} ms by all of the others`);
      await sleep(10);
    }
  }

  /** The longest time since `sinceMs` in which no write through any of `hosts` was acknowledged. */
  longestGap(sinceMs: number, hosts: readonly ClusterHost[]): number {
    const ends = this.writes
      .filter(({ host, endedMs }) => hosts.includes(host) && endedMs >= sinceMs)
      .map(({ endedMs }) => endedMs)
      .sort((a, b) => a - b);
    return Math.max(...ends.map((endedMs, at) => endedMs - (at === 0 ? sinceMs : ends[at - 1]!)));
  }

  /** Whatever was acknowledged and is lost, the history cannot explain then. False if some key has no answer. */
  async reread(host: ClusterHost): Promise<boolean> {
    const all = Array.from({ length: this.options.keys }, (_, key) => this.read(host, key));
    return (await Promise.all(all)).every(isDone => isDone);
  }

  private async work(host: ClusterHost): Promise<void> {
    while (!this.isOver) {
      const key = Math.floor(Math.random() * this.options.keys);
      const isDone = Math.random() < READS ? await this.read(host, key) : await this.write(host, key);
      await sleep(isDone ? Math.random() * 2 * this.options.pauseMs : AGAIN_MS);
    }
  }

  private async read(host: ClusterHost, key: number): Promise<boolean> {
    const startedAt = performance.now();
    const found = await ask<MapFound>(host, '/kv/map/get', { key: `register/${key}`, timeoutMs: TIMEOUT_MS });
    if (found === undefined || found.outcome === 'not-done') return false;
    const seen =
      found.outcome === 'absent' ? 0 : Number(Buffer.from(found.value, 'base64').toString().split(' ', 1)[0]);
    const endedAt = performance.now();
    this.operations.push({ kind: OPERATION.READ, key, value: 0, expected: 0, seen, startedAt, endedAt });
    return true;
  }

  private async write(host: ClusterHost, key: number): Promise<boolean> {
    const startedAt = performance.now();
    const value = ++this.last;
    const bytes = Buffer.from(`${value} by ${host.name}`).toString('base64');
    const body = { key: `register/${key}`, value: bytes, timeoutMs: TIMEOUT_MS };
    const end = await ask<MapOutcome>(host, '/kv/map/put', body);
    if (end?.outcome === 'not-done') return false;
    const isDone = end?.outcome === 'done';
    const endedAt = isDone ? performance.now() : Number.POSITIVE_INFINITY;
    const seen = undefined;
    this.operations.push({ kind: OPERATION.WRITE, key, value, expected: 0, seen, startedAt, endedAt });
    if (isDone) this.writes.push({ host, beganMs: startedAt, endedMs: endedAt });
    return isDone;
  }
}

/** Undefined where the node did not answer: what was asked may have been done. */
async function ask<T>(host: ClusterHost, path: string, body: object): Promise<T | undefined> {
  try {
    return await askAdmin<T>(host.port, 'POST', path, body);
  } catch {
    return undefined;
  }
}
