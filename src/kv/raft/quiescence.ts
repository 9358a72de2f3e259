import { NOBODY } from './configuration.js';
import type { Core } from './core.js';
import { MESSAGE, type Message } from './message.js';

/**
 * Lets a group without work fall silent: nothing is sent and no timer runs until something comes. A leader does so
 * when all replicas have all there is and have answered a heartbeat that was sent after anything happened; it tells
 * them, and who does not agree says so. What they still answer to later heartbeats is no news then: if it had to be
 * waited for, groups whose answers take longer than the time between two heartbeats (on a machine that is too busy, with
 * many groups) would never fall silent, and keep it busy. Silence is no sign of death then: the driver tells of dead stores
 * (`Raft.unreachable`). For a replica on a dead store nobody waits, as long as there is a quorum without it; it gets what
 * it lacks when the driver says that it is back (`Raft.reachable`), or when it campaigns. Until then it is told nothing,
 * not even how far the others are: what it has at that index may be another leader's.
 */
export function quiesceIfIdle(core: Core): void {
  const { log, timing } = core;
  if (timing.quiesceAfterMs === 0 || core.nowMs - core.busyMs < timing.quiesceAfterMs) return;
  const { lastIndex } = log;
  const isIdle =
    log.commitIndex === lastIndex &&
    log.durableIndex === lastIndex &&
    log.appliedIndex === lastIndex &&
    core.transferee === NOBODY &&
    core.waitingReads.length + core.confirmingReads.length === 0;
  if (!isIdle) return;
  for (const { match, ackedSentMs, isGone } of core.followers)
    if (!isGone && (match !== lastIndex || ackedSentMs < core.busyMs)) return;
  if (!core.hasQuorumWithoutGone) return;
  const { id: from, term } = core;
  for (const { id: to, match } of core.followers)
    if (match === lastIndex)
      core.send({ kind: MESSAGE.HEARTBEAT, from, to, term, round: 0, commit: lastIndex, quiesce: true });
  core.isQuiescent = true;
}

/** Whether a quiet replica stays quiet although this came: only answers in no round say that somebody disagrees. */
export function isNoNews(core: Core, message: Message): boolean {
  if (message.kind === MESSAGE.HEARTBEAT) return message.quiesce;
  if (message.kind !== MESSAGE.HEARTBEAT_ANSWER) return false;
  return core.isLeader && message.term === core.term && message.round > 0;
}

/** Something came. The time of silence counts against nobody. */
export function wake(core: Core): void {
  core.isQuiescent = false;
  core.busyMs = core.nowMs;
  core.timerStartMs = core.nowMs;
  if (!core.isLeader) return;
  for (const follower of core.followers) follower.heardMs = core.nowMs;
  core.roundStartMs = Number.NEGATIVE_INFINITY;
}

/** The thread did nothing for so long, so what others have said since may lie unread. No leases come of it. */
export function excuse(core: Core, ms: number): void {
  core.timerStartMs = Math.min(core.nowMs, core.timerStartMs + ms);
  for (const follower of core.followers) follower.heardMs = Math.min(core.nowMs, follower.heardMs + ms);
}
