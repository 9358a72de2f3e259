import type { Env } from '../base/env.js';
import type { Closable } from '../base/scope.js';
import type { Board } from '../kv/balance/board.js';
import { LOAD_WINDOW_MS, type RangeLoad } from '../kv/balance/landscape.js';
import { Steward } from '../kv/balance/steward.js';
import type { SnapshotEngine } from '../kv/engine.js';
import type { RaftTiming } from '../kv/raft/settings.js';
import { VarintReader } from '../kv/raft/varint.js';
import type { Boundary } from '../kv/range.js';
import { AttemptDesk } from '../kv/remote/attempt-desk.js';
import { kvService, serverIdOf } from '../kv/remote/service.js';
import { StoreLinks } from '../kv/remote/store-links.js';
import { type StoreHandler, storeHandlers } from '../kv/remote/store-server.js';
import { readFrameHead } from '../kv/replicated/frames.js';
import { RaftStore } from '../kv/replicated/raft-store.js';
import type { CoprocessorFactory } from '../kv/replicated/replica-table.js';
import { ASK, type Attempt } from '../kv/route/client.js';
import type { AgentOutput } from '../overlay/agent.js';
import type { AgentHost, Rpc, RunningServer } from '../rpc/rpc.js';
import type { HostId } from '../underlay/message.js';
import { KvAccess, KvMap } from './kv-access.js';

/** What only the coprocessor knows of a range. */
export type RangeSize = Pick<RangeLoad, 'bytes' | 'fanOut' | 'splitKey'>;

export interface KvHostOptions {
  /** Open; the caller closes it behind the host. */
  readonly engine: SnapshotEngine;
  readonly env: Env;
  readonly rpc: Rpc;
  readonly overlay: AgentHost;
  /** This process in the underlay, and how operators call it. */
  readonly self: HostId;
  readonly name: string;
  readonly cores: number;
  /** The key spaces that the stores cover together. */
  readonly services: readonly Boundary[];
  readonly coprocessors: CoprocessorFactory;
  readonly timing?: Partial<RaftTiming>;
  sizeOf(range: number): RangeSize;
  /** The underlay's view. */
  hosts(): ReadonlySet<HostId>;
  /** The cluster was found, or there is none to be found: key spaces may begin. */
  isSettled(): boolean;
  /** The overlay has something to send: have it driven. */
  overlayUsed(): void;
  /** The engine failed for good. The host does nothing any more; what is stored has to be opened again. */
  failed(error: unknown): void;
}

const STEWARD_MS = 1_000;
/** After a change of a range the steward looks this soon, once for all that changes meanwhile. */
const STEWARD_SOON_MS = 20;
/** A look costs more the more ranges there are: so many times what it took it pauses, for news and without any. */
const PAUSE_FOR_NEWS = 10;
const PAUSE_WITHOUT = 200;
const STEWARD_MS_MAX = 10_000;

/**
 * A store in the real world: RaftStore with its desk and its steward, the timers and turns that drive them, the `kv`
 * service for other stores and for callers, and the shared map in which stores tell of themselves.
 *
 * Frames and attempts that come in one turn of the event loop are taken together: the store's turn runs in the check
 * phase, behind all that was read, so one flush serves them all. One turn at a time, then the sockets get theirs.
 */
export class KvHost implements Closable, StoreHandler {
  readonly store: RaftStore;
  readonly steward: Steward;
  readonly links: StoreLinks;
  private readonly options: KvHostOptions;
  private readonly desk: AttemptDesk;
  private readonly map: KvMap;
  private readonly meter: LoadMeter;
  private readonly server: RunningServer;
  private readonly accesses = new Set<KvAccess>();
  private readonly ticker: NodeJS.Timeout;
  private stewardTimer: NodeJS.Timeout | undefined;
  private stewardDueMs = Number.POSITIVE_INFINITY;
  /** Of the steward's last look: how long it took, and its end. */
  private lookMs = 0;
  private lookedMs = Number.NEGATIVE_INFINITY;
  private isTurning = false;
  private isClosed = false;

  /** Opens what the engine holds, and serves it. Throws what RaftStore throws. */
  constructor(options: KvHostOptions) {
    const { engine, env, rpc, overlay, self, name, cores, services, coprocessors, timing } = options;
    this.options = options;
    this.meter = new LoadMeter(() => env.clock.monotonicMs());
    const isLeased =
      timing === undefined || !('clockDriftMax' in timing) || timing.clockDriftMax !== undefined;
    this.desk = new AttemptDesk(isLeased ? 'lease' : 'index');
    this.desk.onChanged = () => this.careSoon(STEWARD_SOON_MS);
    // What a broken stream says the stores find out themselves: what they say is their sign of life.
    this.links = new StoreLinks(rpc.client(kvService), () => undefined);
    const { desk } = this;
    this.store = new RaftStore({
      engine,
      env,
      coprocessors,
      sink: {
        outcome: (range, session, sequence, outcome, bytes, start, end) => {
          this.steward?.outcome(session, sequence, outcome);
          desk.outcome(range, session, sequence, outcome, bytes, start, end);
        },
        readable: (range, context) => desk.readable(range, context),
        readRefused: (range, context, reason) => desk.readRefused(range, context, reason),
        changed: range => desk.changed(range),
      },
      send: (store, frame) => this.links.send(store, frame),
      ...(timing === undefined ? {} : { timing }),
    });
    desk.serve(this.store);
    this.steward = new Steward({
      store: this.store,
      env,
      account: { host: self, name, cores, draining: false, services: services.map(({ start }) => start[0]!) },
      services,
      loadOf: range => ({ ...options.sizeOf(range), ...this.meter.of(range) }),
      publish: changes => {
        this.map.publish(changes);
        options.overlayUsed();
      },
    });
    this.map = new KvMap(overlay, this.board, () => {
      this.careSoon(STEWARD_SOON_MS);
      for (const access of this.accesses) access.changed();
    });
    this.server = rpc.serve(kvService, storeHandlers(this, queueMicrotask), {
      id: serverIdOf(this.store.id),
    });
    this.ticker = setInterval(() => this.tick(), this.store.timing.tickMs);
    this.careSoon(0);
    this.turnSoon();
  }

  get board(): Board {
    return this.steward.board;
  }

  /** To be told of everything; what is not of the stores' agent is passed over. */
  onAgentOutput(output: AgentOutput): void {
    if (!this.isClosed) this.map.onAgentOutput(output);
  }

  /** The underlay's view has changed. */
  hostsChanged(): void {
    this.careSoon(STEWARD_SOON_MS);
  }

  /** A caller in this process, which ends with the host at the latest. */
  access(): KvAccess {
    const { env, rpc } = this.options;
    const access = new KvAccess({ env, rpc, board: this.board });
    this.accesses.add(access);
    return access;
  }

  // -- What comes in -------------------------------------------------------------------------------------------

  frame(bytes: Uint8Array): void {
    const head = readFrameHead(new VarintReader(bytes));
    if (head === undefined || this.isClosed) return;
    this.store.step(head.from, bytes);
    this.turnSoon();
  }

  attempt(attempt: Attempt, caller: Parameters<StoreHandler['attempt']>[1]): void {
    if (this.isClosed) return;
    if (this.store.replica(attempt.range) !== undefined)
      this.meter.count(attempt.range, attempt.ask === ASK.MUTATE);
    this.desk.attempt(attempt, caller);
    this.turnSoon();
  }

  // -- What drives it ------------------------------------------------------------------------------------------

  private tick(): void {
    this.store.tick();
    this.turnSoon();
  }

  private turnSoon(): void {
    if (this.isTurning || this.isClosed || !this.store.pending) return;
    this.isTurning = true;
    setImmediate(() => this.turn());
  }

  private turn(): void {
    this.isTurning = false;
    if (this.isClosed) return;
    try {
      this.store.turn();
    } catch (error) {
      this.close();
      this.options.failed(error);
      return;
    }
    this.turnSoon();
  }

  private careSoon(waitMs: number): void {
    if (this.isClosed) return;
    const nowMs = this.options.env.clock.monotonicMs();
    const dueMs = Math.max(nowMs + waitMs, this.lookedMs + PAUSE_FOR_NEWS * this.lookMs);
    if (dueMs >= this.stewardDueMs) return;
    this.stewardDueMs = dueMs;
    clearTimeout(this.stewardTimer);
    this.stewardTimer = setTimeout(() => this.care(), dueMs - nowMs);
  }

  private care(): void {
    const { clock } = this.options.env;
    const beganMs = clock.monotonicMs();
    this.stewardDueMs = Number.POSITIVE_INFINITY;
    this.steward.isSettled ||= this.options.isSettled();
    this.board.hostsAre(this.options.hosts());
    this.steward.tick();
    for (const access of this.accesses) access.changed();
    this.turnSoon();
    this.lookedMs = clock.monotonicMs();
    this.lookMs = this.lookedMs - beganMs;
    this.careSoon(Math.min(Math.max(STEWARD_MS, PAUSE_WITHOUT * this.lookMs), STEWARD_MS_MAX));
  }

  /** Serves nobody any more, at once; what is under way has an unknown outcome. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    clearInterval(this.ticker);
    clearTimeout(this.stewardTimer);
    for (const access of this.accesses) access.close();
    this.server.close();
    this.links.close();
    this.store.close();
    this.map.close();
    this.options.overlayUsed();
  }
}

interface Counts {
  sinceMs: number;
  writes: number;
  queries: number;
  writesPerSecond: number;
  queriesPerSecond: number;
}

/** Means over a window that has just ended; of the ranges that were asked in it. */
class LoadMeter {
  private readonly nowMs: () => number;
  private readonly byRange = new Map<number, Counts>();

  constructor(nowMs: () => number) {
    this.nowMs = nowMs;
  }

  count(range: number, isWrite: boolean): void {
    let counts = this.byRange.get(range);
    if (counts === undefined) {
      if (this.byRange.size >= METERED_MAX) this.byRange.clear();
      counts = { sinceMs: this.nowMs(), writes: 0, queries: 0, writesPerSecond: 0, queriesPerSecond: 0 };
      this.byRange.set(range, counts);
    }
    if (isWrite) counts.writes++;
    else counts.queries++;
  }

  of(range: number): Pick<RangeLoad, 'writesPerSecond' | 'queriesPerSecond' | 'queryMicros'> {
    const counts = this.byRange.get(range);
    if (counts === undefined) return IDLE;
    const tookMs = this.nowMs() - counts.sinceMs;
    if (tookMs >= LOAD_WINDOW_MS) {
      if (counts.writes + counts.queries === 0) this.byRange.delete(range);
      counts.writesPerSecond = (counts.writes * 1000) / tookMs;
      counts.queriesPerSecond = (counts.queries * 1000) / tookMs;
      counts.writes = 0;
      counts.queries = 0;
      counts.sinceMs = this.nowMs();
    }
    const { writesPerSecond, queriesPerSecond } = counts;
    return { writesPerSecond, queriesPerSecond, queryMicros: 0 };
  }
}

/** Ranges that are counted. Those that went are forgotten with all others, which only begin anew. */
const METERED_MAX = 16_384;
const IDLE = { writesPerSecond: 0, queriesPerSecond: 0, queryMicros: 0 };
