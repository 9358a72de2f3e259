import type { Random } from '../base/env.js';
import { jittered } from '../underlay/chance.js';
import type { Agenda, Alarm } from './agenda.js';
import type { RpcChannel, RpcTransport } from './transport.js';

const RETRY_MS = 100;
const RETRY_MS_MAX = 10_000;
/** From one attempt to the next where calls wait for it. */
const WANTED_MS = 1_000;

/** Told when an address goes out of rotation, or comes back into it. */
export interface LinkWatcher {
  linkChanged(): void;
}

/**
 * The channel to one address, shared by all services that have servers there. Until something fails it counts as good:
 * the overlay says that the server lives. When it breaks, it is connected again with growing pauses, and no call is
 * risked on it until it stands.
 */
export class Link implements Alarm {
  readonly address: string;
  readonly channel: RpcChannel;
  readonly watchers = new Map<LinkWatcher, number>();
  dueMs = 0;
  heapIndex = -1;
  /** No connection: calls are not to go here. */
  isBroken = false;
  /** Of the monotonic clock. */
  brokenSinceMs = 0;
  private triedMs = Number.NEGATIVE_INFINITY;
  private retryMs = RETRY_MS;
  private readonly agenda: Agenda;
  private readonly random: Random;

  constructor(address: string, transport: RpcTransport, agenda: Agenda, random: Random) {
    this.address = address;
    this.agenda = agenda;
    this.random = random;
    this.channel = transport.open(address);
    this.channel.onState = connected => this.onState(connected);
  }

  due(nowMs: number): void {
    this.triedMs = nowMs;
    this.channel.connect();
    // Also while nothing is heard of the attempt: a channel may hang.
    this.retryMs = Math.min(this.retryMs * 2, RETRY_MS_MAX);
    this.agenda.at(this, nowMs + jittered(this.random, this.retryMs));
  }

  /** There is news of a server at this address: no reason to wait. */
  retrySoon(): void {
    if (!this.isBroken) return;
    this.retryMs = RETRY_MS;
    this.agenda.at(this, this.agenda.nowMs);
  }

  /** A call fails for want of this connection: what the last attempt found may be out of date. */
  wanted(): void {
    const { nowMs } = this.agenda;
    if (this.isBroken && nowMs - this.triedMs >= WANTED_MS) this.agenda.at(this, nowMs);
  }

  close(): void {
    this.agenda.cancel(this);
    this.channel.onState = undefined;
    this.channel.close();
  }

  private onState(connected: boolean): void {
    if (connected === !this.isBroken) {
      if (connected) this.retryMs = RETRY_MS;
      return;
    }
    this.isBroken = !connected;
    this.brokenSinceMs = this.agenda.nowMs;
    this.triedMs = this.agenda.nowMs;
    if (connected) {
      this.retryMs = RETRY_MS;
      this.agenda.cancel(this);
    } else this.agenda.at(this, this.agenda.nowMs + jittered(this.random, this.retryMs));
    for (const watcher of [...this.watchers.keys()]) watcher.linkChanged();
  }
}

/** One link for each address in use. */
export class Links {
  private readonly transport: RpcTransport;
  private readonly agenda: Agenda;
  private readonly random: Random;
  private readonly links = new Map<string, Link>();

  constructor(transport: RpcTransport, agenda: Agenda, random: Random) {
    this.transport = transport;
    this.agenda = agenda;
    this.random = random;
  }

  get size(): number {
    return this.links.size;
  }

  acquire(address: string, watcher: LinkWatcher): Link {
    let link = this.links.get(address);
    if (link === undefined) {
      link = new Link(address, this.transport, this.agenda, this.random);
      this.links.set(address, link);
    }
    link.watchers.set(watcher, (link.watchers.get(watcher) ?? 0) + 1);
    return link;
  }

  /** The last one closes it. */
  release(link: Link, watcher: LinkWatcher): void {
    const uses = link.watchers.get(watcher)! - 1;
    if (uses > 0) {
      link.watchers.set(watcher, uses);
      return;
    }
    link.watchers.delete(watcher);
    if (link.watchers.size > 0) return;
    this.links.delete(link.address);
    link.close();
  }

  closeAll(): void {
    for (const link of this.links.values()) link.close();
    this.links.clear();
  }
}
