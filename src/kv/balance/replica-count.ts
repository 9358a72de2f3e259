import { type Balancer, CONTENT, type Decision, type Sight, sooner } from './balancer.js';
import {
  accountOf,
  costs,
  eligible,
  MEMBER,
  type ReplicaAccount,
  type StoreAccount,
  serviceOf,
  storesOf,
} from './landscape.js';

/**
 * Keeps the voters of a range at the number that the rules want, and learners likewise. Members on stores that drain,
 * or that were lost for `replaceAfterMs`, are replaced. A voter is never taken out for want of a store that could take
 * its place, however long its own is gone: that would only bring the majority closer to the minority.
 *
 * A range that is changing is left to that, unless a store is lost on the way: a newcomer that never comes would be waited
 * for without end.
 */
export const replicaCount: Balancer = {
  name: 'replica-count',
  decide(sight): Decision {
    const { self, landscape, rules, nowMs } = sight;
    const byService = new Map<number, readonly number[]>();
    let decision: Decision = CONTENT;
    for (const replica of accountOf(landscape, self)?.replicas ?? []) {
      if (!replica.leads || (replica.changing && !isStranded(sight, replica))) continue;
      const service = serviceOf(replica);
      const candidates = byService.get(service) ?? byCost(sight, service);
      byService.set(service, candidates);
      const voters = votersWanted(sight, replica, candidates);
      const learners = learnersWanted(sight, replica, voters, candidates);
      const { range, members, membersAt } = replica;
      if (
        differ(voters, storesOf(members, MEMBER.VOTER)) ||
        differ(learners, storesOf(members, MEMBER.LEARNER))
      )
        return { kind: 'change', range, membersAt, voters, learners };
      for (const { store } of members) {
        const account = accountOf(landscape, store);
        if (account === undefined || account.alive) continue;
        const atMs = account.sinceMs + rules.replaceAfterMs;
        if (atMs > nowMs) decision = sooner(decision, { kind: 'later', atMs });
      }
    }
    return decision;
  },
};

/** A member's store is lost for so long that it is to be replaced, or forgotten. */
function isStranded({ landscape, rules, nowMs }: Sight, { members }: ReplicaAccount): boolean {
  return members.some(({ store }) => {
    const account = accountOf(landscape, store);
    return account === undefined || (!account.alive && nowMs - account.sinceMs >= rules.replaceAfterMs);
  });
}

/** Stores that may take a replica, the least burdened first. */
function byCost({ landscape }: Sight, service: number): readonly number[] {
  const burden = costs(landscape);
  return eligible(landscape, service)
    .map(({ store }) => store)
    .sort((a, b) => (burden.get(a) ?? 0) - (burden.get(b) ?? 0) || a - b);
}

function votersWanted(
  sight: Sight,
  replica: ReplicaAccount,
  candidates: readonly number[],
): readonly number[] {
  const { self, rules } = sight;
  const now = storesOf(replica.members, MEMBER.VOTER);
  const possible = candidates.length % 2 === 1 ? candidates.length : candidates.length - 1;
  const wanted = Math.max(Math.min(rules.voters, possible), Math.min(now.length, rules.voters), 1);
  // Learners hold the data already.
  const learners = storesOf(replica.members, MEMBER.LEARNER);
  const fresh = candidates
    .filter(store => !now.includes(store))
    .sort((a, b) => Number(learners.includes(b)) - Number(learners.includes(a)));
  const worth = (store: number) => (store === self ? 3 : standing(sight, store));
  // The best first; of equals the least burdened stays.
  const ranked = [...now].sort(
    (a, b) => worth(b) - worth(a) || rank(candidates, a) - rank(candidates, b) || a - b,
  );
  const voters = ranked.slice(0, wanted);
  for (let i = voters.length - 1; i >= 0; i--) {
    if (worth(voters[i]!) > 0 || voters[i] === self) continue;
    const successor = fresh.shift();
    if (successor === undefined) break;
    voters[i] = successor;
  }
  while (voters.length < wanted && fresh.length > 0) voters.push(fresh.shift()!);
  return voters.sort((a, b) => a - b);
}

function learnersWanted(
  sight: Sight,
  replica: ReplicaAccount,
  voters: readonly number[],
  candidates: readonly number[],
): readonly number[] {
  const { rules } = sight;
  const now = storesOf(replica.members, MEMBER.LEARNER).filter(store => !voters.includes(store));
  const kept = now.filter(store => standing(sight, store) > 0);
  const fresh = candidates.filter(store => !voters.includes(store) && !kept.includes(store));
  const wanted = rules.learners === -1 ? kept.length + fresh.length : rules.learners;
  return [...kept, ...fresh].slice(0, wanted).sort((a, b) => a - b);
}

/** 2: fine; 1: lost, but not for long; 0: to be replaced. */
function standing({ landscape, rules, nowMs }: Sight, store: number): number {
  const account: StoreAccount | undefined = accountOf(landscape, store);
  if (account === undefined || account.draining) return 0;
  if (account.alive) return 2;
  return nowMs - account.sinceMs < rules.replaceAfterMs ? 1 : 0;
}

function rank(candidates: readonly number[], store: number): number {
  const at = candidates.indexOf(store);
  return at < 0 ? candidates.length : at;
}

function differ(one: readonly number[], other: readonly number[]): boolean {
  return one.length !== other.length || one.some((store, at) => store !== other[at]);
}
