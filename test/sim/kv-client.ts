import { INITIAL } from './kv-registers.js';
import type { Answer, Request } from './kv-replica.js';
import type { KvStore } from './kv-store.js';
import type { KvWorld } from './kv-world.js';
import { type KeyedOperation, OPERATION } from './linearizability.js';
import type { SeededRandom } from './random.js';

interface Open {
  readonly operation: KeyedOperation;
  readonly sequence: number;
  readonly deadlineMs: number;
  attempts: number;
}

/** How long it waits for one answer before it asks again, elsewhere or not. */
const PATIENCE_MS_MIN = 300;
const PATIENCE_MS_MAX = 3_000;
const REFUSED_PAUSE_MS = 60;

/**
 * One operation after the other, each asked again under the same session and sequence until it is answered or its
 * deadline passes. What has no answer then is open forever, and the next one begins.
 */
export class KvClient {
  /** Started, ended or not; the order is that of the ends. */
  readonly history: KeyedOperation[] = [];
  readonly #world: KvWorld;
  readonly #random: SeededRandom;
  readonly #session: number;
  /** The store it asks as long as a replica is there: an application on that machine. Others look for the leader. */
  readonly #home: KvStore | undefined;
  readonly #reads: number;
  readonly #leaderStore = new Map<number, KvStore>();
  /** What it last knew of each register. */
  readonly #known = new Map<number, number>();
  #sequence = 0;
  #open: Open | undefined;

  /** `reads`: which share of its operations are. */
  constructor(world: KvWorld, session: number, reads: number, home: KvStore | undefined) {
    this.#world = world;
    this.#reads = reads;
    this.#session = session;
    this.#home = home;
    this.#random = world.random.fork(`client ${session}`);
  }

  get isIdle(): boolean {
    return this.#open === undefined;
  }

  /** What it waits for now, as operations without an end. */
  get open(): KeyedOperation | undefined {
    return this.#open?.operation;
  }

  get words(): string {
    const open = this.#open;
    if (open === undefined) return `client ${this.#session} is idle`;
    const { operation, sequence, attempts } = open;
    return `client ${this.#session}: operation ${sequence} on ${operation.key}, ${attempts} tries since ${operation.startedAt.toFixed(0)} ms`;
  }

  /** Begins the next operation after a while, as long as the world wants work. */
  live(): void {
    const { thinkMs } = this.#world;
    this.#world.time.after(this.#random.between(0, 2 * thinkMs), () => {
      if (!this.#world.isWorking) this.live();
      else this.#begin();
    });
  }

  #begin(): void {
    const { time, settings } = this.#world;
    const key = this.#world.pickKey(this.#random);
    const isRead = this.#random.chance(this.#reads);
    const kind = isRead ? OPERATION.READ : this.#random.chance(0.6) ? OPERATION.WRITE : OPERATION.SWAP;
    this.#sequence += 1;
    const operation: KeyedOperation = {
      kind,
      key,
      value: kind === OPERATION.READ ? 0 : this.#world.newValue(),
      expected: kind === OPERATION.SWAP ? (this.#known.get(key) ?? INITIAL) : 0,
      seen: undefined,
      startedAt: time.nowMs,
      endedAt: Number.POSITIVE_INFINITY,
    };
    const deadlineMs = time.nowMs + settings.deadlineMs;
    this.#open = { operation, sequence: this.#sequence, deadlineMs, attempts: 0 };
    this.#try(this.#open);
  }

  #try(open: Open): void {
    if (this.#open !== open) return;
    const { time, settings } = this.#world;
    if (time.nowMs >= open.deadlineMs) {
      this.#end(open, Number.POSITIVE_INFINITY, undefined);
      return;
    }
    open.attempts += 1;
    const group = this.#world.groupOfKey(open.operation.key);
    // What lives at home may be a replica that nobody feeds any more.
    const store = this.#storeFor(group, open.attempts % 4 !== 0);
    const isLease = settings.timing.clockDriftMax !== undefined && this.#random.chance(0.7);
    const { attempts } = open;
    const request: Request = {
      group,
      session: this.#session,
      sequence: open.sequence,
      command: open.operation,
      mode: isLease ? 'lease' : 'index',
      untilMs: open.deadlineMs,
      answer: answer => this.#back(open, attempts, group, answer),
    };
    if (store !== undefined && !this.#random.chance(this.#world.clientLoss))
      time.after(this.#wayMs(), () =>
        store.node.arrive({ kind: 'request', request }, 100, 'client', 'datagram'),
      );
    time.after(this.#random.between(PATIENCE_MS_MIN, PATIENCE_MS_MAX), () => {
      if (this.#open !== open || open.attempts !== attempts) return;
      this.#leaderStore.delete(group);
      this.#try(open);
    });
  }

  #storeFor(group: number, prefersHome: boolean): KvStore | undefined {
    const home = this.#home;
    if (prefersHome && home !== undefined && this.#world.replicasOn(home, group).length > 0) return home;
    return this.#leaderStore.get(group) ?? this.#world.someStore(group, this.#random);
  }

  #back(open: Open, attempt: number, group: number, answer: Answer): void {
    if (this.#open !== open || this.#random.chance(this.#world.clientLoss)) return;
    const { time } = this.#world;
    time.after(this.#wayMs(), () => {
      if (this.#open !== open) return;
      if (answer.kind === 'done') {
        this.#end(open, time.nowMs, answer.seen);
        return;
      }
      if (open.attempts !== attempt) return;
      const store = answer.leader === 0 ? undefined : this.#world.storeOf(answer.leader);
      if (store === undefined) this.#leaderStore.delete(group);
      else this.#leaderStore.set(group, store);
      time.after(this.#random.between(0, 2 * REFUSED_PAUSE_MS), () => {
        if (this.#open === open && open.attempts === attempt) this.#try(open);
      });
    });
  }

  #wayMs(): number {
    return this.#random.between(0.05, 1);
  }

  #end(open: Open, endedAt: number, seen: number | undefined): void {
    const { operation } = open;
    const { key, kind, value, expected } = operation;
    if (endedAt === Number.POSITIVE_INFINITY) this.#world.unknown(this.words, operation);
    else if (kind === OPERATION.WRITE || (kind === OPERATION.SWAP && seen === expected))
      this.#known.set(key, value);
    else if (seen !== undefined) this.#known.set(key, seen);
    // What a write saw is nobody's answer, but known to the simulation: one more thing that must fit.
    this.history.push({ ...operation, endedAt, seen });
    this.#open = undefined;
    this.live();
  }
}
