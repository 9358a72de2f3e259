import { NOBODY } from './configuration.js';
import { type Core, ROLE } from './core.js';
import {
  onPreVote,
  onPreVoteAnswer,
  onTimeoutNow,
  onVote,
  onVoteAnswer,
  standsByLeader,
} from './election.js';
import { onPropose, onRefuse } from './forwarding.js';
import { MESSAGE, type Message } from './message.js';
import { isNoNews, wake } from './quiescence.js';
import { onRead, onReadAnswer } from './reads.js';
import { onAppend, onAppendAnswer, onHeartbeat, onHeartbeatAnswer } from './replication.js';

function isCampaign(message: Message): boolean {
  return message.kind === MESSAGE.PRE_VOTE || (message.kind === MESSAGE.VOTE && !message.force);
}

/** What terms demand comes first (paper, 5.1), then what the message says. */
export function receive(core: Core, message: Message): void {
  if (message.to !== core.id || message.from === core.id || message.from === NOBODY) return;
  if (core.isQuiescent && !isNoNews(core, message)) {
    wake(core);
    // The leader hears of it as well, and shows that it lives; if it does not, the next attempt finds no refusal.
    if (isCampaign(message) && !core.isLeader) return;
  }
  if (followTerm(core, message)) dispatch(core, message);
}

/** Brings the own term up to the message's. False: the message is not for us any more. */
function followTerm(core: Core, message: Message): boolean {
  const { kind, term, from } = message;
  if (kind === MESSAGE.PRE_VOTE) return true;
  if (kind === MESSAGE.VOTE && !message.force && standsByLeader(core)) return false;
  const isLeaders = kind === MESSAGE.APPEND || kind === MESSAGE.HEARTBEAT;
  if (term > core.term) {
    if (kind === MESSAGE.PRE_VOTE_ANSWER && message.granted) return true;
    core.becomeFollower(term, isLeaders ? from : NOBODY);
  } else if (term < core.term) {
    return answerOld(core, message);
  }
  if (isLeaders) {
    if (core.isLeader) return false;
    if (core.leader !== from || core.role !== ROLE.FOLLOWER) core.becomeFollower(term, from);
    core.heardLeader();
  }
  return true;
}

/** Tells who is behind what the term is; what does not depend on the term goes on. */
function answerOld(core: Core, { kind, from: to }: Message): boolean {
  const { id: from, term } = core;
  if (kind === MESSAGE.APPEND || kind === MESSAGE.HEARTBEAT) {
    core.send({ kind: MESSAGE.HEARTBEAT_ANSWER, from, to, term, round: 0 });
  } else if (kind === MESSAGE.VOTE) {
    core.send({ kind: MESSAGE.VOTE_ANSWER, from, to, term, granted: false });
  }
  return (
    kind === MESSAGE.PROPOSE ||
    kind === MESSAGE.READ ||
    kind === MESSAGE.READ_ANSWER ||
    kind === MESSAGE.REFUSE
  );
}

function dispatch(core: Core, message: Message): void {
  switch (message.kind) {
    case MESSAGE.APPEND:
      return onAppend(core, message);
    case MESSAGE.APPEND_ANSWER:
      return onAppendAnswer(core, message);
    case MESSAGE.HEARTBEAT:
      return onHeartbeat(core, message);
    case MESSAGE.HEARTBEAT_ANSWER:
      return onHeartbeatAnswer(core, message);
    case MESSAGE.PROPOSE:
      return onPropose(core, message);
    case MESSAGE.PRE_VOTE:
      return onPreVote(core, message);
    case MESSAGE.PRE_VOTE_ANSWER:
      return onPreVoteAnswer(core, message);
    case MESSAGE.VOTE:
      return onVote(core, message);
    case MESSAGE.VOTE_ANSWER:
      return onVoteAnswer(core, message);
    case MESSAGE.TIMEOUT_NOW:
      return onTimeoutNow(core, message);
    case MESSAGE.READ:
      return onRead(core, message);
    case MESSAGE.READ_ANSWER:
      return onReadAnswer(core, message);
    case MESSAGE.REFUSE:
      return onRefuse(core, message);
  }
}
