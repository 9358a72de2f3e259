import {
  type Landscape,
  MEMBER,
  type ReplicaAccount,
  type StoreAccount,
} from '../../src/kv/balance/landscape.js';
import { SERVICE } from '../../src/kv/keys.js';

/** Landscapes to be looked at: stores 1, 2, 3 … called apply-0@a, apply-0@b, apply-0@c …. */
export const NOW_MS = 1_000_000;

export interface RangeSpec {
  readonly id: number;
  readonly from?: string;
  readonly to?: string;
  readonly stores: readonly number[];
  readonly learners?: readonly number[];
  /** 0: nobody. */
  readonly leader?: number;
  readonly more?: Partial<ReplicaAccount>;
}

export function landscapeOf(
  stores: number,
  ranges: readonly RangeSpec[],
  more: Readonly<Record<number, Partial<StoreAccount>>> = {},
): Landscape {
  const ids = Array.from({ length: stores }, (_, index) => index + 1);
  return {
    stores: ids.map(store => ({
      ...{ store, alive: true, sinceMs: NOW_MS - 60_000, draining: false, cores: 2 },
      name: `apply-0@${'abcdefgh'[store - 1]}`,
      services: [SERVICE.MAP],
      replicas: ranges
        .filter(range => [...range.stores, ...(range.learners ?? [])].includes(store))
        .map(range => replicaOf(range, store)),
      ...more[store],
    })),
  };
}

export function mapKeyOf(text: string): Uint8Array {
  return Buffer.from(`m${text}`);
}

function replicaOf(range: RangeSpec, store: number): ReplicaAccount {
  const { id, from = '', to, stores, learners = [], leader = stores[0]!, more } = range;
  const leads = leader === store;
  return {
    range: id,
    ...{ epoch: 1, term: 1, membersAt: 1, genesis: 7, pristine: false, changing: false, sole: false, leads },
    boundary: {
      start: mapKeyOf(from),
      end: to === undefined ? Uint8Array.of(SERVICE.MAP + 1) : mapKeyOf(to),
    },
    replica: store,
    members: [
      ...stores.map(member => ({ replica: member, store: member, role: MEMBER.VOTER })),
      ...learners.map(member => ({ replica: member, store: member, role: MEMBER.LEARNER })),
    ],
    load: {
      ...{ bytes: 2048, writesPerSecond: 0, queriesPerSecond: 0, queryMicros: 0, fanOut: 0 },
      ...{ splitKey: new Uint8Array(), epochSinceMs: 0 },
    },
    silent: [],
    ...more,
  };
}

/** The own range of a store: the same id and keys in each. */
export function soleReplica(store: number): ReplicaAccount {
  const { replicas } = landscapeOf(store, [{ id: 1, stores: [store] }]).stores[store - 1]!;
  const boundary = { start: Uint8Array.of(SERVICE.INBOX), end: Uint8Array.of(SERVICE.INBOX + 1) };
  return { ...replicas[0]!, sole: true, boundary, genesis: 100 + store };
}
