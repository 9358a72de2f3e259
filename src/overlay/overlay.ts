import { assert } from '../base/assert.js';
import type { Env } from '../base/env.js';
import { HybridClock } from '../base/hlc.js';
import type { Address, HostId, HostRecord, Message, Packet, Path } from '../underlay/message.js';
import type {
  HostEvent,
  HostView,
  Ready,
  Refusal,
  SeedState,
  Send,
  UnderlayCounters,
  UnderlayMachine,
} from '../underlay/underlay.js';
import type { Agent, AgentOutput } from './agent.js';
import { decodeLinkMessage } from './codec.js';
import type { Context } from './context.js';
import { CRDT_PREFIX, HostedAgent } from './hosted-agent.js';
import { AGENTS_MAX, isName } from './limits.js';
import { CHANNEL } from './links.js';

/**
 * Room `overlay`: named groups of hosts. Whoever carries an agent finds the members that others have registered under
 * it, shares maps with them, and sends them messages. No registry, no leader.
 *
 * | file | abstraction |
 * | --- | --- |
 * | agent.ts | what users of the room see: `Agent`, `SharedMap`, and what they are told |
 * | hosted-agent.ts | `HostedAgent`: one agent as this host carries it |
 * | registry.ts, registry-map.ts, entry.ts, withdrawals.ts, absentees.ts | members and maps: what is seen, and who writes it again or removes it |
 * | links.ts, out-link.ts, in-link.ts | reliable messages, and the table of what links say to each other |
 * | codec.ts | `src/schema/overlay.fbs` to objects and back |
 * | limits.ts, context.ts | all bounds; what the parts of one host share |
 *
 * ## One replicated map an agent
 *
 * An agent's landscape, the hosts that carry it, stands in the host records (`HostRecord.agents`), so the underlay
 * spreads it. Among the landscape, one replicated map holds the agent's members and all of its shared maps, under names
 * `map/key`: one map costs one digest now and then for each neighbour, however many maps there are. Its neighbours
 * are the mesh over the landscape.
 *
 * ## What is seen
 *
 * Each write has a stamp of the hybrid logical clock; of several under one name the latest is seen, ids decide
 * between equals. An owned entry (all members are) is seen only while its writer is in the landscape: so it goes and
 * comes with the host, in the turn of the underlay's own event, whatever the replicated map says.
 *
 * - An owner writes its entry again, under its old stamp, when it finds it missing. If a later write has taken its
 *   place the owner gives it up.
 * - An entry that goes missing while its owner is here is still seen for 10 s, for that is what a healed cut looks
 *   like: the other half had removed the entries of this one. What an owner withdraws, it names in an entry of its
 *   own, and that goes out of sight at once. So nobody flickers while halves are joined.
 * - Entries of hosts that have been out of the landscape for 15 s are removed by one of it (rendezvous). Later each
 *   time, where they come back: somebody sees that host.
 * - An entry that another has overwritten and deleted, both before its owner heard of it, comes back.
 *
 * ## Invariants
 *
 * - Exactly one event for each change; replaying them from nothing gives `hosts()`, `members()` and the maps.
 * - All hosts that hold the same replicated map and see the same landscape see the same members and entries, once
 *   every owner has heard of its own.
 * - A reliable message is delivered at most once, after all earlier ones of its link; at least once if its link does
 *   not end. A link ends with the host's leaving the landscape, and `undelivered` says how many were open.
 * - Nothing that arrives throws. It is kept only within the bounds of limits.ts.
 *
 * ## Where it differs from BifroMQ, and why
 *
 * There messages have no order, acknowledgement or retry: stateful services stand on ours. There a map a CRDT is an
 * agent cluster of its own, here an agent's maps share one. There a removed registration is gone until its owner
 * notices: ours stays in sight. A host that leaves an agent says so in its record, and the others clean up.
 */

/** What a turn of the overlay has brought: the underlay's, and what the agents tell. */
export interface OverlayReady extends Ready {
  readonly agents: readonly AgentOutput[];
}

/**
 * The overlay stands on an underlay and is driven in its place: whoever can drive an `UnderlayMachine` (the sockets'
 * driver, the simulator) drives an overlay, which hands everything through and takes the payloads, the maps and the
 * host events on its way.
 */
export interface OverlayMachine extends UnderlayMachine {
  /** Joins the agent, or gives the one joined already. Throws on a name that is not 1 to 64 of `a-z 0-9 . _ -`. */
  host(name: string): Agent;
  /** Leaves it: its members and owned entries go. Nothing more is told of it. */
  unhost(name: string): void;
  ready(): OverlayReady;
}

/** Settings of the overlay of one host. */
export interface OverlayOptions {
  /** What it stands on; driven by nobody else from now on. */
  readonly underlay: UnderlayMachine;
  readonly env: Env;
  /** Shared with the driver, so that stamps follow all that was heard. */
  readonly clock?: HybridClock;
  /**
   * Told what agents tell, in the turn that brings it, and may call agents; `ready().agents` is empty then. For a
   * driver that knows of underlays only.
   */
  readonly listener?: (output: AgentOutput) => void;
}

/** Rounds of a listener's answers in one turn; the rest waits for the next. */
const ROUNDS_MAX = 16;

const NO_AGENTS: readonly string[] = [];

export class Overlay implements OverlayMachine {
  /** Payloads on the overlay's channel that were none of its messages. */
  malformed = 0;
  private readonly underlay: UnderlayMachine;
  private readonly env: Env;
  private readonly listener: ((output: AgentOutput) => void) | undefined;
  private readonly context: Context;
  private readonly agents = new Map<string, HostedAgent>();
  /** The other hosts of the view. */
  private readonly hostRecords = new Map<HostId, HostRecord>();
  private foreignAgents: readonly string[] = [];
  private outputs: AgentOutput[] = [];
  private epoch = 0;
  private isRecordDirty = false;
  private hasSent = false;

  constructor({ underlay, env, clock, listener }: OverlayOptions) {
    this.underlay = underlay;
    this.env = env;
    this.listener = listener;
    this.context = {
      own: underlay.self.id,
      env,
      clock: clock ?? new HybridClock(),
      budget: { bytes: 0 },
      nextEpoch: () => ++this.epoch,
      send: (to, path, message) => {
        if (underlay.send(to, path, message)) this.hasSent = true;
      },
      tell: output => this.outputs.push(output),
    };
    for (const { record } of underlay.hosts())
      if (record.id !== underlay.self.id) this.hostRecords.set(record.id, record);
  }

  // -- Agents ------------------------------------------------------------------------------------------------

  host(name: string): Agent {
    assert(isName(name), `"${name}" is no name of an agent: 1 to 64 of a-z 0-9 . _ -`);
    let agent = this.agents.get(name);
    if (agent === undefined) {
      assert(this.agents.size < AGENTS_MAX, `a process carries at most ${AGENTS_MAX} agents`);
      agent = new HostedAgent(name, this.context);
      this.agents.set(name, agent);
    }
    if (agent.isOpen) return agent;
    const carriers: HostId[] = [];
    for (const { id, agents } of this.hostRecords.values()) if (agents.includes(name)) carriers.push(id);
    agent.open(carriers);
    this.isRecordDirty = true;
    return agent;
  }

  unhost(name: string): void {
    const agent = this.agents.get(name);
    if (agent === undefined || !agent.isOpen) return;
    agent.close();
    this.isRecordDirty = true;
  }

  /** Names beside those of the agents that are carried here. */
  setAgents(agents: readonly string[]): void {
    assert(agents.length + this.agents.size <= AGENTS_MAX, `a host carries at most ${AGENTS_MAX} agents`);
    this.foreignAgents = agents;
    this.isRecordDirty = true;
  }

  /** Entries of every list that is kept, over all agents: none may grow without bound. */
  entries(): Readonly<Record<string, number>> {
    const sums: Record<string, number> = { agents: this.agents.size, hostRecords: this.hostRecords.size };
    for (const agent of this.agents.values()) {
      for (const [list, count] of Object.entries(agent.entries())) sums[list] = (sums[list] ?? 0) + count;
    }
    return sums;
  }

  /** Reliable messages sent again, over all agents. */
  get retries(): number {
    let sum = 0;
    for (const agent of this.agents.values()) sum += agent.retries;
    return sum;
  }

  // -- The machine -------------------------------------------------------------------------------------------

  unreachable(to: Address, path: Path): void {
    this.underlay.unreachable(to, path);
    if (path === 'datagram') return;
    for (const { id, address } of this.hostRecords.values()) {
      if (address === to) for (const agent of this.agents.values()) agent.onBroken(id);
    }
  }

  tick(): void {
    this.underlay.tick();
    const nowMs = this.env.clock.monotonicMs();
    for (const agent of this.agents.values()) agent.tick(nowMs);
  }

  nextDeadlineMs(): number {
    let deadlineMs = this.underlay.nextDeadlineMs();
    for (const { nextMs } of this.agents.values()) if (nextMs < deadlineMs) deadlineMs = nextMs;
    return deadlineMs;
  }

  ready(): OverlayReady {
    const turn: Turn = { sends: [], events: [], payloads: [], crdt: [], agents: [] };
    for (let round = 0; round < ROUNDS_MAX; round++) {
      this.hasSent = false;
      this.takeIn(this.underlay.ready(), turn);
      if (this.isRecordDirty) this.tellRecord();
      for (const agent of this.agents.values()) agent.settle();
      const outputs = this.outputs;
      if (outputs.length > 0) this.outputs = [];
      if (this.listener === undefined) append(turn.agents, outputs);
      else for (const output of outputs) this.listener(output);
      if (!this.hasSent && this.outputs.length === 0) break;
    }
    return turn;
  }

  private tellRecord(): void {
    this.isRecordDirty = false;
    const open = [...this.agents.values()].filter(({ isOpen }) => isOpen).map(({ name }) => name);
    this.underlay.setAgents([...new Set([...open, ...this.foreignAgents])]);
    this.hasSent = true;
  }

  private takeIn({ sends, events, payloads, crdt }: Ready, turn: Turn): void {
    append(turn.sends, sends);
    append(turn.events, events);
    for (const event of events) this.onEvent(event);
    for (const payload of payloads) {
      if (payload.channel === CHANNEL) this.onLinkMessage(payload.from, payload.bytes);
      else turn.payloads.push(payload);
    }
    const nowMs = this.env.clock.monotonicMs();
    for (const entry of crdt) {
      if (!entry.map.startsWith(CRDT_PREFIX)) turn.crdt.push(entry);
      else this.agents.get(entry.map.slice(CRDT_PREFIX.length))?.onCrdt(entry.from, entry.message, nowMs);
    }
  }

  private onEvent(event: HostEvent): void {
    if (event.kind === 'self-evicted') {
      for (const agent of this.agents.values()) agent.endLinks();
      return;
    }
    const { id, agents } = event.host;
    const names = event.kind === 'gone' ? NO_AGENTS : agents;
    if (event.kind === 'gone') this.hostRecords.delete(id);
    else if (this.hostRecords.get(id) === event.host) return;
    else this.hostRecords.set(id, event.host);
    for (const agent of this.agents.values()) agent.onHost(id, names.includes(agent.name));
  }

  private onLinkMessage(from: HostId, bytes: Uint8Array): void {
    const message = decodeLinkMessage(bytes);
    if (message === undefined) {
      this.malformed++;
      return;
    }
    const agent = this.agents.get(message.agent);
    if (message.kind === 'ack') agent?.onAck(from, message);
    else if (message.target === this.context.own) agent?.onData(from, message);
  }

  // -- The underlay's, as it is ------------------------------------------------------------------------------

  get self(): HostRecord {
    return this.underlay.self;
  }

  get counters(): UnderlayCounters {
    return this.underlay.counters;
  }

  receive(packet: Packet, from: Address, path: Path): void {
    this.underlay.receive(packet, from, path);
  }

  receiveSealed(from: Address, why: 'key' | 'replay' | 'malformed'): void {
    this.underlay.receiveSealed(from, why);
  }

  setSeeds(seeds: readonly Address[]): void {
    this.underlay.setSeeds(seeds);
  }

  send(to: HostId, path: Path, message: Extract<Message, { kind: 'payload' | 'crdt' }>): boolean {
    return this.underlay.send(to, path, message);
  }

  evict(id: HostId): boolean {
    return this.underlay.evict(id);
  }

  leave(): void {
    this.underlay.leave();
  }

  left(): boolean {
    return this.underlay.left();
  }

  hosts(): readonly HostView[] {
    return this.underlay.hosts();
  }

  healthScore(): number {
    return this.underlay.healthScore();
  }

  seedStates(): readonly SeedState[] {
    return this.underlay.seedStates();
  }

  refusals(): readonly Refusal[] {
    return this.underlay.refusals();
  }

  lostHosts(): readonly { readonly record: HostRecord; readonly sinceMs: number }[] {
    return this.underlay.lostHosts();
  }
}

/** What `ready` gathers over its rounds. */
interface Turn {
  readonly sends: Send[];
  readonly events: HostEvent[];
  readonly payloads: Ready['payloads'][number][];
  readonly crdt: Ready['crdt'][number][];
  readonly agents: AgentOutput[];
}

function append<T>(all: T[], more: readonly T[]): void {
  for (const one of more) all.push(one);
}
