import { assert } from '../base/assert.js';
import { type ByteReader, ByteWriter } from '../base/bytes.js';
import type { Env } from '../base/env.js';
import { ShoalError } from '../base/errors.js';
import type { KvWriter, SnapshotEngine } from './engine.js';
import { copyOf, firstKey, localPrefix, prefixEnd } from './keys.js';
import { FIRST_RANGE_ID } from './kv.js';
import { type Boundary, type Coprocessor, type Range, wholeService } from './range.js';
import { type Descriptor, ROLE } from './replicated/descriptor.js';
import type { StoreSender } from './replicated/frames.js';
import { randomU53 } from './replicated/identity.js';
import { RaftStore } from './replicated/raft-store.js';
import type { RangeSink, Replica } from './replicated/replica.js';
import type { RaftStoreOptions } from './replicated/store-options.js';

/**
 * The range of a service that has but one, which only this store holds. `make` makes its coprocessor, once; `id` is
 * given where more depends on it than keys, and random otherwise, as no two ranges of all stores are to share one.
 * The range is there when the store is that it is handed to.
 */
export class SoleRange<C extends Coprocessor = Coprocessor> implements Range {
  readonly service: number;
  readonly boundary: Boundary;
  readonly wantedId: number | undefined;
  private readonly make: (id: number) => C;
  private made: C | undefined;
  private raft: RaftStore | undefined;
  private replica: Replica | undefined;
  id = 0;

  constructor(service: number, make: (id: number) => C, wantedId?: number) {
    this.service = service;
    this.boundary = wholeService(service);
    this.make = make;
    this.wantedId = wantedId;
  }

  get coprocessor(): C {
    assert(this.made !== undefined, 'a range is asked when its store is open');
    return this.made;
  }

  /** The same for as long as this lives: who serves the range holds it, and it is built anew in place. */
  coprocessorOf(id: number): C {
    assert(this.id === 0 || this.id === id, 'a service has one range');
    this.id = id;
    this.made ??= this.make(id);
    return this.made;
  }

  /** Whether commands can be done now. */
  isReady(raft: RaftStore): boolean {
    this.raft = raft;
    this.replica = raft.replica(this.id);
    return this.replica?.canDecide === true;
  }

  get isDeciding(): boolean {
    return this.replica?.isDeciding === true;
  }

  decide(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    this.enter(writer);
    this.coprocessor.mutate(input, writer, output);
  }

  enter(writer: KvWriter): void {
    if (!this.replica!.isDeciding) this.raft!.decisions.enter(this.replica!, writer);
  }
}

/** What a store has beside its own ranges: replicas of ranges that it shares with other stores. */
export interface SharedRanges {
  /** Told of the own ranges, too, that they have changed. */
  readonly sink: RangeSink;
  /** As in RaftStoreOptions. */
  readonly send: StoreSender;
  /** By service. */
  readonly coprocessors: ReadonlyMap<number, (range: number) => Coprocessor>;
  /** The same at all stores; without it the defaults. */
  readonly tuning?: Pick<RaftStoreOptions, 'timing' | 'limits' | 'snapshots'>;
}

/**
 * The ranges of a `Store`, as replicas of a replicated store: those that only this store has, and which what a turn
 * decides is one entry of, committed by the turn's own transaction; and those that it shares with others, whose logs and
 * entries go into the same transaction, if there is one.
 *
 * Own ranges are made at the first start. Where data lies already, of the time when ranges had no books, the range takes
 * it over as it is, in one transaction: its keys stay, but those of the range as a whole, which go by its id.
 *
 * Nothing that becomes of a shared range holds up the own ones: each has its own replica, and a transaction without room
 * that holds both leaves the own ones where they were. After such a one the two go separately until the shared ones'
 * own is durable again.
 */
export class SoleRanges {
  readonly raft: RaftStore;
  private wasReady = false;
  private readonly ranges: readonly SoleRange[];
  private readonly engine: SnapshotEngine;
  /** The replicas' turn is written in the transaction of commands. */
  private isJoining = false;

  /** Throws as `RaftStore` does. Call {@link settle} behind it. */
  constructor(engine: SnapshotEngine, env: Env, ranges: readonly SoleRange[], shared?: SharedRanges) {
    this.engine = engine;
    this.ranges = ranges;
    const { sink, send, coprocessors, tuning } = shared ?? NOBODY_ELSE;
    this.raft = new RaftStore({
      ...{ engine, env, sink, send, ...tuning },
      coprocessors: (service, id) => {
        const make = coprocessors.get(service);
        return make === undefined ? this.rangeOf(service).coprocessorOf(id) : make(id);
      },
    });
    for (const range of ranges) if (range.id === 0) this.found(range, env);
  }

  /** Whether the range is this store's own. */
  isSole(range: number): boolean {
    return this.ranges.some(({ id }) => id === range);
  }

  private rangeOf(service: number): SoleRange {
    const range = this.ranges.find(other => other.service === service);
    if (range !== undefined) return range;
    const name = `0x${service.toString(16)}`;
    throw new ShoalError(
      'SHOAL_STORAGE_VERSION',
      `a range of service ${name} is stored, which nobody here serves`,
    );
  }

  private found(range: SoleRange, { random }: Env): void {
    const { service, boundary } = range;
    const { start, end } = boundary;
    const id = range.wantedId ?? 1 + (randomU53(random) % (Number.MAX_SAFE_INTEGER - 2));
    range.coprocessorOf(id);
    const descriptor: Descriptor = {
      ...{ id, service, boundary },
      genesis: randomU53(random),
      epoch: 1,
      members: [{ replica: 1, store: this.raft.id, role: ROLE.VOTER }],
      membersAt: 0,
      changing: false,
      nextReplica: 2,
      merging: undefined,
      absorbed: [],
      pristine: firstKey(this.engine, start, end) === undefined,
    };
    this.raft.found(descriptor, writer => rename(writer, service, id));
  }

  /** Does what the replicas want done, and at the start for as long as the own ones are not ready. Gives whether they are. */
  settle(): boolean {
    const { raft } = this;
    for (let turns = 0; turns < TURNS_MAX && raft.pending && !this.look(); turns++) raft.turn();
    return this.look();
  }

  /** Whether all own ranges can take commands. Where they could not, a commit since may have changed that. */
  get isReady(): boolean {
    return this.wasReady || this.look();
  }

  private look(): boolean {
    this.wasReady = !this.raft.isCommitting;
    for (const range of this.ranges) if (!range.isReady(this.raft)) this.wasReady = false;
    return this.wasReady;
  }

  /** A turn of the replicas begins. True: it wants a transaction, that of {@link commit} or the one which comes now. */
  begin(): boolean {
    this.isJoining = this.raft.begin();
    this.look();
    return this.isJoining;
  }

  /** Whether own ranges and the others can be written in one transaction. */
  get canJoin(): boolean {
    return this.isReady && !this.raft.isStruggling;
  }

  /** The replicas' turn has a transaction of its own. */
  commit(): void {
    this.isJoining = false;
    this.raft.commit();
    this.look();
  }

  /** Behind the last command of the turn's transaction. */
  finish(writer: KvWriter): void {
    this.raft.decisions.finish();
    if (this.isJoining) this.raft.write(writer);
  }

  durable(): void {
    this.raft.decisions.end(true);
    if (this.isJoining) this.raft.durable();
    this.isJoining = false;
  }

  /** The transaction came to nothing: memory is built again from what is stored. */
  failed(): void {
    for (const range of this.ranges)
      if (!range.isDeciding) range.coprocessor.reset(range.boundary, this.engine);
    this.raft.decisions.end(false);
    // Also what was held in the transaction.
    this.raft.failed();
    this.isJoining = false;
  }
}

/** Turns until a new range leads itself: four. */
const TURNS_MAX = 16;

/** Gives what was kept of the range as a whole under the first id to the one it has now. */
function rename(writer: KvWriter, service: number, id: number): void {
  if (id === FIRST_RANGE_ID) return;
  const former = localPrefix(new ByteWriter(16), service, FIRST_RANGE_ID).copy();
  const found: { key: Uint8Array; value: Uint8Array }[] = [];
  writer.scan(former, prefixEnd(former), (key, value) => {
    found.push({ key: copyOf(key), value: copyOf(value) });
    return true;
  });
  for (const { key, value } of found) {
    writer.put(localPrefix(new ByteWriter(32), service, id).raw(key, former.length).view(), value);
    writer.remove(key);
  }
}

const NOBODY_ELSE: SharedRanges = {
  sink: {
    outcome: () => assert(false, 'nobody proposes'),
    readable: () => assert(false, 'nobody reads'),
    readRefused: () => assert(false, 'nobody reads'),
    changed: () => undefined,
  },
  send: () => assert(false, 'who is alone sends nothing'),
  coprocessors: new Map(),
};
