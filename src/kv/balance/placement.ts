import { type Balancer, type Change, CONTENT, type Decision, type Sight } from './balancer.js';
import {
  cost,
  costs,
  eligible,
  ledBy,
  MEMBER,
  type ReplicaAccount,
  serviceOf,
  storesOf,
} from './landscape.js';

/**
 * Moves one replica at a time from the store with the highest cost to the one with the lowest, of those that take ranges
 * of its service, if that brings the two closer together and the difference is worth it (`placementSlack`). Of several
 * that would, the dearest goes.
 */
export const placement: Balancer = {
  name: 'placement',
  decide(sight): Decision {
    const own = ledBy(sight.landscape, sight.self);
    for (const service of new Set(own.map(serviceOf))) {
      const change = moved(
        sight,
        service,
        own.filter(replica => serviceOf(replica) === service),
      );
      if (change !== undefined) return change;
    }
    return CONTENT;
  },
};

function moved(
  { landscape, rules }: Sight,
  service: number,
  own: readonly ReplicaAccount[],
): Change | undefined {
  const burden = costs(landscape);
  const open = eligible(landscape, service)
    .map(({ store }) => store)
    .sort((a, b) => burden.get(a)! - burden.get(b)! || a - b);
  const [coldest, hottest] = [open[0], open.at(-1)];
  if (coldest === undefined || hottest === undefined) return undefined;
  const gap = burden.get(hottest)! - burden.get(coldest)!;
  if (gap <= rules.placementSlack * burden.get(hottest)!) return undefined;
  let best: Change | undefined;
  let bestCost = 0;
  for (const { range, members, membersAt, load } of own) {
    const price = cost(load);
    // Half of the gap at most, or the two would only change places.
    if (price > gap / 2 || price <= bestCost) continue;
    if (!members.some(({ store }) => store === hottest) || members.some(({ store }) => store === coldest))
      continue;
    const wanted = members.map(member => (member.store === hottest ? { ...member, store: coldest } : member));
    bestCost = price;
    best = {
      kind: 'change',
      range,
      membersAt,
      voters: storesOf(wanted, MEMBER.VOTER),
      learners: storesOf(wanted, MEMBER.LEARNER),
    };
  }
  return best;
}
