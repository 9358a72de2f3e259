import { type Balancer, type Change, CONTENT, type Decision } from './balancer.js';
import { cost, costs, eligible, ledBy, MEMBER, storesOf } from './landscape.js';

/**
 * Moves one replica at a time from the store with the highest cost to the one with the lowest, if that brings the two
 * closer together and the difference is worth it (`placementSlack`). Of several that would, the dearest goes.
 */
export const placement: Balancer = {
  name: 'placement',
  decide({ self, landscape, rules }): Decision {
    const burden = costs(landscape);
    const open = eligible(landscape).map(({ store }) => store);
    const by = (a: number, b: number) => burden.get(a)! - burden.get(b)! || a - b;
    const [coldest, hottest] = [[...open].sort(by)[0], [...open].sort(by).at(-1)];
    if (coldest === undefined || hottest === undefined) return CONTENT;
    const gap = burden.get(hottest)! - burden.get(coldest)!;
    if (gap <= rules.placementSlack * burden.get(hottest)!) return CONTENT;
    let best: Change | undefined;
    let bestCost = 0;
    for (const { range, members, membersAt, load } of ledBy(landscape, self)) {
      const price = cost(load);
      // Half of the gap at most, or the two would only change places.
      if (price > gap / 2 || price <= bestCost) continue;
      if (!members.some(({ store }) => store === hottest) || members.some(({ store }) => store === coldest))
        continue;
      const moved = members.map(member =>
        member.store === hottest ? { ...member, store: coldest } : member,
      );
      bestCost = price;
      best = {
        kind: 'change',
        range,
        membersAt,
        voters: storesOf(moved, MEMBER.VOTER),
        learners: storesOf(moved, MEMBER.LEARNER),
      };
    }
    return best ?? CONTENT;
  },
};
