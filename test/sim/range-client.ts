import { Board } from '../../src/kv/balance/board.js';
import { OUTCOME } from '../../src/kv/replicated/commands.js';
import { ASK, type Attempt, KvClient } from '../../src/kv/route/client.js';
import { Route } from '../../src/kv/route/route.js';
import { OPERATION } from './linearizability.js';
import type { Process, SimNode } from './node.js';
import type { SeededRandom } from './random.js';
import { Gossip, type Parcel } from './range-gossip.js';
import type { RangeOperation } from './range-recovery.js';
import { encodeOperation, registerKey } from './range-store.js';
import type { RangeWorld } from './range-world.js';
import { fail } from './underlay-checkers.js';

const LOOK_MS = 200;
const LATE_MS_MAX = 20_000;

/** Does one operation after another on registers, by the product's own client. */
export class RangeClient implements Process {
  readonly history: RangeOperation[] = [];
  readonly node: SimNode;
  /** Under way. */
  readonly open = new Set<RangeOperation>();
  unknown = 0;
  refused = 0;
  readonly #world: RangeWorld;
  readonly #session: number;
  #lastNumber = 0;
  readonly #byBody = new Map<Uint8Array, RangeOperation>();
  readonly #done = new Set<number>();
  readonly #random: SeededRandom;
  readonly #client: KvClient;
  readonly #route = new Route();
  readonly #board: Board;
  readonly #gossip: Gossip;
  #seen: unknown;
  #nextLookMs = 0;
  #nextOperationMs = 0;
  readonly #known = new Map<number, number>();
  readonly #patience = new Map<number, { store: number; untilMs: number }>();

  constructor(world: RangeWorld, node: SimNode, session: number) {
    this.#world = world;
    this.node = node;
    this.#session = session;
    this.#random = world.random.fork(node.label);
    this.#gossip = new Gossip(this.#random, 1, node.index);
    const clock = { wallMs: () => node.clock.wallMs(), monotonicMs: () => node.clock.monotonicMs() };
    this.#board = new Board(clock);
    this.#gossip.onEntry = (key, bytes) => this.#board.hear(key, bytes);
    const wire = { send: (store: number, attempt: Attempt) => this.#send(store, attempt) };
    this.#client = new KvClient(session, this.#route, wire, { clock, random: this.#random });
  }

  start(): void {
    this.node.start(this);
  }

  #send(store: number, attempt: Attempt): boolean {
    const to = this.#world.nodeOf(store);
    if (to === undefined) return false;
    this.#byBody.get(attempt.body)!.sequence = attempt.sequence;
    const parcel = (): Parcel => ({ kind: 'attempt', attempt, client: this.node, hasCome: false });
    const { network, time, lateness } = this.#world;
    network.send(this.node, to.address, 'datagram', parcel(), 80);
    // A copy that was held up somewhere, until long after its answer. Of what was answered only: what comes by a stream
    // comes once, and the client counts on that when it gives what was not done another number, or says that it was not.
    if (this.#random.chance(lateness))
      time.after(this.#random.between(100, LATE_MS_MAX), () => {
        if (this.#done.has(attempt.sequence)) network.send(this.node, to.address, 'datagram', parcel(), 80);
      });
    const untilMs = this.node.clock.monotonicMs() + this.#random.between(300, 3000);
    this.#patience.set(attempt.sequence, { store, untilMs });
    return true;
  }

  receive(payload: unknown): void {
    const parcel = payload as Parcel;
    if (parcel.kind === 'gossip') this.#gossip.hear(parcel.entries);
    else if (parcel.kind === 'answer') {
      const { sequence, outcome, output, places } = parcel.answer;
      // What was given up stands for a stream that broke: nothing more comes of it.
      if (this.#patience.get(sequence)?.store !== parcel.store) return;
      this.#patience.delete(sequence);
      const isOpen = [...this.open].some(operation => operation.sequence === sequence);
      // Ranges are told the lowest number without answer, and here nobody has nearly as many above it as they keep.
      if (isOpen && outcome === OUTCOME.FORGOTTEN)
        fail(`a range has forgotten number ${sequence}, which has no answer`);
      this.#client.answered(parcel.store, sequence, outcome, output, places);
    }
  }

  unreachable(): void {}

  nextWakeMs(): number {
    return Math.min(this.#nextLookMs, this.#client.nextDeadlineMs);
  }

  wake(): void {
    const nowMs = this.node.clock.monotonicMs();
    if (nowMs >= this.#nextLookMs) {
      this.#nextLookMs = nowMs + LOOK_MS;
      this.#board.hostsAre(this.#gossip.hostsAlive(nowMs));
      const landscape = this.#board.landscape();
      if (landscape !== this.#seen) {
        this.#seen = landscape;
        this.#route.update(landscape);
        this.#client.routeChanged();
      }
      for (const [sequence, { store, untilMs }] of this.#patience) {
        if (nowMs < untilMs) continue;
        this.#patience.delete(sequence);
        this.#client.lost(store, () => true);
      }
      const hasRoom = this.open.size < this.#world.settings.pipeline;
      if (hasRoom && nowMs >= this.#nextOperationMs && this.#world.isWorking) this.#begin(nowMs);
    }
    this.#client.tick();
  }

  #begin(nowMs: number): void {
    const { time, settings } = this.#world;
    const key = this.#random.below(settings.registers);
    const draw = this.#random.fraction();
    const kind = draw < 0.4 ? OPERATION.READ : draw < 0.75 ? OPERATION.WRITE : OPERATION.SWAP;
    const operation: RangeOperation = {
      ...{ session: this.#session, number: ++this.#lastNumber, sequence: 0 },
      ...{ kind, key },
      value: kind === OPERATION.READ ? 0 : this.#world.newValue(),
      expected: kind === OPERATION.SWAP ? (this.#known.get(key) ?? 0) : 0,
      ...{ seen: undefined, startedAt: time.nowMs, endedAt: Number.POSITIVE_INFINITY },
    };
    this.open.add(operation);
    const { value, expected } = operation;
    const body = encodeOperation(kind, key, value, expected);
    this.#byBody.set(body, operation);
    const ask = kind === OPERATION.READ ? ASK.QUERY : ASK.MUTATE;
    this.#client.call(ask, registerKey(key), body, nowMs + settings.deadlineMs, {
      done: output => {
        this.#done.add(operation.sequence);
        const seen = output === undefined ? undefined : Buffer.from(output).readDoubleLE(0);
        if (seen !== undefined) this.#known.set(key, kind === OPERATION.WRITE ? value : seen);
        this.#byBody.delete(body);
        this.#end(operation, { ...operation, seen, endedAt: time.nowMs });
      },
      // It never was and never will be.
      notDone: () => {
        this.refused++;
        this.#world.notDone(operation);
        this.#byBody.delete(body);
        this.#end(operation, undefined);
      },
      unknown: () => {
        this.unknown++;
        this.#world.unanswered(operation);
        this.#byBody.delete(body);
        this.#end(operation, operation);
      },
    });
  }

  #end(open: RangeOperation, ended: RangeOperation | undefined): void {
    if (ended !== undefined && (ended.kind !== OPERATION.READ || ended.seen !== undefined))
      this.history.push(ended);
    this.open.delete(open);
    this.#nextOperationMs = this.node.clock.monotonicMs() + this.#random.between(0, 2 * this.#world.thinkMs);
  }
}
