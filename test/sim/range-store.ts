import type { ByteReader, ByteWriter } from '../../src/base/bytes.js';
import type { Env } from '../../src/base/env.js';
import { Steward } from '../../src/kv/balance/steward.js';
import type { KvReader, KvWriter, SnapshotEngine } from '../../src/kv/engine.js';
import { type Boundary, type Coprocessor, overlap } from '../../src/kv/range.js';
import { AttemptDesk } from '../../src/kv/remote/attempt-desk.js';
import { OUTCOME } from '../../src/kv/replicated/commands.js';
import type { RaftStore } from '../../src/kv/replicated/raft-store.js';
import type { Replica } from '../../src/kv/replicated/replica.js';
import type { Attempt } from '../../src/kv/route/client.js';
import { type SharedRanges, SoleRange } from '../../src/kv/sole-range.js';
import { Store } from '../../src/kv/store.js';
import { OPERATION } from './linearizability.js';
import type { Process, SimNode } from './node.js';
import type { SeededRandom } from './random.js';
import { RangeDisk } from './range-disk.js';
import { Gossip, type Parcel } from './range-gossip.js';
import { LEDGER, LedgerRange, LedgerService, LedgerTruth } from './range-ledger.js';
import type { RangeWorld } from './range-world.js';
import { fail } from './underlay-checkers.js';

/** A register's key begins with this. */
export const SERVICE = 0x72;
export const WHOLE: Boundary = { start: Uint8Array.of(SERVICE), end: Uint8Array.of(SERVICE + 1) };
const STEWARD_MS = 500;
const TICK_MS = 100;
/** Between two requests to the ledger, at most; now and then several come at once. */
const LEDGER_MS_MAX = 200;
const LEDGER_BURST = 5;

export function registerKey(register: number): Uint8Array {
  return Uint8Array.of(SERVICE, register >>> 8, register & 255);
}

/** What a client wants of a register: kind, register, value, expected. */
export function encodeOperation(kind: number, register: number, value: number, expected: number): Uint8Array {
  const bytes = Buffer.alloc(19);
  bytes[0] = kind;
  bytes.writeUInt16BE(register, 1);
  bytes.writeDoubleLE(value, 3);
  bytes.writeDoubleLE(expected, 11);
  return bytes;
}

/** Registers, a key each; an answer is what the register held before. */
class Registers implements Coprocessor {
  readonly store: RangeStoreNode;
  boundary: Boundary = WHOLE;
  commands = 0;

  constructor(store: RangeStoreNode) {
    this.store = store;
  }

  query(input: ByteReader, reader: KvReader, output: ByteWriter): void {
    const bytes = Buffer.from(input.raw(input.remaining));
    output.f64(registerAt(reader, registerKey(bytes.readUInt16BE(1))));
  }

  mutate(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const bytes = Buffer.from(input.raw(input.remaining));
    const key = registerKey(bytes.readUInt16BE(1));
    const { start, end } = this.boundary;
    if (Buffer.compare(key, start) < 0 || Buffer.compare(key, end) >= 0)
      fail('a command is applied outside of its range');
    const former = registerAt(writer, key);
    output.f64(former);
    this.commands++;
    if (bytes[0] === OPERATION.SWAP && former !== bytes.readDoubleLE(11)) return;
    writer.put(key, bytes.subarray(3, 11));
  }

  finish(): void {}

  reset(boundary: Boundary): void {
    this.boundary = boundary;
  }
}

function registerAt(reader: KvReader, key: Uint8Array): number {
  const value = reader.get(key);
  return value === undefined ? 0 : Buffer.from(value).readDoubleLE(0);
}

/** A store's process with all that stands on it, and its disk. */
export class RangeStoreNode implements Process {
  readonly world: RangeWorld;
  readonly node: SimNode;
  ledger: LedgerTruth;
  disk: RangeDisk;
  readonly random: SeededRandom;
  store!: RaftStore;
  steward!: Steward;
  gossip!: Gossip;
  #product!: Store;
  #service!: LedgerService;
  #desk!: AttemptDesk;
  #engine!: SnapshotEngine;
  #nextTickMs = 0;
  #nextStewardMs = 0;
  #nextLedgerMs = 0;
  /** Some range is not what it was at the last check. */
  #isChanged = false;
  readonly #registers = new Map<number, Registers>();

  constructor(world: RangeWorld, node: SimNode) {
    this.world = world;
    this.node = node;
    this.random = world.random.fork(node.label);
    this.disk = new RangeDisk(world.time, this.random.fork('disk'));
    this.ledger = new LedgerTruth(node.label);
  }

  get engine(): SnapshotEngine {
    return this.#engine;
  }

  start(): void {
    const { world, node, random } = this;
    const env: Env = {
      clock: { wallMs: () => node.clock.wallMs(), monotonicMs: () => node.clock.monotonicMs() },
      random: random.fork(`life ${node.life + 1}`),
      log: { debug() {}, info() {}, warn() {}, error() {} },
    };
    const life = node.life + 1;
    this.#engine = this.disk.open(tell => {
      if (node.life !== life || !node.isUp) return;
      tell();
      this.#turn();
    });
    this.#registers.clear();
    this.#desk = new AttemptDesk(world.settings.timing.clockDriftMax === undefined ? 'index' : 'lease');
    const { timing, limits, snapshots } = world.settings;
    const range = new SoleRange(LEDGER, id => new LedgerRange(id, this.ledger));
    this.#service = new LedgerService(range, this.ledger);
    const sent = (_: number, bytes: Uint8Array, start: number, end: number) => {
      this.#service.sent(bytes.subarray(start, end));
      return true;
    };
    const { full } = this.disk;
    // Who finds no room at its start ends, and is started again.
    this.disk.full = 0;
    this.#product = new Store(this.#engine, { send: sent, congested: () => false }, env, [range], {
      shared: { ...this.#sharing(env), tuning: { timing, limits, snapshots } },
    });
    this.disk.full = full;
    this.#product.add(this.#service);
    this.store = this.#product.ranges.raft;
    this.#desk.serve(this.store);
    world.named(this.store.id, node);
    this.gossip = new Gossip(env.random, life, node.index);
    this.steward = new Steward({
      store: this.store,
      env,
      account: {
        host: this.gossip.host,
        name: node.label,
        cores: 4,
        draining: false,
        services: [WHOLE.start[0]!],
      },
      services: [WHOLE],
      loadOf: range => this.#loadOf(range),
      isSole: range => this.isSole(range),
      publish: changes => {
        for (const { key, bytes } of changes) this.gossip.put(key, bytes);
      },
    });
    this.steward.rules = world.settings.rules;
    this.steward.isSettled = true;
    this.gossip.onEntry = (key, bytes) => this.steward.board.hear(key, bytes);
    this.#nextTickMs = env.clock.monotonicMs() + random.between(0, TICK_MS);
    this.#nextStewardMs = this.#nextLedgerMs = this.#nextTickMs;
    node.start(this);
    world.note(node.label, 'starts');
    this.#turn();
  }

  isSole(range: number): boolean {
    return this.#product.ranges.isSole(range);
  }

  /** Without the store's own. */
  get replicas(): readonly Replica[] {
    return [...this.store.replicas].filter(({ rangeId }) => !this.isSole(rangeId));
  }

  #sharing(env: Env): SharedRanges {
    const { world } = this;
    return {
      sink: {
        outcome: (range, session, sequence, outcome, bytes, start, end) => {
          this.steward?.outcome(session, sequence, outcome);
          this.#desk.outcome(range, session, sequence, outcome, bytes, start, end);
        },
        readable: (range, context) => this.#desk.readable(range, context),
        readRefused: (range, context, reason) => this.#desk.readRefused(range, context, reason),
        changed: () => {
          this.#isChanged = true;
          this.#nextStewardMs = Math.min(this.#nextStewardMs, env.clock.monotonicMs() + 20);
        },
      },
      coprocessors: new Map([
        [
          SERVICE,
          range => {
            const registers = new Registers(this);
            this.#registers.set(range, registers);
            return registers;
          },
        ],
      ]),
      send: (store, frame) => {
        const to = world.nodeOf(store);
        if (to !== undefined)
          this.#post(to, { kind: 'frame', from: this.store.id, bytes: frame }, frame.length);
      },
    };
  }

  /** What it had is lost for good: the next process begins as another store. */
  replaceDisk(): void {
    this.disk = new RangeDisk(this.world.time, this.random.fork(`disk ${this.node.life}`));
    this.ledger = new LedgerTruth(this.node.label);
  }

  crash(): void {
    if (!this.node.isUp) return;
    this.node.kill();
    this.disk.crash();
    this.world.note(this.node.label, 'crashes');
  }

  receive(payload: unknown): void {
    const parcel = payload as Parcel;
    if (parcel.kind === 'frame') this.store.step(parcel.from, parcel.bytes);
    else if (parcel.kind === 'gossip') this.gossip.hear(parcel.entries);
    else if (parcel.kind === 'attempt' && !parcel.hasCome) {
      parcel.hasCome = true;
      this.#attempt(parcel.attempt, parcel.client);
    }
    this.#turn();
  }

  #attempt(attempt: Attempt, client: SimNode): void {
    this.#desk.attempt(attempt, {
      answer: answer => {
        if (answer.outcome === OUTCOME.DONE || answer.outcome === OUTCOME.DONE_BEFORE)
          this.world.serves(attempt, this.node.label);
        const output = new Uint8Array(answer.output);
        this.#post(client, { kind: 'answer', store: this.store.id, answer: { ...answer, output } }, 60);
      },
    });
  }

  #post(to: SimNode, parcel: Parcel, bytes: number): void {
    this.world.network.send(this.node, to.address, 'datagram', parcel, Math.min(bytes, 1200));
  }

  unreachable(): void {}

  nextWakeMs(): number {
    return Math.min(this.#nextTickMs, this.#nextStewardMs, this.#nextLedgerMs);
  }

  wake(): void {
    const nowMs = this.node.clock.monotonicMs();
    if (nowMs >= this.#nextTickMs) {
      this.#nextTickMs = nowMs + TICK_MS;
      this.store.tick();
      this.#product.tick(nowMs);
      this.#service.check(nowMs, this.world.isCalm ? this.#calmMs(nowMs) : Number.POSITIVE_INFINITY);
    }
    if (nowMs >= this.#nextLedgerMs) {
      this.#nextLedgerMs = nowMs + this.random.between(0, LEDGER_MS_MAX);
      for (let left = 1 + this.random.below(LEDGER_BURST); left > 0; left--) {
        const frame = this.#service.request(nowMs, this.random.chance(0.7));
        if (frame !== undefined) this.#product.handleFrame(this.#service.peer, frame.bytes, 0, frame.length);
      }
    }
    if (nowMs >= this.#nextStewardMs) {
      this.#nextStewardMs = nowMs + STEWARD_MS;
      this.gossip.beat();
      this.steward.board.hostsAre(this.gossip.hostsAlive(nowMs));
      this.steward.tick();
      for (const node of this.random.sample(this.world.network.nodes, 2))
        if (node !== this.node) this.#post(node, { kind: 'gossip', entries: this.gossip.all() }, 1000);
    }
    this.#turn();
  }

  #turn(): void {
    while (this.#product.pending && !this.store.isCommitting) this.#product.endTurn();
    if (this.#isChanged) this.#check();
    this.#isChanged = false;
    this.node.settle();
  }

  /** Since when it is calm, by this store's clock. */
  #calmMs(nowMs: number): number {
    return nowMs - (this.world.time.nowMs - this.world.calmFromMs);
  }

  /** No key belongs to two replicas of a store. */
  #check(): void {
    const held = this.replicas.flatMap(({ descriptor }) => (descriptor === undefined ? [] : [descriptor]));
    held.sort((a, b) => Buffer.compare(a.boundary.start, b.boundary.start));
    for (let at = 1; at < held.length; at++)
      if (overlap(held[at - 1]!.boundary, held[at]!.boundary))
        fail(`${this.node.label} holds ranges ${held[at - 1]!.id} and ${held[at]!.id}, which overlap`);
    for (const replica of this.replicas) {
      const { descriptor, rangeId } = replica;
      if (replica.isLeader) this.world.leads(rangeId, replica.raft.term, this.node.label);
      if (descriptor !== undefined) this.world.recoveries.sees(this, replica, descriptor);
    }
  }

  #loadOf(range: number) {
    const registers = this.#registers.get(range);
    const { start, end } = registers?.boundary ?? WHOLE;
    const keys: Uint8Array[] = [];
    this.#engine.scan(start, end, key => keys.push(key) > 0);
    const middle = keys[keys.length >> 1];
    const isInside = middle !== undefined && Buffer.compare(start, middle) < 0;
    return {
      bytes: keys.length * 1000,
      writesPerSecond: 0,
      queriesPerSecond: 0,
      queryMicros: 0,
      fanOut: 0,
      splitKey: isInside ? new Uint8Array(middle) : new Uint8Array(),
    };
  }
}
