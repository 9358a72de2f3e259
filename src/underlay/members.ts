import { isLater } from './host-record.js';
import { IdTable } from './id-table.js';
import type { Address, GoneReason, HostId, HostRecord } from './message.js';
import type { Suspicion } from './suspicion.js';
import type { HostView } from './underlay.js';

/** Hosts that a view holds; more are not taken in. */
export const MEMBERS_MAX = 16_384;

/** Hosts that are remembered as gone; the longest known is forgotten first. */
export const TOMBSTONES_MAX = 8_192;

/** Probes in a row that only relays could answer, until a link counts as one-way. */
const ONE_WAY_PROBES = 2;

/** What is measured of a host that was heard from or probed. Made when there is something to keep. */
export interface Link {
  /** -1 before the first direct answer by datagram, and while there is none. */
  roundTripMs: number;
  clockSkewMs: number;
  /** Monotonic time of its last packet. */
  heardMs: number;
  /** Probes in a row that only relays could answer. */
  indirectOnly: number;
  /** Answered probes in a row without a datagram from it. */
  unmeasured: number;
}

export interface Member {
  record: HostRecord;
  suspicion: Suspicion | null;
  /** Wall clock. */
  sinceMs: number;
  link: Link | null;
  /** Place in the list of members; -1 once it is gone, which is how others that hold it notice. */
  index: number;
}

/** What is known of a host that is not in the view any more. */
export interface Tombstone {
  readonly incarnation: number;
  readonly reason: GoneReason;
}

/** The higher wins between accounts of the same incarnation, so that the order of hearing does not matter. */
const REASON_RANK: Readonly<Record<GoneReason, number>> = { failed: 0, replaced: 1, left: 2, evicted: 3 };

/** Whether `reason` at `incarnation` tells more than the tombstone does. An eviction beats every incarnation. */
export function outranks(incarnation: number, reason: GoneReason, tombstone: Tombstone): boolean {
  const isEvicted = tombstone.reason === 'evicted';
  if (isEvicted !== (reason === 'evicted')) return !isEvicted;
  if (incarnation > tombstone.incarnation) return true;
  return incarnation === tombstone.incarnation && REASON_RANK[reason] > REASON_RANK[tombstone.reason];
}

/** Whether a host that says it is alive at `incarnation` is to be believed in spite of its tombstone. */
export function resurrects(incarnation: number, tombstone: Tombstone): boolean {
  return tombstone.reason !== 'evicted' && incarnation > tombstone.incarnation;
}

/**
 * Everybody but this host itself: who is in the view, where, and who is gone. It keeps the indexes; what may be
 * believed is decided by `view.ts`.
 *
 * Invariants: a host is a member or has a tombstone, never both; no two members share an address.
 */
export class Members {
  /** In no particular order; for picking at random and for walking. */
  readonly list: Member[] = [];
  private readonly byId = new IdTable<Member>();
  private readonly byAddress = new Map<Address, Member>();
  private readonly gone = new Map<HostId, Tombstone>();

  get size(): number {
    return this.list.length;
  }

  get tombstones(): number {
    return this.gone.size;
  }

  /** Goes on well while tombstones come and go. */
  tombstoneIds(): IterableIterator<HostId> {
    return this.gone.keys();
  }

  get(id: HostId): Member | undefined {
    return this.byId.get(id);
  }

  at(address: Address): Member | undefined {
    return this.byAddress.get(address);
  }

  tombstone(id: HostId): Tombstone | undefined {
    return this.gone.get(id);
  }

  /** The host that lives where `record` says it does, and whether it is the later one of the two. */
  rival(record: HostRecord): { readonly member: Member; readonly isLater: boolean } | undefined {
    const member = this.byAddress.get(record.address);
    if (member === undefined || member.record.id === record.id) return undefined;
    return { member, isLater: isLater(member.record, record) };
  }

  add(record: HostRecord, sinceMs: number): Member {
    const member: Member = { record, suspicion: null, sinceMs, link: null, index: this.list.length };
    this.list.push(member);
    this.byId.set(record.id, member);
    this.byAddress.set(record.address, member);
    this.gone.delete(record.id);
    return member;
  }

  update(member: Member, record: HostRecord): void {
    if (member.record.address !== record.address) {
      this.byAddress.delete(member.record.address);
      this.byAddress.set(record.address, member);
    }
    member.record = record;
  }

  bury(member: Member, tombstone: Tombstone): void {
    const last = this.list.pop()!;
    if (last !== member) {
      this.list[member.index] = last;
      last.index = member.index;
    }
    member.index = -1;
    this.byId.delete(member.record.id);
    this.byAddress.delete(member.record.address);
    this.setTombstone(member.record.id, tombstone);
  }

  setTombstone(id: HostId, tombstone: Tombstone): void {
    this.gone.delete(id);
    this.gone.set(id, tombstone);
    if (this.gone.size > TOMBSTONES_MAX) this.gone.delete(this.gone.keys().next().value!);
  }
}

/** As those above see it. `silenceMs`: a host that was not heard for so long is not known to reach this one. */
export function hostView(member: Member, nowMs: number, silenceMs: number): HostView {
  const { record, suspicion, sinceMs, link } = member;
  const isHeard = link !== null && nowMs - link.heardMs < silenceMs;
  return {
    record,
    state: suspicion === null ? 'alive' : 'suspect',
    sinceMs,
    roundTripMs: link?.roundTripMs ?? -1,
    clockSkewMs: link?.clockSkewMs ?? 0,
    oneWay: isHeard && link.indirectOnly >= ONE_WAY_PROBES,
  };
}
