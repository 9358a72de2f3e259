import { type Balancer, CONTENT, type Decision, type Sight } from './balancer.js';
import {
  accountOf,
  eligible,
  ledBy,
  MEMBER,
  type ReplicaAccount,
  type StoreAccount,
  serviceOf,
} from './landscape.js';

/**
 * Evens how many ranges of a service each store leads, by giving leadership to the voter whose store leads the fewest.
 * Only a store above the mean gives, and only to one that is not, at a difference of two or more: so it comes to rest.
 * A store that drains gives all that it can.
 */
export const leaderSpread: Balancer = {
  name: 'leader-spread',
  decide(sight): Decision {
    const own = ledBy(sight.landscape, sight.self);
    for (const service of new Set(own.map(serviceOf))) {
      const decision = spread(
        sight,
        service,
        own.filter(replica => serviceOf(replica) === service),
      );
      if (decision.kind !== 'content') return decision;
    }
    return CONTENT;
  },
};

function spread(sight: Sight, service: number, own: readonly ReplicaAccount[]): Decision {
  const { self, landscape } = sight;
  const leads = (replica: ReplicaAccount) => replica.leads && serviceOf(replica) === service;
  const led = new Map(landscape.stores.map(one => [one.store, one.replicas.filter(leads).length]));
  const open = eligible(landscape, service);
  const mine = led.get(self) ?? 0;
  const isDraining = accountOf(landscape, self)?.draining === true;
  const mean = open.reduce((sum, { store }) => sum + led.get(store)!, 0) / open.length;
  if (!isDraining && mine <= Math.ceil(mean)) return CONTENT;
  let best: { readonly replica: ReplicaAccount; readonly to: number } | undefined;
  for (const replica of own)
    for (const to of heirs(self, open, replica)) {
      const its = led.get(to)!;
      const isBetter = isDraining || (its <= Math.floor(mean) && mine - its >= 2);
      if (isBetter && (best === undefined || its < led.get(best.to)!)) best = { replica, to };
    }
  if (best === undefined) return CONTENT;
  const { range, term } = best.replica;
  return { kind: 'transfer', range, term, to: best.to };
}

/** Stores of other voters that answer. */
function heirs(
  self: number,
  open: readonly StoreAccount[],
  { members, silent }: ReplicaAccount,
): readonly number[] {
  return members
    .filter(
      ({ replica, store, role }) =>
        role === MEMBER.VOTER &&
        store !== self &&
        open.some(account => account.store === store) &&
        !silent.some(one => one.replica === replica),
    )
    .map(({ store }) => store)
    .sort((a, b) => a - b);
}
