/** A host of a cluster with a store of the replicated storage, or only a caller of it: of the pieces that make a node. */
import { randomInt } from 'node:crypto';
import type { Env } from '../../src/base/env.js';
import { HybridClock } from '../../src/base/hlc.js';
import { Board } from '../../src/kv/balance/board.js';
import { changedRules, DEFAULT_RULES, type Rules } from '../../src/kv/balance/rules.js';
import { LmdbEngine } from '../../src/kv/io/lmdb-engine.js';
import type { Boundary, Coprocessor } from '../../src/kv/range.js';
import { KvAccess, KvMap } from '../../src/node/kv-access.js';
import { RpcHost } from '../../src/node/rpc-host.js';
import type { AgentOutput } from '../../src/overlay/agent.js';
import { Overlay } from '../../src/overlay/overlay.js';
import { UnderlayDriver } from '../../src/underlay/io/driver.js';
import { DEFAULT_TIMING } from '../../src/underlay/timing.js';
import { Underlay } from '../../src/underlay/underlay.js';
import { KvDirect } from './kv-direct.js';

const VERSION = '0.0.0';
/** Of the cluster, for nodes that are to be in the same one. */
export const ENVIRONMENT = 'kv';
export const CLUSTER_KEY = 'the secret of the storage';
const LOOK_MS = 200;

export interface KvMemberSettings {
  readonly name: string;
  /** Bound by the cluster and by calls. */
  readonly host: string;
  readonly port: number;
  readonly rpcPort: number;
  readonly seeds: readonly string[];
  /** Directory of its storage; a process without one only calls. */
  readonly data?: string;
  readonly rules?: Partial<Rules>;
}

export const memberEnv: Env = {
  clock: { wallMs: () => Date.now(), monotonicMs: () => performance.now() },
  random: { u32: () => randomInt(2 ** 32) },
  log: { debug: () => undefined, info: say, warn: say, error: say },
};

function say(fields: object, message: string): void {
  process.stderr.write(`${new Date().toISOString()} ${message} ${JSON.stringify(fields)}\n`);
}

export class KvMember {
  readonly overlay: Overlay;
  host: KvDirect | undefined;
  access!: KvAccess;
  private readonly settings: KvMemberSettings;
  private readonly whole: Boundary;
  private readonly coprocessor: () => Coprocessor;
  private readonly driver: UnderlayDriver;
  private services!: RpcHost;
  private board: Board | undefined;
  private seen = '';
  private onOutput: (output: AgentOutput) => void = () => undefined;

  constructor(settings: KvMemberSettings, whole: Boundary, coprocessor: () => Coprocessor) {
    const { name, host, port, seeds } = settings;
    this.settings = settings;
    this.whole = whole;
    this.coprocessor = coprocessor;
    const env = memberEnv;
    const clock = new HybridClock();
    const underlay = new Underlay(
      {
        ...{ id: randomInt(1, 2 ** 47), name, address: `${host}:${port}` },
        ...{ version: VERSION, environment: ENVIRONMENT, timing: DEFAULT_TIMING },
      },
      env,
    );
    const listener = (output: AgentOutput) => {
      this.services.onAgentOutput(output);
      this.onOutput(output);
    };
    this.overlay = new Overlay({ underlay, env, clock, listener });
    this.driver = new UnderlayDriver(
      {
        ...{ machine: this.overlay, env, clock, environment: ENVIRONMENT },
        ...{ sockets: { host, port }, keys: [CLUSTER_KEY], seeds },
      },
      { event: () => this.look(), payload: () => undefined, crdt: () => undefined },
    );
  }

  async start(): Promise<void> {
    const { host, rpcPort, data } = this.settings;
    this.services = await RpcHost.open({
      ...{ self: this.overlay.self.id, version: VERSION, env: memberEnv, overlay: this.overlay },
      ...{ host, port: rpcPort, announcedHost: host, tls: undefined },
      overlayUsed: () => this.overlayUsed(),
    });
    if (data === undefined) this.openCaller();
    else this.openStore(data);
    await this.driver.start();
  }

  private overlayUsed(): void {
    queueMicrotask(() => this.driver.act(() => undefined));
  }

  private hosts(): ReadonlySet<number> {
    return new Set(this.overlay.hosts().map(({ record }) => record.id));
  }

  private openStore(path: string): void {
    const { name, rules } = this.settings;
    const { rpc } = this.services;
    const { whole, overlay } = this;
    const map = this.openMap(keys => {
      for (const key of keys) this.host!.host.heard(key, map.get(key));
    });
    this.host = new KvDirect({
      ...{ engine: new LmdbEngine({ path, durability: 'flush' }), env: memberEnv, rpc, name },
      ...{ services: [whole], coprocessors: this.coprocessor },
      publish: changes => {
        map.publish(changes);
        this.overlayUsed();
      },
      failed: error => {
        say({}, `the storage failed: ${String(error)}`);
        process.exit(3);
      },
    });
    const changed = changedRules(DEFAULT_RULES, rules ?? {});
    if (typeof changed === 'string') throw new Error(changed);
    const { host } = this.host;
    host.steward.rules = changed;
    for (const key of map.keys()) host.heard(key, map.get(key));
    setInterval(() => this.look(), LOOK_MS);
    host.standing(false, overlay.self.id, this.hosts());
  }

  private openCaller(): void {
    this.openMap(() => undefined);
    setInterval(() => this.look(), LOOK_MS);
  }

  private openMap(heard: (keys: readonly string[]) => void): KvMap {
    const board = new Board(memberEnv.clock);
    const map = new KvMap(this.overlay, board, keys => {
      heard(keys);
      this.access.changed();
    });
    this.onOutput = output => map.onAgentOutput(output);
    this.access = new KvAccess({ env: memberEnv, rpc: this.services.rpc, board });
    this.board = board;
    return map;
  }

  /** Tells what is new of the hosts. */
  private look(): void {
    const hosts = this.hosts();
    const form = [...hosts].sort((a, b) => a - b).join();
    if (form === this.seen || this.board === undefined) return;
    this.seen = form;
    this.board.hostsAre(hosts);
    this.access.changed();
    this.host?.host.standing(hosts.size > 1, this.overlay.self.id, hosts);
  }
}
