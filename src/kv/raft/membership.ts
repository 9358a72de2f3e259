import { assert } from '../../base/assert.js';
import { isJoint, isVoter, jointBetween, leftJoint, NOBODY, type ReplicaId } from './configuration.js';
import { encodeConfiguration } from './configuration-codec.js';
import type { Core } from './core.js';
import { MESSAGE } from './message.js';
import { ENTRY } from './ready.js';
import { appendOwn } from './replication.js';

export interface WantedMembers {
  readonly voters: readonly ReplicaId[];
  readonly learners: readonly ReplicaId[];
}

/**
 * Begins any change of members: at once joint, and out of it by itself (thesis, 4.3). Only one at a time: refused
 * while the last configuration is joint or not committed. Gives the index of the entry; 0 if refused.
 */
export function proposeChange(core: Core, wanted: WantedMembers, session: number, sequence: number): number {
  assert(wanted.voters.length > 0, 'a group keeps at least one voter');
  assert(![...wanted.voters, ...wanted.learners].includes(NOBODY), 'nobody takes no part');
  const { configurations, commitIndex } = core.log;
  const reason = !core.isLeader
    ? 'not-leader'
    : core.transferee !== NOBODY
      ? 'transferring'
      : isJoint(configurations.current) ||
          configurations.currentIndex > commitIndex ||
          !core.hasCommittedInTerm
        ? 'changing'
        : undefined;
  if (reason !== undefined) {
    core.refuse('change', session, sequence, reason);
    return 0;
  }
  const data = encodeConfiguration(jointBetween(configurations.current, wanted));
  const index = appendOwn(core, ENTRY.CONFIGURATION, session, sequence, data);
  core.alignProgress(index);
  return index;
}

/**
 * What a leader does once a configuration is committed: leave the joint one, whoever began it; and make way if it has
 * no vote in the new one, after it has told the others.
 */
export function followConfiguration(core: Core): void {
  const { configurations, commitIndex } = core.log;
  const { current, currentIndex } = configurations;
  if (currentIndex > commitIndex || !core.hasCommittedInTerm) return;
  if (isJoint(current)) {
    core.alignProgress(appendOwn(core, ENTRY.CONFIGURATION, 0, 0, encodeConfiguration(leftJoint(current))));
  } else if (!isVoter(current, core.id)) makeWay(core);
}

/** Its successor is whoever has most of the log. */
function makeWay(core: Core): void {
  const { voters } = core.log.configurations.current;
  core.startRound();
  let best = NOBODY;
  let bestMatch = -1;
  for (const id of voters) {
    const { match } = core.progress.get(id)!;
    if (match > bestMatch) {
      best = id;
      bestMatch = match;
    }
  }
  core.send({ kind: MESSAGE.TIMEOUT_NOW, from: core.id, to: best, term: core.term });
  core.becomeFollower(core.term, NOBODY);
}
