import {
  accountOf,
  type Landscape,
  leadersOf,
  MEMBER,
  type ReplicaAccount,
  type StoreAccount,
  serviceOf,
  sharedOf,
} from '../kv/balance/landscape.js';
import { rangeWords } from '../kv/balance/obedience.js';
import { SERVICE } from '../kv/keys.js';
import type { Boundary } from '../kv/range.js';

/** What a node knows of the replicated storage: what all stores say of themselves, put together. */

/** As `GET /kv/ranges` has it. */
export interface RangesReport {
  /** In the order of their keys; those that stores have for themselves come last. */
  readonly ranges: readonly RangeRow[];
}

export interface RangeRow {
  /** As commands take it. */
  readonly id: string;
  readonly service: string;
  /** The own range of one node: one replica, and it cannot be steered. Its id and keys are unique in that store alone. */
  readonly sole: boolean;
  readonly state: RangeState;
  /** In words; empty where the service begins or ends. */
  readonly from: string;
  readonly to: string;
  /** The same in full, as hexadecimal digits. */
  readonly start: string;
  readonly end: string;
  readonly epoch: number;
  /** Which beginning of the key space it descends from: all ranges of a service should have the same one. */
  readonly genesis: string;
  /** Nothing was ever written to it. */
  readonly pristine: boolean;
  /** Store that leads it; null while none is known. */
  readonly leader: StoreName | null;
  readonly members: readonly MemberRow[];
  readonly bytes: number;
  readonly writesPerSecond: number;
  readonly queriesPerSecond: number;
  /** Where its service would divide it; empty if nowhere. */
  readonly splitAt: string;
}

/**
 * `degraded`: a voter's store is lost, and a majority lives. `no-leader`: one lives, and none leads (yet). `no-quorum`: no
 * majority lives, so nothing can be read or written. `lost`: the own range of a node that is lost.
 */
export const RANGE_STATES = ['well', 'changing', 'degraded', 'no-leader', 'no-quorum', 'lost'] as const;
export type RangeState = (typeof RANGE_STATES)[number];

export interface StoreName {
  readonly id: string;
  /** `apply-0@a`; its id while its name is not known. */
  readonly name: string;
}

export interface MemberRow extends StoreName {
  readonly role: 'voter' | 'learner';
  readonly alive: boolean;
}

/** As `GET /kv/stores` has it. */
export interface StoresReport {
  readonly stores: readonly StoreRow[];
}

export interface StoreRow extends StoreName {
  readonly state: StoreState;
  /** For how long it is there, or lost, as far as the asked node knows; milliseconds. */
  readonly sinceMs: number;
  /** Of the asked node itself. */
  readonly isOwn: boolean;
  readonly cores: number;
  /** Of which it takes ranges. */
  readonly services: readonly string[];
  readonly leads: number;
  /** Replicas of ranges that it shares with others; and ranges that it has for itself. */
  readonly replicas: number;
  readonly sole: number;
  readonly bytes: number;
}

export const STORE_STATES = ['alive', 'draining', 'lost'] as const;
export type StoreState = (typeof STORE_STATES)[number];

const SERVICE_WORDS: Readonly<Record<number, string>> = {
  [SERVICE.DIST]: 'dist',
  [SERVICE.INBOX]: 'inbox',
  [SERVICE.RETAIN]: 'retain',
  [SERVICE.MAP]: 'map',
};

export function serviceWords(service: number): string {
  return SERVICE_WORDS[service] ?? `0x${service.toString(16).padStart(2, '0')}`;
}

// -- Ranges --------------------------------------------------------------------------------------------------

export function rangesReport(landscape: Landscape): RangesReport {
  const shared = [...accountsOf(sharedOf(landscape)).values()].map(accounts =>
    sharedRow(landscape, accounts),
  );
  const sole = landscape.stores.flatMap(store =>
    store.replicas.filter(replica => replica.sole).map(replica => soleRow(store, replica)),
  );
  return { ranges: [...shared.sort(byKey), ...sole.sort(byKey)] };
}

interface Held {
  readonly store: StoreAccount;
  readonly replica: ReplicaAccount;
}

function accountsOf({ stores }: Landscape): Map<number, Held[]> {
  const byRange = new Map<number, Held[]>();
  for (const store of stores)
    for (const replica of store.replicas) {
      const held = byRange.get(replica.range);
      if (held === undefined) byRange.set(replica.range, [{ store, replica }]);
      else held.push({ store, replica });
    }
  return byRange;
}

function sharedRow(landscape: Landscape, accounts: readonly Held[]): RangeRow {
  // Whoever leads knows best; otherwise the newest that is known, of the living if there are any.
  const newest = [...accounts].sort(
    (one, other) =>
      Number(other.store.alive) - Number(one.store.alive) ||
      other.replica.epoch - one.replica.epoch ||
      other.replica.membersAt - one.replica.membersAt ||
      other.replica.term - one.replica.term,
  )[0]!.replica;
  const leadership = leadersOf(sharedOf(landscape)).of(newest.range);
  const replica = leadership?.replica ?? newest;
  const members = replica.members
    .map(({ store, role }): MemberRow => {
      const alive = accountOf(landscape, store)?.alive === true;
      return { ...storeName(landscape, store), role: role === MEMBER.VOTER ? 'voter' : 'learner', alive };
    })
    .sort((one, other) => (placeOf(one) < placeOf(other) ? -1 : 1));
  const state = stateOf(replica, members, leadership !== undefined);
  const leader = leadership === undefined ? null : storeName(landscape, leadership.account.store);
  return { ...rowOf(replica), state, leader, members };
}

function stateOf({ changing }: ReplicaAccount, members: readonly MemberRow[], isLed: boolean): RangeState {
  const voters = members.filter(({ role }) => role === 'voter');
  const living = voters.filter(({ alive }) => alive).length;
  if (living * 2 <= voters.length) return 'no-quorum';
  if (!isLed) return 'no-leader';
  if (changing) return 'changing';
  return living < voters.length ? 'degraded' : 'well';
}

function soleRow(store: StoreAccount, replica: ReplicaAccount): RangeRow {
  const name = nameOf(store);
  const state = !store.alive ? 'lost' : replica.leads ? 'well' : 'no-leader';
  const leader = replica.leads && store.alive ? name : null;
  return { ...rowOf(replica), state, leader, members: [{ ...name, role: 'voter', alive: store.alive }] };
}

function rowOf(replica: ReplicaAccount): Omit<RangeRow, 'state' | 'leader' | 'members'> {
  const { range, sole, boundary, epoch, genesis, pristine, load } = replica;
  const { bytes, writesPerSecond, queriesPerSecond, splitKey } = load;
  const { start, end } = boundary;
  return {
    id: rangeWords(range),
    service: serviceWords(serviceOf(replica)),
    sole,
    from: keyWords(start),
    to: isEndOf(boundary) ? '' : keyWords(end),
    start: Buffer.from(start).toString('hex'),
    end: Buffer.from(end).toString('hex'),
    epoch,
    genesis: genesis.toString(36),
    pristine,
    bytes,
    writesPerSecond,
    queriesPerSecond,
    splitAt: keyWords(splitKey),
  };
}

function isEndOf({ start, end }: Boundary): boolean {
  return end.length === 1 && end[0] === start[0]! + 1;
}

/**
 * A key without its service: as text where it is one (a key of the map, a tenant), and what follows a tenant, or is no
 * text, as hexadecimal digits.
 */
export function keyWords(key: Uint8Array): string {
  const rest = Buffer.from(key.subarray(1));
  const end = rest.indexOf(0);
  const text = (end < 0 ? rest : rest.subarray(0, end)).toString();
  const isText = Buffer.from(text).equals(end < 0 ? rest : rest.subarray(0, end)) && !/\p{C}/u.test(text);
  if (!isText) return `0x${rest.toString('hex')}`;
  const more = end < 0 ? '' : rest.subarray(end + 1).toString('hex');
  return more === '' ? text : `${text}/0x${more}`;
}

/** What an operator gives as the key to divide a range of `service` at: a text, or `0x` and hexadecimal digits. */
export function keyOf(service: number, words: string): Uint8Array {
  const isHex = /^0x(?:[0-9a-f]{2})+$/i.test(words);
  const rest = isHex ? Buffer.from(words.slice(2), 'hex') : Buffer.from(words);
  return new Uint8Array([service, ...rest]);
}

function byKey(one: RangeRow, other: RangeRow): number {
  if (one.start !== other.start) return one.start < other.start ? -1 : 1;
  return (one.members[0]?.name ?? '') < (other.members[0]?.name ?? '') ? -1 : 1;
}

// -- Stores --------------------------------------------------------------------------------------------------

export function storesReport(
  landscape: Landscape,
  ownStores: readonly number[],
  nowMs: number,
): StoresReport {
  const stores = landscape.stores.map((account): StoreRow => {
    const { store, alive, draining, sinceMs, cores, services, replicas } = account;
    const shared = replicas.filter(({ sole }) => !sole);
    return {
      ...nameOf(account),
      state: !alive ? 'lost' : draining ? 'draining' : 'alive',
      sinceMs: Math.max(0, Math.round(nowMs - sinceMs)),
      isOwn: ownStores.includes(store),
      cores,
      services: services.map(serviceWords),
      leads: alive ? shared.filter(({ leads }) => leads).length : 0,
      replicas: shared.length,
      sole: replicas.length - shared.length,
      bytes: replicas.reduce((sum, { load }) => sum + load.bytes, 0),
    };
  });
  return { stores: stores.sort((one, other) => (placeOf(one) < placeOf(other) ? -1 : 1)) };
}

/** By node, then thread. */
function placeOf({ name, id }: StoreName): string {
  const [thread, node = ''] = name.split('@', 2);
  return `${node}\0${thread}\0${id}`;
}

function nameOf({ store, name }: StoreAccount): StoreName {
  const id = store.toString(36);
  return { id, name: name === '' ? id : name };
}

export function storeName(landscape: Landscape, store: number): StoreName {
  const account = accountOf(landscape, store);
  const id = store.toString(36);
  return account === undefined ? { id, name: id } : nameOf(account);
}

// -- What operators name -------------------------------------------------------------------------------------

export type Named<T> =
  | { readonly kind: 'found'; readonly value: T }
  /** In words. */
  | { readonly kind: 'unknown'; readonly why: string };

/** A store by its id or name. A name that several have, as after a data directory was made anew, names none. */
export function namedStore(landscape: Landscape, words: string): Named<StoreAccount> {
  const { stores } = landscape;
  const byId = stores.find(({ store }) => store.toString(36) === words);
  if (byId !== undefined) return { kind: 'found', value: byId };
  const named = stores.filter(({ name }) => name === words);
  if (named.length === 1) return { kind: 'found', value: named[0]! };
  if (named.length === 0)
    return { kind: 'unknown', why: `no store is called ${words}; "kv stores" lists them` };
  const ids = named.map(({ store, alive }) => `${store.toString(36)} (${alive ? 'alive' : 'lost'})`);
  return {
    kind: 'unknown',
    why: `${named.length} stores are called ${words}: name one by its id, ${ids.join(', ')}`,
  };
}

/** A range that stores share, by its id: one of the accounts of it. */
export function namedRange(landscape: Landscape, words: string): Named<ReplicaAccount> {
  const own = landscape.stores.flatMap(({ replicas }) =>
    replicas.filter(({ range }) => rangeWords(range) === words),
  );
  const shared = own.find(({ sole }) => !sole);
  if (shared !== undefined) {
    const leadership = leadersOf(sharedOf(landscape)).of(shared.range);
    return { kind: 'found', value: leadership?.replica ?? shared };
  }
  if (own.length > 0)
    return {
      kind: 'unknown',
      why: `range ${words} is its node's own: it has one replica, and stays where it is`,
    };
  return { kind: 'unknown', why: `there is no range ${words}; "kv ranges" lists them` };
}
