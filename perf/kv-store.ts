/**
 * `npm run perf -- kv`, the part of one store: a range of one voter on LMDB, values of 100 bytes, durability flush.
 *
 * Puts are proposed as a client's batch is, `batch` of them and then turns until all have their outcome; LMDB's own rows
 * write the same records, with the same checksums, in transactions of the same size and nothing else, so the ratio is the
 * price of Raft, sessions and dispatch. Rounds alternate. The rest: what a thousand idle ranges cost of a core.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ByteReader } from '../src/base/bytes.js';
import type { Env } from '../src/base/env.js';
import type { KvWriter } from '../src/kv/engine.js';
import { LmdbEngine } from '../src/kv/io/lmdb-engine.js';
import { SERVICE } from '../src/kv/keys.js';
import type { Coprocessor } from '../src/kv/range.js';
import { OUTCOME } from '../src/kv/replicated/commands.js';
import type { Descriptor } from '../src/kv/replicated/descriptor.js';
import type { StoreSender } from '../src/kv/replicated/frames.js';
import { RaftStore } from '../src/kv/replicated/raft-store.js';
import { median } from './statistics.js';

const RANGE = 1;
export const VALUE_BYTES = 100;
export const KEY_BYTES = 9;
/** Keys come round, so that the file stays as large as it is. */
const KEYS = 100_000;
const SESSION = 77;

export interface KvStoreFigures {
  readonly putsPerSecond: number;
  readonly lmdbPutsPerSecond: number;
  readonly singleP50Ms: number;
  readonly singleP99Ms: number;
  readonly lmdbSingleP50Ms: number;
}

/** A command is a key of nine bytes and a value. */
export class Puts implements Coprocessor {
  query(): void {
    throw new Error('nothing is read');
  }

  mutate(input: ByteReader, writer: KvWriter): void {
    const key = input.raw(KEY_BYTES);
    writer.put(key, input.raw(input.remaining));
  }

  finish(): void {
    // It keeps nothing back.
  }

  reset(): void {
    // It keeps nothing in memory.
  }
}

function realEnv(): Env {
  const nothing = () => undefined;
  return {
    clock: { wallMs: () => Date.now(), monotonicMs: () => performance.now() },
    random: { u32: () => Math.floor(Math.random() * 0x1_0000_0000) },
    log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
  };
}

export interface BenchOptions {
  readonly valueBytes?: number;
  readonly order: KeyOrder;
  /** How many there are until they come round. */
  readonly keys?: number;
  readonly send?: StoreSender;
}

/** A store of one's own with ranges of one voter. */
export class Bench {
  readonly engine: LmdbEngine;
  readonly store: RaftStore;
  private readonly options: BenchOptions;
  private sequence = 0;
  private next = 0;
  private waiting = 0;
  private failed = 0;

  constructor(directory: string, options: BenchOptions) {
    this.options = options;
    this.engine = new LmdbEngine({ path: directory, durability: 'flush' });
    this.store = new RaftStore({
      engine: this.engine,
      env: realEnv(),
      send: options.send ?? (() => undefined),
      coprocessors: () => new Puts(),
      sink: {
        outcome: (_range, session, _sequence, outcome) => {
          if (session !== SESSION) return;
          this.waiting--;
          if (outcome !== OUTCOME.DONE) this.failed++;
        },
        readable: () => undefined,
        readRefused: () => undefined,
        changed: () => undefined,
      },
    });
  }

  /** The range that `put` writes to. */
  foundWhole(): void {
    this.found(RANGE, Uint8Array.of(SERVICE.RETAIN), Uint8Array.of(SERVICE.RETAIN + 1));
  }

  found(id: number, start: Uint8Array, end: Uint8Array): void {
    const descriptor: Descriptor = {
      ...{ id, genesis: 1, service: SERVICE.RETAIN, epoch: 1, boundary: { start, end } },
      members: [{ replica: 1, store: this.store.id, role: 0 }],
      ...{ membersAt: 1, changing: false, nextReplica: 2, merging: undefined, absorbed: [], pristine: true },
    };
    this.store.found(descriptor);
    this.settle();
    if (this.store.replica(id)?.isLeader !== true) throw new Error(`range ${id} has no leader`);
  }

  settle(): void {
    while (this.store.pending) this.store.turn();
  }

  put(count: number): void {
    this.waiting += count;
    for (let at = 0; at < count; at++) {
      const body = Buffer.allocUnsafe(KEY_BYTES + (this.options.valueBytes ?? VALUE_BYTES));
      body.fill(7, KEY_BYTES);
      writeKey(body, this.next++ % (this.options.keys ?? KEYS), this.options.order);
      this.store.propose(RANGE, 1, SESSION, ++this.sequence, body);
    }
    this.settle();
    if (this.waiting !== 0 || this.failed > 0)
      throw new Error(`${this.waiting} puts have no outcome, ${this.failed} failed`);
  }

  async close(): Promise<void> {
    this.store.close();
    await this.engine.close();
  }
}

/** In order, as queues and logs write, or scattered over all of the range, where nearly each put changes another page. */
export type KeyOrder = 'ordered' | 'scattered';

function writeKey(body: Buffer, number: number, order: KeyOrder): void {
  body[0] = SERVICE.RETAIN;
  body.writeUInt32BE(order === 'ordered' ? 0 : Math.imul(number, 0x9e3779b1) >>> 0, 1);
  body.writeUInt32BE(number, 5);
}

/** The same records and nothing else. */
export class Plain {
  readonly engine: LmdbEngine;
  private readonly order: KeyOrder;
  private next = 0;
  private readonly key = Buffer.alloc(KEY_BYTES);
  private readonly value = Buffer.alloc(VALUE_BYTES, 7);

  constructor(directory: string, order: KeyOrder) {
    this.order = order;
    this.engine = new LmdbEngine({ path: directory, durability: 'flush' });
  }

  put(count: number): void {
    this.engine.write(
      writer => {
        for (let at = 0; at < count; at++) {
          writeKey(this.key, this.next++ % KEYS, this.order);
          writer.put(this.key, this.value);
        }
      },
      () => undefined,
    );
  }
}

interface Putter {
  put(count: number): void;
}

function perSecond(putter: Putter, batch: number, ms: number): number {
  const startMs = performance.now();
  let count = 0;
  while (performance.now() - startMs < ms) {
    putter.put(batch);
    count += batch;
  }
  return (count * 1000) / (performance.now() - startMs);
}

export function singles(putter: Putter, ms: number): number[] {
  const out: number[] = [];
  const endMs = performance.now() + ms;
  while (performance.now() < endMs) {
    const startMs = performance.now();
    putter.put(1);
    out.push(performance.now() - startMs);
  }
  return out.sort((a, b) => a - b);
}

export const at = (sorted: readonly number[], share: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;

/** `seconds` for each figure of a round. */
export async function measureStore(
  order: KeyOrder,
  batch: number,
  rounds: number,
  seconds: number,
): Promise<KvStoreFigures> {
  const root = mkdtempSync(path.join(tmpdir(), 'shoal-perf-kv-'));
  const bench = new Bench(path.join(root, 'store'), { order });
  const plain = new Plain(path.join(root, 'plain'), order);
  try {
    bench.foundWhole();
    const ms = seconds * 1000;
    for (let filled = 0; filled < KEYS; filled += batch) {
      bench.put(batch);
      plain.put(batch);
    }
    const puts: number[] = [];
    const plainPuts: number[] = [];
    const p50: number[] = [];
    const p99: number[] = [];
    const plainP50: number[] = [];
    for (let round = 0; round < rounds; round++) {
      puts.push(perSecond(bench, batch, ms));
      plainPuts.push(perSecond(plain, batch, ms));
      const single = singles(bench, ms);
      p50.push(at(single, 0.5));
      p99.push(at(single, 0.99));
      plainP50.push(at(singles(plain, ms), 0.5));
    }
    return {
      putsPerSecond: median(puts),
      lmdbPutsPerSecond: median(plainPuts),
      singleP50Ms: median(p50),
      singleP99Ms: median(p99),
      lmdbSingleP50Ms: median(plainP50),
    };
  } finally {
    await bench.close();
    await plain.engine.close();
    rmSync(root, { recursive: true, force: true });
  }
}

/** V8 gives back what the making of the ranges took some 8 s behind it; that is not what quiet costs. */
const SHRINK_MS = 12_000;

/** Share of a core that a thousand quiet ranges of one voter cost, ticks as often as they are by default. */
export async function measureIdle(seconds: number): Promise<number> {
  const root = mkdtempSync(path.join(tmpdir(), 'shoal-perf-kv-'));
  const bench = new Bench(root, { order: 'ordered' });
  try {
    const bound = (number: number) => {
      const key = Buffer.alloc(5);
      key[0] = SERVICE.RETAIN;
      key.writeUInt32BE(number, 1);
      return key;
    };
    for (let number = 0; number < 1000; number++) bench.found(number + 1, bound(number), bound(number + 1));
    const tick = () => {
      bench.store.tick();
      bench.settle();
    };
    const { tickMs, quiesceAfterMs } = bench.store.timing;
    const settledMs = performance.now() + quiesceAfterMs + SHRINK_MS;
    while (performance.now() < settledMs) {
      tick();
      await new Promise(resolve => setTimeout(resolve, tickMs));
    }
    const startMs = performance.now();
    const used = process.cpuUsage();
    const timer = setInterval(tick, tickMs);
    await new Promise(resolve => setTimeout(resolve, seconds * 1000));
    clearInterval(timer);
    const { user, system } = process.cpuUsage(used);
    return (user + system) / 1000 / (performance.now() - startMs);
  } finally {
    await bench.close();
    rmSync(root, { recursive: true, force: true });
  }
}
