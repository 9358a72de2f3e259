import { latin1 } from '../keys.js';
import type { ReplicaId } from '../raft/configuration.js';
import type { Boundary } from '../range.js';

/** What every store knows of all of them: the stores' own accounts, as the overlay's shared map brings them. */
export interface Landscape {
  /** In the order of their ids. */
  readonly stores: readonly StoreAccount[];
}

/** What one store says of itself, and the underlay of it. */
export interface StoreAccount {
  /** Random, kept with its data. */
  readonly store: number;
  /** Its node is in the underlay's view. The account of one that is not is the last that came. */
  readonly alive: boolean;
  /** Since when it is, or is not. Milliseconds of the reader's monotonic clock. */
  readonly sinceMs: number;
  /** Takes no new replicas and leads nothing if it can help it: it is about to leave. */
  readonly draining: boolean;
  readonly cores: number;
  /** How people call it; empty while its own entry is not known. */
  readonly name: string;
  /** Of which it takes ranges (SERVICE in keys.ts). */
  readonly services: readonly number[];
  /** In the order of the range ids. */
  readonly replicas: readonly ReplicaAccount[];
}

export interface ReplicaAccount {
  readonly range: number;
  /** Raised by each change of the boundary: split, merge. */
  readonly epoch: number;
  readonly boundary: Boundary;
  readonly replica: ReplicaId;
  readonly leads: boolean;
  readonly term: number;
  /** Who takes part, as far as this replica has applied. */
  readonly members: readonly Member[];
  /** Index of the entry that made `members` what they are: the higher one is the newer. */
  readonly membersAt: number;
  /** Which bootstrap the range descends from; all ranges of a key space should have one. */
  readonly genesis: number;
  /** Nothing but its own beginning was ever proposed to it. */
  readonly pristine: boolean;
  /** A configuration change, split, merge or transfer is under way. */
  readonly changing: boolean;
  /** The store's own range, which no other store takes part in: its id and its keys are unique in that store alone. */
  readonly sole: boolean;
  readonly load: RangeLoad;
  /** Known by the leader only: followers that do not answer it, and since when. */
  readonly silent: readonly Silence[];
}

export const MEMBER = { VOTER: 0, LEARNER: 1 } as const;

export interface Member {
  readonly replica: ReplicaId;
  readonly store: number;
  /** One of {@link MEMBER}. */
  readonly role: number;
}

export interface Silence {
  readonly replica: ReplicaId;
  readonly sinceMs: number;
}

/** Means over the last {@link LOAD_WINDOW_MS}; all zero at a replica that does not lead, but for `bytes`. */
export interface RangeLoad {
  readonly bytes: number;
  readonly writesPerSecond: number;
  readonly queriesPerSecond: number;
  readonly queryMicros: number;
  /** Receivers of the busiest topic, for ranges of routes. */
  readonly fanOut: number;
  /** Where the coprocessor would divide it; empty if it cannot be divided. */
  readonly splitKey: Uint8Array;
  /** Since when the range has its present boundary. Milliseconds of the reader's monotonic clock. */
  readonly epochSinceMs: number;
}

export const LOAD_WINDOW_MS = 30_000;

/** A number for what a replica costs its store; 1 is an idle one, so that a hundred of them count as well. */
export function cost({ writesPerSecond, queriesPerSecond }: RangeLoad): number {
  return 1 + (writesPerSecond * 4 + queriesPerSecond) / 1000;
}

export function accountOf(landscape: Landscape, store: number): StoreAccount | undefined {
  return landscape.stores.find(account => account.store === store);
}

export function replicaAt(account: StoreAccount | undefined, range: number): ReplicaAccount | undefined {
  return account?.replicas.find(replica => replica.range === range);
}

/** The ranges that `store` leads and that nothing is being done to. */
export function ledBy(landscape: Landscape, store: number): readonly ReplicaAccount[] {
  const account = accountOf(landscape, store);
  return account === undefined ? [] : account.replicas.filter(replica => replica.leads && !replica.changing);
}

/** Who leads what: found once for a landscape, since every balancer asks it of every range. */
export class Leaders {
  private readonly byRange = new Map<number, Leadership>();
  private readonly byStart = new Map<string, Leadership[]>();
  private readonly byEnd = new Map<string, Leadership[]>();
  /** Of how many bootstraps there are ranges. */
  readonly geneses: number;

  constructor({ stores }: Landscape) {
    const geneses = new Set<number>();
    for (const account of stores) {
      if (!account.alive) continue;
      for (const replica of account.replicas) {
        if (!replica.leads) continue;
        geneses.add(replica.genesis);
        const known = this.byRange.get(replica.range);
        if (known === undefined || replica.term > known.replica.term)
          this.byRange.set(replica.range, { account, replica });
      }
    }
    this.geneses = geneses.size;
    for (const leadership of this.byRange.values()) {
      const { start, end } = leadership.replica.boundary;
      addTo(this.byStart, start, leadership);
      addTo(this.byEnd, end, leadership);
    }
  }

  /** Of all accounts of a range, the one of its leader; of two that say so, the one of the later term. */
  of(range: number): Leadership | undefined {
    return this.byRange.get(range);
  }

  /** Those of the ranges that begin at a key. */
  beginningAt(key: Uint8Array): readonly Leadership[] {
    return this.byStart.get(latin1(key)) ?? [];
  }

  endingAt(key: Uint8Array): readonly Leadership[] {
    return this.byEnd.get(latin1(key)) ?? [];
  }
}

function addTo(map: Map<string, Leadership[]>, key: Uint8Array, leadership: Leadership): void {
  const name = latin1(key);
  const known = map.get(name);
  if (known === undefined) map.set(name, [leadership]);
  else known.push(leadership);
}

const LEADERS = new WeakMap<Landscape, Leaders>();

export function leadersOf(landscape: Landscape): Leaders {
  let leaders = LEADERS.get(landscape);
  if (leaders === undefined) LEADERS.set(landscape, (leaders = new Leaders(landscape)));
  return leaders;
}

export interface Leadership {
  readonly account: StoreAccount;
  readonly replica: ReplicaAccount;
}

/** Stores that may be given a replica of a range of `service`. */
export function eligible(landscape: Landscape, service: number): readonly StoreAccount[] {
  return landscape.stores.filter(
    ({ alive, draining, services }) => alive && !draining && services.includes(service),
  );
}

export function serviceOf({ boundary }: Pick<ReplicaAccount, 'boundary'>): number {
  return boundary.start[0]!;
}

const SHARED = new WeakMap<Landscape, Landscape>();

/** The same without the ranges that stores have for themselves: those must not be told by their ids or keys. */
export function sharedOf(landscape: Landscape): Landscape {
  let shared = SHARED.get(landscape);
  if (shared === undefined) SHARED.set(landscape, (shared = withoutSole(landscape)));
  return shared;
}

function withoutSole(landscape: Landscape): Landscape {
  if (!landscape.stores.some(({ replicas }) => replicas.some(({ sole }) => sole))) return landscape;
  const stores = landscape.stores.map(account => ({
    ...account,
    replicas: account.replicas.filter(({ sole }) => !sole),
  }));
  return { stores };
}

/** The stores of the members in one role, in order. */
export function storesOf(members: readonly Member[], role: number): readonly number[] {
  return members
    .filter(member => member.role === role)
    .map(member => member.store)
    .sort((a, b) => a - b);
}

/** What each store's replicas cost it. What a leader says of a range's load counts at all its members. */
export function costs(landscape: Landscape): ReadonlyMap<number, number> {
  const sums = new Map(landscape.stores.map(({ store }) => [store, 0]));
  for (const { alive, replicas } of landscape.stores)
    for (const { leads, members, load } of replicas)
      if (alive && leads)
        for (const { store } of members) sums.set(store, (sums.get(store) ?? 0) + cost(load));
  return sums;
}
