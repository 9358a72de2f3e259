import { assert } from '../../base/assert.js';
import type { ByteReader, ByteWriter } from '../../base/bytes.js';
import type { Env } from '../../base/env.js';
import { isStorageFull } from '../../base/errors.js';
import type { KvWriter, SnapshotEngine } from '../engine.js';
import type { ReplicaId } from '../raft/configuration.js';
import type { Message } from '../raft/message.js';
import { RAFT_LIMITS, RAFT_TIMING, type RaftLimits, type RaftTiming } from '../raft/settings.js';
import { VarintReader } from '../raft/varint.js';
import {
  configureCommand,
  discardCommand,
  mergeCommand,
  OUTCOME,
  type Place,
  splitCommand,
} from './commands.js';
import { Decisions } from './decisions.js';
import type { Descriptor } from './descriptor.js';
import { besideDriver, DRIVER_TIMING, Driver } from './driver.js';
import { Frames, readFrameHead } from './frames.js';
import { Held } from './held.js';
import { openIdentity, randomU53, type StoreIdentity } from './identity.js';
import { recoverAlone, transferTo } from './leadership.js';
import { Liveness, NEWS, peerStores, tellOf } from './liveness.js';
import { Mailroom } from './mailroom.js';
import type { RangeSink, Replica, ReplicaHost, ReplicaLimits } from './replica.js';
import { type Doomed, type Founding, ReplicaTable } from './replica-table.js';
import { SNAPSHOT_LIMITS, SnapshotSender } from './snapshot.js';
import { APPLY_BYTES_MAX, FULL_PAUSE_MS, type RaftStoreOptions, REPLICA_LIMITS } from './store-options.js';
import { mustWrite, type Share, Turn } from './turn.js';

/**
 * The replicas of one store: one engine, one thread, many ranges. Free of threads, timers and time of its own.
 *
 * The driver calls `tick` about every `timing.tickMs`, `step` with each frame of another store, and `turn` for as long as
 * `pending`. A turn asks all replicas that something has happened to what they want done; sends what need not wait;
 * writes everything in one transaction, one flush for all ranges; and, when that is durable, sends what had to wait for
 * it and tells the outcomes. What goes to another store is gathered in frames: at most two a turn for each. While a
 * transaction is not durable there is no other, so nobody sees what a crash could take back. A turn that only applies
 * what is committed is not flushed for itself (held.ts).
 *
 * Replicas that are quiet are in no list: a thousand of them cost a tick nothing. That their leaders live is told by the
 * stores (liveness.ts).
 *
 * A transaction that finds no room leaves nothing behind: all replicas are opened again from what is stored, as after a
 * crash, but for those of ranges that have nobody else and were not written to; who waits for an outcome is told that it
 * is not known. Any other failure of the engine is thrown.
 *
 *   log.ts, log-records.ts   a range's log and hard state        state.ts, sessions.ts    what applied entries made
 *   replica.ts, pending.ts   Raft machine + log + state          transitions.ts           split, merge, members
 *   replica-table.ts         how replicas come and go            driver.ts                who sees transitions through
 *   snapshot.ts, install.ts  states that travel                  garbage.ts, spans.ts     keys that go
 *   mailroom.ts, frames.ts   what stores say to each other       liveness.ts              which stores live
 *   descriptor.ts, commands.ts, identity.ts, books.ts            what is stored and spoken
 */
export class RaftStore implements ReplicaHost {
  readonly engine: SnapshotEngine;
  readonly env: Env;
  readonly timing: RaftTiming;
  readonly raftLimits: RaftLimits;
  readonly limits: ReplicaLimits;
  readonly sink: RangeSink;
  readonly around: ReplicaTable;
  readonly identity: StoreIdentity;
  private readonly outer: RangeSink;
  private readonly frames: Frames;
  private readonly sender: SnapshotSender;
  private readonly mailroom: Mailroom;
  private readonly liveness: Liveness;
  private readonly driver: Driver;
  private readonly current = new Turn();
  /** Something has happened to them since their last turn. */
  private dirty = new Set<Replica>();
  /** Time is passing for them. */
  private readonly awake = new Set<Replica>();
  private readonly driven = new Set<Replica>();
  private founding: Founding[] = [];
  private doomed: Doomed[] = [];
  private peers: Set<number> | undefined;
  /** What is done in the caller's own transaction on this store's engine. */
  readonly decisions = new Decisions(this);
  /** A transaction is not durable yet, and there must be no other. */
  isCommitting = false;
  /** The last transaction of a turn found no room. */
  isStruggling = false;
  private share: Share | undefined;
  private readonly held: Held;
  private pausedUntilMs = Number.NEGATIVE_INFINITY;
  /** Transactions, and those that found no room. */
  commits = 0;
  failures = 0;

  /** Opens what is stored. Throws SHOAL_STORAGE_VERSION, and what the engine throws. */
  constructor(options: RaftStoreOptions) {
    const { engine, env, sink, send } = options;
    this.engine = engine;
    this.env = env;
    this.outer = sink;
    this.timing = { ...RAFT_TIMING, ...options.timing };
    this.raftLimits = { ...RAFT_LIMITS, applyBytesMax: APPLY_BYTES_MAX, ...options.raftLimits };
    this.limits = { ...REPLICA_LIMITS, ...options.limits };
    this.identity = openIdentity(engine, env.random);
    this.sink = besideDriver(
      sink,
      () => this.driver,
      range => this.rangeChanged(range),
    );
    this.frames = new Frames(this.identity.store, this.identity.starts, send);
    this.around = new ReplicaTable(this.id, engine, this, options.coprocessors);
    this.held = new Held(engine, this.around, this);
    this.sender = new SnapshotSender(engine, env, this.frames, { ...SNAPSHOT_LIMITS, ...options.snapshots });
    this.mailroom = new Mailroom(this.id, this.around, this.frames, this.sender, {
      touched: replica => this.touch(replica),
      doom: (replica, target) => this.doomed.push({ replica, target }),
    });
    const { heartbeatMs, electionTimeoutMinMs: silenceMs } = this.timing;
    this.liveness = new Liveness({ heartbeatMs, silenceMs });
    const session = randomU53(env.random) || 1;
    this.driver = new Driver(session, DRIVER_TIMING, this.around, replica => this.touch(replica));
    this.around.open();
    for (const replica of this.around.byRange.values()) this.start(replica);
  }

  get id(): number {
    return this.identity.store;
  }
  replica(range: number): Replica | undefined {
    return this.around.byRange.get(range);
  }

  get replicas(): Iterable<Replica> {
    return this.around.byRange.values();
  }

  /** Whether `turn` has something to do. */
  get pending(): boolean {
    if (this.isCommitting || this.env.clock.monotonicMs() < this.pausedUntilMs) return false;
    if (this.dirty.size + this.founding.length + this.doomed.length > 0) return true;
    return this.held.isDue || !this.around.garbage.isEmpty;
  }

  /** Whether a tick would be heard by anybody: time is passing for a replica, or a range is shared with other stores. */
  get needsTicks(): boolean {
    this.peers ??= peerStores(this.id, this.replicas);
    if (!this.held.isEmpty) return true;
    return this.awake.size + this.driven.size + this.peers.size + this.frames.waiting > 0;
  }

  // -- Asked on this store -------------------------------------------------------------------------------------

  /**
   * Makes this store's replica of a new range, in the next turn. All its stores are given the same descriptor, once.
   * `prepare` may put the range's data in place before, in the same transaction.
   */
  found(descriptor: Descriptor, prepare?: (writer: KvWriter) => void): void {
    this.founding.push({ descriptor, prepare });
  }

  /**
   * Asks the range's coprocessor to do `body`, under an epoch: whoever proposes has looked up by it that the range is the
   * right one. The outcome comes by `sink.outcome`, once; UNKNOWN after `limits.proposalTimeoutMs`. Asked again under
   * the same session and sequence it is done once, but not any more once a command is applied that was proposed with a
   * greater `lowest`: the lowest number of the session that has no answer, 0 if that is not told. `body` is kept.
   */
  propose(
    range: number,
    epoch: number,
    session: number,
    sequence: number,
    body: Uint8Array,
    lowest = 0,
  ): void {
    const replica = this.replicaFor(range, session, sequence);
    if (replica === undefined) return;
    replica.propose(session, sequence, lowest, epoch, body);
    this.touch(replica);
  }

  /** Asks for a linearizable read; `sink.readable` says when, and {@link query} reads. */
  read(range: number, context: number, mode: 'index' | 'lease'): void {
    const replica = this.replica(range);
    if (replica === undefined) return this.outer.readRefused(range, context, 'wrong-range', 0);
    replica.read(context, mode);
    this.touch(replica);
  }

  /** Answers from what is applied here. False: the range is not what it was at `epoch`, nothing was read. */
  query(range: number, epoch: number, input: ByteReader, output: ByteWriter): boolean {
    const state = this.replica(range)?.state;
    if (state === undefined || state.descriptor.epoch !== epoch) return false;
    assert(!this.isCommitting, 'a query is asked between turns');
    state.coprocessor.query(input, this.engine, output);
    return true;
  }

  /** Divides the range at `key`; gives the new range's id. */
  split(range: number, epoch: number, session: number, sequence: number, key: Uint8Array): number {
    const replica = this.replicaFor(range, session, sequence);
    const child = 1 + (randomU53(this.env.random) % (Number.MAX_SAFE_INTEGER - 2));
    if (replica === undefined) return 0;
    replica.proposeCommand(session, sequence, splitCommand(epoch, child, key));
    this.touch(replica);
    return child;
  }

  /** Says who is to be a member; done when `descriptor.changing` is false again. */
  configure(range: number, session: number, sequence: number, places: readonly Place[]): void {
    const replica = this.replicaFor(range, session, sequence);
    const descriptor = replica?.descriptor;
    if (replica === undefined) return;
    if (descriptor === undefined) return this.answer(range, session, sequence, OUTCOME.NOT_LEADER);
    const { epoch, membersAt } = descriptor;
    replica.proposeCommand(session, sequence, configureCommand(epoch, membersAt, places));
    this.touch(replica);
  }

  /**
   * Begins to make `source` a part of its neighbour. DONE says that it is prepared; it is committed when the source is
   * gone, and rolled back when its descriptor says so, by itself if it cannot be committed in time.
   */
  merge(source: number, target: number, session: number, sequence: number): void {
    const replica = this.replicaFor(source, session, sequence);
    const own = replica?.descriptor;
    const held = this.replica(target)?.descriptor;
    if (replica === undefined) return;
    const data = own && held && mergeCommand(own, held);
    if (data === undefined) return this.answer(source, session, sequence, OUTCOME.REFUSED);
    replica.proposeCommand(session, sequence, data);
    this.touch(replica);
  }

  /** Gives up a merge that is prepared, if it is not committed by then. */
  giveUpMerge = (source: number): void => this.driver.giveUpMerge(source);

  /** Hands leadership to the replica on `store`. False: there is none, or this one does not lead. */
  transfer(range: number, store: number): boolean {
    const replica = this.replica(range);
    if (replica === undefined || !transferTo(replica, store)) return false;
    this.touch(replica);
    return true;
  }

  /** As `Raft.recoverAsSoleVoterAndLoseWhatOnlyOthersHave`; the range's members are this replica alone after it. */
  recoverAsSoleVoterAndLoseWhatOnlyOthersHave(range: number): boolean {
    const replica = this.replica(range);
    if (replica === undefined || !recoverAlone(replica)) return false;
    this.driver.recover(replica);
    this.driven.add(replica);
    this.touch(replica);
    return true;
  }

  /**
   * Asks the members' stores, and `other` if it is given, whether this store's replica still counts: one that was removed
   * while it was away, and that does not campaign, hears of it by nobody. It ends if it does not.
   */
  inquire(range: number, other = 0): void {
    const replica = this.replica(range);
    if (replica !== undefined) this.mailroom.inquire(replica, other);
    this.frames.flush();
  }

  /** Ends a range that nothing was ever proposed to, at its leader. False: it is not such; what was asked may still fail. */
  discard(range: number): boolean {
    const replica = this.replica(range);
    if (replica?.descriptor?.pristine !== true || !replica.isLeader) return false;
    this.driver.propose(replica, discardCommand(replica.descriptor.epoch));
    return true;
  }

  private replicaFor(range: number, session: number, sequence: number): Replica | undefined {
    const replica = this.replica(range);
    if (replica === undefined) this.answer(range, session, sequence, OUTCOME.WRONG_RANGE);
    return replica;
  }

  private answer(range: number, session: number, sequence: number, outcome: number): void {
    this.sink.outcome(range, session, sequence, outcome, NO_BYTES, 0, 0);
  }

  // -- From outside --------------------------------------------------------------------------------------------

  /** A frame of another store, which the transport vouches for. The bytes are kept: they must not be reused. */
  step(from: number, bytes: Uint8Array): void {
    const reader = new VarintReader(bytes);
    const head = readFrameHead(reader);
    if (head === undefined || head.from !== from || head.to !== this.id) return;
    const nowMs = this.env.clock.monotonicMs();
    const news = this.liveness.heard(from, head.starts, nowMs);
    if (news === NEWS.REBORN) this.tellOf(from, false);
    if (news !== NEWS.NONE) this.tellOf(from, true);
    this.mailroom.open(from, reader);
  }

  tick(): void {
    const nowMs = this.env.clock.monotonicMs();
    const stoodStillMs = this.liveness.stoodStillMs(nowMs);
    if (stoodStillMs > 0) for (const { raft } of this.awake) raft.stoodStill(stoodStillMs);
    this.peers ??= peerStores(this.id, this.replicas);
    for (const store of this.liveness.tick(this.peers, nowMs, this.frames)) this.tellOf(store, false);
    for (const replica of this.awake) {
      replica.tick(nowMs);
      this.dirty.add(replica);
      if (replica.mustInquire) this.mailroom.inquire(replica, 0);
      if (!replica.isMember) {
        if (replica.mustLeave(nowMs)) this.doomed.push({ replica, target: 0 });
      } else if (replica.canSleep) this.awake.delete(replica);
    }
    for (const replica of this.driven) if (!this.driver.drive(replica, nowMs)) this.driven.delete(replica);
    this.sender.tick();
    this.mailroom.tick();
    this.held.tick();
    this.frames.flush();
  }

  private tellOf(store: number, isReachable: boolean): void {
    for (const replica of this.replicas) if (tellOf(replica, store, isReachable)) this.touch(replica);
  }

  private touch(replica: Replica): void {
    this.dirty.add(replica);
    this.awake.add(replica);
  }

  private start(replica: Replica): void {
    this.touch(replica);
    this.driven.add(replica);
    this.peers = undefined;
    const { voters, outgoing } = replica.raft.configuration;
    if (voters.length === 1 && outgoing.length === 0) replica.raft.campaign();
  }

  // -- Turn ----------------------------------------------------------------------------------------------------

  turn(): void {
    if (this.begin()) this.commit();
  }

  /** In a transaction of its own. */
  commit(): void {
    try {
      this.engine.write(
        writer => this.write(writer),
        () => this.durable(),
      );
    } catch (error) {
      // Thrown behind the commit it is no failure of the engine.
      if (this.share === undefined || !isStorageFull(error)) throw error;
      this.failed();
    }
  }

  /**
   * Does what needs no transaction. True: the turn needs one, at once: `commit`, or one with `write` as the last thing in
   * it, and then `durable`, or `failed` if it found no room.
   */
  begin(): boolean {
    if (!this.pending) return false;
    assert(this.share === undefined, 'a turn ends before the next one begins');
    const active: Replica[] = [];
    const { dirty } = this;
    this.dirty = new Set();
    for (const replica of dirty) {
      if (replica.isDestroyed) continue;
      if (replica.take()) active.push(replica);
      // A state that is whole waits for others to make room, and is asked for.
      else if (this.mailroom.answerState(replica)) this.dirty.add(replica);
    }
    for (const replica of active) this.post(replica, replica.ready?.messages);
    this.frames.flush();
    const share: Share = { active, doomed: this.doomed, founding: this.founding };
    if (!this.held.isDue && this.around.garbage.isEmpty && !mustWrite(share)) {
      this.settle(active);
      return false;
    }
    this.doomed = [];
    this.founding = [];
    this.share = share;
    if (!this.held.hold(share)) return true;
    if (this.share !== undefined) this.settleShare();
    return false;
  }

  write(writer: KvWriter): void {
    this.isCommitting = true;
    if (this.held.isWritten) return;
    this.current.begin(writer);
    this.writeAll(this.share!);
  }

  durable(): void {
    this.isCommitting = false;
    this.isStruggling = false;
    this.commits++;
    this.settleShare();
  }

  private settleShare(): void {
    const { active } = this.share!;
    this.share = undefined;
    this.settle(active);
  }

  private writeAll({ active, doomed, founding }: Share): void {
    const { current, around } = this;
    around.garbage.step(current.writer);
    for (const { replica, target } of doomed) around.destroy(replica, current.writer, target);
    for (const range of founding)
      if (this.replica(range.descriptor.id) === undefined) this.start(around.found(current.writer, range));
    for (const replica of active) if (!replica.isDestroyed) replica.write(current);
    current.end();
  }

  private post(replica: Replica, messages: readonly Message[] | undefined): void {
    for (const message of messages ?? []) {
      const store = this.storeOf(replica, message.to);
      if (store !== 0) this.frames.message(store, replica.rangeId, message);
    }
  }

  /** All of the turn is durable. */
  private settle(active: readonly Replica[]): void {
    for (const replica of active) {
      if (replica.isDestroyed) continue;
      const { ready } = replica;
      this.post(replica, ready?.afterDurable);
      replica.settle();
      for (const to of ready?.snapshotsWanted ?? []) this.sender.begin(replica, to, replica.memberStore(to));
      this.mailroom.answerState(replica);
      this.dirty.add(replica);
    }
    this.settleTable();
    this.current.outcomes.deliver(this.sink);
    this.frames.flush();
  }

  private settleTable(): void {
    const { buried, begotten } = this.around.takeChanges();
    for (const { replica, target } of buried) {
      this.awake.delete(replica);
      this.driven.delete(replica);
      replica.abandon(target);
    }
    for (const { replica, campaigns } of begotten) {
      this.start(replica);
      if (campaigns) replica.raft.campaign();
    }
  }

  /**
   * No room, nothing of the transaction is in force, nor of what was held in it: as after a crash, but for those whose
   * range has nobody else and that had no part in it. Decisions that were in it are taken back before.
   */
  failed(): void {
    if (this.share === undefined && !this.held.isLost) return;
    const { share } = this;
    const active = [...(share?.active ?? []), ...this.held.clear()];
    this.share = undefined;
    this.isCommitting = false;
    this.isStruggling = true;
    this.founding = [...(share?.founding ?? []), ...this.founding];
    this.failures++;
    this.pausedUntilMs = this.env.clock.monotonicMs() + FULL_PAUSE_MS;
    this.env.log.error({ store: this.id }, 'no room to store; trying again from what is stored');
    this.frames.clear();
    this.sender.close();
    const all = [...this.replicas, ...this.around.buried.map(({ replica }) => replica)];
    const kept = new Set(all.filter(one => !active.includes(one) && !one.isDestroyed && one.canDecide));
    this.dirty.clear();
    this.awake.clear();
    this.driven.clear();
    this.around.open(kept);
    for (const replica of this.replicas) if (!kept.has(replica)) this.start(replica);
    for (const replica of kept) this.touch(replica);
    this.current.outcomes.fail(this.sink, OUTCOME.UNKNOWN);
    for (const replica of all) if (!kept.has(replica)) replica.abandon();
  }

  // -- For the replicas ----------------------------------------------------------------------------------------

  storeOf(replica: Replica, id: ReplicaId): number {
    return replica.memberStore(id) || (replica.routes.get(id) ?? 0);
  }

  private rangeChanged(range: number): void {
    this.peers = undefined;
    const replica = this.replica(range);
    if (replica === undefined) return;
    this.driven.add(replica);
    this.touch(replica);
  }

  /** Ends all transfers; the engine is the caller's to close. */
  close(): void {
    this.sender.close();
  }
}

const NO_BYTES = new Uint8Array(0);
