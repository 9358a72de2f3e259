import type { Core } from './core.js';
import { entryBytes } from './log.js';
import { type Append, type AppendAnswer, type Heartbeat, type HeartbeatAnswer, MESSAGE } from './message.js';
import { FEED, type Progress } from './progress.js';
import type { Entry } from './ready.js';

/** The leader's next entry; gives its index. It is sent when the ready is made, together with what else there is. */
export function appendOwn(
  core: Core,
  kind: number,
  session: number,
  sequence: number,
  data: Uint8Array,
): number {
  const index = core.log.lastIndex + 1;
  const entry: Entry = { term: core.term, index, kind, session, sequence, data };
  core.log.append(entry);
  core.uncommittedBytes += entryBytes(entry);
  return index;
}

/** Whether no more proposals can be taken for now. One may be larger than the limit if it is the only one. */
export function isOverloaded(core: Core, bytes: number): boolean {
  const { log, limits, termStartIndex } = core;
  const count = log.lastIndex - Math.max(log.commitIndex, termStartIndex - 1);
  if (count === 0) return false;
  return count >= limits.uncommittedCountMax || core.uncommittedBytes + bytes > limits.uncommittedBytesMax;
}

/**
 * Counts what a quorum has. Only an entry of the own term is committed by counting, and what is before it with it
 * (paper, 5.4.2). True if there is news.
 */
export function commitByQuorum(core: Core): boolean {
  const { log } = core;
  const index = core.quorumMatch();
  if (index <= log.commitIndex || index < core.termStartIndex) return false;
  const counted = Math.max(log.commitIndex + 1, core.termStartIndex);
  core.uncommittedBytes = Math.max(0, core.uncommittedBytes - log.bytesBetween(counted, index));
  log.commitIndex = index;
  return true;
}

/** Sends every follower what it lacks, as its window allows; what is too much for one ready, in the next. */
export function replicate(core: Core): void {
  for (const follower of core.followers) {
    let left = core.limits.burstBytesMax;
    while (left > 0 && follower.next <= core.log.lastIndex && !follower.isPaused(core.limits)) {
      const bytes = sendAppend(core, follower);
      if (bytes === 0) break;
      left -= bytes;
      follower.mustPoke = false;
    }
    if (follower.mustPoke && follower.feed !== FEED.SNAPSHOT) poke(core, follower);
    tellCommit(core, follower);
  }
}

/** Gives the bytes of the entries; 0 if the follower needs some that are gone: then it is given the state. */
function sendAppend(core: Core, follower: Progress): number {
  const { log, limits, id: from, term } = core;
  const previousIndex = follower.next - 1;
  const previousTerm = log.term(previousIndex);
  if (previousTerm === undefined) {
    wantSnapshot(core, follower);
    return 0;
  }
  const entries = log.entries(follower.next, log.lastIndex, limits.appendBytesMax);
  let bytes = 0;
  for (const entry of entries) bytes += entryBytes(entry);
  const lastIndex = previousIndex + entries.length;
  const commit = Math.min(log.commitIndex, lastIndex);
  const { id: to } = follower;
  core.send({ kind: MESSAGE.APPEND, from, to, term, previousIndex, previousTerm, commit, entries });
  follower.toldCommit = Math.max(follower.toldCommit, commit);
  follower.sent(lastIndex, bytes, core.nowMs);
  return bytes;
}

/** What it needs next is not in the log any more. */
function wantSnapshot(core: Core, follower: Progress): void {
  follower.awaitSnapshot();
  core.snapshotsWanted.push(follower.id);
}

/** An append of nothing: the answer tells whether what was sent before has come. */
function poke(core: Core, follower: Progress): void {
  const { log, id: from, term } = core;
  const previousIndex = follower.next - 1;
  const previousTerm = log.term(previousIndex);
  follower.mustPoke = false;
  if (previousTerm === undefined) {
    wantSnapshot(core, follower);
    return;
  }
  follower.isProbing = true;
  follower.askedMs = core.nowMs;
  const commit = Math.min(log.commitIndex, previousIndex);
  const { id: to } = follower;
  core.send({
    kind: MESSAGE.APPEND,
    from,
    to,
    term,
    previousIndex,
    previousTerm,
    commit,
    entries: NO_ENTRIES,
  });
}

/** News of the commit index travel with appends; if none is under way, alone. */
function tellCommit(core: Core, follower: Progress): void {
  const commit = Math.min(core.log.commitIndex, follower.match);
  if (commit <= follower.toldCommit || follower.windowMessages > 0) return;
  const { id: from, term } = core;
  follower.toldCommit = commit;
  core.send({ kind: MESSAGE.HEARTBEAT, from, to: follower.id, term, round: 0, commit, quiesce: false });
}

export function onAppend(core: Core, message: Append): void {
  const { log } = core;
  const { from, previousIndex, previousTerm, entries } = message;
  if (previousIndex < log.commitIndex) {
    // An old one come late, or a leader that does not know yet how far this log is committed.
    core.confirm(from, log.commitIndex);
    return;
  }
  if (log.accept(previousIndex, previousTerm, entries)) {
    const match = previousIndex + entries.length;
    learnCommit(core, Math.min(message.commit, match));
    core.confirm(from, match);
    return;
  }
  const hintIndex = log.lastNotAbove(previousIndex, previousTerm);
  const hintTerm = log.term(hintIndex) ?? 0;
  const { id, term } = core;
  core.send(
    {
      kind: MESSAGE.APPEND_ANSWER,
      from: id,
      to: from,
      term,
      match: 0,
      rejected: previousIndex,
      hintIndex,
      hintTerm,
    },
    true,
  );
}

function learnCommit(core: Core, commit: number): void {
  const { log } = core;
  if (commit > log.commitIndex && commit <= log.lastIndex) log.commitIndex = commit;
}

export function onAppendAnswer(core: Core, message: AppendAnswer): void {
  const follower = core.progress.get(message.from);
  if (!core.isLeader || !follower) return;
  const { log } = core;
  follower.heard(core.nowMs);
  if (message.rejected > 0) {
    const { rejected, hintIndex, hintTerm } = message;
    if (rejected > log.lastIndex) return;
    follower.rejected(rejected, log.lastNotAbove(Math.min(hintIndex, rejected - 1), hintTerm));
    return;
  }
  if (message.match > log.lastIndex) return;
  const isNews = follower.matched(message.match);
  if (isNews) core.busyMs = core.nowMs;
  if (follower.feed === FEED.PROBE && message.match >= follower.match) follower.replicate();
  else if (follower.feed === FEED.SNAPSHOT && isNews && log.term(follower.match) !== undefined)
    follower.replicate();
}

export function onHeartbeat(core: Core, { from, round, commit, quiesce }: Heartbeat): void {
  const { log, id, term } = core;
  learnCommit(core, commit);
  if (quiesce && commit === log.lastIndex && commit === log.commitIndex) {
    core.isQuiescent = true;
    return;
  }
  if (round === 0 && !quiesce) return;
  core.send({ kind: MESSAGE.HEARTBEAT_ANSWER, from: id, to: from, term, round });
}

export function onHeartbeatAnswer(core: Core, { from, round }: HeartbeatAnswer): void {
  const follower = core.progress.get(from);
  if (!core.isLeader || !follower) return;
  follower.heard(core.nowMs);
  if (round > core.round) return;
  if (round > follower.ackedRound) {
    follower.ackedRound = round;
    follower.ackedSentMs = Math.max(follower.ackedSentMs, core.roundSentMs(round));
  }
  // Heartbeats overtake what waits for a disk: what was asked lately is not lost yet.
  if (follower.match >= core.log.lastIndex || core.nowMs - follower.askedMs < core.timing.heartbeatMs) return;
  follower.hurry();
}

const NO_ENTRIES: readonly Entry[] = [];
