import { overlap } from '../range.js';
import { type Balancer, CONTENT, type Decision, sooner } from './balancer.js';
import { accountOf } from './landscape.js';

/**
 * Makes the first range of a service where no store, alive or lost, has any of it. One store does it: of the living ones
 * that take ranges of the service the one of the lowest id, once it has been there long enough to have heard of the
 * others. To be started only when the node has found its cluster, or has none to find; a second first range is no harm
 * while it is empty (redundant.ts).
 */
export const bootstrap: Balancer = {
  name: 'bootstrap',
  decide({ self, landscape, rules, nowMs, services, spread }): Decision {
    const account = accountOf(landscape, self);
    if (account === undefined) return CONTENT;
    const dueMs = account.sinceMs + rules.bootstrapAfterMs * (1 + spread);
    let decision: Decision = CONTENT;
    for (const boundary of services) {
      const service = boundary.start[0]!;
      const first = landscape.stores.find(one => one.alive && one.services.includes(service));
      if (first !== account) continue;
      const isThere = landscape.stores.some(({ replicas }) =>
        replicas.some(replica => overlap(replica.boundary, boundary)),
      );
      if (isThere) continue;
      if (nowMs >= dueMs) return { kind: 'bootstrap', boundary };
      decision = sooner(decision, { kind: 'later', atMs: dueMs });
    }
    return decision;
  },
};
