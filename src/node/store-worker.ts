import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { MessagePort } from 'node:worker_threads';
import { ByteReader } from '../base/bytes.js';
import type { Env } from '../base/env.js';
import { ShoalError } from '../base/errors.js';
import {
  COMMIT_OPERATIONS,
  CounterBlock,
  KV_FRAMES_DROPPED,
  KV_LEADERS,
  KV_REPLICAS,
  MATCH_SECONDS,
  RETAIN_SCANS,
  RETAINED,
  RETAINED_BYTES,
  ROUTES,
} from '../base/metrics.js';
import type { Closable } from '../base/scope.js';
import { OP } from '../contract/contract.js';
import { DistCoprocessor } from '../dist/dist.js';
import { DistService } from '../dist/service.js';
import { InboxCoprocessor } from '../inbox/inbox.js';
import { InboxService } from '../inbox/service.js';
import { LmdbEngine } from '../kv/io/lmdb-engine.js';
import { SERVICE } from '../kv/keys.js';
import { FIRST_RANGE_ID } from '../kv/kv.js';
import { MapCoprocessor } from '../kv/map/map.js';
import { type Coprocessor, wholeService } from '../kv/range.js';
import { SoleRange } from '../kv/sole-range.js';
import { Store, type StoreWire } from '../kv/store.js';
import { RetainCoprocessor } from '../retain/retain.js';
import { RetainService } from '../retain/service.js';
import { AsyncBell } from '../shard/io/async-bell.js';
import { TurnLoop } from '../shard/io/loop.js';
import { pinThread } from '../shard/io/pin.js';
import { Mesh } from '../shard/mesh.js';
import type { LinkMemory, MeshPart, PeerFrameHandler } from '../shard/shard.js';
import { hashKeys } from '../topic/hash.js';
import { isClustered } from './cluster-config.js';
import type { Config } from './config.js';
import { KvDesk } from './kv-desk.js';
import { KvHost } from './kv-host.js';
import { KvThread } from './kv-thread.js';
import { MeteredEngine } from './metered-engine.js';
import { sampleRings } from './ring-metrics.js';
import { startVitals } from './vitals.js';

/** What a store thread is started with; survives structured cloning, `port` must be in the transfer list. */
export interface StoreWorkerInput {
  readonly config: Config;
  /** match: routes. apply: sessions and retained messages. */
  readonly role: 'match' | 'apply';
  /** Which of the threads with that role; only 0 has ranges until ranges split. */
  readonly index: number;
  readonly part: MeshPart;
  /** Mesh index of each mqtt shard, by shard number. */
  readonly mqttPeers: readonly number[];
  /** Memory of this thread's {@link CounterBlock}. */
  readonly metrics: SharedArrayBuffer;
  /** Random, from the node: keys of the hash tables, so that nobody can aim at collisions. */
  readonly hashSeed: number;
  /** CPU to bind the thread to; -1 for none. */
  readonly cpu: number;
  /** apply: the match thread has lost its routes, all sessions are to tell theirs again; see `routes-settled`. */
  readonly tellRoutes: boolean;
  /** Control: {@link StoreControl} in, {@link StoreReport} out. */
  readonly port: MessagePort;
}

export type StoreControl =
  /** A thread died; `link` is its successor's. */
  | { readonly kind: 'peer-replaced'; readonly peer: number; readonly link: LinkMemory }
  /** A thread died and has no successor yet. */
  | { readonly kind: 'peer-removed'; readonly peer: number }
  /** Commit what has come in, close the database, and resolve. */
  | { readonly kind: 'stop' };

export type StoreReport =
  /** The database is open and requests are served. */
  | { readonly kind: 'ready' }
  /** Once, where `tellRoutes` was asked for: the match thread has the routes of all sessions. */
  | { readonly kind: 'routes-settled' }
  | {
      readonly kind: 'log';
      readonly level: 'debug' | 'info' | 'warn' | 'error';
      readonly fields: object;
      readonly message: string;
    };

/**
 * Runs a store thread until it is told to stop. Rejects with a coded error when its database cannot be opened or
 * trusted, and with an assertion when an invariant broke; the thread is then to be started again.
 */
export async function runStoreWorker(input: StoreWorkerInput): Promise<void> {
  const { port, cpu } = input;
  if (cpu >= 0) {
    const pinned = await pinThread(cpu);
    if (pinned.kind === 'not-pinned') report(port, 'warn', pinned, 'a store thread is not pinned');
  }
  if (input.index > 0) {
    const { role, index, config } = input;
    if (index === 1)
      report(
        port,
        'warn',
        { [`threads.${role}`]: config.threads[role] },
        `only the first ${role} thread has work until ranges split; the others stay idle`,
      );
    await new Promise<void>(resolve => {
      port.on('message', (control: StoreControl) => control.kind === 'stop' && resolve());
      post(port, { kind: 'ready' });
    });
    port.close();
    return;
  }
  const worker = new StoreWorker(input);
  try {
    await worker.stopped;
  } finally {
    await worker.close();
  }
}

function post(port: MessagePort, message: StoreReport): void {
  port.postMessage(message);
}

type Level = Extract<StoreReport, { kind: 'log' }>['level'];

function report(port: MessagePort, level: Level, fields: object, message: string): void {
  post(port, { kind: 'log', level, fields, message });
}

function envOf(port: MessagePort): Env {
  const at = (level: Level) => (fields: object, message: string) => report(port, level, fields, message);
  return {
    clock: CLOCK,
    random: { u32: callIdSeed },
    log: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') },
  };
}

const TICK_MS = 1000;
const CLOCK = { wallMs: () => Date.now(), monotonicMs: () => performance.now() };
/** Frames of one poll: so many questions to dist take about 3 ms. What comes to the others only waits for the turn. */
const POLL_FRAMES_MAX = { match: 1024, apply: 4096 } as const;
/** With more than this left over from the turns before, frames stay in their rings. */
const BACKLOG_BYTES_MAX = 256 * 1024;

/** Takes frames in only while the store keeps up with them. */
class StoreMesh extends Mesh {
  private readonly isBehind: () => boolean;

  constructor({ part, role }: StoreWorkerInput, onFrame: PeerFrameHandler, isBehind: () => boolean) {
    const options = { holdCongested: true, pollFramesMax: POLL_FRAMES_MAX[role] };
    super(part, new AsyncBell(part), onFrame, options);
    this.isBehind = isBehind;
  }

  override poll(): number {
    if (!this.isBehind()) return super.poll();
    this.wake();
    this.more = true;
    return 0;
  }
}

/** Of the mesh. */
const MAIN = 0;

/** Services whose ranges are shared with other stores. Whatever of theirs is stored is opened, also where none are taken. */
const SHARED_SERVICES: ReadonlyMap<number, (range: number) => Coprocessor> = new Map([
  [SERVICE.MAP, (range: number) => new MapCoprocessor(range)],
]);

class StoreWorker {
  readonly stopped: Promise<void>;
  private readonly port: MessagePort;
  private readonly env: Env;
  private readonly counters: CounterBlock;
  private readonly engine: LmdbEngine;
  private readonly mesh: Mesh;
  private readonly kv: KvThread;
  private readonly desk: KvDesk;
  private readonly store: Store;
  private readonly loop: TurnLoop;
  private readonly timer: NodeJS.Timeout;
  private readonly vitals: Closable;
  private readonly kvReader = new ByteReader();
  private inbox: InboxService | undefined;
  private tellsRoutes: boolean;
  private failed = false;
  private gauges: () => void = () => undefined;
  private stop: () => void = () => undefined;
  private fail: (error: unknown) => void = () => undefined;

  constructor(input: StoreWorkerInput) {
    const { config, role, index } = input;
    this.port = input.port;
    this.env = envOf(input.port);
    this.tellsRoutes = input.tellRoutes;
    this.counters = new CounterBlock(input.metrics);
    this.stopped = new Promise((resolve, reject) => {
      this.stop = resolve;
      this.fail = error => {
        this.failed = true;
        reject(error);
      };
    });
    this.engine = new LmdbEngine({
      path: join(config.node.dataDir, `${role}-${index}`),
      durability: config.storage.durability,
    });
    this.mesh = new StoreMesh(input, this.onFrame, () => this.store.pendingBytes > BACKLOG_BYTES_MAX);
    this.mesh.onDrained = peer => {
      if (peer === MAIN) this.kv.drained();
      this.loop.schedule();
    };
    this.kv = this.openKv();
    this.desk = new KvDesk(this.env.clock, 'lease');
    this.store = role === 'match' ? this.openMatch(input) : this.openApply(input);
    this.store.endTurn();
    this.loop = new TurnLoop(this.mesh, this.endTurn);
    this.timer = setInterval(this.tick, TICK_MS);
    this.vitals = startVitals(this.counters);
    this.port.on('message', this.onControl);
    // What a crash left must be put in order before anything else is done.
    if (!this.store.isReady || this.store.failures > 0)
      this.fail(new ShoalError('SHOAL_STORAGE_FULL', `no room to begin in ${config.node.dataDir}`));
    else {
      this.openHost(input);
      post(this.port, { kind: 'ready' });
    }
  }

  private openKv(): KvThread {
    const { mesh } = this;
    return new KvThread({
      send: (bytes, start, end) => void mesh.send(MAIN, bytes, start, end),
      get congested() {
        return mesh.port(MAIN)?.congested ?? false;
      },
      get depthBytes() {
        return mesh.port(MAIN)?.depthBytes ?? 0;
      },
      schedule: () => this.turnSoon(),
    });
  }

  /** Stores that take up what was under way at their end may speak while they are opened: a loop begins with a turn. */
  private turnSoon(): void {
    (this.loop as TurnLoop | undefined)?.schedule();
  }

  private openHost({ config, role, index }: StoreWorkerInput): void {
    const { kv, desk, env, store } = this;
    const services = role === 'apply' && isClustered(config) ? [...SHARED_SERVICES.keys()] : [];
    const host = new KvHost({
      ...{ store: store.ranges.raft, desk, env, publish: kv.publish },
      ...{ name: `${role}-${index}@${config.node.name}`, cores: 1, services: services.map(wholeService) },
      isSole: range => store.ranges.isSole(range),
      turnSoon: () => this.turnSoon(),
      failed: error => this.fail(error),
    });
    kv.open(host, services);
  }

  private open(ranges: readonly SoleRange[]): Store {
    const wire: StoreWire = {
      send: (peer, bytes, start, end) => this.mesh.send(peer, bytes, start, end),
      congested: peer => this.mesh.port(peer)?.congested ?? false,
      flush: () => this.mesh.port(MAIN)?.flush(),
    };
    const shared = { sink: this.desk, send: this.kv.frame, coprocessors: SHARED_SERVICES };
    return new Store(new MeteredEngine(this.engine, this.counters), wire, this.env, ranges, { shared });
  }

  private openMatch({ config, hashSeed, mqttPeers }: StoreWorkerInput): Store {
    const range = new SoleRange(
      SERVICE.DIST,
      () => new DistCoprocessor(hashKeys(hashSeed), config.limits.sharedGroupMembersMax),
    );
    const store = this.open([range]);
    const topology = { node: config.node.name, shardPeers: mqttPeers };
    const dist = new DistService(range, range.coprocessor, topology, store, callIdSeed());
    store.add(dist);
    dist.purgeNode();
    this.gauges = () => {
      this.counters.values[ROUTES] = dist.size;
    };
    return store;
  }

  private openApply({ config: { limits }, mqttPeers, tellRoutes }: StoreWorkerInput): Store {
    // Its id is in the numbers of its sessions.
    const inboxRange = new SoleRange(SERVICE.INBOX, id => new InboxCoprocessor(id, limits), FIRST_RANGE_ID);
    const retainLimits = { messagesMax: limits.retainedMessagesMax, bytesMax: limits.retainedBytesMax };
    const retainRange = new SoleRange(SERVICE.RETAIN, id => new RetainCoprocessor(id, retainLimits, CLOCK));
    const store = this.open([inboxRange, retainRange]);
    const inbox = new InboxService(inboxRange, inboxRange.coprocessor, mqttPeers, store, callIdSeed());
    const retain = new RetainService(retainRange, retainRange.coprocessor, store);
    store.add(inbox);
    store.add(retain);
    inbox.start(Date.now(), tellRoutes);
    this.inbox = inbox;
    this.gauges = () => {
      this.counters.values[RETAINED] = retain.messages;
      this.counters.values[RETAINED_BYTES] = retain.bytes;
    };
    return store;
  }

  private readonly onFrame = (peer: number, bytes: Buffer, start: number, end: number): void => {
    const op = bytes[start]!;
    try {
      if (op !== OP.DIST_MATCH) {
        if (op === OP.RETAIN_SCAN) this.counters.values[RETAIN_SCANS]! += 1;
        if (KvThread.owns(op)) this.kv.onFrame(this.kvReader.over(bytes, start, end));
        else this.store.handleFrame(peer, bytes, start, end);
        return;
      }
      const startedMs = performance.now();
      this.store.handleFrame(peer, bytes, start, end);
      this.counters.observe(MATCH_SECONDS, (performance.now() - startedMs) / 1000);
    } catch (error) {
      this.fail(error);
    }
  };

  private readonly endTurn = (): void => {
    const { store } = this;
    try {
      const before = store.requests;
      store.endTurn();
      this.kv.turned();
      if (store.requests > before) this.counters.observe(COMMIT_OPERATIONS, store.requests - before);
    } catch (error) {
      this.loop.close();
      this.fail(error);
      return;
    }
    if (store.pending || this.inbox?.behind) this.loop.schedule();
  };

  private readonly tick = (): void => {
    try {
      this.store.tick(Date.now());
    } catch (error) {
      this.fail(error);
      return;
    }
    if (this.tellsRoutes && this.inbox?.routesSettled) {
      this.tellsRoutes = false;
      post(this.port, { kind: 'routes-settled' });
    }
    this.gauges();
    sampleRings(this.mesh, this.counters);
    this.countRanges();
    this.loop.schedule();
  };

  private countRanges(): void {
    const { ranges } = this.store;
    let replicas = 0;
    let leaders = 0;
    for (const { rangeId, isLeader } of ranges.raft.replicas) {
      if (ranges.isSole(rangeId)) continue;
      replicas++;
      if (isLeader) leaders++;
    }
    const { values } = this.counters;
    values[KV_REPLICAS] = replicas;
    values[KV_LEADERS] = leaders;
    values[KV_FRAMES_DROPPED] = this.kv.dropped;
  }

  private readonly onControl = (control: StoreControl): void => {
    if (control.kind === 'stop') {
      this.kv.close();
      this.finish();
      this.tick(); // has writes that were held back committed as well
      this.finish();
      this.mesh.flush();
      this.stop();
      return;
    }
    try {
      this.store.peerLost(control.peer, Date.now());
    } catch (error) {
      this.fail(error);
    }
    if (control.kind === 'peer-replaced') this.mesh.replace(control.peer, control.link);
    else this.mesh.remove(control.peer);
    this.loop.schedule();
  };

  /** Does all that has come in. */
  private finish(): void {
    while ((this.mesh.poll() > 0 || this.store.pending) && !this.failed) this.endTurn();
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.vitals.close();
    this.kv.close();
    this.loop.close();
    this.mesh.close();
    this.port.close();
    await this.engine.close();
  }
}

function callIdSeed(): number {
  return randomBytes(4).readUInt32LE(0);
}
