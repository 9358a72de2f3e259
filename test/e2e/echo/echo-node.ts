/**
 * `node echo-node.js SETTINGS`: a host of a cluster that serves and calls `echo`, made of the pieces of which a node is
 * made (src/node/cluster.ts) and nothing else. Obeys lines on its standard input, and ends with it; ends in order when
 * it gets SIGTERM.
 */
import { randomInt } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Env } from '../../../src/base/env.js';
import { HybridClock } from '../../../src/base/hlc.js';
import { RpcHost } from '../../../src/node/rpc-host.js';
import { Overlay } from '../../../src/overlay/overlay.js';
import type { Client } from '../../../src/rpc/client.js';
import type { Reply } from '../../../src/rpc/handler.js';
import { UnderlayDriver } from '../../../src/underlay/io/driver.js';
import { DEFAULT_TIMING } from '../../../src/underlay/timing.js';
import { type HostEvent, Underlay } from '../../../src/underlay/underlay.js';
import type { Line } from '../told-process.js';
import { Load } from './echo-load.js';
import { type CommandName, type Commands, type EchoSettings, echo, type Told } from './echo-service.js';

const VERSION = '0.0.0';
/** A handler takes its time, so that there is always something under way when a server dies. */
const SERVICE_MS = 2;
const DRAIN_MS = 5_000;

const env: Env = {
  clock: { wallMs: () => Date.now(), monotonicMs: () => performance.now() },
  random: { u32: () => randomInt(2 ** 32) },
  log: { debug: () => undefined, info: say, warn: say, error: say },
};

function say(fields: object, message: string): void {
  process.stderr.write(`${message} ${JSON.stringify(fields)}\n`);
}

function write(line: Line<Told>): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

class EchoNode {
  private readonly settings: EchoSettings;
  private readonly overlay: Overlay;
  private readonly driver: UnderlayDriver;
  private readonly journal: number;
  private services!: RpcHost;
  private client!: Client<typeof echo.methods>;
  private load!: Load;

  constructor(settings: EchoSettings) {
    const { name, host, port, seeds } = settings;
    this.settings = settings;
    this.journal = openSync(settings.journal, 'a');
    const clock = new HybridClock();
    const id = randomInt(1, 2 ** 47);
    const address = `${host}:${port}`;
    const underlay = new Underlay(
      { id, name, address, version: VERSION, environment: 'echo', timing: DEFAULT_TIMING },
      env,
    );
    const listener = (output: Parameters<RpcHost['onAgentOutput']>[0]) => this.services.onAgentOutput(output);
    this.overlay = new Overlay({ underlay, env, clock, listener });
    this.driver = new UnderlayDriver(
      {
        machine: this.overlay,
        env,
        clock,
        environment: 'echo',
        sockets: { host, port },
        keys: ['the secret of the echo'],
        seeds,
      },
      { event: event => this.onEvent(event), payload: () => undefined, crdt: () => undefined },
    );
  }

  async start(): Promise<void> {
    const { host, rpcPort } = this.settings;
    this.services = await RpcHost.open({
      self: this.overlay.self.id,
      version: VERSION,
      env,
      host,
      port: rpcPort,
      announcedHost: host,
      tls: undefined,
      overlay: this.overlay,
      overlayUsed: () => this.driver.act(() => undefined),
    });
    this.client = this.services.rpc.client(echo);
    this.load = new Load(this.client, `${this.settings.name}.${this.overlay.self.id}.`);
    await this.driver.start();
  }

  readonly commands: {
    readonly [K in CommandName]: (
      input: Commands[K]['with'],
    ) => Commands[K]['gives'] | Promise<Commands[K]['gives']>;
  } = {
    serve: ({ id }) => {
      this.serve(id);
      return null;
    },
    servers: () =>
      this.services.rpc
        .view(echo.name)
        .servers()
        .map(({ announcement, isLocal, brokenForMs }) => {
          return { id: announcement.id, isLocal, isBroken: brokenForMs >= 0 };
        }),
    hosts: () =>
      this.overlay
        .hosts()
        .map(({ record, state }) => (state === 'alive' ? record.name : `${record.name} (${state})`))
        .sort(),
    ask: ({ method, requests, deadlineMs }) =>
      Promise.all(
        requests.map(async request => {
          const result = await this.client[method].ask(request, { deadlineMs });
          return result.kind === 'ok' ? result.value : `${result.kind}: ${result.detail}`;
        }),
      ),
    load: options => {
      this.load.begin(options);
      return null;
    },
    lap: () => this.load.lap(),
    rest: async () => {
      await this.load.rest();
      return this.load.lap();
    },
    account: () => this.load.account(),
  };

  /** As the node itself does it (Cluster.sayGoodbye). */
  async stop(): Promise<void> {
    await this.services.drain(DRAIN_MS);
    await this.driver.leave();
    await this.driver.close();
    await this.services.close();
    closeSync(this.journal);
  }

  private serve(id: string): void {
    const answer = (_request: string, reply: Reply<string>): void => {
      setTimeout(() => reply.done(id), SERVICE_MS);
    };
    const once = (request: string, reply: Reply<string>): void => {
      writeSync(this.journal, `${request}\n`);
      answer(request, reply);
    };
    const line = () => ({ request: answer });
    const handlers = { any: answer, turn: answer, keyed: answer, direct: answer, line, once };
    this.services.own(this.services.rpc.serve(echo, handlers, { id }));
  }

  private onEvent(event: HostEvent): void {
    if (event.kind !== 'joined' && event.kind !== 'gone') return;
    write({ told: { name: event.host.name, kind: event.kind, atMs: Date.now() } });
  }
}

const node = new EchoNode(JSON.parse(process.argv[2] ?? '') as EchoSettings);
await node.start();
process.once('SIGTERM', () => void node.stop().then(() => process.exit(0)));
const lines = createInterface({ input: process.stdin });
lines.on('line', text => {
  const { number, name, input } = JSON.parse(text) as { number: number; name: CommandName; input: never };
  void Promise.resolve(node.commands[name](input)).then(value => write({ answer: number, value }));
});
lines.on('close', () => process.exit(1));
write({ ready: true });
