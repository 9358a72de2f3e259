import { assert } from '../base/assert.js';
import { type ByteReader, ByteWriter } from '../base/bytes.js';
import type { Env } from '../base/env.js';
import type { KvWriter, SnapshotEngine } from './engine.js';
import { copyOf, firstKey, localPrefix, prefixEnd } from './keys.js';
import { FIRST_RANGE_ID } from './kv.js';
import { type Boundary, type Coprocessor, type Range, wholeService } from './range.js';
import { type Descriptor, ROLE } from './replicated/descriptor.js';
import { randomU53 } from './replicated/identity.js';
import { RaftStore } from './replicated/raft-store.js';
import type { RangeSink, Replica } from './replicated/replica.js';

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
    if (!this.replica!.isDeciding) this.raft!.enter(this.replica!, writer);
  }
}

/**
 * The ranges of a `Store`, as replicas of a replicated store that has no others to speak to: what a turn decides in a
 * range is one entry of it, committed by the turn's own transaction.
 *
 * Each is made at the first start. Where data lies already, of the time when ranges had no books, the range takes it
 * over as it is, in one transaction: its keys stay, but those of the range as a whole, which go by its id.
 */
export class SoleRanges {
  readonly raft: RaftStore;
  /** Whether all could take commands when they were last settled. */
  isReady = false;
  private readonly ranges: readonly SoleRange[];
  private readonly engine: SnapshotEngine;

  /** Throws as `RaftStore` does. Call {@link settle} behind it. */
  constructor(engine: SnapshotEngine, env: Env, ranges: readonly SoleRange[]) {
    this.engine = engine;
    this.ranges = ranges;
    this.raft = new RaftStore({
      engine,
      env,
      sink: NOBODY_ASKS,
      coprocessors: (service, id) => this.rangeOf(service).coprocessorOf(id),
      send: () => assert(false, 'who is alone sends nothing'),
    });
    for (const range of ranges) if (range.id === 0) this.found(range, env);
  }

  private rangeOf(service: number): SoleRange {
    const range = this.ranges.find(other => other.service === service);
    assert(range !== undefined, 'a store is opened by who serves its ranges');
    return range;
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

  /** Does what the replicas want done. Gives whether all of them can take commands. */
  settle(): boolean {
    const { raft } = this;
    for (let turns = 0; turns < TURNS_MAX && raft.pending; turns++) raft.turn();
    this.isReady = !raft.isCommitting;
    for (const range of this.ranges) if (!range.isReady(raft)) this.isReady = false;
    return this.isReady;
  }

  /** Behind the last command of the turn's transaction. */
  finish(): void {
    this.raft.finishDecisions();
  }

  durable(): void {
    this.raft.decided(true);
  }

  /** The transaction came to nothing: memory is built again from what is stored. */
  failed(): void {
    for (const range of this.ranges)
      if (!range.isDeciding) range.coprocessor.reset(range.boundary, this.engine);
    this.raft.decided(false);
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

const NOBODY_ASKS: RangeSink = {
  outcome: () => assert(false, 'nobody proposes'),
  readable: () => assert(false, 'nobody reads'),
  readRefused: () => assert(false, 'nobody reads'),
  changed: () => undefined,
};
