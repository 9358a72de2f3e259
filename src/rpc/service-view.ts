import type { Env } from '../base/env.js';
import type { Agent, AgentMember, AgentOutput, SharedMap } from '../overlay/agent.js';
import type { Agenda, Task } from './agenda.js';
import { type Announcement, encodeAnnouncement } from './announcement.js';
import type { Context, Mover } from './context.js';
import { Directory, type Server } from './directory.js';
import { rpcFailure } from './failure.js';
import type { Links } from './link.js';
import { Routing } from './routing.js';
import {
  type Directive,
  Directives,
  decodeWeights,
  directiveKey,
  encodeWeights,
  prefixOf,
} from './traffic.js';
import type { RpcEndpoint } from './transport.js';

const TRAFFIC_MAP = 'traffic';

export interface ServiceViewParts {
  readonly agenda: Agenda;
  readonly env: Env;
  readonly links: Links;
  used(): void;
  localEndpoint(member: AgentMember): RpcEndpoint<unknown> | undefined;
}

/** One server, for those who look. */
export interface ServerRow {
  readonly announcement: Announcement;
  readonly host: number;
  readonly isLocal: boolean;
  /** How long it has been out of rotation since its connection broke or could not be made, milliseconds; -1: it is in. */
  readonly brokenForMs: number;
  /** Calls and streams of this node that are under way there; begun and failed since it is known. */
  readonly underWay: number;
  readonly begun: number;
  readonly failed: number;
}

/** One service as this node knows it: its agent, servers and directives, and how its own servers are announced. */
export class ServiceView implements Task {
  readonly service: string;
  readonly context: Context;
  private readonly agent: Agent;
  private readonly map: SharedMap;
  private readonly parts: ServiceViewParts;
  private readonly directory: Directory;
  private readonly directives = new Directives();
  private readonly routing: Routing;
  private readonly movers = new Set<Mover>();
  private isChanged = false;
  /** The map has more directives than may be, for several nodes have added some at the same time. */
  private isOverfull = false;

  constructor(service: string, agent: Agent, parts: ServiceViewParts) {
    this.service = service;
    this.agent = agent;
    this.parts = parts;
    this.map = agent.map(TRAFFIC_MAP);
    this.readDirectives(this.map.keys());
    const { env, agenda, links } = parts;
    const onMalformed = (member: AgentMember) =>
      env.log.warn({ service, host: member.host, member: member.name }, 'not an announcement of a server');
    this.directory = new Directory(links, agenda, {
      localEndpoint: member => parts.localEndpoint(member),
      changed: () => this.changed(),
      malformed: onMalformed,
    });
    this.routing = new Routing(service, this.directory, this.directives, env.random);
    this.context = {
      agenda,
      random: env.random,
      routing: this.routing,
      movers: this.movers,
      isClosed: false,
    };
    this.directory.addAll(agent.members());
  }

  /** Sorted by id. */
  servers(): readonly ServerRow[] {
    return [...this.directory.servers()]
      .map(server => rowOf(server, this.parts.agenda.nowMs))
      .sort((a, b) => compare(a.announcement.id, b.announcement.id));
  }

  /**
   * Connects to all servers, which otherwise waits for the first call: `servers()` then tells which of those that the
   * gossip knows do not answer.
   */
  connect(): void {
    for (const { link } of this.directory.servers()) link?.channel.connect();
  }

  traffic(): readonly Directive[] {
    return this.directives.all();
  }

  /**
   * Takes effect here at once, and elsewhere as soon as the map has travelled. False: there are too many, nothing
   * has changed. The caller has checked `weights` (`isWeights`) and the prefix (`isTenantPrefix`).
   */
  setTraffic(prefix: string, weights: Directive['weights']): boolean {
    if (this.directives.isFull && this.directives.get(prefix) === undefined) return false;
    if (!this.map.set(directiveKey(prefix), encodeWeights(weights), false)) return false;
    this.readDirectives([directiveKey(prefix)]);
    this.changed();
    this.parts.used();
    return true;
  }

  unsetTraffic(prefix: string): void {
    this.map.delete(directiveKey(prefix));
    this.readDirectives([directiveKey(prefix)]);
    this.changed();
    this.parts.used();
  }

  /** Registers a server of this process, or tells that it has changed. */
  announce(announcement: Announcement): void {
    this.agent.register(announcement.id, encodeAnnouncement(announcement));
    this.parts.used();
  }

  withdraw(id: string): void {
    this.agent.deregister(id);
    this.parts.used();
  }

  onOutput(output: AgentOutput): void {
    switch (output.kind) {
      case 'member-joined':
      case 'member-updated':
      case 'member-left':
        this.directory.onMember(output.kind, output.member);
        return;
      case 'map-changed':
        if (output.map !== TRAFFIC_MAP) return;
        this.readDirectives(output.keys);
        this.changed();
        return;
      default:
    }
  }

  /** Tells those who are open, once a turn. */
  run(): void {
    this.isChanged = false;
    for (const mover of [...this.movers]) mover.reconsider();
  }

  close(): void {
    this.context.isClosed = true;
    const failure = rpcFailure('unavailable', `${this.service}: this node is shutting down`);
    for (const mover of [...this.movers]) mover.stop(failure);
    this.directory.close();
  }

  private changed(): void {
    this.routing.invalidate();
    if (this.isChanged) return;
    this.isChanged = true;
    this.parts.agenda.soon(this);
  }

  private readDirectives(keys: Iterable<string>): void {
    let isFreed = false;
    for (const key of keys) {
      const prefix = prefixOf(key);
      if (prefix === undefined) continue;
      const bytes = this.map.get(key);
      const weights = bytes === undefined ? undefined : decodeWeights(bytes);
      const { log } = this.parts.env;
      if (weights === undefined) {
        isFreed ||= this.directives.get(prefix) !== undefined;
        this.directives.delete(prefix);
        if (bytes !== undefined) log.warn({ service: this.service, prefix }, 'not a traffic directive');
      } else if (!this.directives.set({ prefix, weights })) {
        this.isOverfull = true;
        log.warn({ service: this.service, prefix }, 'too many traffic directives');
      }
    }
    if (isFreed) this.takeOverfull();
  }

  /** There is room again: for those that found none, so that all nodes know the same. */
  private takeOverfull(): void {
    if (!this.isOverfull) return;
    this.isOverfull = false;
    this.readDirectives(this.map.keys());
  }
}

function rowOf(server: Server, nowMs: number): ServerRow {
  const { announcement, host, isLocal, link, underWay, begun, failed } = server;
  const brokenForMs = link?.isBroken === true ? nowMs - link.brokenSinceMs : -1;
  return { announcement, host, isLocal, brokenForMs, underWay, begun, failed };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
