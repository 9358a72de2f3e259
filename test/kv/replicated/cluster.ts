import { ByteReader, ByteWriter } from '../../../src/base/bytes.js';
import type { Env } from '../../../src/base/env.js';
import type { KvReader, KvWriter, SnapshotEngine } from '../../../src/kv/engine.js';
import { localKey } from '../../../src/kv/keys.js';
import { MemoryEngine } from '../../../src/kv/memory-engine.js';
import type { Boundary, Coprocessor } from '../../../src/kv/range.js';
import { OUTCOME } from '../../../src/kv/replicated/commands.js';
import type { Descriptor } from '../../../src/kv/replicated/descriptor.js';
import { RaftStore } from '../../../src/kv/replicated/raft-store.js';
import type { RaftStoreOptions } from '../../../src/kv/replicated/store-options.js';

export const SERVICE = 0x72;
export const QUIET_LOG = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/**
 * Registers: a command is a key (a byte of length before it) and a value; its outcome is the former value. A value that
 * begins with + is appended.
 */
export class Registers implements Coprocessor {
  private readonly rangeId: number;
  boundary: Boundary | undefined;
  /** Commands that were applied here; kept under a local key, written once a transaction. */
  count = 0;
  private isDirty = false;
  resets = 0;

  constructor(rangeId: number) {
    this.rangeId = rangeId;
  }

  query(input: ByteReader, reader: KvReader, output: ByteWriter): void {
    const value = reader.get(registerKey(Buffer.from(input.raw(input.remaining)).toString()));
    if (value !== undefined) output.raw(value);
  }

  mutate(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const key = registerKey(Buffer.from(input.raw(input.u8())).toString());
    const former = writer.get(key);
    const had = Buffer.from(former ?? []);
    output.raw(had);
    const value = Buffer.from(input.raw(input.remaining));
    writer.put(key, value[0] === PLUS ? Buffer.concat([had, value.subarray(1)]) : value);
    this.count++;
    this.isDirty = true;
  }

  finish(writer: KvWriter): void {
    if (!this.isDirty) return;
    this.isDirty = false;
    writer.put(this.key(), new ByteWriter(8).u53(this.count).view());
  }

  reset(boundary: Boundary, reader: KvReader): void {
    this.boundary = boundary;
    this.isDirty = false;
    this.resets++;
    const stored = reader.get(this.key());
    this.count = stored === undefined ? 0 : new ByteReader(stored).u53();
  }

  private key(): Uint8Array {
    return localKey(new ByteWriter(16), SERVICE, this.rangeId, 0x63).view();
  }
}

const PLUS = 0x2b;

export function registerKey(name: string): Uint8Array {
  return Buffer.concat([Uint8Array.of(SERVICE), Buffer.from(name)]);
}

export function put(key: string, value: string): Uint8Array {
  return Buffer.concat([Uint8Array.of(key.length), Buffer.from(key), Buffer.from(value)]);
}

export interface Told {
  readonly range: number;
  readonly session: number;
  readonly sequence: number;
  readonly outcome: number;
  readonly text: string;
  readonly bytes: Uint8Array;
}

/** One store and what it was told. */
export class Host {
  readonly engine: SnapshotEngine;
  readonly store: RaftStore;
  readonly told: Told[] = [];
  readonly readable: number[] = [];
  readonly refusedReads: { context: number; reason: string }[] = [];
  readonly registers = new Map<number, Registers>();
  readonly coprocessors = new Map<number, Coprocessor>();

  constructor(cluster: Cluster, index: number, engine: SnapshotEngine) {
    this.engine = engine;
    this.store = new RaftStore({
      ...cluster.options,
      engine,
      env: cluster.env,
      send: (to, frame) => cluster.sent(index, to, frame),
      coprocessors: (_, range) => {
        const coprocessor = cluster.coprocessor(range);
        this.coprocessors.set(range, coprocessor);
        if (coprocessor instanceof Registers) this.registers.set(range, coprocessor);
        return coprocessor;
      },
      sink: {
        outcome: (range, session, sequence, outcome, bytes, start, end) => {
          const said = Buffer.from(bytes.subarray(start, end));
          this.told.push({ range, session, sequence, outcome, text: said.toString(), bytes: said });
        },
        readable: (_, context) => this.readable.push(context),
        readRefused: (_, context, reason) => this.refusedReads.push({ context, reason }),
        changed: () => undefined,
      },
    });
  }

  outcomeOf(session: number, sequence: number): number | undefined {
    return this.told.find(told => told.session === session && told.sequence === sequence)?.outcome;
  }
}

/** The process ends here. */
export class Crash extends Error {}

/** Ends the process with its n-th transaction, which is durable or not at all. */
export class CutEngine extends MemoryEngine {
  writes = 0;
  cutAt = Number.POSITIVE_INFINITY;
  isDurable = true;

  override write(...[work, durable]: Parameters<MemoryEngine['write']>): void {
    if (++this.writes !== this.cutAt) return super.write(work, durable);
    if (this.isDurable) super.write(work, () => undefined);
    throw new Crash();
  }
}

export interface ClusterOptions {
  readonly stores?: number;
  readonly engines?: (index: number) => SnapshotEngine;
  readonly store?: Partial<Pick<RaftStoreOptions, 'timing' | 'raftLimits' | 'limits' | 'snapshots'>>;
  /** Of all ranges; registers if it is missing. */
  readonly service?: { readonly id: number; readonly coprocessor: (range: number) => Coprocessor };
}

/** Some stores on one thread, with a network that keeps order and a clock that the test moves. */
export class Cluster {
  readonly options: Partial<RaftStoreOptions>;
  readonly service: number;
  readonly coprocessor: (range: number) => Coprocessor;
  readonly env: Env;
  hosts: Host[] = [];
  nowMs = 1000;
  /** Pairs of host indices, from and to, between which nothing goes. */
  readonly cuts = new Set<string>();
  /** Called with each frame; false drops it. */
  filter: (from: number, to: number, frame: Uint8Array) => boolean = () => true;
  private queue: { from: number; to: number; frame: Uint8Array }[] = [];
  private seed = 1;
  sequence = 0;

  constructor({ stores = 3, engines = () => new MemoryEngine(), store = {}, service }: ClusterOptions = {}) {
    this.options = store;
    this.service = service?.id ?? SERVICE;
    this.coprocessor = service?.coprocessor ?? (range => new Registers(range));
    this.env = {
      clock: { wallMs: () => this.nowMs, monotonicMs: () => this.nowMs },
      random: { u32: () => (this.seed = (Math.imul(this.seed, 1664525) + 1013904223) >>> 0) },
      log: QUIET_LOG,
    };
    for (let index = 0; index < stores; index++) this.hosts.push(new Host(this, index, engines(index)));
  }

  sent(from: number, toStore: number, frame: Uint8Array): void {
    const to = this.hosts.findIndex(({ store }) => store.id === toStore);
    if (to >= 0 && !this.cuts.has(`${from}>${to}`) && this.filter(from, to, frame))
      this.queue.push({ from, to, frame });
  }

  cut(index: number): void {
    for (let other = 0; other < this.hosts.length; other++) {
      this.cuts.add(`${index}>${other}`);
      this.cuts.add(`${other}>${index}`);
    }
  }

  /** Everything that is said and done without time passing. */
  settle(): void {
    for (let round = 0; round < 100_000; round++) {
      for (const host of this.hosts) this.turns(host);
      const next = this.queue.shift();
      if (next === undefined) return;
      const { store } = this.hosts[next.from]!;
      this.hosts[next.to]?.store.step(store.id, next.frame);
    }
    throw new Error('the stores do not come to rest');
  }

  private turns(host: Host): void {
    try {
      while (host.store.pending) host.store.turn();
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      this.restart(this.hosts.indexOf(host));
    }
  }

  run(ms: number): void {
    const stepMs = 50;
    for (let passed = 0; passed < ms; passed += stepMs) {
      this.nowMs += stepMs;
      for (const { store } of this.hosts) store.tick();
      this.settle();
    }
  }

  /** Runs until `done`, or fails. */
  until(done: () => boolean, withinMs = 60_000): void {
    for (let passed = 0; !done(); passed += 50) {
      if (passed >= withinMs) throw new Error('it does not come about');
      this.run(50);
    }
  }

  private keyOf(name: string): Uint8Array {
    return Buffer.concat([Uint8Array.of(this.service), Buffer.from(name)]);
  }

  descriptor(id: number, start = '', end = '\x7f', on = this.hosts): Descriptor {
    const members = on.map(({ store }, at) => ({ replica: at + 1, store: store.id, role: 0 }));
    return {
      ...{ id, genesis: 1, service: this.service, epoch: 1, membersAt: 1, changing: false },
      boundary: { start: this.keyOf(start), end: this.keyOf(end) },
      members,
      nextReplica: members.length + 1,
      ...{ merging: undefined, absorbed: [], pristine: true },
    };
  }

  /** A range on the hosts, once it has a leader. */
  found(id: number, start = '', end = '\x7f', on = this.hosts): void {
    const descriptor = this.descriptor(id, start, end, on);
    for (const { store } of on) store.found(descriptor);
    this.until(() => this.leaderOf(id) !== undefined);
  }

  leaderOf(range: number): Host | undefined {
    const leaders = this.hosts.filter(({ store }) => {
      const replica = store.replica(range);
      return replica?.isLeader === true && replica.state !== undefined;
    });
    leaders.sort((a, b) => b.store.replica(range)!.raft.term - a.store.replica(range)!.raft.term);
    const leader = leaders[0];
    const replica = leader?.store.replica(range);
    return replica !== undefined && replica.raft.commitIndex > 1 ? leader : undefined;
  }

  epochOf(range: number): number {
    return Math.max(...this.hosts.map(({ store }) => store.replica(range)?.descriptor?.epoch ?? 0));
  }

  /** Proposes at the leader of the range that has the key, under one number, until it is done. */
  put(range: number | (() => number), key: string, value: string): string {
    return this.command(range, put(key, value)).text;
  }

  command(range: number | (() => number), body: Uint8Array): Told {
    const sequence = ++this.sequence;
    for (let attempt = 0; attempt < 100; attempt++) {
      const asked = typeof range === 'number' ? range : range();
      const host = this.leaderOf(asked);
      if (host !== undefined) {
        host.told.length = 0;
        host.store.propose(asked, this.epochOf(asked), 77, sequence, body);
        this.until(() => host.outcomeOf(77, sequence) !== undefined || !this.hosts.includes(host));
        const told = host.told.find(entry => entry.sequence === sequence && entry.session === 77);
        if (told?.outcome === OUTCOME.DONE || told?.outcome === OUTCOME.DONE_BEFORE) return told;
      }
      this.run(100);
    }
    throw new Error('it cannot be done');
  }

  /** What the host's engine holds of the registers, in order. */
  held(host: Host, start = '', end = '\x7f'): string[] {
    const out: string[] = [];
    host.engine.scan(registerKey(start), registerKey(end), (key, value) => {
      out.push(`${Buffer.from(key.subarray(1))}=${Buffer.from(value)}`);
      return true;
    });
    return out;
  }

  /** The process of a host ends, and another one opens its engine. */
  restart(index: number, engine = this.hosts[index]!.engine): void {
    this.hosts[index]!.store.close();
    this.hosts[index] = new Host(this, index, engine);
  }
}
