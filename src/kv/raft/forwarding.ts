import { NOBODY } from './configuration.js';
import type { Core } from './core.js';
import { MESSAGE, type Propose, type Refuse } from './message.js';
import { ENTRY, type RefusalReason } from './ready.js';
import { appendOwn, isOverloaded } from './replication.js';
import { ENTRY_OVERHEAD_BYTES } from './settings.js';

/** Why the leader does not take a proposal now; undefined: it does. */
function reasonAgainst(core: Core, bytes: number): RefusalReason | undefined {
  if (core.transferee !== NOBODY) return 'transferring';
  return isOverloaded(core, bytes) ? 'overloaded' : undefined;
}

/** A proposal of this replica. Gives the index of the entry at a leader; 0 if it was refused or passed on. */
export function propose(core: Core, session: number, sequence: number, data: Uint8Array): number {
  const bytes = data.length + ENTRY_OVERHEAD_BYTES;
  if (!core.isLeader) {
    if (core.leader === NOBODY) core.refuse('proposal', session, sequence, 'not-leader');
    else if (!isForwardFull(core, bytes)) {
      core.forwards.push({ session, sequence, data });
      core.forwardBytes += bytes;
    } else core.refuse('proposal', session, sequence, 'overloaded');
    return 0;
  }
  const reason = reasonAgainst(core, bytes);
  if (reason !== undefined) {
    core.refuse('proposal', session, sequence, reason);
    return 0;
  }
  core.busyMs = core.nowMs;
  return appendOwn(core, ENTRY.COMMAND, session, sequence, data);
}

function isForwardFull({ forwards, forwardBytes, limits }: Core, bytes: number): boolean {
  if (forwards.length === 0) return false;
  return forwards.length >= limits.uncommittedCountMax || forwardBytes + bytes > limits.uncommittedBytesMax;
}

/** Passes on what was proposed in this turn, to whoever leads now. */
export function forward(core: Core): void {
  const { forwards: proposals, id: from, leader: to, term } = core;
  if (proposals.length === 0) return;
  core.forwards = [];
  core.forwardBytes = 0;
  if (to !== NOBODY && to !== from) {
    core.send({ kind: MESSAGE.PROPOSE, from, to, term, proposals });
    return;
  }
  for (const { session, sequence, data } of proposals) propose(core, session, sequence, data);
}

/** Proposals that a follower passed on. They are never passed on again: two replicas may each take the other for leader. */
export function onPropose(core: Core, { from, proposals }: Propose): void {
  for (const { session, sequence, data } of proposals) {
    const reason = core.isLeader ? reasonAgainst(core, data.length + ENTRY_OVERHEAD_BYTES) : 'not-leader';
    if (reason !== undefined) core.sendRefusal(from, 'proposal', session, sequence, reason);
    else appendOwn(core, ENTRY.COMMAND, session, sequence, data);
  }
  core.busyMs = core.nowMs;
}

export function onRefuse(core: Core, { what, session, sequence, reason, leader }: Refuse): void {
  if (what === 'proposal') {
    core.refusals.push({ what, session, sequence, reason, leader, isCertain: false });
    return;
  }
  const asked = core.askedReads.get(sequence);
  if (asked === undefined) return;
  core.askedReads.delete(sequence);
  core.refusals.push({ what, session, sequence: asked.context, reason, leader, isCertain: true });
}
