import type { ByteReader } from '../base/bytes.js';
import { OP, STATUS } from '../contract/contract.js';
import { type Receiver, ROUTE_RESULT, type Route, writeRoute } from '../contract/dist.js';
import { readSubscription } from '../contract/inbox.js';
import { type ParsedFilter, parseFilter, type TopicLimits } from '../topic/topic.js';
import { type Call, type Caller, callback } from './caller.js';
import type { Tenant } from './tenant.js';

/** Called when dist has a change of routes durably; false: it could not store it. */
type Stored = (stored: boolean) => void;

/** A filter without its share prefix. */
export type Filter = Exclude<ParsedFilter, { kind: 'invalid' }>;

export const groupOf = (filter: Filter): string => (filter.kind === 'shared' ? filter.group : '');
export const isOrdered = (filter: Filter): boolean => filter.kind === 'shared' && filter.ordered;

/** One filter that this shard receives for its live sessions, counted, so that dist hears of the first and the last. */
export class LocalRoute {
  readonly key: string;
  readonly filter: string;
  readonly group: string;
  readonly ordered: boolean;
  count = 0;
  /** In effect everywhere. */
  active = false;
  /** Dist has been asked. */
  adding = false;
  /** Changes that wait until it is. */
  waiting: RouteChange[] | null = null;

  constructor(key: string, filter: string, group: string, ordered: boolean) {
    this.key = key;
    this.filter = filter;
    this.group = group;
    this.ordered = ordered;
  }
}

export function groupKey(group: string, ordered: boolean, filter: string): string {
  return `${ordered ? '$oshare' : '$share'}/${group}/${filter}`;
}

/**
 * A set of routes to be added together, such as those of one SUBSCRIBE. `done` is called when all of them are in
 * effect for every publisher of the cluster, with the filters that dist refused (a full shared group); or with null,
 * when dist could not store them.
 */
export class RouteChange implements Call {
  private readonly routes: LocalRoutes;
  private readonly tenant: Tenant;
  private readonly done: (refused: readonly string[] | null) => void;
  private readonly added: Route[] = [];
  private readonly first: LocalRoute[] = [];
  private readonly refused: string[] = [];
  private failed = false;
  private waits = 1;

  constructor(routes: LocalRoutes, tenant: Tenant, done: (refused: readonly string[] | null) => void) {
    this.routes = routes;
    this.tenant = tenant;
    this.done = done;
  }

  /** This shard has one more live subscription to the filter. */
  addShard(filter: string, group: string, ordered: boolean): void {
    const { tenant } = this;
    const key = group === '' ? filter : groupKey(group, ordered, filter);
    let route = tenant.routes.get(key);
    if (route === undefined) {
      route = new LocalRoute(key, filter, group, ordered);
      tenant.routes.set(key, route);
    }
    route.count++;
    const asks = !route.active && !route.adding;
    if (asks) {
      route.adding = true;
      this.first.push(route);
    }
    if (!route.active) {
      (route.waiting ??= []).push(this);
      this.waits++;
    }
    if (asks || group !== '') this.added.push(this.routes.shardRoute(route));
  }

  /** A subscription that exists already is subscribed anew: wait with those that wait for it. */
  await(filter: string, group: string, ordered: boolean): void {
    const route = this.tenant.routes.get(group === '' ? filter : groupKey(group, ordered, filter));
    if (route === undefined || route.active) return;
    (route.waiting ??= []).push(this);
    this.waits++;
  }

  /** A persistent session's subscription. */
  addInbox(
    clientId: string,
    filter: string,
    group: string,
    ordered: boolean,
    options: number,
    id: number,
  ): void {
    const receiver: Receiver = { kind: 'inbox', clientId };
    this.added.push({ filter, group, ordered, receiver, options, subscriptionId: id, members: 0 });
  }

  /** Sends what has been added. */
  commit(): void {
    if (this.added.length > 0) {
      this.waits++;
      this.send();
    }
    this.settle(true);
  }

  private send(): void {
    const writer = this.routes.caller.begin(OP.DIST_ADD, this);
    writer.text(this.tenant.name).u32(this.added.length);
    for (const route of this.added) writeRoute(writer, route);
    this.routes.caller.send(this.routes.dist);
  }

  onReply(status: number, body: ByteReader): void {
    const stored = status === STATUS.OK;
    const count = stored ? body.u32() : 0;
    for (let i = 0; i < count; i++) if (body.u8() === ROUTE_RESULT.GROUP_FULL) this.refuse(this.added[i]!);
    for (const route of this.first) {
      route.adding = false;
      route.active = stored;
      const { waiting } = route;
      route.waiting = null;
      for (const change of waiting ?? []) change.settle(stored);
    }
    this.settle(stored);
  }

  /** The match thread died before it answered: its successor is asked. */
  onLost(): void {
    this.send();
  }

  private refuse(route: Route): void {
    const key = groupKey(route.group, route.ordered, route.filter);
    this.refused.push(key);
  }

  private settle(stored: boolean): void {
    if (!stored) this.failed = true;
    this.waits--;
    if (this.waits === 0) this.done(this.failed ? null : this.refused);
  }
}

/** What this shard has told dist about itself. */
export class LocalRoutes {
  readonly caller: Caller;
  readonly dist: number;
  private readonly node: string;
  private readonly shard: number;

  constructor(caller: Caller, dist: number, node: string, shard: number) {
    this.caller = caller;
    this.dist = dist;
    this.node = node;
    this.shard = shard;
  }

  change(tenant: Tenant, done: (refused: readonly string[] | null) => void): RouteChange {
    return new RouteChange(this, tenant, done);
  }

  /** This shard has one live subscription less. Nobody waits for it to be in effect. */
  removeShard(tenant: Tenant, filter: string, group: string, ordered: boolean): void {
    const route = tenant.routes.get(group === '' ? filter : groupKey(group, ordered, filter));
    if (route === undefined) return;
    route.count--;
    if (route.count === 0) {
      tenant.routes.delete(route.key);
      this.send(OP.DIST_REMOVE, tenant, this.shardRoute(route));
    } else if (group !== '') this.send(OP.DIST_ADD, tenant, this.shardRoute(route));
  }

  /** Dist was restarted and has forgotten all shards: it is told again. */
  repeatAll(tenants: Iterable<Tenant>): void {
    for (const tenant of tenants)
      for (const route of tenant.routes.values())
        if (route.active) this.send(OP.DIST_ADD, tenant, this.shardRoute(route));
  }

  /** A persistent session's subscription goes. Nobody waits. */
  removeInbox(tenant: Tenant, clientId: string, filter: string, group: string, ordered: boolean): void {
    this.send(OP.DIST_REMOVE, tenant, inboxRoute(clientId, filter, group, ordered));
  }

  /** Routes of a persistent session; `done` when none is in effect any more, false if dist could not store that. */
  removeInboxes(tenant: Tenant, clientId: string, filters: readonly Filter[], done: Stored): void {
    const { caller } = this;
    if (filters.length === 0) return done(true);
    const again = () => this.removeInboxes(tenant, clientId, filters, done);
    const writer = caller.begin(
      OP.DIST_REMOVE,
      callback(status => done(status === STATUS.OK), again),
    );
    writer.text(tenant.name).u32(filters.length);
    for (const filter of filters)
      writeRoute(writer, inboxRoute(clientId, filter.filter, groupOf(filter), isOrdered(filter)));
    caller.send(this.dist);
  }

  /** The body of an INBOX_ROUTES; `done` when dist has it so, false if it could not store it. */
  settle(tenant: Tenant, clientId: string, body: ByteReader, limits: TopicLimits, done: Stored): void {
    const gone: Filter[] = [];
    for (let n = body.u32(); n > 0; n--) {
      const filter = parseFilter(body.text(), limits);
      if (filter.kind !== 'invalid') gone.push(filter);
    }
    let waits = 2;
    let allStored = true;
    const settled = (stored: boolean) => {
      allStored &&= stored;
      if (--waits === 0) done(allStored);
    };
    this.removeInboxes(tenant, clientId, gone, settled);
    const change = this.change(tenant, refused => settled(refused !== null));
    for (let n = body.u32(); n > 0; n--) {
      const { filter: text, options, subscriptionId } = readSubscription(body);
      const filter = parseFilter(text, limits);
      if (filter.kind === 'invalid') continue;
      change.addInbox(clientId, filter.filter, groupOf(filter), isOrdered(filter), options, subscriptionId);
    }
    change.commit();
  }

  shardRoute(route: LocalRoute): Route {
    return {
      filter: route.filter,
      group: route.group,
      ordered: route.ordered,
      receiver: { kind: 'shard', node: this.node, shard: this.shard },
      options: 0,
      subscriptionId: 0,
      members: route.group === '' ? 0 : route.count,
    };
  }

  private send(op: number, tenant: Tenant, route: Route): void {
    const { caller } = this;
    const writer = caller.begin(op, new Unanswered(this, op, tenant, route));
    writer.text(tenant.name).u32(1);
    writeRoute(writer, route);
    caller.send(this.dist);
  }

  /** Said again to the successor of a match thread that died. */
  repeat(op: number, tenant: Tenant, route: Route): void {
    this.send(op, tenant, route);
  }
}

class Unanswered implements Call {
  private readonly routes: LocalRoutes;
  private readonly op: number;
  private readonly tenant: Tenant;
  private readonly route: Route;

  constructor(routes: LocalRoutes, op: number, tenant: Tenant, route: Route) {
    this.routes = routes;
    this.op = op;
    this.tenant = tenant;
    this.route = route;
  }

  onReply(): void {}

  onLost(): void {
    this.routes.repeat(this.op, this.tenant, this.route);
  }
}

function inboxRoute(clientId: string, filter: string, group: string, ordered: boolean): Route {
  const receiver: Receiver = { kind: 'inbox', clientId };
  return { filter, group, ordered, receiver, options: 0, subscriptionId: 0, members: 0 };
}
