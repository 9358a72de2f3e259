import { type Balancer, CONTENT, type Decision, type Sight, sooner } from './balancer.js';
import { type Leadership, leadersOf, ledBy, MEMBER, type ReplicaAccount, storesOf } from './landscape.js';

/**
 * Joins two neighbours that are cold together: the upper one goes into the lower. Its leader first brings it to the lower
 * one's stores, then gives leadership to the lower one's leader, who then merges. This comes before leader-spread.ts
 * and placement.ts among the balancers, so that these do not undo a step before the next is taken.
 */
export const merge: Balancer = {
  name: 'merge',
  decide(sight): Decision {
    let decision: Decision = CONTENT;
    for (const replica of ledBy(sight.landscape, sight.self)) {
      const upper = neighbour(sight, replica, 'upper');
      const lower = neighbour(sight, replica, 'lower');
      const step =
        (upper && intoLower(sight, replica, upper)) || (lower && towards(sight, lower, replica)) || CONTENT;
      if (step.kind === 'later') decision = sooner(decision, step);
      else if (step.kind !== 'content') return step;
    }
    return decision;
  },
};

/** The range on the other side of a boundary, with its leader: of the same service and key space, and left alone. */
function neighbour(
  { landscape }: Sight,
  { boundary, genesis }: ReplicaAccount,
  side: 'upper' | 'lower',
): Leadership | undefined {
  const leaders = leadersOf(landscape);
  const beside = side === 'upper' ? leaders.beginningAt(boundary.end) : leaders.endingAt(boundary.start);
  return beside.find(
    ({ replica }) =>
      !replica.changing && replica.genesis === genesis && replica.boundary.start[0] === boundary.start[0],
  );
}

function intoLower(
  sight: Sight,
  lower: ReplicaAccount,
  { account, replica }: Leadership,
): Decision | undefined {
  if (account.store !== sight.self || !sameStores(lower, replica)) return undefined;
  const wait = coldFrom(sight, lower, replica);
  if (wait === undefined) return undefined;
  if (wait > sight.nowMs) return { kind: 'later', atMs: wait };
  const { range, epoch } = lower;
  return { kind: 'merge', range, epoch, upper: replica.range, upperEpoch: replica.epoch };
}

function towards(sight: Sight, lower: Leadership, upper: ReplicaAccount): Decision | undefined {
  const { account, replica } = lower;
  const wait = coldFrom(sight, replica, upper);
  if (wait === undefined) return undefined;
  if (wait > sight.nowMs) return { kind: 'later', atMs: wait };
  const { range, membersAt, term, silent } = upper;
  if (!sameStores(replica, upper)) {
    const voters = storesOf(replica.members, MEMBER.VOTER);
    return { kind: 'change', range, membersAt, voters, learners: storesOf(replica.members, MEMBER.LEARNER) };
  }
  if (account.store === sight.self || silent.length > 0) return undefined;
  return { kind: 'transfer', range, term, to: account.store };
}

/** When the two may be merged; undefined if they are not cold. */
function coldFrom({ rules }: Sight, one: ReplicaAccount, other: ReplicaAccount): number | undefined {
  const writes = one.load.writesPerSecond + other.load.writesPerSecond;
  if (one.load.bytes + other.load.bytes >= rules.mergeBytes || writes >= rules.mergeWritesPerSecond)
    return undefined;
  if (one.load.fanOut + other.load.fanOut >= rules.splitFanOut / 2) return undefined;
  return Math.max(one.load.epochSinceMs, other.load.epochSinceMs) + rules.settleMs;
}

function sameStores(one: ReplicaAccount, other: ReplicaAccount): boolean {
  return [MEMBER.VOTER, MEMBER.LEARNER].every(
    role => storesOf(one.members, role).join() === storesOf(other.members, role).join(),
  );
}
