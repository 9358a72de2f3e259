import { type Balancer, CONTENT, type Decision, sooner } from './balancer.js';
import { accountOf, ledBy, MEMBER, replicaAt, storesOf } from './landscape.js';

/**
 * Takes a member out that never answers although its store lives, because the store does not hold it: its data was
 * lost, or it was never made. replica-count.ts then adds one under a new id, at that store or another.
 */
export const deadReplica: Balancer = {
  name: 'dead-replica',
  decide({ self, landscape, rules, nowMs }): Decision {
    let decision: Decision = CONTENT;
    for (const { range, members, membersAt, silent } of ledBy(landscape, self))
      for (const { replica, sinceMs } of silent) {
        const member = members.find(one => one.replica === replica);
        const account = member && accountOf(landscape, member.store);
        if (account?.alive !== true || account.store === self) continue;
        if (replicaAt(account, range)?.replica === replica) continue;
        // A store that has just come has not said yet what it holds.
        const atMs = Math.max(sinceMs, account.sinceMs) + rules.deadAfterMs;
        const left = members.filter(one => one !== member);
        const voters = storesOf(left, MEMBER.VOTER);
        if (nowMs >= atMs)
          return { kind: 'change', range, membersAt, voters, learners: storesOf(left, MEMBER.LEARNER) };
        decision = sooner(decision, { kind: 'later', atMs });
      }
    return decision;
  },
};
