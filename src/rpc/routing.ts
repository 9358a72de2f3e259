import type { Random } from '../base/env.js';
import { ConsistentHash } from './balance/consistent-hash.js';
import { WeightedRandom } from './balance/weighted-random.js';
import { WeightedRoundRobin } from './balance/weighted-round-robin.js';
import type { Directory, Server } from './directory.js';
import { type RpcFailure, rpcFailure } from './failure.js';
import type { Balance } from './service.js';
import { type Directive, type Directives, UNTAGGED } from './traffic.js';

/** Tenants whose pool is remembered; beyond, all are looked up anew. */
export const TENANTS_CACHED_MAX = 16_384;

/** The servers that one directive leaves to its tenants, weighted; made anew when anything changes. */
class Pool {
  readonly servers: readonly Server[];
  /** Why there is nobody to pick, for every tenant of the directive. */
  readonly failure: RpcFailure | undefined;
  /** Servers that would be among them if they could be used. */
  private readonly absent: readonly Server[];
  private readonly weights: readonly number[];
  private readonly random: Random;
  /** Place of the server in the own process, or -1. */
  private readonly local: number;
  private weightedRandom: WeightedRandom | undefined;
  private roundRobin: WeightedRoundRobin | undefined;
  private consistentHash: ConsistentHash | undefined;

  constructor(
    servers: readonly Server[],
    weights: readonly number[],
    absent: readonly Server[],
    failure: RpcFailure | undefined,
    random: Random,
  ) {
    this.servers = servers;
    this.weights = weights;
    this.absent = absent;
    this.failure = failure;
    this.random = random;
    this.local = servers.findIndex(server => server.isLocal);
  }

  pick(balance: Balance, key: string, exclude: Server | undefined): Server | undefined {
    const { servers } = this;
    const excluded = exclude === undefined ? -1 : servers.indexOf(exclude);
    if (servers.length === 1) return excluded === 0 ? undefined : servers[0];
    if (servers.length === 0) return undefined;
    switch (balance) {
      case 'weighted-random':
        return this.pickRandom(excluded);
      case 'weighted-round-robin':
        return this.pickInTurn(excluded);
      default: {
        this.consistentHash ??= new ConsistentHash(
          servers.map(server => server.id),
          this.weights,
        );
        return servers[this.consistentHash.pick(key, excluded)];
      }
    }
  }

  /** There is nobody to pick, and somebody who would. */
  refuse(): RpcFailure {
    for (const { link } of this.absent) link?.wanted();
    return this.failure!;
  }

  private pickRandom(excluded: number): Server | undefined {
    this.weightedRandom ??= new WeightedRandom(this.weights);
    const at = this.weightedRandom.pick(this.random);
    return this.servers[at === excluded ? this.neighbour(at) : at];
  }

  private pickInTurn(excluded: number): Server | undefined {
    if (this.local >= 0 && this.local !== excluded) return this.servers[this.local];
    this.roundRobin ??= new WeightedRoundRobin(this.weights, this.random.u32());
    const at = this.roundRobin.pick();
    return this.servers[at === excluded ? this.neighbour(at) : at];
  }

  private neighbour(at: number): number {
    return (at + 1) % this.servers.length;
  }
}

/** Which server gets a call: the tenant's directive makes a pool, the method's mode picks from it. */
export class Routing {
  private readonly service: string;
  private readonly directory: Directory;
  private readonly directives: Directives;
  private readonly random: Random;
  private readonly byTenant = new Map<string, Pool>();
  private readonly byDirective = new Map<Directive | undefined, Pool>();

  constructor(service: string, directory: Directory, directives: Directives, random: Random) {
    this.service = service;
    this.directory = directory;
    this.directives = directives;
    this.random = random;
  }

  /** Servers, their state or directives have changed. */
  invalidate(): void {
    this.byTenant.clear();
    this.byDirective.clear();
  }

  /** `exclude`: not this one if there is another. A keyed `direct` knows no other. */
  pick(balance: Balance, tenant: string, key: string, exclude: Server | undefined): Server | RpcFailure {
    if (balance === 'direct') return this.pickDirect(key);
    const pool = this.poolOf(tenant);
    return (
      pool.pick(balance, key, exclude) ??
      (exclude === undefined ? undefined : pool.pick(balance, key, undefined)) ??
      pool.refuse()
    );
  }

  /** Whether work of the tenant under the key is well placed there still; the random modes stay where they are. */
  isPlaced(server: Server, balance: Balance, tenant: string, key: string): boolean {
    if (balance === 'direct') return this.pickDirect(key) === server;
    if (balance === 'consistent-hash') return this.pick(balance, tenant, key, undefined) === server;
    return this.poolOf(tenant).servers.includes(server);
  }

  private pickDirect(id: string): Server | RpcFailure {
    const server = this.directory.find(id);
    if (server === undefined)
      return rpcFailure('server-not-found', `${this.service}: no server ${id} is known`);
    if (server.announcement.draining)
      return rpcFailure('unavailable', `${this.service}: server ${id} is shutting down`);
    if (server.isUsable) return server;
    server.link?.wanted();
    return rpcFailure('unavailable', `${this.service}: no connection to server ${id}`);
  }

  private poolOf(tenant: string): Pool {
    let pool = this.byTenant.get(tenant);
    if (pool !== undefined) return pool;
    const directive = this.directives.find(tenant);
    pool = this.byDirective.get(directive);
    if (pool === undefined) {
      pool = this.compile(directive);
      this.byDirective.set(directive, pool);
    }
    if (this.byTenant.size >= TENANTS_CACHED_MAX) this.byTenant.clear();
    this.byTenant.set(tenant, pool);
    return pool;
  }

  private compile(directive: Directive | undefined): Pool {
    const servers: Server[] = [];
    const weights: number[] = [];
    const absent: Server[] = [];
    for (const server of this.directory.servers()) {
      const weight = weightOf(server, directive);
      // An id that was started again elsewhere is one server.
      if (weight === 0 || this.directory.find(server.id) !== server) continue;
      if (server.isUsable) {
        servers.push(server);
        weights.push(weight);
      } else absent.push(server);
    }
    const failure = servers.length > 0 ? undefined : this.explain(directive, absent.length);
    return new Pool(servers, weights, absent, failure, this.random);
  }

  private explain(directive: Directive | undefined, eligible: number): RpcFailure {
    const { service, directory } = this;
    if (eligible > 0) {
      const detail = `${service}: ${eligible} of ${directory.size} servers may be used; all are shutting down or without connection`;
      return rpcFailure('unavailable', detail);
    }
    if (directory.size === 0) return rpcFailure('server-not-found', `${service}: no server is known`);
    if (directive === undefined) {
      const detail = `${service}: no directive is for this tenant, and none of ${directory.size} servers is untagged`;
      return rpcFailure('server-not-found', detail);
    }
    const groups = Object.entries(directive.weights)
      .map(([group, weight]) => `${group === UNTAGGED ? 'untagged' : group}: ${weight}`)
      .join(', ');
    const detail = `${service}: the directive for tenants "${directive.prefix}*" (${groups}) leaves none of ${directory.size} servers`;
    return rpcFailure('server-not-found', detail);
  }
}

/** A server of several groups has the largest of their weights. */
function weightOf(server: Server, directive: Directive | undefined): number {
  const { groups } = server.announcement;
  if (directive === undefined) return groups.length === 0 ? 1 : 0;
  if (groups.length === 0) return groupWeight(directive, UNTAGGED);
  return groups.reduce((most, group) => Math.max(most, groupWeight(directive, group)), 0);
}

function groupWeight({ weights }: Directive, group: string): number {
  return Object.hasOwn(weights, group) ? weights[group]! : 0;
}
