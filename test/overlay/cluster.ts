import { HybridClock } from '../../src/base/hlc.js';
import type { Agent, AgentOutput } from '../../src/overlay/agent.js';
import { Overlay, type OverlayReady } from '../../src/overlay/overlay.js';
import { environmentHash } from '../../src/underlay/environment.js';
import type { Address, HostId, Message, Path } from '../../src/underlay/message.js';
import { DEFAULT_TIMING } from '../../src/underlay/timing.js';
import { Underlay } from '../../src/underlay/underlay.js';
import { seededRandom } from '../underlay/loop.js';
import { VirtualTime } from '../underlay/virtual-time.js';
import { Replay } from './replay.js';

const DELAY_MS = 1;
const START_MS = 1_780_000_000_000;

export interface Sent {
  readonly from: Host;
  readonly to: Host;
  readonly path: Path;
  readonly messages: readonly Message[];
}

/** One host: an overlay on an underlay, and what it was told. */
export class Host {
  readonly name: string;
  readonly address: Address;
  readonly overlay: Overlay;
  readonly outputs: AgentOutput[] = [];
  /** By agent: what the outputs alone say. */
  readonly replays = new Map<string, Replay>();
  readonly passed: OverlayReady[] = [];
  /** Of its packets. */
  readonly environment = environmentHash('test');
  isStopped = false;

  constructor(name: string, overlay: Overlay) {
    this.name = name;
    this.address = overlay.self.address;
    this.overlay = overlay;
  }

  get id(): HostId {
    return this.overlay.self.id;
  }

  replay(agent: string): Replay {
    let replay = this.replays.get(agent);
    if (replay === undefined) this.replays.set(agent, (replay = new Replay(`${this.name} ${agent}`)));
    return replay;
  }

  take<K extends AgentOutput['kind']>(kind: K): (AgentOutput & { readonly kind: K })[] {
    const taken = this.outputs.filter(output => output.kind === kind);
    const left = this.outputs.filter(output => output.kind !== kind);
    this.outputs.splice(0, this.outputs.length, ...left);
    return taken as (AgentOutput & { readonly kind: K })[];
  }

  /** The texts of the messages that arrived for `member`, in order. */
  texts(member: string): string[] {
    return this.outputs.flatMap(output =>
      output.kind === 'message' && output.to === member ? [Buffer.from(output.bytes).toString()] : [],
    );
  }
}

/** A few hosts in one virtual time. What the underlay's test/underlay/loop.ts is, for overlays. */
export class Cluster extends VirtualTime<Host> {
  /** True: it does not arrive. */
  fault: (sent: Sent) => boolean = () => false;
  readonly random: { u32(): number };

  constructor(seed = 1) {
    super();
    this.random = seededRandom(seed);
  }

  start(name: string, listener?: (output: AgentOutput) => void, address = `${name}:4800`): Host {
    const quiet = () => {};
    const env = {
      clock: { wallMs: () => START_MS + this.nowMs, monotonicMs: () => this.nowMs },
      random: seededRandom(this.random.u32()),
      log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
    };
    const id = 1 + this.random.u32() * 1_000 + this.hosts.length;
    const options = { id, name, address, version: '1', environment: 'test', timing: DEFAULT_TIMING };
    const underlay = new Underlay(options, env);
    const clock = new HybridClock();
    const overlay = new Overlay({ underlay, env, clock, ...(listener === undefined ? {} : { listener }) });
    const host = new Host(name, overlay);
    overlay.setSeeds(this.hosts.length === 0 ? [] : [this.hosts[0]!.address]);
    this.hosts.push(host);
    this.flush(host);
    return host;
  }

  /** Starts hosts `h0` to `h<count - 1>` that carry the agent, and waits until all see all. */
  static of(count: number, agent: string, seed = 1): { cluster: Cluster; hosts: Host[]; agents: Agent[] } {
    const cluster = new Cluster(seed);
    const hosts = Array.from({ length: count }, (_, at) => cluster.start(`h${at}`));
    const agents = hosts.map(host => host.overlay.host(agent));
    for (const host of hosts) cluster.flush(host);
    cluster.runUntil(() => agents.every(one => one.hosts().length === count), 30_000);
    return { cluster, hosts, agents };
  }

  stop(host: Host): void {
    host.isStopped = true;
  }

  /** Does something to a host, and what comes of it. */
  act<T>(host: Host, action: (overlay: Overlay) => T): T {
    const outcome = action(host.overlay);
    this.flush(host);
    return outcome;
  }

  flush(host: Host): void {
    const ready = host.overlay.ready();
    host.outputs.push(...ready.agents);
    if (ready.payloads.length > 0 || ready.crdt.length > 0) host.passed.push(ready);
    for (const output of ready.agents) host.replay(output.agent).apply(output);
    for (const { to, path, messages } of ready.sends) this.carry(host, to, path, messages);
  }

  protected override dueMs(host: Host): number {
    return host.isStopped ? Number.POSITIVE_INFINITY : host.overlay.nextDeadlineMs();
  }

  protected override tick(host: Host): void {
    this.act(host, overlay => overlay.tick());
  }

  private carry(from: Host, address: Address, path: Path, messages: readonly Message[]): void {
    const { id, incarnation } = from.overlay.self;
    const packet = {
      environment: from.environment,
      from: id,
      incarnation,
      hlc: 0,
      wallMs: START_MS + this.nowMs,
      messages,
    };
    this.after(DELAY_MS, () => {
      const to = this.hosts.find(host => host.address === address && !host.isStopped);
      if (to === undefined || this.fault({ from, to, path, messages })) return;
      const seen = path === 'datagram' ? from.address : `${from.address}0`;
      this.act(to, overlay => overlay.receive(packet, seen, path));
    });
  }

  /** A copy of what was sent arrives, too. */
  repeat({ from, to, path, messages }: Sent, afterMs: number): void {
    const { environment, id } = from;
    const packet = { environment, from: id, incarnation: 0, hlc: 0, wallMs: START_MS, messages };
    this.after(afterMs, () => this.act(to, overlay => overlay.receive(packet, from.address, path)));
  }
}

export function text(words: string): Uint8Array {
  return Buffer.from(words);
}

/** Cuts the links between the first `count` hosts and the others. */
export function halves(hosts: readonly Host[], count: number): (sent: Sent) => boolean {
  const here = new Set(hosts.slice(0, count));
  return ({ from, to }) => here.has(from) !== here.has(to);
}
