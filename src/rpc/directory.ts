import type { AgentMember } from '../overlay/agent.js';
import type { HostId } from '../underlay/message.js';
import type { Agenda, Alarm } from './agenda.js';
import { type Announcement, decodeAnnouncement } from './announcement.js';
import type { Link, Links, LinkWatcher } from './link.js';
import type { RpcEndpoint } from './transport.js';
import { BYTES, VALUES, type Wire } from './wire.js';

/** Something under way at a server, to be told when that is gone. */
export interface Dependent {
  serverGone(server: Server): void;
}

/** A server as a client sees it, from the first announcement until it is gone. */
export class Server {
  readonly host: HostId;
  readonly hlc: number;
  announcement: Announcement;
  /** Undefined within the own process. */
  readonly link: Link | undefined;
  readonly endpoint: RpcEndpoint<unknown>;
  readonly wire: Wire;
  readonly isLocal: boolean;
  readonly dependents = new Set<Dependent>();
  /** Calls and streams that are open; begun since it is known; ended by a failure. */
  underWay = 0;
  begun = 0;
  failed = 0;

  constructor(member: AgentMember, announcement: Announcement, at: Link | RpcEndpoint<unknown>) {
    this.host = member.host;
    this.hlc = member.hlc;
    this.announcement = announcement;
    const isLink = 'channel' in at;
    this.link = isLink ? at : undefined;
    this.endpoint = (isLink ? at.channel : at) as RpcEndpoint<unknown>;
    this.wire = isLink ? BYTES : VALUES;
    this.isLocal = !isLink;
  }

  get id(): string {
    return this.announcement.id;
  }

  /** Something has begun here that ends with the server. */
  join(dependent: Dependent): void {
    this.begun++;
    this.underWay++;
    this.dependents.add(dependent);
  }

  leave(dependent: Dependent): void {
    if (this.dependents.delete(dependent)) this.underWay--;
  }

  /** Whether new work may go there. */
  get isUsable(): boolean {
    return !this.announcement.draining && this.link?.isBroken !== true;
  }
}

/** How long a server that said goodbye may still have answers on their way. */
const FAREWELL_MS = 5_000;

export interface DirectoryHooks {
  /** The own process's endpoint, if that server is here. */
  localEndpoint(member: AgentMember): RpcEndpoint<unknown> | undefined;
  /** The list of servers, or whether one of them can be used, has changed. */
  changed(): void;
  malformed(member: AgentMember): void;
}

/** The live list of one service's servers, as its agent tells it. */
export class Directory implements LinkWatcher {
  private readonly links: Links;
  private readonly agenda: Agenda;
  private readonly hooks: DirectoryHooks;
  private readonly byMember = new Map<string, Server>();
  private readonly byId = new Map<string, Server>();
  private readonly farewells = new Set<Alarm & { due(): void }>();

  constructor(links: Links, agenda: Agenda, hooks: DirectoryHooks) {
    this.links = links;
    this.agenda = agenda;
    this.hooks = hooks;
  }

  /** Those who were there before this node looked. */
  addAll(members: readonly AgentMember[]): void {
    for (const member of members) this.put(member);
  }

  /** All that are announced, in no particular order. */
  servers(): IterableIterator<Server> {
    return this.byMember.values();
  }

  get size(): number {
    return this.byMember.size;
  }

  find(id: string): Server | undefined {
    return this.byId.get(id);
  }

  onMember(kind: 'member-joined' | 'member-updated' | 'member-left', member: AgentMember): void {
    if (kind === 'member-left') this.drop(memberKey(member));
    else this.put(member);
  }

  linkChanged(): void {
    this.hooks.changed();
  }

  close(): void {
    for (const key of [...this.byMember.keys()]) this.drop(key);
    for (const farewell of [...this.farewells]) farewell.due();
  }

  private put(member: AgentMember): void {
    const key = memberKey(member);
    const announcement = decodeAnnouncement(member.metadata);
    if (announcement === undefined || announcement.id !== member.name) {
      this.hooks.malformed(member);
      this.drop(key);
      return;
    }
    const known = this.byMember.get(key);
    if (known !== undefined && known.announcement.address === announcement.address) {
      known.announcement = announcement;
      this.hooks.changed();
      return;
    }
    if (known !== undefined) this.drop(key);
    const at = this.hooks.localEndpoint(member) ?? this.links.acquire(announcement.address, this);
    const server = new Server(member, announcement, at);
    server.link?.retrySoon();
    this.byMember.set(key, server);
    this.elect(announcement.id);
    this.hooks.changed();
  }

  private drop(key: string): void {
    const server = this.byMember.get(key);
    if (server === undefined) return;
    this.byMember.delete(key);
    this.elect(server.id);
    // Before those who depend on it look for another one.
    this.hooks.changed();
    if (server.announcement.draining && server.dependents.size > 0) this.bidFarewell(server);
    else this.finish(server);
  }

  /** It has finished what it had: its last answers may be slower than the news of its end. */
  private bidFarewell(server: Server): void {
    const farewell = {
      dueMs: 0,
      heapIndex: -1,
      due: () => {
        this.agenda.cancel(farewell);
        this.farewells.delete(farewell);
        this.finish(server);
      },
    };
    this.farewells.add(farewell);
    this.agenda.at(farewell, this.agenda.nowMs + FAREWELL_MS);
  }

  private finish(server: Server): void {
    for (const dependent of [...server.dependents]) dependent.serverGone(server);
    if (server.link !== undefined) this.links.release(server.link, this);
  }

  /** A server that was started again elsewhere under its id stands twice for a while: the later one counts. */
  private elect(id: string): void {
    let latest: Server | undefined;
    for (const server of this.byMember.values()) {
      if (server.id === id && (latest === undefined || server.hlc > latest.hlc)) latest = server;
    }
    if (latest === undefined) this.byId.delete(id);
    else this.byId.set(id, latest);
  }
}

function memberKey(member: AgentMember): string {
  return `${member.host}/${member.name}`;
}
