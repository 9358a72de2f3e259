import type { AgentMember, AgentOutput, SharedMap } from '../../src/overlay/agent.js';
import type { AgentHost } from '../../src/rpc/rpc.js';
import { MuteAgent } from './mute-agent.js';
import type { Node, World } from './world.js';

type MemberChange = Extract<AgentOutput, { member: AgentMember }>['kind'];

/** One node's view of one agent. */
class AgentReplica extends MuteAgent {
  readonly known = new Map<string, AgentMember>();
  readonly maps = new Map<string, MapReplica>();
  private readonly landscape: Landscape;
  private readonly node: Node;

  constructor(name: string, node: Node, landscape: Landscape) {
    super(name);
    this.node = node;
    this.landscape = landscape;
  }

  register(name: string, metadata: Uint8Array): void {
    const member = { host: this.node.id, name, metadata, hlc: this.landscape.tick() };
    this.landscape.spread(this.name, this.node, replica => replica.put(member));
  }

  deregister(name: string): void {
    const { id } = this.node;
    this.landscape.spread(this.name, this.node, replica => replica.drop(id, name));
  }

  put(member: AgentMember): void {
    const key = `${member.host}/${member.name}`;
    const before = this.known.get(key);
    if (before !== undefined && before.hlc >= member.hlc) return;
    this.known.set(key, member);
    this.tell(before === undefined ? 'member-joined' : 'member-updated', member);
  }

  drop(host: number, name: string): void {
    const key = `${host}/${name}`;
    const member = this.known.get(key);
    if (member === undefined) return;
    this.known.delete(key);
    this.tell('member-left', member);
  }

  dropHost(host: number): void {
    for (const member of [...this.known.values()])
      if (member.host === host) this.drop(member.host, member.name);
  }

  members(): readonly AgentMember[] {
    return [...this.known.values()];
  }

  override map(name: string): MapReplica {
    let map = this.maps.get(name);
    if (map === undefined) {
      map = new MapReplica(name, change => this.landscape.spread(this.name, this.node, change), this);
      this.maps.set(name, map);
    }
    return map;
  }

  /** What a newcomer hears from those who are there. */
  copy(other: AgentReplica): void {
    for (const [key, member] of other.known) this.known.set(key, member);
    for (const [name, map] of other.maps)
      for (const [key, value] of map.entries) this.map(name).entries.set(key, value);
  }

  mapChanged(map: string, keys: readonly string[]): void {
    this.node.rpc.onAgentOutputs([{ kind: 'map-changed', agent: this.name, map, keys }]);
  }

  private tell(kind: MemberChange, member: AgentMember): void {
    this.node.rpc.onAgentOutputs([{ kind, agent: this.name, member }]);
  }
}

class MapReplica implements SharedMap {
  readonly name: string;
  readonly entries = new Map<string, Uint8Array>();
  private readonly spread: (change: (replica: AgentReplica) => void) => void;
  private readonly agent: AgentReplica;

  constructor(name: string, spread: (change: (replica: AgentReplica) => void) => void, agent: AgentReplica) {
    this.name = name;
    this.spread = spread;
    this.agent = agent;
  }

  get(key: string): Uint8Array | undefined {
    return this.entries.get(key);
  }

  set(key: string, value: Uint8Array): boolean {
    this.spread(replica => replica.map(this.name).apply(key, value));
    return true;
  }

  delete(key: string): void {
    this.spread(replica => replica.map(this.name).apply(key, undefined));
  }

  apply(key: string, value: Uint8Array | undefined): void {
    if (value === undefined) this.entries.delete(key);
    else this.entries.set(key, value);
    this.agent.mapChanged(this.name, [key]);
  }

  keys(): IterableIterator<string> {
    return this.entries.keys();
  }

  ownerOf(): undefined {
    return undefined;
  }
}

/** What an overlay does for this room: every change is heard here at once, and everywhere else a little later. */
export class Landscape {
  private readonly world: World;
  private readonly gossipMs: number;
  private readonly detectionMs: number;
  private readonly replicas = new Map<string, Map<Node, AgentReplica>>();
  private clock = 0;

  constructor(world: World, gossipMs: number, detectionMs: number) {
    this.world = world;
    this.gossipMs = gossipMs;
    this.detectionMs = detectionMs;
  }

  tick(): number {
    return ++this.clock;
  }

  hostOf(node: Node): AgentHost {
    return {
      host: name => {
        const agents = this.replicas.get(name) ?? new Map<Node, AgentReplica>();
        this.replicas.set(name, agents);
        const replica = agents.get(node) ?? new AgentReplica(name, node, this);
        if (!agents.has(node)) for (const other of agents.values()) replica.copy(other);
        agents.set(node, replica);
        return replica;
      },
      unhost: name => {
        this.replicas.get(name)?.delete(node);
        for (const replica of this.replicas.get(name)?.values() ?? []) replica.dropHost(node.id);
      },
    };
  }

  spread(agent: string, from: Node, change: (replica: AgentReplica) => void): void {
    for (const [node, replica] of this.replicas.get(agent) ?? []) {
      if (node === from) change(replica);
      else if (this.gossipMs === 0) change(replica);
      else
        this.world.after(1 + this.world.random.below(this.gossipMs), () => node.isAlive && change(replica));
    }
  }

  died(dead: Node): void {
    for (const replicas of this.replicas.values()) {
      for (const [node, replica] of replicas) {
        if (node !== dead)
          this.world.after(this.detectionMs, () => node.isAlive && replica.dropHost(dead.id));
      }
    }
  }
}
