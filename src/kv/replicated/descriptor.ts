import { ByteReader, ByteWriter } from '../../base/bytes.js';
import type { KvReader, KvWriter } from '../engine.js';
import { bookKey, copyOf } from '../keys.js';
import type { Configuration, ReplicaId } from '../raft/configuration.js';
import type { Boundary } from '../range.js';
import { BOOK, BOOKS_VERSION } from './books.js';
import { readVersion } from './log-records.js';

/** What a member is to be. `LEAVING` is one until a configuration without it has been applied. */
export const ROLE = { VOTER: 0, LEARNER: 1, LEAVING: 2 } as const;

export interface Member {
  readonly replica: ReplicaId;
  readonly store: number;
  /** One of {@link ROLE}. */
  readonly role: number;
}

/** A range that is to become part of `target`, and takes no more commands. */
export interface Merging {
  readonly target: number;
  /** The merge can be committed at this epoch of the target and no other. */
  readonly targetEpoch: number;
  /** Nor with other members, or the same ones again. */
  readonly targetMembersAt: number;
  /** Index of the entry that said so: the last one that may have changed data. */
  readonly at: number;
}

export interface Absorbed {
  readonly range: number;
  readonly epoch: number;
}

/**
 * What a range is: replicated state, changed by applied entries alone, so replicas at the same index hold the same.
 *
 * `epoch` rises with every change of the boundary, and for each key it rises over all ranges that ever held the key: a
 * split gives both halves the parent's plus one, a merge gives the union the greater of both plus one. So of two
 * descriptors that overlap the one with the greater epoch is the newer, and a command says under which one it was
 * proposed.
 *
 * Replica ids are drawn from `nextReplica`, upwards, and never twice: whoever is below it and not a member was one
 * and is for ever not. `members` is what the configuration is to become; `changing` says that it is not yet.
 */
export interface Descriptor {
  /** From 1 to 2^53 - 2; used by one range ever. */
  readonly id: number;
  /** Which bootstrap it descends from. */
  readonly genesis: number;
  /** One of SERVICE in keys.ts. */
  readonly service: number;
  readonly epoch: number;
  readonly boundary: Boundary;
  /** By replica id. */
  readonly members: readonly Member[];
  /** Index of the entry by which `members` became what they are. */
  readonly membersAt: number;
  readonly changing: boolean;
  readonly nextReplica: ReplicaId;
  readonly merging: Merging | undefined;
  /** The last ranges that became part of it. */
  readonly absorbed: readonly Absorbed[];
  /** No command was ever applied. */
  readonly pristine: boolean;
}

export const BOUNDARY_KEY_BYTES_MAX = 4096;
export const MEMBERS_MAX = 64;
/** A replica that slept through more merges into one range is not replaced by the range's state, see snapshot.ts. */
export const ABSORBED_MAX = 64;

/** What is wrong with a descriptor; undefined if nothing is. */
export function descriptorFault(descriptor: Descriptor): string | undefined {
  const { id, epoch, boundary, members, nextReplica, absorbed } = descriptor;
  if (!(id >= 1 && id < Number.MAX_SAFE_INTEGER)) return 'its id is out of bounds';
  if (epoch < 1) return 'its epoch is not positive';
  if (boundary.start.length === 0 || boundary.start.length > BOUNDARY_KEY_BYTES_MAX)
    return 'its start is empty or too long';
  if (boundary.end.length > BOUNDARY_KEY_BYTES_MAX) return 'its end is too long';
  if (Buffer.compare(boundary.start, boundary.end) >= 0) return 'it ends before it begins';
  if (members.length > MEMBERS_MAX) return 'it has too many members';
  if (absorbed.length > ABSORBED_MAX) return 'it names too many that it absorbed';
  const stores = new Set<number>();
  let former = 0;
  for (const { replica, store, role } of members) {
    if (replica <= former || replica >= nextReplica) return 'a replica id is out of order';
    if (role > ROLE.LEAVING) return 'a role is unknown';
    if (role !== ROLE.LEAVING && stores.has(store)) return 'a store has two of its replicas';
    if (role !== ROLE.LEAVING) stores.add(store);
    former = replica;
  }
  return undefined;
}

/** The configuration that the members are to have. */
export function wantedConfiguration({ members }: Pick<Descriptor, 'members'>): Configuration {
  const of = (wanted: number) => members.filter(({ role }) => role === wanted).map(({ replica }) => replica);
  return { voters: of(ROLE.VOTER), outgoing: [], learners: of(ROLE.LEARNER) };
}

export function sameConfiguration(one: Configuration, other: Configuration): boolean {
  const same = (a: readonly ReplicaId[], b: readonly ReplicaId[]) =>
    a.length === b.length && a.every((replica, at) => replica === b[at]);
  return (
    same(one.voters, other.voters) && same(one.outgoing, other.outgoing) && same(one.learners, other.learners)
  );
}

export function memberOf({ members }: Pick<Descriptor, 'members'>, replica: ReplicaId): Member | undefined {
  return members.find(member => member.replica === replica);
}

/** The stores of all members, sorted, as a text to be compared. */
export function storesOf({ members }: Pick<Descriptor, 'members'>): string {
  return members
    .map(({ store }) => store)
    .sort((a, b) => a - b)
    .join();
}

export function writeDescriptor(writer: ByteWriter, descriptor: Descriptor): ByteWriter {
  const { id, genesis, service, epoch, boundary, members, membersAt, merging, absorbed } = descriptor;
  writer.u8(BOOKS_VERSION).u53(id).u53(genesis).u8(service).u53(epoch);
  writer.blob(boundary.start).blob(boundary.end);
  writer.u16(members.length);
  for (const { replica, store, role } of members) writer.u53(replica).u53(store).u8(role);
  writer.u53(membersAt).u53(descriptor.nextReplica);
  writer.u8(
    (descriptor.changing ? FLAG.CHANGING : 0) |
      (descriptor.pristine ? FLAG.PRISTINE : 0) |
      (merging === undefined ? 0 : FLAG.MERGING),
  );
  if (merging !== undefined) {
    const { target, targetEpoch, targetMembersAt, at } = merging;
    writer.u53(target).u53(targetEpoch).u53(targetMembersAt).u53(at);
  }
  writer.u16(absorbed.length);
  for (const { range, epoch: at } of absorbed) writer.u53(range).u53(at);
  return writer;
}

/** Reads what {@link writeDescriptor} wrote; keeps no view. */
export function readDescriptor(reader: ByteReader): Descriptor {
  readVersion(reader);
  const id = reader.u53();
  const genesis = reader.u53();
  const service = reader.u8();
  const epoch = reader.u53();
  const boundary = { start: copyOf(reader.blob()), end: copyOf(reader.blob()) };
  const members: Member[] = [];
  for (let left = reader.u16(); left > 0; left--)
    members.push({ replica: reader.u53(), store: reader.u53(), role: reader.u8() });
  const membersAt = reader.u53();
  const nextReplica = reader.u53();
  const flags = reader.u8();
  const merging =
    (flags & FLAG.MERGING) === 0
      ? undefined
      : {
          target: reader.u53(),
          targetEpoch: reader.u53(),
          targetMembersAt: reader.u53(),
          at: reader.u53(),
        };
  const absorbed: Absorbed[] = [];
  for (let left = reader.u16(); left > 0; left--) absorbed.push({ range: reader.u53(), epoch: reader.u53() });
  const changing = (flags & FLAG.CHANGING) !== 0;
  const pristine = (flags & FLAG.PRISTINE) !== 0;
  return {
    ...{ id, genesis, service, epoch, boundary, members, membersAt, changing },
    ...{ nextReplica, merging, absorbed, pristine },
  };
}

const FLAG = { CHANGING: 1, PRISTINE: 2, MERGING: 4 } as const;

export function putDescriptor(writer: KvWriter, descriptor: Descriptor): void {
  const value = writeDescriptor(new ByteWriter(256), descriptor).view();
  writer.put(bookKey(new ByteWriter(16), BOOK.DESCRIPTOR, descriptor.id).view(), value);
}

/** Undefined for a replica that has no state yet. */
export function getDescriptor(reader: KvReader, rangeId: number): Descriptor | undefined {
  const stored = reader.get(bookKey(new ByteWriter(16), BOOK.DESCRIPTOR, rangeId).view());
  return stored === undefined ? undefined : readDescriptor(new ByteReader(copyOf(stored)));
}
