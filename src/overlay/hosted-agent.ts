import { assert } from '../base/assert.js';
import { meshNeighbours } from '../crdt/mesh.js';
import type { CrdtMessage } from '../crdt/message.js';
import type { HostId, Path } from '../underlay/message.js';
import { SortedIds } from '../underlay/sorted-ids.js';
import type { Agent, AgentMember, AgentSent, Reliability, SharedMap } from './agent.js';
import type { AckMessage, DataMessage } from './codec.js';
import type { Context } from './context.js';
import { MEMBERS, memberKey, memberOfKey, type Visible } from './entry.js';
import {
  isName,
  MEMBER_NAME_MAX,
  MEMBERS_PER_HOST_MAX,
  MESSAGE_BYTES_MAX,
  METADATA_BYTES_MAX,
} from './limits.js';
import { Links } from './links.js';
import type { Outgoing } from './out-link.js';
import { Registry } from './registry.js';
import { RegistryMap } from './registry-map.js';

/** The mesh follows the landscape at most this often: joins and failures come in bursts. */
const MESH_DELAY_MS = 250;

/** One digest in so many goes by stream, so that maps are compared where no datagram gets through. */
const STREAM_ROOTS = 6;

const NEVER = Number.POSITIVE_INFINITY;

/** One agent as this host carries it. It is kept when the host leaves it, and goes on when it joins again. */
export class HostedAgent implements Agent {
  readonly name: string;
  isOpen = false;
  private readonly crdtName: string;
  private readonly context: Context;
  private readonly registry: Registry;
  private readonly links: Links;
  /** Hosts that carry the agent, without this one. */
  private readonly landscape = new Set<HostId>();
  /** The same with this one. */
  private readonly ids = new SortedIds();
  private readonly maps = new Map<string, RegistryMap>();
  private readonly ownMembers = new Set<string>();
  private readonly byName = new Map<string, Map<HostId, AgentMember>>();
  private sorted: readonly AgentMember[] | undefined;
  private readonly changedKeys = new Map<string, Set<string>>();
  /** That were sent, so that a repeated one is known as such. */
  private readonly deltas = new WeakSet<CrdtMessage>();
  private meshMs = NEVER;
  private replicatorMs = NEVER;
  private isTouched = true;

  constructor(name: string, context: Context) {
    this.name = name;
    this.crdtName = `${CRDT_PREFIX}${name}`;
    this.context = context;
    this.links = new Links(name, context);
    this.registry = new Registry(context, this.landscape, this);
  }

  get nextMs(): number {
    if (!this.isOpen) return NEVER;
    if (this.isTouched) {
      this.isTouched = false;
      this.replicatorMs = this.landscape.size > 0 ? this.registry.replicator.nextDeadlineMs() : NEVER;
    }
    return Math.min(this.replicatorMs, this.meshMs, this.registry.sweepMs, this.links.nextMs);
  }

  entries(): Readonly<Record<string, number>> {
    const { landscape, changedKeys } = this;
    return {
      landscape: landscape.size,
      changedKeys: changedKeys.size,
      ...this.registry.entries(),
      ...this.links.entries(),
    };
  }

  get retries(): number {
    return this.links.retries;
  }

  // -- Carried or not ----------------------------------------------------------------------------------------

  open(carriers: Iterable<HostId>): void {
    this.isOpen = true;
    this.ids.add(this.context.own);
    this.context.tell({ kind: 'host-joined', agent: this.name, host: this.context.own });
    for (const host of carriers) this.onJoined(host);
    this.registry.open();
    this.planMesh();
  }

  close(): void {
    for (const host of this.landscape) this.endLink(host);
    this.isOpen = false;
    for (const host of this.ids.ids.slice()) this.ids.delete(host);
    this.landscape.clear();
    this.registry.close();
    this.ownMembers.clear();
    this.byName.clear();
    this.changedKeys.clear();
    this.sorted = undefined;
    this.meshMs = NEVER;
  }

  // -- Agent -------------------------------------------------------------------------------------------------

  register(member: string, metadata: Uint8Array): void {
    assert(this.isOpen, 'a member registers under an agent that is carried');
    assert(
      member.length > 0 && member.length <= MEMBER_NAME_MAX,
      `a member's name has 1 to ${MEMBER_NAME_MAX} units`,
    );
    assert(metadata.length <= METADATA_BYTES_MAX, `metadata has at most ${METADATA_BYTES_MAX} bytes`);
    const { ownMembers } = this;
    assert(
      ownMembers.has(member) || ownMembers.size < MEMBERS_PER_HOST_MAX,
      `a host registers at most ${MEMBERS_PER_HOST_MAX} members`,
    );
    ownMembers.add(member);
    if (this.write(MEMBERS, memberKey(this.context.own, member), metadata, true)) return;
    ownMembers.delete(member);
    const { log } = this.context.env;
    log.error({ agent: this.name, member }, 'a member is not registered: the agent has too many entries');
  }

  deregister(member: string): void {
    if (this.ownMembers.delete(member)) this.erase(MEMBERS, memberKey(this.context.own, member));
  }

  members(): readonly AgentMember[] {
    this.sorted ??= [...this.byName.values()].flatMap(hosts => [...hosts.values()]).sort(byNameAndHost);
    return this.sorted;
  }

  hosts(): readonly HostId[] {
    return this.ids.ids.slice();
  }

  unicast(
    from: string,
    host: HostId,
    member: string,
    bytes: Uint8Array,
    reliability: Reliability,
  ): AgentSent {
    this.checkMessage(from, bytes);
    if (!this.byName.get(member)?.has(host)) return 'no-such-member';
    return this.sendTo(host, { from, to: member, bytes }, reliability);
  }

  multicast(from: string, member: string, bytes: Uint8Array, reliability: Reliability): readonly HostId[] {
    this.checkMessage(from, bytes);
    const hosts = [...(this.byName.get(member)?.keys() ?? [])];
    return hosts.filter(host => this.sendTo(host, { from, to: member, bytes }, reliability) === 'full');
  }

  broadcast(from: string, bytes: Uint8Array, reliability: Reliability): readonly HostId[] {
    this.checkMessage(from, bytes);
    const hosts = new Set(this.members().map(({ host }) => host));
    return [...hosts].filter(host => this.sendTo(host, { from, to: '', bytes }, reliability) === 'full');
  }

  map(name: string): SharedMap {
    assert(isName(name), `"${name}" is no name of a map: 1 to 64 of a-z 0-9 . _ -`);
    let map = this.maps.get(name);
    if (map === undefined) {
      map = new RegistryMap(name, this.registry, this);
      this.maps.set(name, map);
    }
    return map;
  }

  private checkMessage(from: string, bytes: Uint8Array): void {
    assert(this.ownMembers.has(from), `the sender "${from}" is a member of this host`);
    assert(bytes.length <= MESSAGE_BYTES_MAX, `a message has at most ${MESSAGE_BYTES_MAX} bytes`);
  }

  private sendTo(host: HostId, message: Outgoing, reliability: Reliability): AgentSent {
    if (host === this.context.own) this.deliver(host, message);
    else if (reliability === 'reliable') return this.links.sendReliable(host, message);
    else this.links.sendUnordered(host, message);
    return 'sent';
  }

  private deliver(host: HostId, { from, to, bytes }: Outgoing): void {
    const members = to === '' ? [...this.ownMembers] : this.ownMembers.has(to) ? [to] : [];
    const sender = { host, member: from };
    for (const member of members)
      this.context.tell({ kind: 'message', agent: this.name, from: sender, to: member, bytes });
  }

  // -- Writes ------------------------------------------------------------------------------------------------

  /** False: the agent has too many entries. */
  write(map: string, key: string, bytes: Uint8Array, isOwned: boolean): boolean {
    assert(this.isOpen, 'an entry is written under an agent that is carried');
    this.isTouched = true;
    return this.registry.set(map, key, bytes, isOwned);
  }

  erase(map: string, key: string): void {
    assert(this.isOpen, 'an entry is deleted under an agent that is carried');
    this.isTouched = true;
    this.registry.delete(map, key);
  }

  // -- The landscape -----------------------------------------------------------------------------------------

  /** The underlay's view of a host has changed. */
  onHost(host: HostId, isCarrier: boolean): void {
    if (!this.isOpen || isCarrier === this.landscape.has(host)) return;
    if (isCarrier) this.onJoined(host);
    else this.onLeft(host);
  }

  private onJoined(host: HostId): void {
    this.landscape.add(host);
    this.ids.add(host);
    this.links.onJoined(host);
    this.context.tell({ kind: 'host-joined', agent: this.name, host });
    this.registry.onHost(host);
    this.planMesh();
  }

  private onLeft(host: HostId): void {
    this.landscape.delete(host);
    this.ids.delete(host);
    this.endLink(host);
    this.registry.onHost(host);
    this.context.tell({ kind: 'host-left', agent: this.name, host });
    this.planMesh();
  }

  /** This host was put out by an operator: nothing is sent any more. */
  endLinks(): void {
    for (const host of this.landscape) this.endLink(host);
  }

  private endLink(host: HostId): void {
    const messages = this.links.onLeft(host);
    if (messages > 0) this.context.tell({ kind: 'undelivered', agent: this.name, host, messages });
  }

  private planMesh(): void {
    this.isTouched = true;
    if (this.meshMs === NEVER) this.meshMs = this.context.env.clock.monotonicMs() + MESH_DELAY_MS;
  }

  // -- Inputs ------------------------------------------------------------------------------------------------

  onCrdt(from: HostId, message: CrdtMessage, nowMs: number): void {
    if (!this.isOpen) return;
    this.isTouched = true;
    this.registry.replicator.receive(from, message, nowMs);
    this.registry.settle();
  }

  onData(host: HostId, message: DataMessage): void {
    if (this.isOpen && this.links.onData(host, message, this.landscape.has(host)))
      this.deliver(host, message);
  }

  onAck(host: HostId, message: AckMessage): void {
    this.links.onAck(host, message);
  }

  onBroken(host: HostId): void {
    this.links.onBroken(host);
  }

  tick(nowMs: number): void {
    if (!this.isOpen || nowMs < this.nextMs) return;
    this.isTouched = true;
    if (nowMs >= this.meshMs) {
      this.meshMs = NEVER;
      this.registry.replicator.setNeighbours(meshNeighbours(this.ids.ids, this.context.own));
    }
    if (nowMs >= this.registry.sweepMs) this.registry.sweep(nowMs, this.ids.ids);
    this.registry.replicator.tick(nowMs);
    this.links.tick(nowMs);
  }

  /** What the turn leaves to be sent and told. */
  settle(): void {
    if (!this.isOpen) return;
    this.links.settle();
    for (const { to, message } of this.registry.replicator.takeSends())
      this.context.send(to, this.pathOf(message), { kind: 'crdt', map: this.crdtName, message });
    if (this.changedKeys.size === 0) return;
    for (const [map, keys] of this.changedKeys)
      this.context.tell({ kind: 'map-changed', agent: this.name, map, keys: [...keys] });
    this.changedKeys.clear();
  }

  /** A delta that is sent again was lost as a datagram. */
  private pathOf(message: CrdtMessage): Path {
    const { deltas } = this;
    switch (message.kind) {
      case 'delta':
        if (deltas.has(message)) return 'stream';
        deltas.add(message);
        return 'datagram';
      case 'root':
        return this.context.env.random.u32() % STREAM_ROOTS === 0 ? 'stream' : 'datagram';
      case 'ack':
        return 'datagram';
      default:
        return 'stream';
    }
  }

  // -- RegistryObserver --------------------------------------------------------------------------------------

  onEntry(before: Visible | undefined, after: Visible | undefined): void {
    const entry = after ?? before!;
    if (entry.map === MEMBERS) this.onMember(entry, before !== undefined, after !== undefined);
    else {
      const keys = this.changedKeys.get(entry.map);
      if (keys === undefined) this.changedKeys.set(entry.map, new Set([entry.key]));
      else keys.add(entry.key);
    }
  }

  private onMember({ key, owner, stamp, bytes }: Visible, wasThere: boolean, isThere: boolean): void {
    const member: AgentMember = { host: owner, name: memberOfKey(key), metadata: bytes, hlc: stamp };
    this.sorted = undefined;
    let hosts = this.byName.get(member.name);
    if (isThere) {
      if (hosts === undefined) this.byName.set(member.name, (hosts = new Map()));
      hosts.set(owner, member);
    } else if (hosts?.delete(owner) && hosts.size === 0) this.byName.delete(member.name);
    const kind = !wasThere ? 'member-joined' : isThere ? 'member-updated' : 'member-left';
    this.context.tell({ kind, agent: this.name, member });
  }
}

/** Before an agent's name in the names of replicated maps: what begins so is the overlay's. */
export const CRDT_PREFIX = '@';

function byNameAndHost(one: AgentMember, other: AgentMember): number {
  return one.name === other.name ? one.host - other.host : one.name < other.name ? -1 : 1;
}
