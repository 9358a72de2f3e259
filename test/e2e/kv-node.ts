/**
 * `node kv-node.js SETTINGS`: a host of a cluster with a store of the replicated storage, or only a caller of it, made of
 * the pieces of which a node is made and nothing else. Obeys lines on its standard input, and ends with it.
 */
import { randomInt } from 'node:crypto';
import { createInterface } from 'node:readline';
import type { Env } from '../../src/base/env.js';
import { HybridClock } from '../../src/base/hlc.js';
import { Board } from '../../src/kv/balance/board.js';
import { changedRules, DEFAULT_RULES } from '../../src/kv/balance/rules.js';
import { LmdbEngine } from '../../src/kv/io/lmdb-engine.js';
import { KvAccess, KvMap } from '../../src/node/kv-access.js';
import { KvHost } from '../../src/node/kv-host.js';
import { RpcHost } from '../../src/node/rpc-host.js';
import type { AgentOutput } from '../../src/overlay/agent.js';
import { Overlay } from '../../src/overlay/overlay.js';
import { UnderlayDriver } from '../../src/underlay/io/driver.js';
import { DEFAULT_TIMING } from '../../src/underlay/timing.js';
import { Underlay } from '../../src/underlay/underlay.js';
import { HistoryWriter } from './kv-history.js';
import { KvLoad } from './kv-load.js';
import { Registers, WHOLE } from './kv-registers.js';
import type { KvCommandName, KvCommands, KvLine, KvSettings } from './kv-words.js';

const VERSION = '0.0.0';
const ENVIRONMENT = 'kv';

const env: Env = {
  clock: { wallMs: () => Date.now(), monotonicMs: () => performance.now() },
  random: { u32: () => randomInt(2 ** 32) },
  log: { debug: () => undefined, info: say, warn: say, error: say },
};

function say(fields: object, message: string): void {
  process.stderr.write(`${new Date().toISOString()} ${message} ${JSON.stringify(fields)}\n`);
}

function write(line: KvLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

class KvNode {
  private readonly settings: KvSettings;
  private readonly overlay: Overlay;
  private readonly driver: UnderlayDriver;
  private readonly history: HistoryWriter;
  private services!: RpcHost;
  private host: KvHost | undefined;
  private access!: KvAccess;
  private onOutput: (output: AgentOutput) => void = () => undefined;
  private load: KvLoad | undefined;

  constructor(settings: KvSettings) {
    const { name, host, port, seeds } = settings;
    this.settings = settings;
    this.history = new HistoryWriter(settings.history);
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
        ...{ sockets: { host, port }, keys: ['the secret of the registers'], seeds },
      },
      { event: () => this.host?.hostsChanged(), payload: () => undefined, crdt: () => undefined },
    );
  }

  async start(): Promise<void> {
    const { host, rpcPort } = this.settings;
    this.services = await RpcHost.open({
      ...{ self: this.overlay.self.id, version: VERSION, env, overlay: this.overlay },
      ...{ host, port: rpcPort, announcedHost: host, tls: undefined },
      overlayUsed: () => this.overlayUsed(),
    });
    if (this.settings.data === undefined) this.openCaller();
    else this.openStore(this.settings.data);
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
    this.host = new KvHost({
      ...{ engine: new LmdbEngine({ path, durability: 'flush' }), env, rpc, overlay: this.overlay },
      ...{ self: this.overlay.self.id, name, cores: 1, services: [WHOLE] },
      coprocessors: () => new Registers(),
      sizeOf: () => ({ bytes: 0, fanOut: 0, splitKey: new Uint8Array() }),
      hosts: () => this.hosts(),
      isSettled: () => this.overlay.hosts().length > 1,
      overlayUsed: () => this.overlayUsed(),
      failed: error => {
        say({}, `the storage failed: ${String(error)}`);
        process.exit(3);
      },
    });
    const changed = changedRules(DEFAULT_RULES, rules ?? {});
    if (typeof changed === 'string') throw new Error(changed);
    this.host.steward.rules = changed;
    this.onOutput = output => this.host!.onAgentOutput(output);
    this.access = this.host.access();
  }

  private openCaller(): void {
    const board = new Board(env.clock);
    const map = new KvMap(this.overlay, board, () => this.access.changed());
    this.onOutput = output => map.onAgentOutput(output);
    this.access = new KvAccess({ env, rpc: this.services.rpc, board });
    setInterval(() => {
      board.hostsAre(this.hosts());
      this.access.changed();
    }, 200);
  }

  readonly commands: {
    readonly [K in KvCommandName]: (
      input: KvCommands[K]['with'],
    ) => KvCommands[K]['gives'] | Promise<KvCommands[K]['gives']>;
  } = {
    load: options => {
      this.load = new KvLoad(this.access, this.history, options, Math.random);
      return null;
    },
    rest: async () => {
      await this.load?.rest();
      return null;
    },
    answered: ({ sinceMs }) => this.load!.answered(sinceMs),
    reread: () => this.load!.reread(),
    look: () => {
      const { store } = this.host!;
      const replicas = [...store.replicas].map(({ rangeId, isLeader, raft, appliedIndex, descriptor }) => ({
        ...{ range: rangeId, leads: isLeader, term: raft.term, applied: appliedIndex },
        voters: raft.configuration.voters.length,
        changing: descriptor?.changing ?? true,
      }));
      const hosts = this.overlay.hosts().map(({ record }) => record.name);
      return { store: store.id, full: store.failures, replicas, hosts: hosts.sort() };
    },
  };
}

const node = new KvNode(JSON.parse(process.argv[2] ?? '') as KvSettings);
await node.start();
const lines = createInterface({ input: process.stdin });
lines.on('line', text => {
  const { number, name, input } = JSON.parse(text) as { number: number; name: KvCommandName; input: never };
  void Promise.resolve(node.commands[name](input)).then(value => write({ answer: number, value }));
});
lines.on('close', () => process.exit(1));
write({ ready: true });
