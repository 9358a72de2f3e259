import type { Env } from '../../src/base/env.js';
import type { AgentOutput } from '../../src/overlay/agent.js';
import type { Overlay } from '../../src/overlay/overlay.js';
import { Rpc, type RunningServer } from '../../src/rpc/rpc.js';
import { defineService, nothing, unary } from '../../src/rpc/service.js';
import type { RpcChannel } from '../../src/rpc/transport.js';
import type { SeededRandom } from './random.js';

/** Nobody calls it: what is played is who knows whom. */
const service = defineService('sim', {
  ping: unary({ request: nothing, response: nothing, balance: 'weighted-random' }),
});

const GROUPS = ['red', 'blue', 'green'] as const;
const PREFIXES = ['', 'a', 'ac', 'acme-', 'b'] as const;

/** The services of one host: a server that comes and goes, and directives that change. */
export class Services {
  private readonly rpc: Rpc;
  private readonly label: string;
  private readonly address: string;
  private readonly turns: (() => void)[] = [];
  private server: RunningServer;
  private servers = 0;

  /** `used`: the overlay has something to send. */
  constructor(overlay: Overlay, env: Env, label: string, used: () => void) {
    this.label = label;
    this.address = `${overlay.self.address.replace(/:\d+$/, '')}:${overlay.self.id % 60_000}`;
    this.rpc = new Rpc({
      self: overlay.self.id,
      address: this.address,
      version: '1',
      env,
      transport: { open: silentChannel },
      overlay,
      soon: run => this.turns.push(run),
      overlayUsed: used,
    });
    this.server = this.serve([]);
  }

  act(random: SeededRandom): void {
    const dice = random.below(100);
    const view = this.rpc.view(service.name);
    const prefix = random.pick(PREFIXES);
    if (dice < 50) this.replace(random);
    else if (dice < 80) view.setTraffic(prefix, { [random.pick(GROUPS)]: random.below(11), '': 1 });
    else view.unsetTraffic(prefix);
    this.settle();
  }

  onTurn(outputs: readonly AgentOutput[]): void {
    this.rpc.onAgentOutputs(outputs);
    this.rpc.tick();
    this.settle();
  }

  /** What this host knows of the service, in words. */
  picture(): string {
    const view = this.rpc.view(service.name);
    const servers = view.servers().map(({ host, announcement }) => {
      const { id, address, groups, draining } = announcement;
      return `${id} of ${host} at ${address}: ${groups.join(' ')}${draining ? ', draining' : ''}`;
    });
    const traffic = view.traffic().map(({ prefix, weights }) => `${prefix}* ${JSON.stringify(weights)}`);
    return [...servers.sort(), ...traffic].join('\n');
  }

  /** Why the own server is not in the picture, or more is kept than is in it. */
  fault(): string | undefined {
    const servers = this.rpc.view(service.name).servers();
    const own = servers.filter(({ isLocal }) => isLocal).map(({ announcement }) => announcement.id);
    if (own.join(' ') !== this.server.id)
      return `knows "${own.join(' ')}" of itself, serves ${this.server.id}`;
    const { links, served } = this.rpc.entries();
    const others = new Set(servers.map(({ announcement }) => announcement.address));
    others.delete(this.address);
    if (links !== others.size) return `has ${links} channels for ${others.size} addresses`;
    return served === 1 ? undefined : `serves ${served} servers`;
  }

  private replace(random: SeededRandom): void {
    const before = this.server;
    if (random.chance(0.5)) before.close();
    else before.drain({ graceMs: 300, timeoutMs: 2_000 }, () => {});
    this.server = this.serve(random.chance(0.3) ? [] : [random.pick(GROUPS)]);
  }

  private serve(groups: readonly string[]): RunningServer {
    this.servers++;
    const id = `${this.label}-${this.servers}`;
    return this.rpc.serve(service, { ping: (_request, reply) => reply.done(null) }, { id, groups });
  }

  private settle(): void {
    for (let run = this.turns.shift(); run !== undefined; run = this.turns.shift()) run();
  }
}

function silentChannel(address: string): RpcChannel {
  const nobody = (): never => {
    throw new Error('nobody calls');
  };
  return { address, onState: undefined, unary: nobody, stream: nobody, connect() {}, close() {} };
}
