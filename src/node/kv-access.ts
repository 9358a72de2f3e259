import type { Env } from '../base/env.js';
import type { Closable } from '../base/scope.js';
import type { Board, Publication } from '../kv/balance/board.js';
import type { Landscape } from '../kv/balance/landscape.js';
import { kvService } from '../kv/remote/service.js';
import { StoreCalls } from '../kv/remote/store-calls.js';
import { randomU53 } from '../kv/replicated/identity.js';
import { type CallSink, KvClient } from '../kv/route/client.js';
import { Route } from '../kv/route/route.js';
import type { Agent, AgentOutput } from '../overlay/agent.js';
import type { AgentHost, Rpc } from '../rpc/rpc.js';

const AGENT = 'kv';
const MAP = 'stores';
/** Changes of the shared map that come within this are looked at once. */
const GATHER_MS = 20;
/** Longest sleep, milliseconds. */
const SLEEP_MAX_MS = 60_000;

/** What the stores tell each other: one shared map of the agent `kv`, read into a board. */
export class KvMap implements Closable {
  private readonly overlay: AgentHost;
  private readonly agent: Agent;
  private readonly board: Board;
  private readonly onChanged: (keys: readonly string[]) => void;
  /** Entries that found no room; they are written again when their account changes. */
  refused = 0;

  constructor(overlay: AgentHost, board: Board, onChanged: (keys: readonly string[]) => void) {
    this.overlay = overlay;
    this.board = board;
    this.onChanged = onChanged;
    this.agent = overlay.host(AGENT);
    this.read(this.keys());
  }

  onAgentOutput(output: AgentOutput): void {
    if (output.agent !== AGENT || output.kind !== 'map-changed' || output.map !== MAP) return;
    this.read(output.keys);
    this.onChanged(output.keys);
  }

  keys(): readonly string[] {
    return [...this.agent.map(MAP).keys()];
  }

  get(key: string): Uint8Array | undefined {
    return this.agent.map(MAP).get(key);
  }

  private read(keys: readonly string[]): void {
    const map = this.agent.map(MAP);
    for (const key of keys) this.board.hear(key, map.get(key));
  }

  /** A store's account outlives its process: its data is still there. */
  publish(changes: readonly Publication[]): void {
    const map = this.agent.map(MAP);
    for (const { key, bytes } of changes) {
      if (bytes === undefined) map.delete(key);
      else if (!map.set(key, bytes, false)) this.refused++;
    }
  }

  close(): void {
    this.overlay.unhost(AGENT);
  }
}

/** One caller of the stores: its calls, their route as the board has it, and the timer. */
export class KvAccess implements Closable {
  readonly client: KvClient;
  private readonly env: Env;
  private readonly board: Board;
  private readonly route = new Route();
  private readonly calls: StoreCalls;
  private seen: Landscape | undefined;
  private timer: NodeJS.Timeout | undefined;
  private armedMs = Number.POSITIVE_INFINITY;
  private gathering: NodeJS.Timeout | undefined;
  private isClosed = false;

  constructor({ env, rpc, board }: { readonly env: Env; readonly rpc: Rpc; readonly board: Board }) {
    this.env = env;
    this.board = board;
    const session = 1 + (randomU53(env.random) % (Number.MAX_SAFE_INTEGER - 1));
    this.calls = new StoreCalls(rpc.client(kvService), session, queueMicrotask);
    this.client = new KvClient(session, this.route, this.calls, env);
    this.calls.sink = {
      answered: (store, sequence, outcome, output, places) => {
        this.client.answered(store, sequence, outcome, output, places);
        this.arm();
      },
      lost: (store, hasBegun) => {
        this.client.lost(store, hasBegun);
        this.arm();
      },
    };
    this.look();
  }

  /** As {@link KvClient.call}; the deadline is `timeoutMs` from now. */
  call(ask: number, key: Uint8Array, body: Uint8Array, timeoutMs: number, sink: CallSink): boolean {
    if (this.isClosed) return false;
    const isTaken = this.client.call(ask, key, body, this.env.clock.monotonicMs() + timeoutMs, sink);
    this.arm();
    return isTaken;
  }

  /** The board has heard something. */
  changed(): void {
    if (this.gathering !== undefined || this.isClosed) return;
    this.gathering = setTimeout(() => {
      this.gathering = undefined;
      this.look();
    }, GATHER_MS);
  }

  private look(): void {
    const landscape = this.board.landscape();
    if (landscape === this.seen) return;
    this.seen = landscape;
    this.route.update(landscape);
    this.client.routeChanged();
    this.client.tick();
    this.arm();
  }

  private arm(): void {
    const dueMs = this.client.nextDeadlineMs;
    if (this.isClosed || dueMs >= this.armedMs) return;
    clearTimeout(this.timer);
    this.armedMs = dueMs;
    const waitMs = Math.ceil(dueMs - this.env.clock.monotonicMs());
    this.timer = setTimeout(
      () => {
        this.armedMs = Number.POSITIVE_INFINITY;
        this.client.tick();
        this.arm();
      },
      Math.min(Math.max(waitMs, 0), SLEEP_MAX_MS),
    );
  }

  /** What is under way ends now. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    clearTimeout(this.timer);
    clearTimeout(this.gathering);
    this.calls.close();
    this.client.close();
  }
}
