import type { ReplicaId } from './configuration.js';
import type { Core, PendingRead } from './core.js';
import { MESSAGE, type Read, type ReadAnswer } from './message.js';
import { leaseMs } from './settings.js';

/**
 * Until when a leader may answer reads alone, by its own clock: all that was committed until then, it committed
 * (thesis, 6.4.1). Counted from when the round was sent that a quorum answered. A sole voter needs nobody.
 */
export function leaseUntilMs(core: Core): number {
  if (!core.isLeader || core.isLeaseGivenUp || core.timing.clockDriftMax === undefined)
    return Number.NEGATIVE_INFINITY;
  return core.quorumSentMs() + leaseMs(core.timing);
}

/** A read of this replica or, at a leader, of one that follows it. */
export function takeRead(core: Core, from: ReplicaId, context: number, lease: boolean): void {
  if (core.waitingReads.length + core.confirmingReads.length >= core.limits.readsMax) {
    core.refuseRead(from, context, 'overloaded');
    return;
  }
  core.busyMs = core.nowMs;
  const { commitIndex } = core.log;
  // Before the first commit of its term a leader does not know how far its predecessors had committed.
  if (!core.hasCommittedInTerm) core.waitingReads.push({ from, context, index: 0, round: 0 });
  else if (lease && core.nowMs < leaseUntilMs(core)) answerRead(core, from, context, commitIndex);
  else core.confirmingReads.push({ from, context, index: commitIndex, round: 0 });
}

function answerRead(core: Core, to: ReplicaId, context: number, index: number): void {
  const { id: from, term } = core;
  if (to === from) core.reads.push({ context, index });
  else core.send({ kind: MESSAGE.READ_ANSWER, from, to, term, context, index });
}

/** Begins one heartbeat round for all reads of a turn, and answers those whose round a quorum has answered. */
export function confirmReads(core: Core): void {
  if (core.waitingReads.length > 0 && core.hasCommittedInTerm) {
    for (const read of core.waitingReads) core.confirmingReads.push({ ...read, index: core.log.commitIndex });
    core.waitingReads = [];
  }
  const reads = core.confirmingReads;
  if (reads.length === 0) return;
  if (reads.at(-1)!.round === 0) {
    core.startRound();
    for (let i = reads.length - 1; i >= 0 && reads[i]!.round === 0; i--) reads[i]!.round = core.round;
  }
  const confirmed = core.quorumRound();
  let count = 0;
  while (count < reads.length && reads[count]!.round <= confirmed) {
    const { from, context, index }: PendingRead = reads[count++]!;
    answerRead(core, from, context, index);
  }
  if (count > 0) core.confirmingReads = reads.slice(count);
}

/** Asks the leader for a read index. */
export function askLeader(core: Core, context: number, lease: boolean): void {
  if (core.askedReads.size >= core.limits.readsMax) {
    core.refuse('read', 0, context, 'overloaded');
    return;
  }
  const { id: from, leader: to, term } = core;
  core.send({ kind: MESSAGE.READ, from, to, term, context: core.ask(context), lease });
}

export function onRead(core: Core, { from, context, lease }: Read): void {
  if (core.isLeader) takeRead(core, from, context, lease);
  else core.sendRefusal(from, 'read', 0, context, 'not-leader');
}

/** True also when the leader has lost its office since: it held it after the read was asked. */
export function onReadAnswer(core: Core, { context: number, index }: ReadAnswer): void {
  const asked = core.askedReads.get(number);
  if (asked === undefined) return;
  core.askedReads.delete(number);
  core.reads.push({ context: asked.context, index });
}

/** Gives up on questions without an answer; the oldest come first. */
export function expireAskedReads(core: Core): void {
  const { electionTimeoutMaxMs } = core.timing;
  for (const [number, { context, askedMs }] of core.askedReads) {
    if (core.nowMs - askedMs < electionTimeoutMaxMs) return;
    core.askedReads.delete(number);
    core.refuse('read', 0, context, 'not-leader');
  }
}
