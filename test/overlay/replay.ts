import type { Agent, AgentOutput } from '../../src/overlay/agent.js';
import type { HostId } from '../../src/underlay/message.js';

interface Member {
  readonly hlc: number;
  readonly metadata: string;
}

/** What an agent's outputs alone say. Each must be possible where it stands: exactly one for a change. */
export class Replay {
  readonly hosts = new Set<HostId>();
  readonly members = new Map<string, Member>();
  /** Keys that were named as changed, by map: their values are read when compared. */
  readonly changes = new Map<string, Map<string, number>>();
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
        let keys = this.changes.get(output.map);
        if (keys === undefined) this.changes.set(output.map, (keys = new Map()));
        this.insist(output.keys.length > 0, 'a map changed without a key');
        for (const key of output.keys) keys.set(key, (keys.get(key) ?? 0) + 1);
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

  private insist(holds: boolean, words: string): void {
    if (!holds) throw new Error(`${this.who}: ${words}`);
  }
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
