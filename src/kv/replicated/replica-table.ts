import { assert } from '../../base/assert.js';
import { ByteReader, ByteWriter } from '../../base/bytes.js';
import type { Engine, KvWriter } from '../engine.js';
import { BOOK_RANGE_AT, bookKey, bookSpan, copyOf, readOrdered53 } from '../keys.js';
import type { Configuration, ReplicaId } from '../raft/configuration.js';
import type { HardState } from '../raft/ready.js';
import { type Coprocessor, overlap } from '../range.js';
import { BOOK, BOOKS_VERSION } from './books.js';
import {
  type Descriptor,
  descriptorFault,
  getDescriptor,
  memberOf,
  putDescriptor,
  wantedConfiguration,
} from './descriptor.js';
import { Garbage } from './garbage.js';
import { Install } from './install.js';
import { RangeLog } from './log.js';
import { readVersion } from './log-records.js';
import { Replica, type ReplicaHost } from './replica.js';
import { ownSpans, type Span, stateSpans } from './spans.js';
import { RangeState } from './state.js';
import type { Surroundings } from './transitions.js';
import type { Turn } from './turn.js';

/** Makes the coprocessor of a range. */
export type CoprocessorFactory = (service: number, range: number) => Coprocessor;

/** What is known of a range whose replica here is gone. */
export interface Tombstone {
  /** Replica ids up to this one never come back. */
  readonly floor: ReplicaId;
  /** The range that it became part of; 0 if it did not. */
  readonly target: number;
}

/** To begin in the next turn. */
export interface Founding {
  readonly descriptor: Descriptor;
  /** Puts the range's data in place. */
  readonly prepare: ((writer: KvWriter) => void) | undefined;
}

/** To end in the next turn. */
export interface Doomed {
  readonly replica: Replica;
  /** The range that absorbed its range, or 0. */
  readonly target: number;
}

/** A new range begins as if entry 1 had been applied and compacted: whoever joins later needs the state. */
export const FIRST_INDEX = 1;
const NO_REPLICA_MORE = Number.MAX_SAFE_INTEGER;
const NOBODY_YET: Configuration = { voters: [], outgoing: [], learners: [] };

interface Buried {
  readonly replica: Replica;
  readonly target: Descriptor | undefined;
}

/**
 * The replicas of a store: how they come about and how they end.
 *
 * They come about by `found` (bootstrap), by a split (`beget`), and by the first message of a leader to a replica id that
 * is above the tombstone's (`make`); such a one is empty and gets its state from the leader. They end when the members
 * do not include them, when they are absorbed, and when a state is received that has absorbed them.
 *
 * No key belongs to two replicas: a received state is taken only once nothing else here holds a key of its boundary,
 * be it a replica, a state that is being put in place, or garbage; until then it waits in the stage. Splits and merges
 * hand keys from one replica to another.
 */
export class ReplicaTable implements Surroundings {
  readonly byRange = new Map<number, Replica>();
  readonly garbage = new Garbage();
  /** Ended in this turn. */
  buried: Buried[] = [];
  /** Made in this turn by a split; where the parent leads they campaign at once. */
  begotten: { readonly replica: Replica; readonly campaigns: boolean }[] = [];
  private readonly store: number;
  private readonly engine: Engine;
  private readonly host: ReplicaHost;
  private readonly coprocessors: CoprocessorFactory;

  constructor(store: number, engine: Engine, host: ReplicaHost, coprocessors: CoprocessorFactory) {
    this.store = store;
    this.engine = engine;
    this.host = host;
    this.coprocessors = coprocessors;
  }

  /** Forgets everything but `kept` and opens what is stored. */
  open(kept: Iterable<Replica> = []): void {
    const { engine, host } = this;
    this.byRange.clear();
    for (const replica of kept) this.byRange.set(replica.rangeId, replica);
    this.buried = [];
    this.begotten = [];
    this.garbage.open(engine);
    const ranges: number[] = [];
    const { start, end } = bookSpan(BOOK.STATE);
    engine.scan(start, end, key => {
      ranges.push(readOrdered53(key, BOOK_RANGE_AT));
      return true;
    });
    for (const rangeId of ranges) {
      if (this.byRange.has(rangeId)) continue;
      const log = RangeLog.open(rangeId, engine, host.limits)!;
      const replica = new Replica(host, log.replica, log);
      replica.install = Install.open(rangeId, engine);
      const hasState = getDescriptor(engine, rangeId) !== undefined;
      if (hasState && replica.install?.isCommitted !== true) replica.state = this.openState(rangeId, log);
      this.byRange.set(rangeId, replica);
    }
  }

  /** Whether replicas came or went in the turn. */
  get hasChanges(): boolean {
    return this.buried.length + this.begotten.length > 0;
  }

  /** Which ones, once. */
  takeChanges(): Pick<ReplicaTable, 'buried' | 'begotten'> {
    const { buried, begotten } = this;
    this.buried = [];
    this.begotten = [];
    return { buried, begotten };
  }

  openState(rangeId: number, log: RangeLog): RangeState {
    const descriptor = getDescriptor(this.engine, rangeId);
    assert(descriptor !== undefined, 'a state has a descriptor');
    const coprocessor = this.coprocessors(descriptor.service, rangeId);
    const state = new RangeState(descriptor, log.configurationAt(log.applied), coprocessor);
    state.open(this.engine);
    return state;
  }

  /** The range that absorbed this one, 0 if none did; undefined as long as it may be somewhere. */
  heirOf(rangeId: number): number | undefined {
    const { floor, target } = this.tombstone(rangeId);
    return floor === NO_REPLICA_MORE ? target : undefined;
  }

  /** A replica of the range has ended here. */
  wasHere(rangeId: number): boolean {
    return this.tombstone(rangeId).floor > 0;
  }

  private tombstone(rangeId: number): Tombstone {
    const stored = this.engine.get(bookKey(new ByteWriter(16), BOOK.TOMBSTONE, rangeId).view());
    if (stored === undefined) return { floor: 0, target: 0 };
    const record = new ByteReader(copyOf(stored));
    readVersion(record);
    return { floor: record.u53(), target: record.u53() };
  }

  /** The first replica of a range on this store. All its stores are given the same descriptor. */
  found(writer: KvWriter, { descriptor, prepare }: Founding): Replica {
    const fault = descriptorFault(descriptor);
    assert(fault === undefined, `a range is founded whole: ${fault}`);
    const member = descriptor.members.find(({ store }) => store === this.store);
    assert(member !== undefined && !this.byRange.has(descriptor.id), 'a store founds its own replica, once');
    prepare?.(writer);
    putDescriptor(writer, descriptor);
    return this.begin(writer, descriptor, wantedConfiguration(descriptor), member.replica, NO_HARD_STATE);
  }

  private begin(
    writer: KvWriter,
    descriptor: Descriptor,
    configuration: Configuration,
    id: ReplicaId,
    hardState: HardState,
  ): Replica {
    const log = this.logOf(descriptor.id, id, FIRST_INDEX, configuration, hardState);
    log.finish(writer);
    const replica = new Replica(this.host, id, log);
    const coprocessor = this.coprocessors(descriptor.service, descriptor.id);
    replica.state = new RangeState(descriptor, configuration, coprocessor);
    replica.state.open(writer);
    this.byRange.set(descriptor.id, replica);
    return replica;
  }

  private logOf(
    rangeId: number,
    replica: ReplicaId,
    index: number,
    configuration: Configuration,
    hardState: HardState,
  ): RangeLog {
    const snapshot = { index, term: 0, configuration };
    const state = { replica, hardState, snapshot, applied: index };
    return RangeLog.create(rangeId, this.engine, state, this.host.limits);
  }

  /** A replica that a leader speaks to and that is not there; undefined if it must not be. */
  make(rangeId: number, id: ReplicaId): Replica | undefined {
    if (this.byRange.has(rangeId) || this.garbage.has(rangeId)) return undefined;
    if (id <= this.tombstone(rangeId).floor) return undefined;
    const replica = new Replica(this.host, id, this.logOf(rangeId, id, 0, NOBODY_YET, NO_HARD_STATE));
    this.byRange.set(rangeId, replica);
    return replica;
  }

  /** Whether a received state may be taken now. */
  admits({ rangeId, id, install }: Replica): boolean {
    const { descriptor, meta } = install!.head!;
    const { boundary, absorbed } = descriptor;
    if (descriptor.id !== rangeId || descriptorFault(descriptor) !== undefined) return false;
    const { voters, outgoing, learners } = meta.configuration;
    const isWanted =
      memberOf(descriptor, id) !== undefined || [voters, outgoing, learners].flat().includes(id);
    if (!isWanted || this.garbage.has(rangeId) || this.garbage.overlaps(boundary)) return false;
    for (const other of this.byRange.values()) {
      if (other.rangeId === rangeId || absorbed.some(({ range }) => range === other.rangeId)) continue;
      if (other.state !== undefined && overlap(other.state.descriptor.boundary, boundary)) return false;
      if (other.install?.occupies(boundary)) return false;
    }
    return true;
  }

  /** What the state that the replica has received takes the place of; replicas that it absorbed end here. */
  replaced({ rangeId, state, install }: Replica, turn: Turn): readonly Span[] {
    const spans: Span[] = state === undefined ? [] : [...stateSpans(state.descriptor)];
    const { descriptor } = install!.head!;
    for (const { range } of descriptor.absorbed) {
      const other = this.byRange.get(range);
      if (other === undefined || other.rangeId === rangeId) continue;
      const held = other.state?.descriptor ?? other.install?.head?.descriptor;
      if (held !== undefined) spans.push(...stateSpans(held));
      this.bury(other, turn.writer, { floor: NO_REPLICA_MORE, target: rangeId }, ownSpans(range), descriptor);
    }
    return spans;
  }

  /** It is gone with the turn, and `garbage` after it. */
  private bury(
    replica: Replica,
    writer: KvWriter,
    { floor, target }: Tombstone,
    garbage: readonly Span[],
    absorber?: Descriptor,
  ): void {
    const { rangeId } = replica;
    const value = new ByteWriter(32).u8(BOOKS_VERSION).u53(floor).u53(target);
    writer.put(bookKey(new ByteWriter(16), BOOK.TOMBSTONE, rangeId).view(), value.view());
    for (const kind of [BOOK.STATE, BOOK.DESCRIPTOR, BOOK.RECEIVED])
      writer.remove(bookKey(new ByteWriter(16), kind, rangeId).view());
    this.garbage.add(writer, rangeId, garbage);
    this.byRange.delete(rangeId);
    replica.isDestroyed = true;
    this.buried.push({ replica, target: absorber });
  }

  /**
   * Ends a replica that is no member any more, with all it has; its id never comes back, nor does any other of the range if
   * that was absorbed by `target`.
   */
  destroy(replica: Replica, writer: KvWriter, target: number): void {
    this.end(replica, writer, { floor: target === 0 ? replica.id : NO_REPLICA_MORE, target });
  }

  private end(replica: Replica, writer: KvWriter, tombstone: Tombstone): void {
    if (replica.isDestroyed) return;
    const { rangeId, state, install } = replica;
    const spans = [...ownSpans(rangeId), ...(install?.toClear ?? [])];
    if (state !== undefined) spans.push(...stateSpans(state.descriptor));
    this.bury(replica, writer, tombstone, spans);
  }

  // -- Surroundings --------------------------------------------------------------------------------------------

  beget(child: Descriptor, configuration: Configuration, parent: RangeState, turn: Turn): void {
    const { writer } = turn;
    const own = child.members.find(({ store }) => store === this.store);
    const empty = this.byRange.get(child.id);
    assert(empty?.state === undefined, 'what is in the boundary was the parent’s alone');
    const isOurs =
      own !== undefined &&
      own.replica > this.tombstone(child.id).floor &&
      (empty === undefined || empty.id <= own.replica);
    if (!isOurs) {
      // The child has a later replica here, which gets its state from others, or none any more.
      this.garbage.add(writer, child.id, stateSpans(child));
      return;
    }
    if (empty !== undefined) {
      // It was heard of before. What it has promised stands.
      this.byRange.delete(child.id);
      empty.isDestroyed = true;
      this.buried.push({ replica: empty, target: undefined });
    }
    const promised = empty?.id === own.replica ? empty.promised : NO_HARD_STATE;
    putDescriptor(writer, child);
    const replica = this.begin(writer, child, configuration, own.replica, promised);
    replica.state!.sessions.merge(parent.sessions, writer);
    const campaigns = this.byRange.get(parent.descriptor.id)?.isLeader === true;
    this.begotten.push({ replica, campaigns });
  }

  discard({ descriptor }: RangeState, turn: Turn): void {
    const replica = this.byRange.get(descriptor.id);
    assert(replica !== undefined, 'who applies an entry is there');
    this.end(replica, turn.writer, { floor: NO_REPLICA_MORE, target: 0 });
  }

  preparedSource(source: number, preparedAt: number, turn: Turn): RangeState | 'waits' {
    const replica = this.byRange.get(source);
    assert(replica !== undefined, 'the source of a merge is on all stores of the target');
    if (replica.state === undefined) return 'waits';
    replica.catchUp(preparedAt, turn);
    return replica.state;
  }

  buryAbsorbed(source: RangeState, target: Descriptor, turn: Turn): void {
    const { id } = source.descriptor;
    const replica = this.byRange.get(id);
    assert(replica?.state === source, 'the source is a replica of this store');
    // The boundary is the last of the spans, and the target's now.
    const garbage = [...ownSpans(id), ...stateSpans(source.descriptor).slice(0, -1)];
    this.bury(replica, turn.writer, { floor: NO_REPLICA_MORE, target: target.id }, garbage, target);
  }
}

const NO_HARD_STATE: HardState = { term: 0, vote: 0, commit: 0 };
