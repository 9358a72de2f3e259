import { type Outcome, played } from './played.js';
import { CALM_STORIES } from './underlay-calm.js';
import { CHAOS_STORIES } from './underlay-chaos.js';
import { fail } from './underlay-checkers.js';
import { CUT_STORIES } from './underlay-cuts.js';
import { FAILURE_STORIES } from './underlay-failures.js';
import { MINUTE_MS, quietBytesMax, type Scenario } from './underlay-story.js';
import { Cluster, type ClusterSettings } from './underlay-world.js';

export const SCENARIOS: readonly Scenario[] = [
  ...CALM_STORIES,
  ...FAILURE_STORIES,
  ...CUT_STORIES,
  ...CHAOS_STORIES,
];

/** Plays one scenario to its end or its first failure, be it of a checker or an assertion in the machine. */
export function play(
  scenario: Scenario,
  settings: ClusterSettings,
  follow?: (line: string) => void,
): Outcome {
  const cluster = new Cluster(settings);
  cluster.world.trace.follow = follow;
  return played(cluster.world, () => {
    const figures = scenario.play(cluster);
    checkEnd(cluster);
    return figures;
  });
}

/** Entries of one list of one machine: what grows with the hosts that ever lived, and room for what is constant. */
function entriesMax(lives: number): number {
  return 16 * lives + 512;
}

/** What must hold at the end of every scenario, whatever its story was. */
function checkEnd(cluster: Cluster): void {
  cluster.compareAll();
  cluster.mustConverge(MINUTE_MS, 'at the end');
  const max = entriesMax(cluster.lives);
  for (const { host, node } of cluster.seats) {
    if (host === undefined) continue;
    for (const [list, count] of Object.entries(host.machine.entries())) {
      if (count > max)
        fail(`${node.label}: ${count} entries in its list of ${list}, expected at most ${max}`);
    }
  }
  cluster.mustStayConverged(MINUTE_MS, 'after the end');
  const up = cluster.seats.filter(({ host }) => host !== undefined).length;
  const bytes = cluster.measureBytesPerSecond(MINUTE_MS / 2);
  const bytesMax = quietBytesMax(up);
  if (bytes > bytesMax) {
    fail(
      `at the end: ${bytes.toFixed(0)} bytes/s a host in a quiet cluster of ${up}, at most ${bytesMax.toFixed(0)}`,
    );
  }
}
