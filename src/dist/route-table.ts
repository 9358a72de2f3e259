import type { Receiver, Route } from '../contract/dist.js';
import { ROUTE_RESULT } from '../contract/dist.js';
import type { HashKeys } from '../topic/hash.js';
import { TopicTrie } from '../topic/trie.js';

/** How many filters have how many routes, and so at any time the most that one has. */
export class Widths {
  /** By the number of routes; what it says of none is of no use. */
  private readonly filters: number[] = [0];
  widest = 0;

  /** A filter has one route more or less than before. */
  changed(from: number, to: number): void {
    const { filters } = this;
    filters[to] = (filters[to] ?? 0) + 1;
    filters[from]! -= 1;
    if (to > this.widest || (from === this.widest && filters[from] === 0)) this.widest = to;
  }
}

/** The routes of one tenant in memory: found by topic, and each by its key. */
export class RouteTable {
  private readonly trie: TopicTrie<FilterRoutes>;
  private readonly widths: Widths;
  size = 0;

  constructor(keys: HashKeys, widths: Widths) {
    this.trie = new TopicTrie(keys);
    this.widths = widths;
  }

  /** Adds a route or replaces its options. */
  add(route: Route, groupMembersMax: number): AddOutcome {
    const at = this.trie.get(route.filter)[0];
    const former = at?.find(route);
    if (route.group !== '' && at !== undefined) {
      const members = at.members(route) - (former === undefined ? 0 : weight(former)) + weight(route);
      if (members > groupMembersMax) return { result: ROUTE_RESULT.GROUP_FULL, changed: false };
    }
    if (former !== undefined) {
      const same =
        former.options === route.options &&
        former.subscriptionId === route.subscriptionId &&
        former.members === route.members;
      if (same) return UNCHANGED;
      at!.replace(former, route);
      return CHANGED;
    }
    this.size++;
    const width = at?.size ?? 0;
    this.widths.changed(width, width + 1);
    if (at !== undefined) at.add(route);
    else this.trie.add(route.filter, new FilterRoutes(route));
    return CHANGED;
  }

  /** False when there is no such route. */
  remove(route: Route): boolean {
    const at = this.trie.get(route.filter)[0];
    if (!at?.remove(route)) return false;
    this.size--;
    this.widths.changed(at.size + 1, at.size);
    if (at.empty) this.trie.remove(route.filter, at);
    return true;
  }

  /** Appends all routes whose filter matches. */
  match(topic: string, out: Route[]): void {
    MATCHED.length = 0;
    this.trie.match(topic, MATCHED);
    for (const routes of MATCHED) routes.emit(out);
    MATCHED.length = 0;
  }

  /** All routes that `wanted` says yes to. */
  select(wanted: (route: Route) => boolean): Route[] {
    const out: Route[] = [];
    for (const [, routes] of this.trie.entries()) {
      const all: Route[] = [];
      routes.emit(all);
      for (const route of all) if (wanted(route)) out.push(route);
    }
    return out;
  }
}

export interface AddOutcome {
  readonly result: number;
  /** Whether any topic now matches otherwise. */
  readonly changed: boolean;
}

const CHANGED: AddOutcome = { result: ROUTE_RESULT.OK, changed: true };
const UNCHANGED: AddOutcome = { result: ROUTE_RESULT.OK, changed: false };
const MATCHED: FilterRoutes[] = [];

/** The routes of one filter. Most filters have one route, so it stands alone until there is a second. */
class FilterRoutes {
  private one: Route | null;
  private many: Map<string, Route> | null = null;
  /** Members of each group, so that its limit costs no walk. Only for filters with many routes. */
  private groups: Map<string, number> | null = null;

  constructor(first: Route) {
    this.one = first;
  }

  get size(): number {
    return this.one !== null ? 1 : (this.many?.size ?? 0);
  }

  get empty(): boolean {
    return this.size === 0;
  }

  find(route: Route): Route | undefined {
    if (this.many !== null) return this.many.get(keyOf(route));
    return this.one !== null && sameKey(this.one, route) ? this.one : undefined;
  }

  members(of: Route): number {
    if (this.one !== null) return sameGroup(this.one, of) ? weight(this.one) : 0;
    if (this.groups === null) {
      this.groups = new Map();
      for (const route of this.many!.values()) this.count(route, weight(route));
    }
    return this.groups.get(groupOf(of)) ?? 0;
  }

  private count(route: Route, by: number): void {
    if (route.group === '' || this.groups === null) return;
    const group = groupOf(route);
    const left = (this.groups.get(group) ?? 0) + by;
    if (left > 0) this.groups.set(group, left);
    else this.groups.delete(group);
  }

  add(route: Route): void {
    if (this.many === null) {
      this.many = new Map();
      if (this.one !== null) this.many.set(keyOf(this.one), this.one);
      this.one = null;
    }
    this.many.set(keyOf(route), route);
    this.count(route, weight(route));
  }

  replace(former: Route, by: Route): void {
    this.count(former, weight(by) - weight(former));
    former.options = by.options;
    former.subscriptionId = by.subscriptionId;
    former.members = by.members;
  }

  remove(route: Route): boolean {
    if (this.many === null) {
      if (this.one === null || !sameKey(this.one, route)) return false;
      this.one = null;
      return true;
    }
    const key = keyOf(route);
    const former = this.many.get(key);
    if (former === undefined) return false;
    this.many.delete(key);
    this.count(former, -weight(former));
    if (this.many.size === 1) {
      for (const last of this.many.values()) this.one = last;
      this.many = null;
      this.groups = null;
    }
    return true;
  }

  emit(out: Route[]): void {
    if (this.one !== null) out.push(this.one);
    else if (this.many !== null) for (const route of this.many.values()) out.push(route);
  }
}

/** Members that a route stands for: a persistent session is one. */
function weight(route: Route): number {
  return route.receiver.kind === 'shard' ? route.members : 1;
}

function sameGroup(a: Route, b: Route): boolean {
  return a.group === b.group && a.ordered === b.ordered;
}

function sameKey(a: Route, b: Route): boolean {
  return sameGroup(a, b) && sameReceiver(a.receiver, b.receiver);
}

function sameReceiver(a: Receiver, b: Receiver): boolean {
  if (a.kind === 'shard') return b.kind === 'shard' && a.shard === b.shard && a.node === b.node;
  return b.kind === 'inbox' && a.clientId === b.clientId;
}

function groupOf(route: Route): string {
  return route.ordered ? `o${route.group}` : `s${route.group}`;
}

/** Texts hold no U+0000, so it separates. */
function keyOf(route: Route): string {
  const { receiver } = route;
  const to = receiver.kind === 'shard' ? `s${receiver.shard}\0${receiver.node}` : `i${receiver.clientId}`;
  return route.group === '' ? to : `${to}\0${groupOf(route)}`;
}
