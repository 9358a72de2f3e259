import type { Clock, Log, Random } from '../../base/env.js';
import { isSoleVoter, isVoter, members, NOBODY, type ReplicaId } from './configuration.js';
import { RaftLog } from './log.js';
import { MESSAGE, type Message, type Proposal } from './message.js';
import { Progress } from './progress.js';
import { quorumReached } from './quorum.js';
import type { ReadReady, Ready, Refusal, RefusalReason, StoredLog } from './ready.js';
import type { RaftLimits, RaftTiming } from './settings.js';

export const ROLE = { FOLLOWER: 0, PRE_CANDIDATE: 1, CANDIDATE: 2, LEADER: 3 } as const;

export interface RaftOptions {
  /** Of this replica. */
  readonly id: ReplicaId;
  readonly log: StoredLog;
  readonly timing: RaftTiming;
  readonly limits: RaftLimits;
  readonly env: { readonly clock: Clock; readonly random: Random; readonly log: Log };
}

/** Sent times of this many heartbeat rounds are known; an answer to an older one renews no lease. */
const ROUNDS_KEPT = 64;

/** The part of a ready that is not about the log. */
export type Said = Pick<Ready, 'messages' | 'afterDurable' | 'reads' | 'refusals' | 'snapshotsWanted'>;

export const NOTHING_SAID: Said = {
  messages: [],
  afterDurable: [],
  reads: [],
  refusals: [],
  snapshotsWanted: [],
};

/** A read that waits at the leader. */
export interface PendingRead {
  /** Who asked: this replica, or a follower. */
  readonly from: ReplicaId;
  readonly context: number;
  /** The commit index when it was taken. */
  index: number;
  /** The heartbeat round that a quorum must answer; 0 until one is begun. */
  round: number;
}

/** A read that the leader was asked about. */
export interface AskedRead {
  readonly context: number;
  readonly askedMs: number;
}

/** Numbers of questions begin at a random multiple of this. */
const ASKED_MAX = 2 ** 21;

/**
 * What a replica knows, and what it wants said. Whatever the rules are, they stand beside, in a file each: they read
 * and change this, and call each other only downwards (raft.ts has the list).
 */
export class Core {
  readonly id: ReplicaId;
  readonly log: RaftLog;
  readonly timing: RaftTiming;
  readonly limits: RaftLimits;
  readonly logger: Log;
  private readonly clock: Clock;
  private readonly random: Random;

  role: number = ROLE.FOLLOWER;
  term: number;
  vote: ReplicaId;
  leader: ReplicaId = NOBODY;
  /** What of term and vote was given out to be stored, and what is known to be. */
  handedTerm: number;
  handedVote: ReplicaId;
  durableTerm: number;
  durableVote: ReplicaId;

  /** Now, as read when the current call began. */
  nowMs: number;
  /** Until then nobody gets this replica's vote, unless the leader asks for the election. */
  loyalUntilMs: number;
  timerStartMs: number;
  timeoutMs = 0;
  isQuiescent = false;
  /** When there was last something to do. */
  busyMs: number;

  readonly votes = new Map<ReplicaId, boolean>();

  // Of a leader.
  readonly progress = new Map<ReplicaId, Progress>();
  followers: Progress[] = [];
  /** The first entry of this leader's term. */
  termStartIndex = 0;
  uncommittedBytes = 0;
  transferee: ReplicaId = NOBODY;
  transferEndMs = 0;
  /** The target was told to campaign. */
  hasSentTimeoutNow = false;
  /** A `TIMEOUT_NOW` was sent in this term: it may arrive late, so there is no lease any more until the next term. */
  isLeaseGivenUp = false;
  round = 0;
  roundStartMs = Number.NEGATIVE_INFINITY;
  private readonly roundsSentMs = new Float64Array(ROUNDS_KEPT);
  /** Reads that wait for the first commit of the term, and those that wait for a round. */
  waitingReads: PendingRead[] = [];
  confirmingReads: PendingRead[] = [];

  // Of a follower.
  /**
   * Reads that the leader was asked, by the number they were asked under: that is never used again, not even after a
   * restart, or a late answer to an older question could be taken for one to a newer.
   */
  readonly askedReads = new Map<number, AskedRead>();
  private lastAsked: number;
  forwards: Proposal[] = [];
  forwardBytes = 0;
  /** Highest index to be confirmed to `answerTo`. */
  answerMatch = 0;
  answerTo: ReplicaId = NOBODY;

  // What the next ready carries.
  messages: Message[] = [];
  afterDurable: Message[] = [];
  reads: ReadReady[] = [];
  refusals: Refusal[] = [];
  snapshotsWanted: ReplicaId[] = [];

  constructor({ id, log, timing, limits, env }: RaftOptions) {
    this.id = id;
    this.log = new RaftLog(log);
    this.timing = timing;
    this.limits = limits;
    this.clock = env.clock;
    this.random = env.random;
    this.logger = env.log;
    const { term, vote } = log.hardState;
    this.term = this.handedTerm = this.durableTerm = term;
    this.vote = this.handedVote = this.durableVote = vote;
    // A state that was put there by something else than this machine, as when a range is split.
    if (this.log.lastTerm > term) this.setTerm(this.log.lastTerm, NOBODY);
    this.nowMs = this.timerStartMs = this.busyMs = this.clock.monotonicMs();
    // Whom it vouched for before it was restarted is forgotten; in term 0 there has been no leader.
    this.loyalUntilMs = term === 0 ? Number.NEGATIVE_INFINITY : this.nowMs + timing.electionTimeoutMinMs;
    this.lastAsked = this.random.u32() * ASKED_MAX;
    this.drawTimeout();
  }

  /** Remembers a read that the leader is asked about; gives the number to ask under. */
  ask(context: number): number {
    this.askedReads.set(++this.lastAsked, { context, askedMs: this.nowMs });
    return this.lastAsked;
  }

  readClock(): void {
    this.nowMs = this.clock.monotonicMs();
  }

  get isLeader(): boolean {
    return this.role === ROLE.LEADER;
  }

  /**
   * Whether it may lead. Who is left out by a configuration that is not committed still may (thesis, 4.2.2): the others
   * may need its vote for the majority before, and it may be the only one to have that entry.
   */
  get isVoter(): boolean {
    const { configurations, commitIndex } = this.log;
    if (isVoter(configurations.current, this.id)) return true;
    return configurations.currentIndex > commitIndex && isVoter(configurations.at(commitIndex), this.id);
  }

  get isSoleVoter(): boolean {
    return isSoleVoter(this.log.configurations.current, this.id);
  }

  /** Whether an entry of the leader's own term is committed: before, it does not know what is (paper, 8). */
  get hasCommittedInTerm(): boolean {
    return this.log.commitIndex >= this.termStartIndex;
  }

  /** Queues a message. It waits for the disk if it must, or if it speaks in a term which the disk does not know yet. */
  send(message: Message, mustBeDurable = false): void {
    const isKnown = this.durableTerm === this.term && this.durableVote === this.vote;
    (mustBeDurable || !isKnown ? this.afterDurable : this.messages).push(message);
  }

  /** What has gathered; undefined if that is nothing. With nothing to wait for, all messages may leave at once. */
  takeSaid(isAllDurable: boolean): Said | undefined {
    const { messages, afterDurable, reads, refusals, snapshotsWanted } = this;
    const count =
      messages.length + afterDurable.length + reads.length + refusals.length + snapshotsWanted.length;
    if (count === 0) return undefined;
    this.messages = [];
    this.afterDurable = [];
    this.reads = [];
    this.refusals = [];
    this.snapshotsWanted = [];
    if (!isAllDurable || afterDurable.length === 0)
      return { messages, afterDurable, reads, refusals, snapshotsWanted };
    const all = messages.length === 0 ? afterDurable : messages.concat(afterDurable);
    return { messages: all, afterDurable: [], reads, refusals, snapshotsWanted };
  }

  refuse(what: Refusal['what'], session: number, sequence: number, reason: RefusalReason): void {
    this.refusals.push({ what, session, sequence, reason, leader: this.leader, isCertain: true });
  }

  /** Refuses to whoever asked. */
  refuseRead(from: ReplicaId, context: number, reason: RefusalReason): void {
    if (from === this.id) this.refuse('read', 0, context, reason);
    else this.sendRefusal(from, 'read', 0, context, reason);
  }

  sendRefusal(
    to: ReplicaId,
    what: 'proposal' | 'read',
    session: number,
    sequence: number,
    reason: RefusalReason,
  ): void {
    const { id: from, term, leader } = this;
    this.send({ kind: MESSAGE.REFUSE, from, to, term, what, session, sequence, reason, leader });
  }

  /** Confirmations of one turn are told at once, by the highest. */
  confirm(leader: ReplicaId, match: number): void {
    this.answerMatch = this.answerTo === leader ? Math.max(this.answerMatch, match) : match;
    this.answerTo = leader;
  }

  sendConfirmation(): void {
    const { answerMatch: match, answerTo: to, id: from, term } = this;
    if (to === NOBODY) return;
    this.answerTo = NOBODY;
    this.send(
      { kind: MESSAGE.APPEND_ANSWER, from, to, term, match, rejected: 0, hintIndex: 0, hintTerm: 0 },
      true,
    );
  }

  drawTimeout(): void {
    const { electionTimeoutMinMs: min, electionTimeoutMaxMs: max } = this.timing;
    this.timeoutMs = min + ((max - min) * this.random.u32()) / 0x1_0000_0000;
  }

  /** The leader was heard: no election of one's own, and no vote for another, for a while (paper, 6). */
  heardLeader(): void {
    this.timerStartMs = this.nowMs;
    this.loyalUntilMs = this.nowMs + this.timing.electionTimeoutMinMs;
  }

  /** What was to be confirmed was so in the term before. */
  setTerm(term: number, vote: ReplicaId): void {
    this.term = term;
    this.vote = vote;
    this.answerTo = NOBODY;
  }

  becomeFollower(term: number, leader: ReplicaId, reason: RefusalReason = 'not-leader'): void {
    const wasLeader = this.isLeader;
    if (term > this.term) this.setTerm(term, NOBODY);
    const isNewLeader = leader !== this.leader;
    this.role = ROLE.FOLLOWER;
    this.leader = leader;
    this.isQuiescent = false;
    this.votes.clear();
    this.timerStartMs = this.nowMs;
    this.drawTimeout();
    if (wasLeader) this.dropLeadership(reason);
    if (isNewLeader) this.dropAskedReads('not-leader');
  }

  private dropLeadership(reason: RefusalReason): void {
    for (const reads of [this.waitingReads, this.confirmingReads]) {
      for (const { from, context } of reads) this.refuseRead(from, context, reason);
    }
    this.waitingReads = [];
    this.confirmingReads = [];
    if (this.transferee !== NOBODY && !this.hasSentTimeoutNow)
      this.refuse('transfer', 0, this.transferee, 'aborted');
    this.transferee = NOBODY;
    this.progress.clear();
    this.followers = [];
  }

  /** Reads that were asked of a leader who may be none any more. */
  dropAskedReads(reason: RefusalReason): void {
    for (const { context } of this.askedReads.values()) this.refuse('read', 0, context, reason);
    this.askedReads.clear();
  }

  /** Starts as the leader of this term, knowing nothing of the others. */
  beginLeadership(): void {
    this.role = ROLE.LEADER;
    this.leader = this.id;
    this.votes.clear();
    this.progress.clear();
    this.uncommittedBytes = 0;
    this.isLeaseGivenUp = this.hasSentTimeoutNow = false;
    this.round = 0;
    this.roundStartMs = Number.NEGATIVE_INFINITY;
    this.busyMs = this.nowMs;
    this.dropAskedReads('not-leader');
    this.alignProgress(this.log.lastIndex + 1);
  }

  /** Follows the configuration in force: newcomers are fed, from `next` on if they can, who has left is forgotten. */
  alignProgress(next: number): void {
    const ids = members(this.log.configurations.current);
    for (const id of this.progress.keys()) if (!ids.includes(id)) this.progress.delete(id);
    for (const id of ids) {
      if (!this.progress.has(id)) this.progress.set(id, new Progress(id, next, this.nowMs));
    }
    this.followers = [...this.progress.values()].filter(({ id }) => id !== this.id);
  }

  /** The entry up to which a quorum has the log, as far as known. */
  quorumMatch(): number {
    return quorumReached(this.log.configurations.current, id =>
      id === this.id ? this.log.durableIndex : this.progress.get(id)!.match,
    );
  }

  /** The last heartbeat round that a quorum answered. */
  quorumRound(): number {
    return quorumReached(this.log.configurations.current, id =>
      id === this.id ? this.round : this.progress.get(id)!.ackedRound,
    );
  }

  /** The time since when a quorum is known to follow: when the round was sent that it answered. */
  quorumSentMs(): number {
    return quorumReached(this.log.configurations.current, id =>
      id === this.id ? this.nowMs : this.progress.get(id)!.ackedSentMs,
    );
  }

  get hasQuorumWithoutGone(): boolean {
    const { current } = this.log.configurations;
    return quorumReached(current, id => (this.progress.get(id)!.isGone ? 0 : 1)) > 0;
  }

  /** When a quorum was last heard, each at that time or later. */
  quorumHeardMs(): number {
    return quorumReached(this.log.configurations.current, id =>
      id === this.id ? this.nowMs : this.progress.get(id)!.heardMs,
    );
  }

  /** Asks all followers whether they still follow. */
  startRound(quiesce = false): void {
    const { id: from, term } = this;
    const round = ++this.round;
    this.roundStartMs = this.roundsSentMs[round % ROUNDS_KEPT] = this.nowMs;
    for (const follower of this.followers) {
      const commit = Math.min(follower.match, this.log.commitIndex);
      follower.toldCommit = commit;
      this.send({ kind: MESSAGE.HEARTBEAT, from, to: follower.id, term, round, commit, quiesce });
    }
  }

  /** When a round began; before all time if that was too long ago to be known. */
  roundSentMs(round: number): number {
    const isKnown = round > this.round - ROUNDS_KEPT && round <= this.round;
    return isKnown ? this.roundsSentMs[round % ROUNDS_KEPT]! : Number.NEGATIVE_INFINITY;
  }
}
