import type { Agent, AgentOutput, SharedMap } from '../../src/overlay/agent.js';
import type { HostId } from '../../src/underlay/message.js';

interface Member {
  readonly hlc: number;
  readonly metadata: string;
}

/** What an agent's outputs alone say. Each must be possible where it stands: exactly one for a change. */
export class Replay {
  readonly hosts = new Set<HostId>();
  readonly members = new Map<string, Member>();
  /** Keys that were named as changed, by map, since it was compared. */
  private readonly changed = new Map<string, Set<string>>();
  /** What stood under each key when its map was compared after the last change that was named. */
  private readonly maps = new Map<string, Map<string, string>>();
  private readonly who: string;

  constructor(who: string) {
    this.who = who;
  }

  apply(output: AgentOutput): void {
    switch (output.kind) {
      case 'host-joined':
        this.insist(!this.hosts.has(output.host), `host ${output.host} joined twice`);
        this.hosts.add(output.host);
        break;
      case 'host-left':
        this.insist(this.hosts.delete(output.host), `host ${output.host} left and was not there`);
        for (const key of this.members.keys())
          this.insist(!key.startsWith(`${output.host} `), `${key} is left of a host that left`);
        break;
      case 'member-joined':
      case 'member-updated':
      case 'member-left':
        this.applyMember(output);
        break;
      case 'map-changed': {
        let keys = this.changed.get(output.map);
        if (keys === undefined) this.changed.set(output.map, (keys = new Set()));
        this.insist(output.keys.length > 0, 'a map changed without a key');
        for (const key of output.keys) keys.add(key);
        break;
      }
    }
  }

  private applyMember({ kind, member }: Extract<AgentOutput, { readonly member: unknown }>): void {
    const key = `${member.host} ${member.name}`;
    const known = this.members.get(key);
    this.insist(this.hosts.has(member.host), `${kind} ${key}: its host is not there`);
    this.insist((known !== undefined) === (kind !== 'member-joined'), `${kind} ${key}: impossible`);
    if (kind === 'member-left') {
      this.insist(known!.hlc === member.hlc, `${kind} ${key}: another one left`);
      this.members.delete(key);
      return;
    }
    this.insist(known === undefined || known.hlc < member.hlc, `${kind} ${key}: not later`);
    this.members.set(key, { hlc: member.hlc, metadata: hex(member.metadata) });
  }

  /** The agent's own lists say the same. */
  compare(agent: Agent): void {
    const hosts = agent.hosts();
    this.insist(
      hosts.length === this.hosts.size && hosts.every(host => this.hosts.has(host)),
      'the hosts differ from the events',
    );
    const members = agent.members();
    this.insist(
      members.length === this.members.size,
      `${members.length} members, ${this.members.size} by the events`,
    );
    for (const { host, name, hlc, metadata } of members) {
      const known = this.members.get(`${host} ${name}`);
      this.insist(known?.hlc === hlc && known.metadata === hex(metadata), `${host} ${name} differs`);
    }
  }

  /** Nothing stands in the map that was not named when it changed. */
  compareMap(map: SharedMap): void {
    let known = this.maps.get(map.name);
    if (known === undefined) this.maps.set(map.name, (known = new Map()));
    for (const key of this.changed.get(map.name) ?? []) {
      const bytes = map.get(key);
      if (bytes === undefined) known.delete(key);
      else known.set(key, `${map.ownerOf(key)} ${hex(bytes)}`);
    }
    this.changed.delete(map.name);
    let size = 0;
    for (const key of map.keys()) {
      size++;
      const now = `${map.ownerOf(key)} ${hex(map.get(key)!)}`;
      this.insist(known.get(key) === now, `${key} of ${map.name} differs, and nothing was told`);
    }
    this.insist(known.size === size, `an entry of ${map.name} is gone, and nothing was told`);
  }

  private insist(holds: boolean, words: string): void {
    if (!holds) throw new Error(`${this.who}: ${words}`);
  }
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
