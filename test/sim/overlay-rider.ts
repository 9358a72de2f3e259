import type { AgentOutput } from '../../src/overlay/agent.js';
import type { Overlay } from '../../src/overlay/overlay.js';
import type { HostId } from '../../src/underlay/message.js';
import { Replay } from '../overlay/replay.js';
import type { Mail } from './overlay-mail.js';
import type { SeededRandom } from './random.js';
import { fail } from './underlay-checkers.js';

/** Everybody carries the first and, most of the time, the second. */
export const AGENTS = ['dist', 'inbox'] as const;
export type AgentName = (typeof AGENTS)[number];

/** A member that each host registers under each agent for as long as it carries it. */
const PEER = 'peer';
const MAP = 'stores';
/** Keys that all write. */
const SHARED_KEYS = 12;
const OTHER_MEMBERS = 3;

/** What the rider of one host has registered under one agent, and expects all others to see. */
interface Carried {
  readonly members: Map<string, string>;
  /** Of its own keys. */
  value: string | undefined;
  replay: Replay;
}

/** The application on one host: it registers, writes and sends at random, and checks what it is told. */
export class Rider {
  readonly overlay: Overlay;
  readonly label: string;
  readonly carried = new Map<AgentName, Carried>();
  /** All riders, by host. */
  private readonly riders: ReadonlyMap<HostId, Rider>;
  private readonly mail: Mail;
  private readonly random: SeededRandom;
  private readonly isStrict: boolean;
  private readonly isSteady: boolean;
  private number = 0;

  constructor(
    overlay: Overlay,
    label: string,
    riders: ReadonlyMap<HostId, Rider>,
    mail: Mail,
    random: SeededRandom,
    { isStrict, isSteady }: { readonly isStrict: boolean; readonly isSteady: boolean },
  ) {
    this.overlay = overlay;
    this.label = label;
    this.riders = riders;
    this.mail = mail;
    this.random = random;
    this.isStrict = isStrict;
    this.isSteady = isSteady;
  }

  get id(): HostId {
    return this.overlay.self.id;
  }

  // -- What it does ------------------------------------------------------------------------------------------

  carry(name: AgentName): void {
    const agent = this.overlay.host(name);
    const replay = new Replay(`${this.label} ${name}`);
    this.carried.set(name, { members: new Map(), value: undefined, replay });
    agent.register(PEER, Buffer.from(this.label));
    this.carried.get(name)!.members.set(PEER, this.label);
  }

  act(): void {
    const { random } = this;
    const name = random.pick([...this.carried.keys()]);
    const dice = random.below(100);
    if (dice < 50) this.unicast(name);
    else if (dice < 55) this.multicast(name);
    else if (dice < 60) this.overlay.host(name).broadcast(PEER, Buffer.from('0'), 'best-effort');
    else if (dice < 70) this.register(name);
    else if (dice < 75) this.deregister(name);
    else if (dice < 85) this.writeOwn(name);
    else if (dice < 97) this.writeShared(name);
    else if (!this.isSteady) this.toggle();
  }

  private unicast(name: AgentName): void {
    const agent = this.overlay.host(name);
    const to = this.random.pick(agent.members().filter(member => member.name === PEER)).host;
    const burst = this.random.chance(0.1) ? 20 : 1;
    for (let at = 0; at < burst; at += 1) {
      this.number += 1;
      const size = this.random.chance(0.05) ? 3_000 : 0;
      const bytes = Buffer.from(`${this.number}`.padEnd(size));
      if (agent.unicast(PEER, to, PEER, bytes, 'reliable') === 'sent')
        this.mail.onSent(name, this.id, to, this.number);
    }
  }

  private multicast(name: AgentName): void {
    const agent = this.overlay.host(name);
    const all = agent.members().filter(member => member.name === PEER);
    this.number += 1;
    const full = agent.multicast(PEER, PEER, Buffer.from(`${this.number}`), 'reliable');
    for (const { host } of all) if (!full.includes(host)) this.mail.onSent(name, this.id, host, this.number);
  }

  private register(name: AgentName): void {
    const member = `other-${this.random.below(OTHER_MEMBERS)}`;
    const metadata = String(this.random.below(1_000));
    this.overlay.host(name).register(member, Buffer.from(metadata));
    this.carried.get(name)!.members.set(member, metadata);
  }

  private deregister(name: AgentName): void {
    const member = `other-${this.random.below(OTHER_MEMBERS)}`;
    const carried = this.carried.get(name)!;
    if (!carried.members.delete(member)) return;
    this.overlay.host(name).deregister(member);
  }

  private writeOwn(name: AgentName): void {
    const carried = this.carried.get(name)!;
    const map = this.overlay.host(name).map(MAP);
    const key = `own-${this.id}`;
    if (carried.value !== undefined && this.random.chance(0.2)) {
      map.delete(key);
      carried.value = undefined;
      return;
    }
    carried.value = String(this.random.below(1_000));
    map.set(key, Buffer.from(carried.value), true);
  }

  private writeShared(name: AgentName): void {
    const map = this.overlay.host(name).map(MAP);
    const key = `shared-${this.random.below(SHARED_KEYS)}`;
    if (this.random.chance(0.2)) map.delete(key);
    else map.set(key, Buffer.from(`${this.label} ${this.random.below(1_000)}`), this.random.chance(0.5));
  }

  private toggle(): void {
    if (!this.carried.has('inbox')) this.carry('inbox');
    else {
      this.carried.delete('inbox');
      this.overlay.unhost('inbox');
    }
  }

  // -- What it is told ---------------------------------------------------------------------------------------

  /** `isReachable`: whether what that host registers has a way to here. */
  onTurn(agents: readonly AgentOutput[], isReachable: (host: HostId) => boolean): void {
    if (agents.length === 0) return;
    for (const output of agents) this.onOutput(output);
    for (const [at, output] of agents.entries()) {
      if (output.kind !== 'member-left' || hasHostLeft(agents, at, output.member.host)) continue;
      if (isReachable(output.member.host)) this.judge(output);
    }
    if (!this.isStrict) return;
    for (const name of this.carried.keys()) this.compare(name);
  }

  /** The events say what is seen, and nothing else. */
  compare(name: AgentName): void {
    const { replay } = this.carried.get(name)!;
    const agent = this.overlay.host(name);
    replay.compare(agent);
    replay.compareMap(agent.map(MAP));
  }

  private onOutput(output: AgentOutput): void {
    const name = output.agent as AgentName;
    if (output.kind === 'undelivered') {
      const words = `${this.label}, undelivered`;
      this.mail.onUndelivered(name, this.id, output.host, output.messages, words);
      return;
    }
    const carried = this.carried.get(name);
    if (carried === undefined) return;
    if (output.kind !== 'message') carried.replay.apply(output);
    else if (output.to === PEER) {
      const number = Number(Buffer.from(output.bytes).toString());
      if (number > 0)
        this.mail.onArrived(
          name,
          output.from.host,
          this.id,
          number,
          `${this.label} hears ${output.from.host}`,
        );
    }
  }

  /** A member of a host that is here may only go because its host withdrew it. */
  private judge({ agent, member }: Extract<AgentOutput, { readonly member: unknown }>): void {
    const { replay } = this.carried.get(agent as AgentName) ?? {};
    if (replay === undefined || !replay.hosts.has(member.host)) return;
    const owner = this.riders.get(member.host);
    if (owner?.carried.has(agent as AgentName) !== true) return;
    const members = owner.overlay.host(agent).members();
    const own = members.find(({ host, name }) => host === member.host && name === member.name);
    if (own?.hlc !== member.hlc) return;
    fail(`${this.label} ${agent}: "${member.name}" of ${member.host} went, and its host has it registered`);
  }

  // -- What must be in the end -------------------------------------------------------------------------------

  /** All that is seen under the agent, in words. */
  picture(name: AgentName): string {
    const agent = this.overlay.host(name);
    const map = agent.map(MAP);
    const members = agent
      .members()
      .map(one => `${one.host} ${one.name} ${one.hlc} ${Buffer.from(one.metadata)}`);
    const entries = [...map.keys()]
      .sort()
      .map(key => `${key} ${map.ownerOf(key)} ${Buffer.from(map.get(key)!)}`);
    return [`hosts ${agent.hosts().join(' ')}`, ...members, ...entries].join('\n');
  }

  /** What it has registered is in the picture. */
  missing(name: AgentName): string | undefined {
    const { members, value } = this.carried.get(name)!;
    const agent = this.overlay.host(name);
    for (const [member, metadata] of members) {
      const own = agent.members().find(one => one.host === this.id && one.name === member);
      if (own === undefined || Buffer.from(own.metadata).toString() !== metadata) return member;
    }
    const map = agent.map(MAP);
    const found = map.get(`own-${this.id}`);
    const isRight =
      value === undefined
        ? found === undefined
        : found !== undefined && Buffer.from(found).toString() === value;
    return isRight ? undefined : `own-${this.id}`;
  }
}

/** Whether the host has left the agent later in the same turn. */
function hasHostLeft(outputs: readonly AgentOutput[], from: number, host: HostId): boolean {
  return outputs.slice(from).some(output => output.kind === 'host-left' && output.host === host);
}
