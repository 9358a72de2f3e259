import { assert } from '../../base/assert.js';
import { ByteWriter } from '../../base/bytes.js';
import type { Env } from '../../base/env.js';
import type { Engine } from '../engine.js';
import type { ReplicaId } from '../raft/configuration.js';
import { FEED } from '../raft/progress.js';
import { Raft } from '../raft/raft.js';
import type { Entry, HardState, Ready, Refusal, RefusalReason } from '../raft/ready.js';
import type { RaftLimits, RaftTiming } from '../raft/settings.js';
import type { Boundary } from '../range.js';
import { OUTCOME, serviceCommand } from './commands.js';
import { type Descriptor, memberOf, writeDescriptor } from './descriptor.js';
import type { Install } from './install.js';
import type { LogLimits, RangeLog } from './log.js';
import { Pending } from './pending.js';
import type { ReplicaTable } from './replica-table.js';
import type { RangeState } from './state.js';
import { NO_OUTCOME, type OutcomeSink, type Turn, WAITS } from './turn.js';

export interface ReplicaLimits extends LogLimits {
  /** Bytes of entries that are kept in any case; at this much, all but a quarter is compacted. */
  readonly logBytesMax: number;
  /** And as long as a follower is given a state or catches up: at this much it has to begin anew. */
  readonly logBehindBytesMax: number;
  /** Records of a log that one turn removes. */
  readonly trimRecordsMax: number;
  /** What was proposed and has no outcome after this long is reported as unknown. */
  readonly proposalTimeoutMs: number;
}

/** Who is told about the ranges of a store. Called between turns, with nothing held. */
export interface RangeSink extends OutcomeSink {
  /** The read that was asked for may be done now, on the engine as it is, unless the epoch is not the expected one. */
  readable(range: number, context: number): void;
  readRefused(
    range: number,
    context: number,
    reason: RefusalReason | 'wrong-range',
    leaderStore: number,
  ): void;
  /** Its descriptor, its leader or its term has changed, or it is gone. */
  changed(range: number): void;
}

/** What a replica needs of its store. */
export interface ReplicaHost {
  readonly engine: Engine;
  readonly env: Env;
  readonly timing: RaftTiming;
  readonly raftLimits: RaftLimits;
  readonly limits: ReplicaLimits;
  readonly sink: RangeSink;
  readonly around: ReplicaTable;
  storeOf(replica: Replica, id: ReplicaId): number;
}

/**
 * This store's replica of a range: the Raft machine, its log, and what the applied entries made.
 *
 * A turn takes what the machine wants (`take`), writes it in the store's transaction (`write`), and reports it once
 * that is durable (`settle`). Committed entries are applied in the transaction that takes them, in order; they wait only
 * while a received state is put in place (install.ts), or for that of a range which is to be absorbed.
 *
 * While nobody else is in the group, entries are applied in the transaction that would store them, and not stored: a
 * turn is one commit of the data, the sessions, and one record that says how far it is.
 *
 * A read runs when all entries are applied that were committed when it was asked, and whoever runs it compares the epoch
 * then: a split or merge that the leader has let happen elsewhere was committed before, so it is seen here.
 */
export class Replica {
  readonly rangeId: number;
  readonly id: ReplicaId;
  readonly raft: Raft;
  readonly log: RangeLog;
  state: RangeState | undefined;
  install: Install | undefined;
  isDestroyed = false;
  /** Commands are being done in somebody else's transaction, see decisions.ts. */
  isDeciding = false;
  /** Stores of replicas that were heard: where to answer while no state says it. */
  readonly routes = new Map<ReplicaId, number>();
  /** Followers that are being sent a state: the entry that it is of. */
  readonly statesUnderWay = new Map<ReplicaId, number>();
  /** The transfer of the state that was last taken, or not wanted. */
  lastTransfer = -1;
  /** Since it was spoken to, or has asked whether it counts. */
  ticksUnheard = 0;
  /** The store that the last chunk came from. */
  chunksFrom = 0;
  /** When it was seen that the members do not include it; 0: they do. */
  private outcastMs = 0;
  ready: Ready | undefined;
  private readonly host: ReplicaHost;
  private readonly pending = new Pending();
  private queue: Entry[] = [];
  /** Reads without answer: the index that must be applied first, or -1 while the machine has not said. */
  private readonly reads = new Map<number, number>();
  private readsConfirmed = 0;
  private compactedTo: number;
  private appliedTo: number;
  private toldTerm = -1;
  private toldLeader = -1;
  private toldDescriptor: Descriptor | undefined;

  constructor(host: ReplicaHost, id: ReplicaId, log: RangeLog) {
    const { env, timing, raftLimits: limits } = host;
    this.host = host;
    this.rangeId = log.rangeId;
    this.id = id;
    this.log = log;
    this.compactedTo = log.snapshot.index;
    this.appliedTo = log.applied;
    this.raft = new Raft({ id, log, timing, limits, env });
  }

  get descriptor(): Descriptor | undefined {
    return this.state?.descriptor;
  }

  get isLeader(): boolean {
    return this.raft.isLeader;
  }

  /** The store of the leader as far as it is known; 0 if it is not. */
  get leaderStore(): number {
    return this.raft.leader === 0 ? 0 : this.host.storeOf(this, this.raft.leader);
  }

  /** The store of a member; 0 if it is none. */
  memberStore(id: ReplicaId): number {
    return (this.descriptor && memberOf(this.descriptor, id)?.store) ?? 0;
  }

  /** Entries or steps wait that no message will bring. */
  get hasBacklog(): boolean {
    return this.queue.length > 0 || this.install?.hasWork === true || this.log.hasTrimmable;
  }

  // -- Asked on this store -------------------------------------------------------------------------------------

  /** Proposes what the coprocessor is to do; the outcome comes by `OutcomeSink`, if only UNKNOWN. */
  propose(session: number, sequence: number, lowest: number, epoch: number, body: Uint8Array): void {
    const behind = lowest === 0 ? undefined : sequence - lowest;
    this.proposeCommand(session, sequence, serviceCommand(epoch, body, behind));
  }

  proposeCommand(session: number, sequence: number, data: Uint8Array): void {
    this.pending.add(session, sequence, this.host.env.clock.monotonicMs());
    this.raft.propose(session, sequence, data);
  }

  /** `context` is unique among the reads of this replica that have no answer. */
  read(context: number, mode: 'index' | 'lease'): void {
    this.reads.set(context, -1);
    this.raft.read(context, mode);
  }

  // -- Decided here --------------------------------------------------------------------------------------------

  /** Whether a command may be done at once: nobody else is in the group, and nothing is under way. */
  get canDecide(): boolean {
    const { raft, state, ready, appliedTo, log } = this;
    return (
      this.isAlone() &&
      ready === undefined &&
      state?.descriptor.merging === undefined &&
      raft.lastIndex === appliedTo &&
      log.lastIndex === appliedTo &&
      log.isPassed
    );
  }

  beginDeciding(turn: Turn): void {
    assert(this.canDecide, 'a range is decided for by its only replica');
    const state = this.state!;
    this.isDeciding = true;
    if (state.descriptor.pristine) state.change({ pristine: false });
    turn.touch(state.coprocessor);
  }

  storeDecisions(turn: Turn): void {
    this.state!.finish(turn);
    this.log.decide(this.raft.term);
    this.log.finish(turn.writer);
  }

  /** The transaction is durable, or has come to nothing: then all is as the engine has it. */
  endDeciding(isDurable: boolean): void {
    const { raft, log, host } = this;
    this.isDeciding = false;
    if (isDurable) {
      log.confirmDecision();
      raft.decided();
      this.appliedTo = this.compactedTo = log.applied;
    } else {
      log.takeDecisionBack();
      this.state = host.around.openState(this.rangeId, log);
    }
    this.tellChanges();
  }

  // -- Turn ----------------------------------------------------------------------------------------------------

  /** Asks the machine what there is to do. False: nothing. */
  take(): boolean {
    this.raft.isHeldBack = this.state === undefined || this.queue.length > 0;
    this.ready = this.raft.ready();
    return this.ready !== undefined || this.hasBacklog;
  }

  /** Whether what `take` found needs a transaction. */
  get mustWrite(): boolean {
    const { ready } = this;
    if (this.hasBacklog || this.log.isDirty) return true;
    if (ready === undefined) return false;
    return (
      ready.hardState !== undefined ||
      ready.snapshot !== undefined ||
      ready.entries.length > 0 ||
      ready.committed.length > 0
    );
  }

  write(turn: Turn): void {
    const { ready, log } = this;
    if (ready !== undefined) {
      if (ready.snapshot !== undefined) {
        assert(this.install !== undefined, 'a state is named by who has received it');
        const replaced = this.host.around.replaced(this, turn);
        log.restore(turn.writer, ready.snapshot);
        this.appliedTo = log.applied;
        this.queue = [];
        this.state = undefined;
        this.install.commit(turn, replaced);
      }
      if (ready.committed.length > 0)
        this.queue = this.queue.length === 0 ? [...ready.committed] : this.queue.concat(ready.committed);
    }
    this.pursueInstall(turn);
    this.applyQueue(turn);
    if (this.isDestroyed) return;
    this.store(turn, ready);
    log.trim(turn.writer, this.host.limits.trimRecordsMax);
    this.state?.finish(turn);
    log.finish(turn.writer);
  }

  private pursueInstall(turn: Turn): void {
    const { install } = this;
    if (install === undefined) return;
    if (install.isUnwanted) {
      if (install.discard(turn.writer)) this.install = undefined;
    } else if (!install.isCommitted) install.stage(turn.writer);
    else if (install.step(turn)) {
      this.install = undefined;
      this.state = this.host.around.openState(this.rangeId, this.log);
    }
  }

  private applyQueue(turn: Turn): void {
    const { queue } = this;
    if (this.state === undefined) return;
    let at = 0;
    while (at < queue.length && !this.isDestroyed && this.applyOne(queue[at]!, turn)) at++;
    this.queue = at === queue.length ? [] : queue.slice(at);
  }

  /** False: it must wait, or there is nothing more to be done here. */
  private applyOne(entry: Entry, turn: Turn): boolean {
    if (entry.index <= this.appliedTo) return true;
    const outcome = this.state!.apply(entry, turn, this.host.around);
    if (outcome === WAITS) return false;
    this.appliedTo = entry.index;
    if (outcome === NO_OUTCOME) return true;
    const { session, sequence } = entry;
    if (this.pending.take(session, sequence)) turn.outcomes.add(this.rangeId, session, sequence, outcome);
    else turn.outcomes.drop();
    return true;
  }

  /** Brings the state up to `index`, whose entries are all stored. For a merge. */
  catchUp(index: number, turn: Turn): void {
    while (this.appliedTo < index) {
      const entries = this.log.entries(this.appliedTo + 1, index, CATCH_UP_BYTES);
      for (const entry of entries) assert(this.applyOne(entry, turn), 'what precedes a merge does not wait');
    }
  }

  private store(turn: Turn, ready: Ready | undefined): void {
    const { log, raft, appliedTo } = this;
    if (ready?.hardState !== undefined) log.setHardState(ready.hardState);
    const entries = ready?.entries ?? [];
    // What the new entries replace was never applied, though others of their indices may have been by now.
    const kept = entries.length === 0 ? log.lastIndex : Math.min(log.lastIndex, entries[0]!.index - 1);
    log.setApplied(Math.max(log.applied, Math.min(appliedTo, kept)));
    const isAlone = this.isAlone();
    if (isAlone && log.applied === log.lastIndex) {
      let at = 0;
      while (at < entries.length && entries[at]!.index <= appliedTo) at++;
      log.compact(log.applied);
      log.pass(at === entries.length ? entries : entries.slice(0, at));
      log.append(turn.writer, at === 0 ? entries : entries.slice(at));
      return;
    }
    log.append(turn.writer, entries);
    log.setApplied(appliedTo);
    if (isAlone) log.compact(log.applied);
    else if (log.storedBytes > this.host.limits.logBytesMax && raft.lastIndex >= log.applied) this.compact();
  }

  private compact(): void {
    const { log } = this;
    const { logBytesMax, logBehindBytesMax } = this.host.limits;
    const index = Math.min(log.applied, log.indexLeaving(logBytesMax / 4));
    if (log.storedBytes > logBehindBytesMax || this.neededAfter() >= index) log.compact(index);
  }

  /** The index behind which a follower needs the log that gets a state, or that answers and is behind it. */
  private neededAfter(): number {
    const { raft, statesUnderWay, log, host } = this;
    let needed = Number.MAX_SAFE_INTEGER;
    if (!raft.isLeader) return needed;
    const lateMs = host.env.clock.monotonicMs() - host.timing.electionTimeoutMaxMs;
    for (const { id, feed, match, next, isGone, heardMs } of raft.progress.values()) {
      const given = statesUnderWay.get(id);
      if (given !== undefined) needed = Math.min(needed, given);
      if (id === this.id || isGone || heardMs < lateMs || feed === FEED.SNAPSHOT) continue;
      const after = feed === FEED.PROBE ? next - 1 : match;
      if (after >= log.snapshot.index) needed = Math.min(needed, after);
    }
    return needed;
  }

  private isAlone(): boolean {
    const { voters, outgoing, learners } = this.raft.configuration;
    return (
      this.state !== undefined &&
      this.raft.isLeader &&
      voters.length === 1 &&
      outgoing.length === 0 &&
      learners.length === 0
    );
  }

  /** All that was written is durable. */
  settle(): void {
    const { ready, raft, log } = this;
    if (ready !== undefined) {
      this.ready = undefined;
      raft.durable(ready.number);
      for (const { context, index } of ready.reads) this.reads.set(context, index);
      this.readsConfirmed += ready.reads.length;
      for (const refusal of ready.refusals) this.refused(refusal);
    }
    raft.applied(this.appliedTo);
    if (log.snapshot.index > this.compactedTo) {
      this.compactedTo = log.snapshot.index;
      raft.compacted(this.compactedTo);
    }
    this.runReads();
    this.tellChanges();
  }

  private tellChanges(): void {
    const { raft, host } = this;
    if (
      this.toldTerm === raft.term &&
      this.toldLeader === raft.leader &&
      this.toldDescriptor === this.descriptor
    )
      return;
    this.toldTerm = raft.term;
    this.toldLeader = raft.leader;
    this.toldDescriptor = this.descriptor;
    host.sink.changed(this.rangeId);
  }

  private runReads(): void {
    if (this.readsConfirmed === 0 || this.state === undefined) return;
    for (const [context, index] of this.reads) {
      if (index < 0 || index > this.appliedTo) continue;
      this.reads.delete(context);
      this.readsConfirmed--;
      if (this.state.descriptor.merging !== undefined)
        this.host.sink.readRefused(this.rangeId, context, 'wrong-range', 0);
      else this.host.sink.readable(this.rangeId, context);
    }
  }

  private refused({ what, session, sequence, reason, isCertain }: Refusal): void {
    const { sink } = this.host;
    if (what === 'read' && this.reads.delete(sequence))
      sink.readRefused(this.rangeId, sequence, reason, this.leaderStore);
    if (what !== 'proposal' || !this.pending.take(session, sequence)) return;
    const bytes = LEADER.reset().u53(this.leaderStore);
    const refusal = reason === 'overloaded' ? OUTCOME.OVERLOADED : OUTCOME.NOT_LEADER;
    // What was passed on may have been doubled on its way: a copy may yet be applied.
    const outcome = isCertain ? refusal : OUTCOME.UNKNOWN;
    this.tell(session, sequence, outcome, bytes);
  }

  private tell(session: number, sequence: number, outcome: number, bytes: ByteWriter): void {
    this.host.sink.outcome(this.rangeId, session, sequence, outcome, bytes.bytes, 0, bytes.length);
  }

  // -- Time ----------------------------------------------------------------------------------------------------

  tick(nowMs: number): void {
    this.raft.tick();
    this.ticksUnheard++;
    if (this.pending.count > 0) this.giveUpBefore(nowMs - this.host.limits.proposalTimeoutMs);
  }

  /** Everything asked on this store before then ends as unknown. */
  giveUpBefore(beforeMs: number): void {
    this.pending.takeBefore(beforeMs, (session, sequence) =>
      this.tell(session, sequence, OUTCOME.UNKNOWN, NOTHING),
    );
  }

  /** It is gone: whoever waits is told that it is not known how this ends, or that the range is part of `target`. */
  abandon(target?: Descriptor): void {
    this.isDestroyed = true;
    this.ready = undefined;
    this.queue = [];
    if (target === undefined) this.giveUpBefore(Number.POSITIVE_INFINITY);
    else {
      // All that this replica was ever asked and could be applied has been.
      const bytes = writeDescriptor(new ByteWriter(256), target);
      this.pending.takeBefore(Number.POSITIVE_INFINITY, (session, sequence) =>
        this.tell(session, sequence, OUTCOME.WRONG_RANGE, bytes),
      );
    }
    for (const context of this.reads.keys())
      this.host.sink.readRefused(this.rangeId, context, 'wrong-range', 0);
    this.reads.clear();
    this.host.sink.changed(this.rangeId);
  }

  /** Whether the members include this replica, as far as it knows. */
  get isMember(): boolean {
    return this.state === undefined || memberOf(this.state.descriptor, this.id) !== undefined;
  }

  /** Term and vote that others may know of. */
  get promised(): HardState {
    return this.ready?.hardState ?? this.log.hardState;
  }

  get appliedIndex(): number {
    return this.appliedTo;
  }

  /** Of one that is no member. It stays for a while, so that a leader that leaves can tell the others. */
  mustLeave(nowMs: number): boolean {
    if (this.outcastMs === 0) this.outcastMs = nowMs;
    return nowMs - this.outcastMs >= this.host.timing.electionTimeoutMaxMs;
  }

  /** The boundary whose keys it has. */
  get heldBoundary(): Boundary | undefined {
    if (this.descriptor !== undefined) return this.descriptor.boundary;
    return this.install?.isCommitted ? this.install.head!.descriptor.boundary : undefined;
  }

  /** It waits for a state that nobody sends, and never campaigns: it has to ask whether it is to wait on. */
  get mustInquire(): boolean {
    if (this.heldBoundary !== undefined || this.ticksUnheard < UNHEARD_TICKS_MAX) return false;
    this.ticksUnheard = 0;
    return true;
  }

  /** Time needs not pass for it. */
  get canSleep(): boolean {
    if (this.pending.count + this.reads.size > 0 || this.install !== undefined) return false;
    if (this.state === undefined) return false;
    return this.raft.isQuiescent && !this.hasBacklog;
  }
}

/** Ten seconds at the default pace. */
const UNHEARD_TICKS_MAX = 100;
const CATCH_UP_BYTES = 1024 * 1024;
const NOTHING = new ByteWriter(0);
const LEADER = new ByteWriter(16);
