import { assert } from '../../base/assert.js';
import { type Configuration, NOBODY, type ReplicaId } from './configuration.js';
import { encodeConfiguration } from './configuration-codec.js';
import { Core, NOTHING_SAID, type RaftOptions } from './core.js';
import { campaign, standsByLeader } from './election.js';
import { forward, propose } from './forwarding.js';
import { followConfiguration, proposeChange, type WantedMembers } from './membership.js';
import type { Message } from './message.js';
import { FEED, type Progress } from './progress.js';
import { excuse, quiesceIfIdle, wake } from './quiescence.js';
import { askLeader, confirmReads, expireAskedReads, leaseUntilMs, takeRead } from './reads.js';
import { ENTRY, type HardState, type Ready, type SnapshotMeta } from './ready.js';
import { receive } from './reception.js';
import { appendOwn, commitByQuorum, replicate } from './replication.js';
import { abortTransfer, beginTransfer, pursueTransfer } from './transfer.js';

/** So far ahead that no term which the lost majority may have had comes again, and none of it is listened to. */
const RECOVERY_TERMS = 2 ** 20;

/**
 * Raft as a pure state machine: one `Raft` is one replica of one group. It does no I/O and knows no timer; it is told
 * what came (`step`), that time has passed (`tick`) and what is wanted (`propose`, `read`, `change`, `transfer`), and
 * tells by `ready()` what is to be written, sent and applied. `durable(number)` tells it what the disk has.
 *
 * | file | rules |
 * | --- | --- |
 * | core.ts | what a replica knows, and the outbox; all others are functions on it |
 * | log.ts, configuration-history.ts | the log as stored and its tail in memory; the configurations in it |
 * | election.ts | pre-vote, vote, who refuses whom |
 * | replication.ts, progress.ts | appends, commit, the feeding of each follower |
 * | quorum.ts | majorities, also of joint configurations |
 * | membership.ts, configuration.ts | changes of members |
 * | reads.ts | read index and lease |
 * | forwarding.ts, transfer.ts, quiescence.ts | proposals, leadership handed over, silence |
 * | reception.ts, message.ts, codec.ts | terms of messages, what there is to say, and its bytes |
 * | ready.ts, settings.ts | what the driver sees and sets |
 *
 * Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (the paper) and Ongaro's
 * dissertation (the thesis): elections 5.2 and 5.4, log 5.3, members thesis 4.3 and 4.2, transfer 3.10, reads 6.4,
 * pre-vote 9.6.
 *
 * Invariants
 * - A step is a step of the paper's algorithm, and everything said in it is held back until the state after it is
 *   durable. Two things need not be held back: appends, since a leader counts its own entries only when `durable` says
 *   so, and what merely repeats what is durable already, such as heartbeats in a term that is.
 * - What is committed is never taken back (asserted). Only an entry of the leader's own term is committed by counting.
 * - A configuration is in force from the moment it is in the log, and is taken back with its entry. A change always
 *   goes through a joint configuration, one at a time; whoever leads when that is committed ends it. Who has no vote in
 *   the outcome leads until it is committed, then hands over. A vote is given to whoever deserves it, whatever the
 *   giver takes itself or the candidate for: its view of who is a member may be old.
 * - Loyalty: a replica refuses to vote, and to campaign, for the shortest election timeout after it heard a leader, and
 *   after it was started, since it may have heard one before. So a leader whose heartbeat round was answered by a quorum
 *   is the only one for that time since the round was *sent*, less what clocks may differ: its lease. The quorum is
 *   one of the configuration in force; of the others only a quorum of this or an earlier one could elect, and those
 *   must have this configuration's entry or lose.
 * - A leader that has someone else campaign breaks loyalty on purpose, and the message may arrive late: so from then on
 *   it has no lease in this term. Nor before it has committed an entry of its own term.
 * - All time is read from the clock when a call begins; ticks count nothing. A process that was stopped finds its
 *   lease gone.
 * - What arrives twice, late, reordered or mangled is ignored or harmless. Nothing is asserted about messages.
 *
 * Limits: `RaftLimits` bounds what is uncommitted, under way to each follower, waiting as a read, kept in memory and
 * given out at once. Refusals are values; a proposal that was taken may still be lost with its leader, so who proposed
 * it asks again under the same session and sequence, and the state machine knows that pair (replicated/sessions.ts).
 *
 * A group of one voter commits by its own disk: `Ready.committed` holds what the same ready stores. Its effect must
 * show to nobody before that is durable; and learners are told of nothing that is not.
 *
 * Differences from etcd's library: configurations are in force when appended and always joint; time instead of ticks;
 * leases count from the round's sending, survive no transfer and are honoured by restarted voters; answers of a turn are
 * drawn together (`settle`), so one proposal or a thousand cost one pass; the snapshot's bytes never pass through.
 * From BifroMQ's: pre-vote, check-quorum and quiescence always; flow control by window and bytes instead of a count of
 * appends; recovery makes one replica the sole voter instead of bending elections.
 */

/** What was handed out and is not durable yet. */
interface Outstanding {
  readonly number: number;
  lastIndex: number;
  readonly term: number;
  readonly vote: ReplicaId;
}

export class Raft {
  /** The driver cannot apply anything now: no committed entries are handed out until it can. */
  isHeldBack = false;
  private readonly core: Core;
  private outstanding: Outstanding[] = [];
  private readyNumber = 0;
  private snapshot: SnapshotMeta | undefined;

  constructor(options: RaftOptions) {
    this.core = new Core(options);
  }

  get id(): ReplicaId {
    return this.core.id;
  }

  /** One of `ROLE` (core.ts). */
  get role(): number {
    return this.core.role;
  }

  get term(): number {
    return this.core.term;
  }

  /** {@link NOBODY} if it is not known. */
  get leader(): ReplicaId {
    return this.core.leader;
  }

  get isLeader(): boolean {
    return this.core.isLeader;
  }

  /** No tick has anything to do until something comes. */
  get isQuiescent(): boolean {
    return this.core.isQuiescent;
  }

  get commitIndex(): number {
    return this.core.log.commitIndex;
  }

  get lastIndex(): number {
    return this.core.log.lastIndex;
  }

  /** In force, which is not to say committed. */
  get configuration(): Configuration {
    return this.core.log.configurations.current;
  }

  /** What was in force at an entry, or at the snapshot before the log. For the meta of a snapshot. */
  configurationAt(index: number): Configuration {
    return this.core.log.configurations.at(index);
  }

  /** Of a leader: what it knows of the others, itself among them. */
  get progress(): ReadonlyMap<ReplicaId, Progress> {
    return this.core.progress;
  }

  /** Whether a lease read would be answered at once. */
  get hasLease(): boolean {
    this.core.readClock();
    return this.core.hasCommittedInTerm && this.core.nowMs < leaseUntilMs(this.core);
  }

  /** A message of the group. Whatever is wrong with it or out of date, it is ignored. */
  step(message: Message): void {
    this.core.readClock();
    receive(this.core, message);
  }

  /** Time has passed. Costs nothing while the group is quiet. */
  tick(): void {
    const { core } = this;
    if (core.isQuiescent) return;
    core.readClock();
    if (core.askedReads.size > 0) expireAskedReads(core);
    if (core.isLeader) this.tickLeader();
    else if (core.nowMs - core.timerStartMs >= core.timeoutMs && core.nowMs >= core.loyalUntilMs)
      campaign(core);
  }

  /** The driver could do nothing for so long: that counts against nobody, neither a leader nor those who follow. */
  stoodStill(ms: number): void {
    this.core.readClock();
    excuse(this.core, ms);
  }

  private tickLeader(): void {
    const { core } = this;
    const { heartbeatMs, electionTimeoutMaxMs } = core.timing;
    if (core.nowMs - core.quorumHeardMs() >= electionTimeoutMaxMs) {
      core.becomeFollower(core.term, NOBODY, 'quorum-lost');
      return;
    }
    if (core.transferee !== NOBODY && core.nowMs >= core.transferEndMs) abortTransfer(core);
    quiesceIfIdle(core);
    if (core.isQuiescent || core.nowMs - core.roundStartMs < heartbeatMs) return;
    core.startRound();
    this.trim();
  }

  /**
   * Proposes a command. A follower passes it on to the leader; what is refused comes back in `Ready.refusals`. Neither
   * says that it will not be done: a leader may lose its office with the entry in its log. Gives the index that the
   * entry has if it is ever applied, or 0 if it was refused or passed on.
   */
  propose(session: number, sequence: number, data: Uint8Array): number {
    this.begin();
    return propose(this.core, session, sequence, data);
  }

  /**
   * An entry of this term that the driver has made, stored and applied by itself, and will tell nobody: of the only
   * replica of a group, which leads it and has nothing under way.
   */
  decided(): void {
    const { core } = this;
    const isAlone = core.isLeader && core.isSoleVoter && core.followers.length === 0;
    assert(isAlone && this.outstanding.length === 0, 'only who is alone decides by itself');
    core.log.pass(core.term);
  }

  /** A linearizable read: `context`, unique among those without answer, comes back in `Ready.reads` or `refusals`. */
  read(context: number, mode: 'index' | 'lease'): void {
    this.begin();
    const { core } = this;
    if (core.isLeader) takeRead(core, core.id, context, mode === 'lease');
    else if (core.leader === NOBODY) core.refuse('read', 0, context, 'not-leader');
    else askLeader(core, context, mode === 'lease');
  }

  /**
   * Changes who takes part, in whatever way; only at the leader, one change at a time. Done once the entry after the
   * one whose index it gives (or after another leader's) is applied and the configuration is not joint any more.
   */
  change(wanted: WantedMembers, session: number, sequence: number): number {
    this.begin();
    return proposeChange(this.core, wanted, session, sequence);
  }

  transfer(to: ReplicaId): void {
    this.begin();
    beginTransfer(this.core, to);
  }

  /** Campaigns now, unless it stands by a leader. False if nothing came of it. */
  campaign(): boolean {
    const { core } = this;
    core.readClock();
    if (core.isLeader || !core.isVoter || (standsByLeader(core) && !core.isSoleVoter)) return false;
    campaign(core);
    return true;
  }

  /**
   * The operator's last resort when a majority is lost for good: this replica goes on alone, as the only voter, with
   * the log it has. **What the lost ones had acknowledged and this one has not is lost; if any of them lives on, there
   * are two groups.** Others must join anew, under new ids. False, and nothing is done, while a leader is heard.
   */
  recoverAsSoleVoterAndLoseWhatOnlyOthersHave(): boolean {
    const { core } = this;
    core.readClock();
    if (core.isLeader || standsByLeader(core)) return false;
    const { id } = core;
    core.logger.warn({ replica: id, term: core.term, lastIndex: core.log.lastIndex }, 'quorum given up');
    core.isQuiescent = false;
    core.setTerm(core.term + RECOVERY_TERMS, id);
    core.beginLeadership();
    core.termStartIndex = core.log.lastIndex + 1;
    const configuration = { voters: [id], outgoing: [], learners: [] };
    core.alignProgress(appendOwn(core, ENTRY.CONFIGURATION, 0, 0, encodeConfiguration(configuration)));
    return true;
  }

  private begin(): void {
    this.core.readClock();
    if (this.core.isQuiescent) wake(this.core);
    else this.core.busyMs = this.core.nowMs;
  }

  /** What there is to do; undefined if nothing. */
  ready(): Ready | undefined {
    const { core } = this;
    core.readClock();
    this.settle();
    const { log } = core;
    const hardState = this.takeHardState();
    const { snapshot } = this;
    this.snapshot = undefined;
    const entries = log.handOut();
    const applicable = core.isLeader && core.isSoleVoter ? log.lastIndex : log.commitIndex;
    const committed = log.handOutApplicable(this.isHeldBack ? 0 : applicable, core.limits.applyBytesMax);
    const isWritten = hardState !== undefined || snapshot !== undefined || entries.length > 0;
    const isWaiting = isWritten || this.outstanding.length > 0;
    const said = core.takeSaid(!isWaiting);
    if (!isWritten && said === undefined && committed.length === 0) return undefined;
    const number = ++this.readyNumber;
    this.clampOutstanding();
    if (isWritten)
      this.outstanding.push({ number, lastIndex: log.lastIndex, term: core.term, vote: core.vote });
    return { number, hardState, entries, snapshot, committed, ...(said ?? NOTHING_SAID) };
  }

  /** What was cut off the log before it became durable will not become so, even if the same comes again. */
  private clampOutstanding(): void {
    const last = this.core.log.takeTruncation() - 1;
    for (const written of this.outstanding) if (written.lastIndex > last) written.lastIndex = last;
  }

  /** Draws the conclusions of all that came since the last ready, once for all of it. */
  private settle(): void {
    const { core } = this;
    forward(core);
    core.sendConfirmation();
    if (!core.isLeader) return;
    commitByQuorum(core);
    followConfiguration(core);
    if (!core.isLeader) return;
    confirmReads(core);
    pursueTransfer(core);
    replicate(core);
  }

  private takeHardState(): HardState | undefined {
    const { core } = this;
    const { term, vote } = core;
    if (term === core.handedTerm && vote === core.handedVote) return undefined;
    core.handedTerm = term;
    core.handedVote = vote;
    return { term, vote, commit: core.log.commitIndex };
  }

  /** All readies up to this number are on disk for good. */
  durable(number: number): void {
    const { core, outstanding } = this;
    let count = 0;
    this.clampOutstanding();
    while (count < outstanding.length && outstanding[count]!.number <= number) {
      const { lastIndex, term, vote } = outstanding[count++]!;
      core.log.durableIndex = Math.max(core.log.durableIndex, lastIndex);
      core.durableTerm = term;
      core.durableVote = vote;
    }
    if (count === 0) return;
    outstanding.splice(0, count);
    if (core.isLeader) commitByQuorum(core);
    this.trim();
  }

  /** All entries up to `index` are applied. */
  applied(index: number): void {
    const { log } = this.core;
    assert(index <= log.applyingIndex, 'only what was handed out is applied');
    log.appliedIndex = Math.max(log.appliedIndex, index);
    this.trim();
  }

  private trim(): void {
    const { core } = this;
    let keepAfter = core.log.lastIndex;
    for (const { feed, match } of core.followers)
      if (feed !== FEED.SNAPSHOT && match < keepAfter) keepAfter = match;
    core.log.trim(keepAfter, core.limits.cacheBytesMax);
  }

  /**
   * The driver has received a whole state. True: `Ready.snapshot` will put it in the place of what there is. False: it
   * is not needed, since the log has or gets everything.
   */
  snapshotReceived(meta: SnapshotMeta): boolean {
    const { core } = this;
    const { log } = core;
    core.readClock();
    if (core.isLeader || meta.index <= log.commitIndex) return false;
    if (log.term(meta.index) === meta.term) {
      log.commitIndex = meta.index;
      return false;
    }
    if (meta.term > core.term) core.becomeFollower(meta.term, NOBODY);
    log.restore(meta);
    this.snapshot = meta;
    if (core.leader !== NOBODY) core.confirm(core.leader, meta.index);
    return true;
  }

  /** How sending the state of entry `index` to a follower ended. */
  snapshotSent(to: ReplicaId, index: number, ok: boolean): void {
    const { core } = this;
    const follower = core.progress.get(to);
    core.readClock();
    if (!core.isLeader || follower?.feed !== FEED.SNAPSHOT) return;
    follower.probe();
    if (ok) follower.next = Math.max(follower.next, index + 1);
    // A failure is not tried again at once, but with the next heartbeat's answer.
    else {
      follower.isProbing = true;
      follower.askedMs = core.nowMs;
    }
  }

  /** The stored log begins after `index` now. */
  compacted(index: number): void {
    this.core.log.compact(index);
    this.trim();
  }

  /** The transport cannot reach a replica; said of a dead store to all its groups. */
  unreachable(id: ReplicaId): void {
    const { core } = this;
    core.readClock();
    const follower = core.progress.get(id);
    if (core.isLeader && follower !== undefined) {
      follower.isGone = true;
      if (follower.feed === FEED.REPLICATE) follower.probe();
    }
    if (core.isLeader || core.leader !== id || !core.isQuiescent) return;
    wake(core);
    // The leader has had its time, but for what was vouched for; the random part stays, or all would stand at once.
    core.timerStartMs = Math.max(core.nowMs, core.loyalUntilMs) - core.timing.electionTimeoutMinMs;
  }

  /** The transport reaches a replica again that it could not. */
  reachable(id: ReplicaId): void {
    const { core } = this;
    const follower = core.progress.get(id);
    if (!core.isLeader || !follower?.isGone) return;
    follower.isGone = false;
    core.readClock();
    if (core.isQuiescent) wake(core);
  }
}
