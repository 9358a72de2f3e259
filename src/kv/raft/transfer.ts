import { NOBODY, type ReplicaId } from './configuration.js';
import type { Core } from './core.js';
import { MESSAGE } from './message.js';

/**
 * Hands leadership to a voter (thesis, 3.10): takes no more proposals, waits until the target has the whole log, and
 * has it campaign. Given up after the longest election timeout, or for another target.
 */
export function beginTransfer(core: Core, to: ReplicaId): void {
  if (!core.isLeader) {
    core.refuse('transfer', 0, to, 'not-leader');
    return;
  }
  if (to === core.id || !core.log.configurations.current.voters.includes(to)) {
    core.refuse('transfer', 0, to, 'not-voter');
    return;
  }
  if (core.transferee === to) return;
  abortTransfer(core);
  core.transferee = to;
  const target = core.progress.get(to)!;
  if (target.match < core.log.lastIndex) target.hurry();
  core.transferEndMs = core.nowMs + core.timing.electionTimeoutMaxMs;
}

export function abortTransfer(core: Core): void {
  if (core.transferee === NOBODY) return;
  core.refuse('transfer', 0, core.transferee, 'aborted');
  core.transferee = NOBODY;
  core.hasSentTimeoutNow = false;
}

/**
 * Has the target campaign once it has everything. From then on others give it their vote though they hear this leader,
 * so what they vouched for is void; and the message may arrive late, even after the transfer was given up, so the lease
 * comes back only with another term.
 */
export function pursueTransfer(core: Core): void {
  const { transferee: to, id: from, term } = core;
  if (to === NOBODY || core.hasSentTimeoutNow) return;
  const target = core.progress.get(to);
  if (target === undefined) abortTransfer(core);
  else if (target.match === core.log.lastIndex) {
    core.isLeaseGivenUp = true;
    core.hasSentTimeoutNow = true;
    core.send({ kind: MESSAGE.TIMEOUT_NOW, from, to, term });
  }
}
