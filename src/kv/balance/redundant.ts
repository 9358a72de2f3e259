import { overlap } from '../range.js';
import { type Balancer, CONTENT, type Decision, sooner } from './balancer.js';
import { accountOf, type Landscape, leadersOf, type ReplicaAccount } from './landscape.js';

/**
 * Retires this store's replicas that their ranges count no more, and those of ranges that are no more; discards an empty
 * range that lies across another key space. Why this cannot delete anything newer stands in balancer.ts.
 */
export const redundant: Balancer = {
  name: 'redundant',
  decide({ self, landscape, nowMs }): Decision {
    const account = accountOf(landscape, self);
    let decision: Decision = CONTENT;
    for (const replica of account?.replicas ?? []) {
      const { range, genesis, load } = replica;
      const isLost = isLeaderless(landscape, replica);
      const atMs = load.epochSinceMs + LEADERLESS_MS;
      if (isLeftOut(landscape, replica) || (isLost && nowMs >= atMs))
        return { kind: 'retire', range, replica: replica.replica };
      if (isLost) decision = sooner(decision, { kind: 'later', atMs });
      if (isEmptyTwin(landscape, replica)) return { kind: 'discard', range, genesis };
    }
    return decision;
  },
};

/** One that was just made by a split, or opened, may have no leader yet. */
const LEADERLESS_MS = 10_000;

/** The range's leader has members that came later than ours, and we are not among them. */
function isLeftOut(landscape: Landscape, replica: ReplicaAccount): boolean {
  const leader = leadersOf(landscape).of(replica.range)?.replica;
  // As long as the leader is changing them, it tells those who leave itself.
  if (leader === undefined || leader.changing || leader.replica === replica.replica) return false;
  return (
    leader.membersAt >= replica.membersAt &&
    !leader.members.some(member => member.replica === replica.replica)
  );
}

/**
 * Nobody leads it, as far as is known: it may have been merged away or discarded while this store was away. If it has only
 * lost its quorum, nobody confirms that it is to go.
 */
function isLeaderless(landscape: Landscape, { range, leads }: ReplicaAccount): boolean {
  return !leads && leadersOf(landscape).of(range) === undefined;
}

function isEmptyTwin(landscape: Landscape, replica: ReplicaAccount): boolean {
  // Also while it changes: what it waits for may be a store that the other key space holds.
  if (!replica.pristine || !replica.leads || leadersOf(landscape).geneses < 2) return false;
  return landscape.stores.some(
    ({ alive, replicas }) =>
      alive &&
      replicas.some(
        other =>
          other.leads &&
          other.genesis !== replica.genesis &&
          overlap(other.boundary, replica.boundary) &&
          (!other.pristine || other.genesis < replica.genesis),
      ),
  );
}
