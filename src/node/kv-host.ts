import type { Env } from '../base/env.js';
import type { Closable } from '../base/scope.js';
import { BOUNDARY_BYTES_MAX } from '../kv/balance/account-codec.js';
import type { Board, Publication } from '../kv/balance/board.js';
import { Steward } from '../kv/balance/steward.js';
import { VarintReader } from '../kv/raft/varint.js';
import { type Boundary, NO_HINTS, type RangeHints } from '../kv/range.js';
import type { AttemptCaller, StoreHandler } from '../kv/remote/store-server.js';
import { OUTCOME } from '../kv/replicated/commands.js';
import { readFrameHead } from '../kv/replicated/frames.js';
import type { RaftStore } from '../kv/replicated/raft-store.js';
import type { RangeState } from '../kv/replicated/state.js';
import type { Attempt } from '../kv/route/client.js';
import type { HostId } from '../underlay/message.js';
import type { KvDesk } from './kv-desk.js';

export interface KvHostOptions {
  readonly store: RaftStore;
  /** The store's sink. */
  readonly desk: KvDesk;
  readonly env: Env;
  /** How operators call the store. */
  readonly name: string;
  readonly cores: number;
  /** The key spaces that the store takes ranges of. */
  readonly services: readonly Boundary[];
  /** Whether a range is the store's own; none is if this is not given. */
  isSole?(range: number): boolean;
  /** The shared map is to be changed so. */
  publish(changes: readonly Publication[]): void;
  /** The store is `pending`: have it take a turn, soon and not from within this call. */
  turnSoon(): void;
  /** What a timer's work has thrown: a broken invariant, or storage that cannot be trusted. The host is closed. */
  failed(error: unknown): void;
}

const STEWARD_MS = 1_000;
/** After a change of a range the steward looks this soon, once for all that changes meanwhile. */
const STEWARD_SOON_MS = 20;
/** A look costs more the more ranges there are: so many times what it took it pauses, for news and without any. */
const PAUSE_FOR_NEWS = 10;
const PAUSE_WITHOUT = 200;
const STEWARD_MS_MAX = 10_000;
/** What the own ranges are like is only shown, so their coprocessors are asked no more often. */
const SOLE_HINTS_MS = 10_000;

interface Hinted {
  readonly asked: RangeHints;
  readonly hints: RangeHints;
  readonly appliedIndex: number;
  readonly askedMs: number;
  /** The coprocessor had nothing new to say. */
  readonly isSettled: boolean;
}

/**
 * What drives a store and keeps its house, wherever it runs: its ticks, its steward, and the desk for what it is asked. How
 * bytes come and go is its owner's part, and so are the turns: `turnSoon` asks for one, and `turned` is to be called
 * behind it.
 *
 * Ticks stop while nobody would hear them: a store that has only own ranges, all at rest, costs one look of the steward a
 * second. The steward begins with the first `standing`.
 */
export class KvHost implements Closable, StoreHandler {
  readonly store: RaftStore;
  readonly steward: Steward;
  private readonly options: KvHostOptions;
  private readonly hints = new WeakMap<RangeState, Hinted>();
  private ticker: NodeJS.Timeout | undefined;
  private stewardTimer: NodeJS.Timeout | undefined;
  private stewardDueMs = Number.POSITIVE_INFINITY;
  /** Of the steward's last look: how long it took, and its end. */
  private lookMs = 0;
  private lookedMs = Number.NEGATIVE_INFINITY;
  private hosts: ReadonlySet<HostId> | undefined;
  /** Of the services, those that have a beginning somewhere. */
  private begun: ReadonlySet<number> = new Set();
  private isClosed = false;

  constructor(options: KvHostOptions) {
    const { store, desk, env, name, cores, services, publish } = options;
    this.options = options;
    this.store = store;
    const mayBegin = () => services.filter(({ start }) => !this.begun.has(start[0]!));
    this.steward = new Steward({
      ...{ store, env, publish },
      get services() {
        return mayBegin();
      },
      account: { host: 0, name, cores, draining: false, services: services.map(({ start }) => start[0]!) },
      loadOf: range => ({ ...this.hintsOf(range), ...desk.meter.of(range) }),
      isSole: range => this.isSole(range),
    });
    desk.serve(store, {
      outcome: (session, sequence, outcome) => this.steward.outcome(session, sequence, outcome),
      changed: () => this.careSoon(STEWARD_SOON_MS),
    });
    this.wake();
  }

  get board(): Board {
    return this.steward.board;
  }

  private isSole(range: number): boolean {
    return this.options.isSole?.(range) === true;
  }

  /** Asked again when commands were applied since, and until that gives nothing new. */
  private hintsOf(range: number): RangeHints {
    const { store } = this;
    const replica = store.replica(range);
    const state = replica?.state;
    if (replica === undefined || state?.coprocessor.hints === undefined) return NO_HINTS;
    const { appliedIndex } = replica;
    const known = this.hints.get(state);
    const nowMs = this.options.env.clock.monotonicMs();
    if (known !== undefined) {
      if (known.isSettled && known.appliedIndex === appliedIndex) return known.hints;
      if (this.isSole(range) && nowMs - known.askedMs < SOLE_HINTS_MS) return known.hints;
    }
    const asked = state.coprocessor.hints(store.engine);
    const isSettled = known?.asked === asked;
    // Such a range cannot be divided there: its halves could not be told to the others.
    const isTooLong = asked.splitKey.length > BOUNDARY_BYTES_MAX;
    const hints = isTooLong ? { ...asked, splitKey: NO_HINTS.splitKey } : asked;
    this.hints.set(state, { asked, hints, appliedIndex, askedMs: nowMs, isSettled });
    return hints;
  }

  // -- What comes in -------------------------------------------------------------------------------------------

  frame(bytes: Uint8Array): void {
    const head = readFrameHead(new VarintReader(bytes));
    if (head === undefined || this.isClosed) return;
    this.store.step(head.from, bytes);
    this.wake();
  }

  attempt(attempt: Attempt, caller: AttemptCaller): void {
    if (this.isClosed) return;
    const { range, sequence } = attempt;
    // The ids of own ranges are the same in other stores, and what they do is asked by their services alone.
    if (this.isSole(range))
      caller.answer({ sequence, outcome: OUTCOME.WRONG_RANGE, output: NO_HINTS.splitKey, places: [] });
    else this.options.desk.attempt(attempt, caller, this.store.replica(range) !== undefined);
    this.wake();
  }

  steer(order: Uint8Array, answered: (answer: Uint8Array) => void): void {
    if (this.isClosed) return;
    answered(this.steward.order(order));
    this.careSoon(STEWARD_SOON_MS);
    this.wake();
  }

  /** An entry of the shared map is now this; undefined: it is gone. The bytes are not kept. */
  heard(key: string, bytes: Uint8Array | undefined): void {
    this.board.hear(key, bytes);
    this.careSoon(STEWARD_SOON_MS);
  }

  /**
   * The underlay's view. Not settled: the cluster was not found yet, or this node is out of it, so nothing is changed.
   * `begun`: services that nothing may begin of.
   */
  standing(isSettled: boolean, self: HostId, hosts: ReadonlySet<HostId>, begun = this.begun): void {
    const { name, cores } = this.options;
    this.hosts = hosts;
    this.begun = begun;
    this.steward.isSettled = isSettled;
    this.steward.accountIs({ host: self, name, cores });
    this.careSoon(0);
  }

  // -- What drives it ------------------------------------------------------------------------------------------

  /** The store has had a turn. */
  turned(): void {
    if (this.ticker === undefined) this.tickSoon();
  }

  private wake(): void {
    if (this.store.pending) this.options.turnSoon();
    if (this.ticker === undefined) this.tickSoon();
  }

  private tickSoon(): void {
    if (this.isClosed || !this.store.needsTicks) return;
    this.ticker = this.later(this.store.timing.tickMs, () => {
      this.ticker = undefined;
      this.store.tick();
      this.wake();
    });
  }

  private later(waitMs: number, work: () => void): NodeJS.Timeout {
    return setTimeout(() => {
      try {
        work();
      } catch (error) {
        this.close();
        this.options.failed(error);
      }
    }, waitMs);
  }

  private careSoon(waitMs: number): void {
    if (this.isClosed || this.hosts === undefined) return;
    const nowMs = this.options.env.clock.monotonicMs();
    const dueMs = Math.max(nowMs + waitMs, this.lookedMs + PAUSE_FOR_NEWS * this.lookMs);
    if (dueMs >= this.stewardDueMs) return;
    this.stewardDueMs = dueMs;
    clearTimeout(this.stewardTimer);
    this.stewardTimer = this.later(dueMs - nowMs, () => this.care(this.hosts!));
  }

  private care(hosts: ReadonlySet<HostId>): void {
    const { clock } = this.options.env;
    const beganMs = clock.monotonicMs();
    this.stewardDueMs = Number.POSITIVE_INFINITY;
    this.board.hostsAre(hosts);
    this.steward.tick();
    this.wake();
    this.lookedMs = clock.monotonicMs();
    this.lookMs = this.lookedMs - beganMs;
    this.careSoon(Math.min(Math.max(STEWARD_MS, PAUSE_WITHOUT * this.lookMs), STEWARD_MS_MAX));
  }

  /** Serves nobody any more, at once; what is under way has an unknown outcome. The store is closed with it. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    clearTimeout(this.ticker);
    clearTimeout(this.stewardTimer);
    this.store.close();
  }
}
