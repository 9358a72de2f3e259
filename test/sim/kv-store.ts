import type { Env, Log } from '../../src/base/env.js';
import type { ReplicaId } from '../../src/kv/raft/configuration.js';
import { MESSAGE, type Message } from '../../src/kv/raft/message.js';
import { Disk } from './kv-disk.js';
import { KvReplica, type Request } from './kv-replica.js';
import { emptyState, NO_CONFIGURATION, type State, type Write } from './kv-storage.js';
import { messageWords } from './kv-trace.js';
import type { GroupTruth } from './kv-truth.js';
import type { KvWorld } from './kv-world.js';
import type { Process, SimNode } from './node.js';
import type { SeededRandom } from './random.js';

/** What stores send each other, and clients to them. */
export type Parcel =
  | { readonly kind: 'raft'; readonly group: number; readonly message: Message }
  | { readonly kind: 'alive'; readonly store: number }
  | { readonly kind: 'state'; readonly from: ReplicaId; readonly to: ReplicaId; readonly state: State }
  | { readonly kind: 'state-taken'; readonly from: ReplicaId; readonly to: ReplicaId; readonly index: number }
  | { readonly kind: 'request'; readonly request: Request };

const ALIVE_EVERY_MS = 500;
const DEAD_AFTER_MS = 2_000;
/** A state that was not answered by then did not arrive. */
const STATE_ANSWER_MS = 8_000;
const PARCEL_BYTES = 100;
const LATE_MS_MAX = 8_000;

const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {} };

/** A store's process, and its disk, which outlives it. */
export class KvStore implements Process {
  readonly world: KvWorld;
  readonly index: number;
  readonly node: SimNode;
  readonly disk: Disk;
  readonly random: SeededRandom;
  readonly env: Env;
  readonly replicas = new Map<ReplicaId, KvReplica>();
  readonly #replicaOf = new Map<number, KvReplica>();
  /** Replicas that something has happened to in this turn. */
  readonly #dirty = new Set<KvReplica>();
  /** When each store was heard, by the own clock. */
  #heardMs: number[] = [];
  #dead: boolean[] = [];
  #nextTickMs = 0;
  #nextAliveMs = 0;
  /** What the disk has told while the process was stopped. */
  #told: (() => void)[] = [];
  #isTurnPlanned = false;
  readonly #outgoing = new Map<string, { readonly replica: KvReplica; readonly to: ReplicaId }>();

  constructor(world: KvWorld, index: number, node: SimNode) {
    this.world = world;
    this.index = index;
    this.node = node;
    this.random = world.random.fork(`store ${index}`);
    this.disk = new Disk(world.time, this.random.fork('disk'), write => {
      world.truthOf(write.replica).becameDurable(write);
    });
    this.env = {
      clock: { wallMs: () => node.clock.wallMs(), monotonicMs: () => node.clock.monotonicMs() },
      random: this.random.fork('machine'),
      log: SILENT,
    };
  }

  get label(): string {
    return this.node.label;
  }

  get isUp(): boolean {
    return this.node.isUp;
  }

  truth(group: number): GroupTruth {
    return this.world.truths[group]!;
  }

  note(group: number, replica: ReplicaId, words: string): void {
    this.world.time.trace.note('event', this.label, `g${group}/${replica} ${words}`);
  }

  replicaOf(group: number): KvReplica | undefined {
    return this.#replicaOf.get(group);
  }

  start(): void {
    const nowMs = this.env.clock.monotonicMs();
    this.#heardMs = this.world.stores.map(() => nowMs);
    this.#dead = this.world.stores.map(() => false);
    this.#nextTickMs = nowMs + this.random.between(0, this.world.settings.timing.tickMs);
    this.#nextAliveMs = nowMs;
    for (const storage of this.disk.seen.values()) {
      const replica = new KvReplica(this, storage);
      replica.tellApplied();
      this.#open(replica);
    }
    this.node.start(this);
    this.world.time.trace.note('event', this.label, `starts with ${this.replicas.size} replicas`);
    this.#turn();
  }

  crash(): void {
    if (!this.isUp) return;
    this.node.kill();
    const { survived, lost } = this.disk.crash();
    this.replicas.clear();
    this.#replicaOf.clear();
    this.#dirty.clear();
    this.#outgoing.clear();
    this.#told = [];
    this.#isTurnPlanned = false;
    this.world.time.trace.note(
      'event',
      this.label,
      `crashes; of transactions not flushed ${survived} survive, ${lost} are lost`,
    );
  }

  /** An operator's hand on one of the replicas. */
  command(replica: KvReplica, act: () => void): void {
    if (!this.node.isResponsive) return;
    act();
    this.#touch(replica);
    this.#planTurn();
  }

  destroy(replica: ReplicaId): void {
    const known = this.replicas.get(replica);
    if (known === undefined) return;
    this.replicas.delete(replica);
    this.#dirty.delete(known);
    if (this.#replicaOf.get(known.group) === known) this.#replicaOf.delete(known.group);
    const write: Write = { kind: 'destroy', replica };
    this.disk.see(write);
    this.disk.commit([write], () => {});
    this.note(known.group, replica, 'is destroyed');
  }

  receive(payload: unknown): void {
    const parcel = payload as Parcel;
    switch (parcel.kind) {
      case 'raft':
        this.#step(parcel.group, parcel.message);
        break;
      case 'alive':
        this.#hear(this.world.stores[parcel.store]!);
        break;
      case 'state':
        this.#receiveState(parcel.from, parcel.to, parcel.state);
        break;
      case 'state-taken':
        this.#stateEnded(parcel.to, parcel.from, parcel.index, true);
        break;
      case 'request': {
        const replica = this.#replicaOf.get(parcel.request.group);
        if (replica === undefined) parcel.request.answer({ kind: 'refused', leader: 0 });
        else {
          replica.request(parcel.request);
          this.#touch(replica);
        }
        break;
      }
    }
    this.#planTurn();
  }

  unreachable(): void {}

  nextWakeMs(): number {
    return this.#nextTickMs;
  }

  wake(): void {
    const nowMs = this.env.clock.monotonicMs();
    const told = this.#told;
    this.#told = [];
    for (const tell of told) tell();
    if (nowMs >= this.#nextTickMs) {
      this.#nextTickMs = nowMs + this.world.settings.timing.tickMs;
      for (const replica of this.replicas.values()) {
        replica.tick();
        this.#touch(replica);
      }
      if (nowMs >= this.#nextAliveMs) this.#tellAlive(nowMs);
    }
    this.#turn();
  }

  send(group: number, message: Message): void {
    this.world.countMessage(message);
    const seen = this.disk.seen.get(message.from);
    if (seen !== undefined) this.truth(group).says(message, seen, this.disk.durable(message.from));
    if (
      message.kind === MESSAGE.APPEND &&
      message.entries.length > 0 &&
      this.random.chance(this.world.appendLoss)
    ) {
      this.world.time.trace.note('packet', this.label, `lost: g${group} ${messageWords(message)}`);
      return;
    }
    const store = this.world.storeOf(message.to);
    this.#post(store, { kind: 'raft', group, message: this.world.passed(message) }, PARCEL_BYTES);
  }

  /** Beside the messages: it takes its time, and may be lost, or come twice. */
  sendState(from: KvReplica, to: ReplicaId, state: State): void {
    const { index } = state.meta;
    const key = `${from.id}/${to}/${index}`;
    if (this.#outgoing.has(key)) return;
    this.#outgoing.set(key, { replica: from, to });
    this.note(from.group, from.id, `sends its state of ${index} to ${to}`);
    const parcel: Parcel = { kind: 'state', from: from.id, to, state };
    const store = this.world.storeOf(to);
    const copies = this.random.chance(this.world.settings.stateDoubled) ? 2 : 1;
    for (let copy = 0; copy < copies; copy += 1) {
      const takesMs = this.random.between(0, 1) ** 3 * this.world.stateMsMax;
      this.world.time.after(takesMs, () => this.#post(store, parcel, PARCEL_BYTES));
    }
    this.world.time.after(STATE_ANSWER_MS, () => {
      if (this.replicas.get(from.id) === from) this.#stateEnded(from.id, to, index, false);
      this.#planTurn();
    });
  }

  #post(store: KvStore | undefined, parcel: Parcel, bytes: number): void {
    if (store === undefined) return;
    if (!this.random.chance(this.world.lateness)) {
      this.world.network.send(this.node, store.node.address, 'datagram', parcel, bytes);
      return;
    }
    // It was on its way before anything was cut, and comes when nobody expects it any more.
    this.world.time.after(this.random.between(0, LATE_MS_MAX), () => {
      if (this.world.isCalm) return;
      this.world.time.trace.note('packet', store.label, 'comes late', { to: store.label, payload: parcel });
      store.node.arrive(parcel, bytes, this.node.address, 'datagram');
    });
  }

  #tellAlive(nowMs: number): void {
    this.#nextAliveMs = nowMs + ALIVE_EVERY_MS;
    for (const store of this.world.stores) {
      if (store === this) continue;
      this.#post(store, { kind: 'alive', store: this.index }, PARCEL_BYTES);
      if (this.#dead[store.index] === true || nowMs - this.#heardMs[store.index]! < DEAD_AFTER_MS) continue;
      this.#dead[store.index] = true;
      for (const replica of this.replicas.values()) {
        for (const other of this.world.replicasOn(store, replica.group)) replica.raft.unreachable(other);
        this.#touch(replica);
      }
    }
  }

  #hear(store: KvStore): void {
    this.#heardMs[store.index] = this.env.clock.monotonicMs();
    if (this.#dead[store.index] !== true) return;
    this.#dead[store.index] = false;
    for (const replica of this.replicas.values()) {
      for (const other of this.world.replicasOn(store, replica.group)) replica.raft.reachable(other);
      this.#touch(replica);
    }
  }

  #step(group: number, message: Message): void {
    const replica = this.#find(group, message.to);
    if (replica === undefined) return;
    replica.raft.step(message);
    replica.observe();
    this.#touch(replica);
  }

  /** A replica that was added here begins with the first that is heard of it. */
  #find(group: number, id: ReplicaId): KvReplica | undefined {
    const known = this.replicas.get(id);
    if (known !== undefined) return known;
    if (this.world.isGone(id) || this.world.storeOf(id) !== this) return undefined;
    const write: Write = { kind: 'create', replica: id, group, state: emptyState(NO_CONFIGURATION) };
    this.disk.see(write);
    this.disk.commit([write], () => {});
    const replica = new KvReplica(this, this.disk.seen.get(id)!);
    this.#open(replica);
    this.note(group, id, 'is created');
    return replica;
  }

  #open(replica: KvReplica): void {
    this.replicas.set(replica.id, replica);
    // Of two, the newer: the older one is on its way out.
    const known = this.#replicaOf.get(replica.group);
    if (known === undefined || known.id < replica.id) this.#replicaOf.set(replica.group, replica);
    this.#touch(replica);
  }

  #receiveState(from: ReplicaId, to: ReplicaId, state: State): void {
    const replica = this.#find(this.world.groupOf(to), to);
    if (replica === undefined) return;
    replica.receive(state);
    this.#touch(replica);
    this.#turn();
    this.#post(
      this.world.storeOf(from),
      { kind: 'state-taken', from: to, to: from, index: state.meta.index },
      20,
    );
  }

  #stateEnded(from: ReplicaId, to: ReplicaId, index: number, ok: boolean): void {
    const key = `${from}/${to}/${index}`;
    const outgoing = this.#outgoing.get(key);
    if (outgoing === undefined) return;
    this.#outgoing.delete(key);
    if (this.replicas.get(from) !== outgoing.replica) return;
    outgoing.replica.raft.snapshotSent(to, index, ok);
    this.#touch(outgoing.replica);
  }

  #touch(replica: KvReplica): void {
    this.#dirty.add(replica);
  }

  /** At once, or a bit later together with what comes until then. */
  #planTurn(): void {
    const { turnMsMax } = this.world.settings;
    if (turnMsMax === 0) {
      this.#turn();
      return;
    }
    if (this.#isTurnPlanned) return;
    this.#isTurnPlanned = true;
    const { life } = this.node;
    this.world.time.after(this.random.between(0, turnMsMax), () => {
      if (life !== this.node.life || !this.isUp) return;
      this.#isTurnPlanned = false;
      // The wake-up after a pause will do it.
      if (!this.node.isPaused) this.#turn();
    });
  }

  #turn(): void {
    if (!this.isUp || this.node.isPaused) return;
    const writes: Write[] = [];
    const durable: (() => void)[] = [];
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    for (const replica of dirty) {
      if (this.replicas.get(replica.id) === replica) replica.turn(writes, durable);
    }
    this.#applyLater(dirty);
    if (writes.length === 0 && durable.length === 0) return;
    const { life } = this.node;
    const tell = () => {
      for (const call of durable) call();
      for (const replica of dirty) this.#touch(replica);
    };
    this.disk.commit(writes, () => {
      if (life !== this.node.life || !this.isUp) return;
      if (this.node.isPaused) this.#told.push(tell);
      else {
        tell();
        this.#turn();
      }
    });
  }

  #applyLater(dirty: readonly KvReplica[]): void {
    for (const replica of dirty) {
      if (!replica.isApplying) continue;
      const { life } = this.node;
      this.world.time.after(this.random.between(0, 1) ** 4 * this.world.settings.applyMsMax, () => {
        if (life !== this.node.life || !this.isUp || this.node.isPaused) return;
        if (this.replicas.get(replica.id) !== replica) return;
        const writes: Write[] = [];
        replica.applySome(1 + this.random.below(64), writes);
        if (writes.length > 0) this.disk.commit(writes, () => {});
        this.#touch(replica);
        this.#turn();
      });
    }
  }
}
