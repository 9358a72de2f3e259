import { type Balancer, CONTENT, type Decision, sooner } from './balancer.js';
import { accountOf, LOAD_WINDOW_MS, ledBy, type RangeLoad, type ReplicaAccount } from './landscape.js';
import type { Rules } from './rules.js';

/**
 * Divides the range that is the furthest above one of its limits, at the key that its coprocessor names. On machines of
 * any size: the number of ranges is bounded by cores, but a single core may have several.
 */
export const split: Balancer = {
  name: 'split',
  decide({ self, landscape, rules, nowMs }): Decision {
    const account = accountOf(landscape, self);
    if (account === undefined) return CONTENT;
    const leads = account.replicas.filter(replica => replica.leads).length;
    if (leads >= account.cores * rules.rangesPerCoreMax) return CONTENT;
    let decision: Decision = CONTENT;
    let worst: ReplicaAccount | undefined;
    let worstExcess = 1;
    for (const replica of ledBy(landscape, self)) {
      const excess = excessOf(replica.load, rules);
      if (excess <= worstExcess || !isInside(replica)) continue;
      // Its figures are means over a window that must lie behind its last split or merge.
      const atMs = replica.load.epochSinceMs + LOAD_WINDOW_MS;
      if (nowMs < atMs) {
        decision = sooner(decision, { kind: 'later', atMs });
        continue;
      }
      worst = replica;
      worstExcess = excess;
    }
    if (worst === undefined) return decision;
    return { kind: 'split', range: worst.range, epoch: worst.epoch, key: worst.load.splitKey };
  },
};

function excessOf(load: RangeLoad, rules: Rules): number {
  return Math.max(
    load.bytes / rules.splitBytes,
    load.writesPerSecond / rules.splitWritesPerSecond,
    // A slow query now and then is no load.
    load.queriesPerSecond >= 1 ? load.queryMicros / rules.splitQueryMicros : 0,
    load.fanOut / rules.splitFanOut,
  );
}

function isInside({ load: { splitKey }, boundary }: ReplicaAccount): boolean {
  return Buffer.compare(boundary.start, splitKey) < 0 && Buffer.compare(splitKey, boundary.end) < 0;
}
