import { isVoter, NOBODY, type ReplicaId } from './configuration.js';
import { type Core, ROLE } from './core.js';
import {
  MESSAGE,
  type PreVote,
  type PreVoteAnswer,
  type TimeoutNow,
  type Vote,
  type VoteAnswer,
} from './message.js';
import { tally } from './quorum.js';
import { ENTRY } from './ready.js';
import { appendOwn } from './replication.js';

/** The time is up: asks whether an election could be won before it begins one (thesis, 9.6). */
export function campaign(core: Core): void {
  core.isQuiescent = false;
  core.leader = NOBODY;
  core.dropAskedReads('not-leader');
  core.timerStartMs = core.nowMs;
  core.drawTimeout();
  if (!core.isVoter) return;
  core.role = ROLE.PRE_CANDIDATE;
  startVoting(core, false);
}

/** Asks all voters, beginning with itself. A sole voter has won with that. */
function startVoting(core: Core, force: boolean): void {
  const { id: from, log, votes } = core;
  const { lastIndex, lastTerm } = log;
  votes.clear();
  votes.set(from, true);
  if (concludeIfDecided(core)) return;
  const { voters, outgoing } = log.configurations.current;
  for (const to of new Set([...voters, ...outgoing])) {
    if (to === from) continue;
    if (core.role === ROLE.PRE_CANDIDATE) {
      core.send({ kind: MESSAGE.PRE_VOTE, from, to, term: core.term + 1, lastIndex, lastTerm });
    } else {
      core.send({ kind: MESSAGE.VOTE, from, to, term: core.term, lastIndex, lastTerm, force }, true);
    }
  }
}

function startElection(core: Core, force: boolean): void {
  core.role = ROLE.CANDIDATE;
  core.leader = NOBODY;
  core.setTerm(core.term + 1, core.id);
  core.timerStartMs = core.nowMs;
  core.drawTimeout();
  startVoting(core, force);
}

function concludeIfDecided(core: Core): boolean {
  const result = tally(core.log.configurations.current, core.votes);
  if (result === 'pending') return false;
  if (result === 'lost') core.becomeFollower(core.term, NOBODY);
  else if (core.role === ROLE.PRE_CANDIDATE) startElection(core, false);
  else becomeLeader(core);
  return true;
}

/** Its own vote may not be durable yet, but then it was elected by nobody else, and nothing it says leaves before. */
function becomeLeader(core: Core): void {
  core.beginLeadership();
  core.termStartIndex = core.log.lastIndex + 1;
  appendOwn(core, ENTRY.EMPTY, 0, 0, NO_DATA);
  core.startRound();
  core.logger.debug({ replica: core.id, term: core.term }, 'leader of its group');
}

/**
 * Whether this replica stands by a leader and so refuses whoever campaigns against it, without even looking at the
 * term (paper, 6; thesis, 4.2.3). It does so when it leads, as long as it hears a quorum; for the shortest election
 * timeout after it heard the leader, or was started; and when the group is quiet, since then silence says nothing.
 */
export function standsByLeader(core: Core): boolean {
  return core.isLeader || core.isQuiescent || core.nowMs < core.loyalUntilMs;
}

export function onPreVote(core: Core, message: PreVote): void {
  const { from: to, term, lastIndex, lastTerm } = message;
  const { id: from, log } = core;
  const isFree =
    term > core.term ||
    (term === core.term && (core.vote === to || (core.vote === NOBODY && core.leader === NOBODY)));
  const granted = isFree && !standsByLeader(core) && log.isUpToDate(lastIndex, lastTerm);
  core.send({ kind: MESSAGE.PRE_VOTE_ANSWER, from, to, term: granted ? term : core.term, granted }, true);
}

export function onPreVoteAnswer(core: Core, { from, term, granted }: PreVoteAnswer): void {
  if (core.role !== ROLE.PRE_CANDIDATE || term !== (granted ? core.term + 1 : core.term)) return;
  countVote(core, from, granted);
}

/** The term is ours: whoever brings a newer one has been followed into it before, and an older one was refused. */
export function onVote(core: Core, { from: to, term, lastIndex, lastTerm }: Vote): void {
  const isFree = core.vote === to || (core.vote === NOBODY && core.leader === NOBODY);
  const granted = isFree && core.log.isUpToDate(lastIndex, lastTerm);
  if (granted) {
    core.vote = to;
    core.timerStartMs = core.nowMs;
  }
  core.send({ kind: MESSAGE.VOTE_ANSWER, from: core.id, to, term, granted }, true);
}

export function onVoteAnswer(core: Core, { from, granted }: VoteAnswer): void {
  if (core.role === ROLE.CANDIDATE) countVote(core, from, granted);
}

function countVote(core: Core, from: ReplicaId, granted: boolean): void {
  if (core.votes.has(from) || !isVoter(core.log.configurations.current, from)) return;
  core.votes.set(from, granted);
  concludeIfDecided(core);
}

/** The leader wants this replica to lead: no pre-vote, and nobody may refuse for the leader's sake. */
export function onTimeoutNow(core: Core, { from }: TimeoutNow): void {
  if (core.isLeader || core.leader !== from || !core.isVoter) return;
  core.dropAskedReads('not-leader');
  startElection(core, true);
}

const NO_DATA = new Uint8Array(0);
