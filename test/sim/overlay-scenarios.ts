import type { Overlay } from '../../src/overlay/overlay.js';
import { AGENTS } from './overlay-rider.js';
import { Riders } from './overlay-riders.js';
import { type Outcome, played } from './played.js';
import { fail, percentile } from './underlay-checkers.js';
import type { SimHost } from './underlay-host.js';
import { SCENARIOS } from './underlay-scenarios.js';
import {
  type Figure,
  joinMaxMs,
  MINUTE_MS,
  quietBytesMax,
  type Scenario,
  seconds,
} from './underlay-story.js';
import { Cluster, type ClusterSettings } from './underlay-world.js';

/** Stories that measure the underlay alone, or write the records that the overlay writes. */
const NOT_OURS: ReadonlySet<string> = new Set(['idle', 'agents']);

/**
 * Stories in which hosts must not come back to those that cannot reach them: a host that changes its record is taken
 * back until it is found out again that it cannot be reached.
 */
const STEADY: ReadonlySet<string> = new Set(['one-way-group']);

/** What one agent may send in a quiet cluster, bytes a second and host. */
const AGENT_BYTES_MAX = 400;

const AGREEMENT_MS = MINUTE_MS;

/** Entries that came back are removed later each time. */
const FORGOTTEN_MS = 5 * MINUTE_MS;

/** A story, and what riders do meanwhile: anything, or nothing but what they do at the start. */
export interface OverlayScenario extends Omit<Scenario, 'play'> {
  readonly isIdle: boolean;
  play(cluster: Cluster, riders: Riders): readonly Figure[];
}

export const OVERLAY_SCENARIOS: readonly OverlayScenario[] = [
  {
    name: 'registration',
    about: 'how long a registration takes to all hosts, and what an idle agent costs',
    hosts: 10,
    hostsMin: 2,
    isIdle: true,
    play: registration,
  },
  ...SCENARIOS.filter(({ name }) => !NOT_OURS.has(name)).map(scenario => ({
    ...scenario,
    isIdle: false,
    play: (cluster: Cluster) => scenario.play(cluster),
  })),
];

/** Plays one scenario with a rider on every host to its end or its first failure. */
export function playOverlay(
  scenario: OverlayScenario,
  settings: ClusterSettings,
  follow?: (line: string) => void,
  riders = new Riders(),
): Outcome {
  riders.isIdle = scenario.isIdle;
  riders.isSteady = STEADY.has(scenario.name);
  const cluster = new Cluster({ ...settings, upper: riders });
  riders.ride(cluster);
  cluster.world.trace.follow = follow;
  return played(cluster.world, () => {
    const figures = scenario.play(cluster, riders);
    return [...figures, ...end(cluster, riders)];
  });
}

function end(cluster: Cluster, riders: Riders): Figure[] {
  riders.isCalm = true;
  cluster.mustConverge(MINUTE_MS, 'at the end');
  const tookMs = riders.mustAgree(AGREEMENT_MS, 'at the end');
  cluster.world.run(MINUTE_MS);
  riders.mustAgree(0, 'a minute later');
  riders.mustBeQuiet('at the end');
  riders.mustHaveForgotten(FORGOTTEN_MS, 'at the end');
  const max = 24 * cluster.lives + 1_024;
  for (const { host, node } of cluster.seats) {
    for (const [list, count] of Object.entries(host?.machine.entries() ?? {}))
      if (count > max)
        fail(`${node.label}: ${count} entries in its list of ${list}, expected at most ${max}`);
  }
  const up = cluster.seats.filter(({ host }) => host !== undefined).length;
  const bytes = cluster.measureBytesPerSecond(MINUTE_MS / 2);
  const agents = AGENTS.length + (riders.services.size > 0 ? 1 : 0);
  const bytesMax = quietBytesMax(up) + agents * AGENT_BYTES_MAX;
  if (bytes > bytesMax)
    fail(`at the end: ${bytes.toFixed(0)} bytes/s a host when quiet, at most ${bytesMax.toFixed(0)}`);
  const { mail } = riders;
  return [
    { what: 'agreed after', text: seconds(tookMs) },
    { what: 'reliable messages', text: `${mail.arrived} of ${mail.sent}, ${mail.lost} told as undelivered` },
  ];
}

/** The middle and the slowest of ten registrations, and bytes with and without agents. */
function registration(cluster: Cluster, riders: Riders): readonly Figure[] {
  cluster.startAll();
  cluster.mustConverge(joinMaxMs(cluster.hostCount), 'the first join');
  riders.mustAgree(MINUTE_MS, 'the first join');
  cluster.world.run(2 * MINUTE_MS);
  const tookMs: number[] = [];
  const hosts = cluster.seats.map(({ host }) => host!);
  for (let at = 0; at < 10; at += 1) {
    cluster.world.run(cluster.random.between(1_000, 3_000));
    tookMs.push(registerOne(cluster, cluster.random.pick(hosts), hosts, `probe-${at}`));
  }
  cluster.world.run(2 * MINUTE_MS);
  const withAgents = cluster.measureBytesPerSecond(5 * MINUTE_MS);
  for (const { host } of cluster.seats) {
    for (const name of AGENTS) riders.leave(host!, name);
  }
  cluster.world.run(2 * MINUTE_MS);
  const without = cluster.measureBytesPerSecond(5 * MINUTE_MS);
  return [
    { what: 'registration p50', text: `${percentile(tookMs, 0.5).toFixed(0)} ms` },
    { what: 'slowest of 10', text: `${percentile(tookMs, 1).toFixed(0)} ms` },
    { what: 'bytes/s a host and agent', text: ((withAgents - without) / AGENTS.length).toFixed(0) },
    { what: 'bytes/s of the underlay', text: without.toFixed(0) },
  ];
}

function registerOne(cluster: Cluster, by: SimHost, hosts: readonly SimHost[], member: string): number {
  const name = AGENTS[0];
  overlayOf(by).host(name).register(member, Buffer.from(member));
  cluster.drive(cluster.seats[by.node.index]!);
  const isEverywhere = () =>
    hosts.every(host =>
      overlayOf(host)
        .host(name)
        .members()
        .some(one => one.name === member),
    );
  const tookMs = cluster.world.runUntil(isEverywhere, MINUTE_MS, 10);
  if (tookMs === undefined) fail(`"${member}" of ${by.node.label} is not seen by all within a minute`);
  return tookMs;
}

function overlayOf(host: SimHost): Overlay {
  return host.machine as unknown as Overlay;
}
