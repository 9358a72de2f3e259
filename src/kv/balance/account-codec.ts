import { assert } from '../../base/assert.js';
import { table } from '../../rpc/table.js';
import { RangeMember } from '../../schema/gen/range-member.js';
import { ReplicaRecord } from '../../schema/gen/replica-record.js';
import { StoreRecord } from '../../schema/gen/store-record.js';
import type { MessageBuilder } from '../../schema/schema.js';
import { MEMBER, type Member, type ReplicaAccount } from './landscape.js';

/**
 * How accounts stand in the shared map of the stores' agent: one entry for a store and one for each of its replicas, so
 * that a change costs as much as what changed. Who is silent stays with the leader: nobody else decides on it. Times
 * are whole milliseconds of the store's wall clock; board.ts turns them into those of the reader's own.
 */
export type PublishedReplica = Omit<ReplicaAccount, 'range' | 'silent'>;

/** A store's own entry. */
export interface PublishedStore {
  /** The underlay's id of the host that it runs on now. */
  readonly host: number;
  readonly name: string;
  readonly cores: number;
  readonly draining: boolean;
  /** Services of which it takes ranges (SERVICE in keys.ts). */
  readonly services: readonly number[];
}

/** Of a boundary or a split key. */
export const BOUNDARY_BYTES_MAX = 4096;
export const MEMBERS_MAX = 64;
const NAME_LENGTH_MAX = 128;
const SERVICES_MAX = 32;
/** Below what an entry of a shared map takes. */
export const ACCOUNT_BYTES_MAX = 16_384;

const replicas = table<PublishedReplica>({
  write(builder, account) {
    const { boundary, load } = account;
    const parts = account.members.map(({ replica, store, role }) =>
      RangeMember.createRangeMember(builder, replica, store, role),
    );
    const start = ReplicaRecord.createStartVector(builder, boundary.start as Uint8Array);
    const end = ReplicaRecord.createEndVector(builder, boundary.end as Uint8Array);
    const splitKey = ReplicaRecord.createSplitKeyVector(builder, load.splitKey as Uint8Array);
    return writeReplica(builder, account, {
      members: ReplicaRecord.createMembersVector(builder, parts),
      start,
      end,
      splitKey,
    });
  },

  read(buffer) {
    const found = ReplicaRecord.getRootAsReplicaRecord(buffer);
    const count = found.membersLength();
    if (count > MEMBERS_MAX) return undefined;
    const account: PublishedReplica = {
      epoch: found.epoch(),
      boundary: { start: bytesOf(found.startArray()), end: bytesOf(found.endArray()) },
      replica: found.replica(),
      leads: found.leads(),
      term: found.term(),
      members: Array.from({ length: count }, (_, at) => memberOf(found.members(at))),
      membersAt: found.membersAt(),
      genesis: found.genesis(),
      pristine: found.pristine(),
      changing: found.changing(),
      sole: found.sole(),
      load: {
        bytes: found.bytes(),
        writesPerSecond: found.writesPerSecond(),
        queriesPerSecond: found.queriesPerSecond(),
        queryMicros: found.queryMicros(),
        fanOut: found.fanOut(),
        splitKey: bytesOf(found.splitKeyArray()),
        epochSinceMs: found.epochSinceMs(),
      },
    };
    return isReplica(account) ? account : undefined;
  },
});

interface Parts {
  readonly members: number;
  readonly start: number;
  readonly end: number;
  readonly splitKey: number;
}

function writeReplica(builder: MessageBuilder, account: PublishedReplica, parts: Parts): number {
  const { load } = account;
  ReplicaRecord.startReplicaRecord(builder);
  ReplicaRecord.addEpoch(builder, account.epoch);
  ReplicaRecord.addStart(builder, parts.start);
  ReplicaRecord.addEnd(builder, parts.end);
  ReplicaRecord.addReplica(builder, account.replica);
  ReplicaRecord.addLeads(builder, account.leads);
  ReplicaRecord.addTerm(builder, account.term);
  ReplicaRecord.addMembers(builder, parts.members);
  ReplicaRecord.addMembersAt(builder, account.membersAt);
  ReplicaRecord.addGenesis(builder, account.genesis);
  ReplicaRecord.addPristine(builder, account.pristine);
  ReplicaRecord.addChanging(builder, account.changing);
  ReplicaRecord.addBytes(builder, load.bytes);
  ReplicaRecord.addWritesPerSecond(builder, load.writesPerSecond);
  ReplicaRecord.addQueriesPerSecond(builder, load.queriesPerSecond);
  ReplicaRecord.addQueryMicros(builder, load.queryMicros);
  ReplicaRecord.addFanOut(builder, load.fanOut);
  ReplicaRecord.addSplitKey(builder, parts.splitKey);
  ReplicaRecord.addEpochSinceMs(builder, load.epochSinceMs);
  ReplicaRecord.addSole(builder, account.sole);
  return ReplicaRecord.endReplicaRecord(builder);
}

const stores = table<PublishedStore>({
  write(builder, { host, name, cores, draining, services }) {
    const words = builder.createString(name);
    const taken = StoreRecord.createServicesVector(builder, services as number[]);
    return StoreRecord.createStoreRecord(builder, host, words, cores, draining, taken);
  },
  read(buffer) {
    const found = StoreRecord.getRootAsStoreRecord(buffer);
    const store = {
      host: found.host(),
      name: found.name() ?? '',
      cores: found.cores(),
      draining: found.draining(),
      services: [...bytesOf(found.servicesArray())],
    };
    return isStore(store) ? store : undefined;
  },
});

/** Fresh bytes. What breaks a limit asserts. */
export function encodeReplica(account: PublishedReplica): Uint8Array {
  assert(isReplica(account), 'an account of our own is well-formed');
  return replicas.encode(account);
}

/** Undefined for what is none. Never throws. */
export function decodeReplica(bytes: Uint8Array): PublishedReplica | undefined {
  return bytes.length > ACCOUNT_BYTES_MAX ? undefined : replicas.decode(bytes);
}

/** Fresh bytes. What breaks a limit asserts. */
export function encodeStore(store: PublishedStore): Uint8Array {
  assert(isStore(store), 'an account of our own is well-formed');
  return stores.encode(store);
}

/** Undefined for what is none. Never throws. */
export function decodeStore(bytes: Uint8Array): PublishedStore | undefined {
  return bytes.length > ACCOUNT_BYTES_MAX ? undefined : stores.decode(bytes);
}

/** The key of a store's own entry. */
export function storeKey(store: number): string {
  return `s/${store.toString(36)}`;
}

/** The key of a replica's entry. */
export function replicaKey(store: number, range: number): string {
  return `r/${store.toString(36)}/${range.toString(36)}`;
}

/** The store and range of an entry, range 0 for the store's own; undefined for a key of another form. */
export function accountKey(key: string): { readonly store: number; readonly range: number } | undefined {
  const parts = /^(?:s\/([0-9a-z]{1,11})|r\/([0-9a-z]{1,11})\/([0-9a-z]{1,11}))$/.exec(key);
  if (parts === null) return undefined;
  const store = Number.parseInt(parts[1] ?? parts[2]!, 36);
  const range = parts[3] === undefined ? 0 : Number.parseInt(parts[3], 36);
  const isOurs = isId(store) && (parts[3] === undefined || isId(range));
  return isOurs && key === (range === 0 ? storeKey(store) : replicaKey(store, range))
    ? { store, range }
    : undefined;
}

function bytesOf(array: Uint8Array | null): Uint8Array {
  // A view of the packet would keep it alive, or change with it.
  return array === null ? new Uint8Array() : new Uint8Array(array);
}

function memberOf(found: RangeMember | null): Member {
  return { replica: found?.replica() ?? 0, store: found?.store() ?? 0, role: found?.role() ?? -1 };
}

function isStore({ host, name, cores, services }: PublishedStore): boolean {
  return (
    isId(host) &&
    name.length <= NAME_LENGTH_MAX &&
    Number.isSafeInteger(cores) &&
    cores > 0 &&
    services.length <= SERVICES_MAX &&
    services.every(service => isCount(service) && service <= 0xff)
  );
}

function isReplica(account: PublishedReplica): boolean {
  const { boundary, members, load } = account;
  const figures = [load.bytes, load.writesPerSecond, load.queriesPerSecond, load.queryMicros, load.fanOut];
  return (
    [account.epoch, account.replica, account.genesis].every(isId) &&
    [account.term, account.membersAt, load.epochSinceMs].every(isCount) &&
    [boundary.start, boundary.end, load.splitKey].every(({ length }) => length <= BOUNDARY_BYTES_MAX) &&
    Buffer.compare(boundary.start, boundary.end) < 0 &&
    figures.every(figure => Number.isFinite(figure) && figure >= 0) &&
    members.length > 0 &&
    members.length <= MEMBERS_MAX &&
    members.every(({ replica, store, role }) => isId(replica) && isId(store) && isRole(role))
  );
}

function isRole(role: number): boolean {
  return role === MEMBER.VOTER || role === MEMBER.LEARNER;
}

function isId(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0;
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
