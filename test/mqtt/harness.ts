/**
 * A whole broker in one thread, without sockets and clocks: real mqtt shards, real stores in memory, the real session
 * directory, over the real rings of an InlineMesh. Nothing happens unless `pump` or `turn` is called, so a scenario
 * runs the same way each time; `turn` in any order is any schedule that threads could have.
 *
 * Mesh: main 0, mqtt shards 1…n, match n + 1, apply n + 2, as in a node.
 */
import { expect } from 'vitest';
import { ShoalError } from '../../src/base/errors.js';
import { CounterBlock } from '../../src/base/metrics.js';
import { DistCoprocessor } from '../../src/dist/dist.js';
import { DistService } from '../../src/dist/service.js';
import { InboxCoprocessor } from '../../src/inbox/inbox.js';
import { InboxService } from '../../src/inbox/service.js';
import type { EngineSnapshot, EntryVisitor, KvWriter, SnapshotEngine } from '../../src/kv/engine.js';
import { SERVICE } from '../../src/kv/keys.js';
import { FIRST_RANGE_ID } from '../../src/kv/kv.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import { SoleRange } from '../../src/kv/sole-range.js';
import { Store } from '../../src/kv/store.js';
import { Admission, admissionMemory } from '../../src/mqtt/admission.js';
import type { Features, Limits } from '../../src/mqtt/mqtt.js';
import type { ReceiveMemory } from '../../src/mqtt/receive-memory.js';
import { Shard } from '../../src/mqtt/shard.js';
import { configSchema } from '../../src/node/config-schema.js';
import { type Authenticator, type Authorizer, acceptAll, permitAll } from '../../src/plugin/plugin.js';
import { RetainCoprocessor } from '../../src/retain/retain.js';
import { RetainService } from '../../src/retain/service.js';
import { SessionDict } from '../../src/session-dict/session-dict.js';
import { InlineMesh } from '../../src/shard/inline.js';
import { hashKeys } from '../../src/topic/hash.js';
import { NO_LOG } from '../kv/store-harness.js';
import { FakePeer } from './fake-peer.js';
import { type ConnectOptions, TestClient } from './test-client.js';

const DEFAULTS = configSchema.parse({});
const NODE = 'node-a';
const MAIN = 0;
const SEED = 7;
const TICK_MS = 100;

export interface BrokerOptions {
  readonly shards?: number;
  readonly limits?: Partial<Limits> & {
    retainedMessagesMax?: number;
    sharedGroupMembersMax?: number;
    connectRatePerSecondMax?: number;
  };
  readonly features?: Partial<Features>;
  readonly authenticator?: Authenticator;
  readonly authorizer?: Authorizer;
  /** Frames that a turn handles; 1 makes each delivery a step of its own. */
  readonly pollFramesMax?: number;
  readonly ringBytes?: number;
  /** What an earlier broker left on its disks. */
  readonly engines?: { readonly match: HeldEngine; readonly apply: HeldEngine };
}

/** An engine whose commits become durable when the test says so, and which can be full. */
export class HeldEngine implements SnapshotEngine {
  readonly inner = new MemoryEngine();
  held = false;
  full = false;
  private readonly waiting: (() => void)[] = [];

  get(key: Uint8Array): Uint8Array | undefined {
    return this.inner.get(key);
  }

  scan(start: Uint8Array, end: Uint8Array, visit: EntryVisitor, reverse?: boolean): void {
    this.inner.scan(start, end, visit, reverse);
  }

  write(work: (writer: KvWriter) => void, durable: () => void): void {
    if (this.full) throw new ShoalError('SHOAL_STORAGE_FULL', 'the test says so');
    this.inner.write(work, () => (this.held ? this.waiting.push(durable) : durable()));
  }

  hold(work: (writer: KvWriter) => void, ended: (isDurable: boolean) => void): void {
    if (this.full) throw new ShoalError('SHOAL_STORAGE_FULL', 'the test says so');
    this.inner.hold(work, ended);
  }

  /** The disk answers; from now on at once. */
  release(): void {
    this.held = false;
    for (const durable of this.waiting.splice(0)) durable();
  }

  /** The process died: what waits is never answered. */
  forget(): void {
    this.held = false;
    this.waiting.length = 0;
  }

  snapshot(): EngineSnapshot {
    return this.inner.snapshot();
  }

  close(): void {}
}

/** What came in a turn and was not kept may be overwritten, so it is. */
function spoil(received: ReceiveMemory): void {
  const { bytes, used, spare } = received as unknown as { bytes: Buffer; used: number; spare: Buffer[] };
  bytes.fill(0xdb, used);
  for (const slab of spare) slab.fill(0xdb);
}

export class Broker {
  readonly options: BrokerOptions;
  readonly limits: Limits & {
    retainedMessagesMax: number;
    sharedGroupMembersMax: number;
    retainedBytesMax: number;
    connectRatePerSecondMax: number;
    connectionsMax: number;
  };
  readonly mesh: InlineMesh;
  readonly shards: Shard[] = [];
  readonly dict: SessionDict;
  readonly matchEngine: HeldEngine;
  readonly applyEngine: HeldEngine;
  /** What was logged as an error: expected to stay empty. */
  readonly errors: unknown[] = [];
  match: Store;
  apply: Store;
  dist!: DistService;
  inbox!: InboxService;
  wallMs = 1_700_000_000_000;
  monotonicMs = 1000;
  private readonly count: number;
  private readonly admission: SharedArrayBuffer;
  private readonly dead = new Set<number>();
  private later: (() => void)[] = [];
  private random = 1;
  private clients = 0;
  private lives = 0;
  private storeRandom = 1;
  private readonly clock = { wallMs: () => this.wallMs, monotonicMs: () => this.monotonicMs };

  constructor(options: BrokerOptions = {}) {
    this.options = options;
    this.count = options.shards ?? 1;
    this.admission = admissionMemory(this.count);
    this.matchEngine = options.engines?.match ?? new HeldEngine();
    this.applyEngine = options.engines?.apply ?? new HeldEngine();
    this.limits = { ...DEFAULTS.limits, ...options.limits };
    this.mesh = new InlineMesh(this.count + 3, {
      handlerOf: peer => (from, bytes, start, end) => this.onFrame(peer, from, bytes, start, end),
      onTurn: peer => this.onTurn(peer),
      ...(options.pollFramesMax === undefined ? {} : { pollFramesMax: options.pollFramesMax }),
      ...(options.ringBytes === undefined ? {} : { ringBytes: options.ringBytes }),
    });
    this.dict = new SessionDict(
      (peer, bytes, start, end) => void this.mesh.mesh(MAIN).send(peer, bytes, start, end),
    );
    for (let shard = 0; shard < this.count; shard++) this.shards.push(this.openShard(shard));
    this.match = this.openMatch();
    this.apply = this.openApply();
  }

  get matchPeer(): number {
    return this.count + 1;
  }

  get applyPeer(): number {
    return this.count + 2;
  }

  /** Mesh indexes of all threads. */
  get peers(): number[] {
    return Array.from({ length: this.count + 3 }, (_, peer) => peer);
  }

  private get mqttPeers(): number[] {
    return this.shards.map((_, shard) => shard + 1);
  }

  // -- threads -----------------------------------------------------------------------------------------------

  private openShard(shard: number): Shard {
    const peer = shard + 1;
    const mesh = this.mesh.mesh(peer);
    const made = new Shard({
      env: {
        clock: { wallMs: () => this.wallMs, monotonicMs: () => this.monotonicMs },
        random: { u32: () => (this.random = (Math.imul(this.random, 1664525) + 1013904223) >>> 0) },
        log: {
          debug: () => {},
          info: () => {},
          warn: () => {},
          error: (fields, message) => this.errors.push([message, fields]),
        },
      },
      limits: this.limits,
      features: { ...DEFAULTS.features, ...this.options.features },
      links: {
        node: NODE,
        shard,
        shards: Array.from({ length: this.count }, (_, index) => index + 1),
        main: MAIN,
        dist: this.matchPeer,
        inbox: this.applyPeer,
        retain: this.applyPeer,
      },
      wire: {
        send: (to, bytes, start, end) => void mesh.send(to, bytes, start, end),
        get congested() {
          return mesh.congested;
        },
      },
      counters: new CounterBlock(),
      keys: hashKeys(SEED),
      authenticator: this.options.authenticator ?? acceptAll,
      authorizer: this.options.authorizer ?? permitAll,
      takeConnect: new Admission(
        this.admission,
        shard,
        this.limits,
        () => BigInt(Math.floor(this.monotonicMs)) * 1_000_000n,
      ).takeConnect,
      schedule: () => this.mesh.schedule(peer),
    });
    mesh.onDrained = () => made.onDrained();
    return made;
  }

  private wireOf(peer: number) {
    const mesh = this.mesh.mesh(peer);
    return {
      send: (to: number, bytes: Uint8Array, start: number, end: number) =>
        !this.dead.has(peer) && mesh.send(to, bytes, start, end),
      congested: (to: number) => mesh.port(to)?.congested ?? false,
    };
  }

  private openStore(engine: HeldEngine, peer: number, ranges: readonly SoleRange[]): Store {
    const u32 = () => (this.storeRandom = (this.storeRandom * 1_664_525 + 1_013_904_223) >>> 0);
    return new Store(engine, this.wireOf(peer), { clock: this.clock, random: { u32 }, log: NO_LOG }, ranges);
  }

  private openMatch(): Store {
    const range = new SoleRange(
      SERVICE.DIST,
      () => new DistCoprocessor(hashKeys(SEED), this.limits.sharedGroupMembersMax),
    );
    const store = this.openStore(this.matchEngine, this.matchPeer, [range]);
    const topology = { node: NODE, shardPeers: this.mqttPeers };
    this.dist = new DistService(range, range.coprocessor, topology, store, ++this.lives);
    store.add(this.dist);
    this.dist.purgeNode();
    store.endTurn();
    return store;
  }

  private openApply(): Store {
    const { retainedMessagesMax: messagesMax, retainedBytesMax: bytesMax } = this.limits;
    const inbox = new SoleRange(SERVICE.INBOX, id => new InboxCoprocessor(id, this.limits), FIRST_RANGE_ID);
    const retain = new SoleRange(
      SERVICE.RETAIN,
      id => new RetainCoprocessor(id, { messagesMax, bytesMax }, this.clock),
    );
    const store = this.openStore(this.applyEngine, this.applyPeer, [inbox, retain]);
    this.inbox = new InboxService(inbox, inbox.coprocessor, this.mqttPeers, store, ++this.lives);
    store.add(this.inbox);
    store.add(new RetainService(retain, retain.coprocessor, store));
    this.inbox.start(this.wallMs);
    store.endTurn();
    return store;
  }

  private onFrame(peer: number, from: number, bytes: Buffer, start: number, end: number): void {
    if (this.dead.has(peer) || this.dead.has(from)) return;
    if (peer === MAIN) this.dict.onFrame(from, bytes, start, end);
    else if (peer <= this.count) this.shards[peer - 1]!.onFrame(from, bytes, start, end);
    else (peer === this.matchPeer ? this.match : this.apply).handleFrame(from, bytes, start, end);
  }

  private onTurn(peer: number): void {
    if (peer === MAIN || this.dead.has(peer)) return;
    if (peer <= this.count) {
      const shard = this.shards[peer - 1]!;
      shard.flushTurn();
      spoil(shard.outbox.received);
      return;
    }
    const store = peer === this.matchPeer ? this.match : this.apply;
    store.endTurn();
    if (store.pending && !(peer === this.matchPeer ? this.matchEngine : this.applyEngine).held)
      this.mesh.schedule(peer);
    else if (peer === this.applyPeer && this.inbox.behind) this.mesh.schedule(peer);
  }

  // -- steps -------------------------------------------------------------------------------------------------

  /** One turn of one thread. */
  turn(peer: number): void {
    this.runLater();
    this.mesh.turn(peer);
  }

  /** Everything until all threads sleep. */
  pump(): void {
    do {
      this.runLater();
      this.mesh.pump();
    } while (this.later.length > 0);
  }

  private runLater(): void {
    for (const call of this.later.splice(0)) call();
  }

  /** Lets promises (an authenticator's) settle, then pumps. */
  async settle(): Promise<void> {
    for (let i = 0; i < 5; i++) {
      await Promise.resolve();
      this.pump();
    }
  }

  /** Lets time pass: in steps of a tick, or in 200 of them if it is long. */
  advance(ms: number): void {
    const steps = Math.max(1, Math.min(200, Math.ceil(ms / TICK_MS)));
    for (let i = 0; i < steps; i++) {
      this.wallMs += ms / steps;
      this.monotonicMs += ms / steps;
      for (const shard of this.shards) shard.tick();
      if (i % 10 === 9 || i === steps - 1) {
        this.match.tick(Math.floor(this.wallMs));
        this.apply.tick(Math.floor(this.wallMs));
      }
      this.wallMs = Math.floor(this.wallMs);
      this.pump();
    }
  }

  /** The thread stops: it handles nothing, and nothing that it sent arrives. */
  kill(peer: number): void {
    this.dead.add(peer);
    if (peer > 0 && peer <= this.count) {
      for (const client of this.open) if (client.shard === peer - 1) client.peer.handler = null;
    }
  }

  /** A successor takes its place; all others are told. */
  replace(peer: number): void {
    this.pump(); // what was in the rings is lost
    this.dead.delete(peer);
    if (peer === this.matchPeer) this.match = this.openMatch();
    else if (peer === this.applyPeer) {
      this.applyEngine.forget();
      this.apply = this.openApply();
    } else this.shards[peer - 1] = this.openShard(peer - 1);
    if (peer <= this.count) this.dict.peerLost(peer);
    this.shards.forEach((shard, index) => {
      if (index + 1 !== peer) shard.peerLost(peer);
    });
    if (peer !== this.matchPeer) this.match.peerLost(peer, this.wallMs);
    if (peer !== this.applyPeer) this.apply.peerLost(peer, this.wallMs);
    this.pump();
  }

  /** The whole process dies; the broker that is started on its disks. */
  crashed(): Broker {
    this.mesh.close();
    const { matchEngine: match, applyEngine: apply } = this;
    match.forget();
    apply.forget();
    const successor = new Broker({ ...this.options, engines: { match, apply } });
    successor.wallMs = this.wallMs;
    return successor;
  }

  // -- clients -----------------------------------------------------------------------------------------------

  readonly open: TestClient[] = [];

  /** A socket to a shard; nothing is sent yet. */
  socket(shard = 0): TestClient {
    const peer = new FakePeer(call => {
      this.later.push(call);
      this.mesh.schedule(shard + 1);
    });
    peer.handler = this.shards[shard]!.accept(peer);
    const client = new TestClient(this, peer, shard);
    this.open.push(client);
    return client;
  }

  /** A client that is connected: CONNACK 0 has come. */
  connect(options: ConnectOptions = {}): TestClient {
    const client = this.socket(options.shard ?? 0);
    client.sendConnect({ clientId: `client-${++this.clients}`, ...options });
    this.pump();
    const connack = client.take('connack');
    expect(connack.reasonCode ?? connack.returnCode, 'CONNACK').toBe(0);
    client.connack = connack;
    return client;
  }

  counter(index: number): number {
    return this.shards.reduce((sum, { counters }) => sum + counters.values[index]!, 0);
  }

  /** Cuts all clients and expects that nothing of them is left anywhere. */
  close(): void {
    for (const client of this.open) client.peer.cut();
    this.pump();
    for (const shard of this.shards) {
      expect(shard.connectionCount, 'connections left').toBe(0);
      expect(shard.caller.waitingCount, 'calls that nobody answered').toBe(0);
      expect(shard.broker.pendingCount, 'messages of the broker left').toBe(0);
    }
    expect(this.dict.size, 'client ids still owned').toBe(0);
    expect(this.inbox.attached, 'sessions still attached').toBe(0);
    expect(this.errors).toEqual([]);
  }
}
