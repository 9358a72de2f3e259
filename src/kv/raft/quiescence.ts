import { NOBODY } from './configuration.js';
import type { Core } from './core.js';
import { MESSAGE } from './message.js';

/**
 * Lets a group without work fall silent: nothing is sent and no timer runs until something comes. A leader does so
 * when all replicas have all there is and have answered its last heartbeat, so that nothing is under way; it tells
 * them, and who does not agree says so. Silence is no sign of death then: the driver tells of dead stores
 * (`Raft.unreachable`). For a replica on a dead store nobody waits, as long as there is a quorum without it; it gets what
 * it lacks when the driver says that it is back (`Raft.reachable`), or when it campaigns.
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
  for (const { match, ackedRound, isGone } of core.followers)
    if (!isGone && (match !== lastIndex || ackedRound !== core.round)) return;
  if (!core.hasQuorumWithoutGone) return;
  const { id: from, term } = core;
  for (const { id: to } of core.followers)
    core.send({ kind: MESSAGE.HEARTBEAT, from, to, term, round: 0, commit: lastIndex, quiesce: true });
  core.isQuiescent = true;
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
