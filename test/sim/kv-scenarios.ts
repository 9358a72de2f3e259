import { RAFT_LIMITS, RAFT_TIMING } from '../../src/kv/raft/settings.js';
import {
  blackHole,
  blackout,
  bridge,
  changeMembers,
  crash,
  cutLink,
  emigrate,
  type Fault,
  flap,
  forgetLeader,
  forgetOwn,
  halves,
  handOverAndVanish,
  heal,
  hearThePast,
  isolate,
  lateMail,
  leaveBehind,
  loseClients,
  pause,
  regicide,
  rollingCrashes,
  silence,
  slowDisk,
  storm,
  strandChange,
  strandEntries,
  strandThenSilence,
  transfer,
  usurp,
  weather,
} from './kv-faults.js';
import { type KvSettings, KvWorld } from './kv-world.js';
import { type Outcome, played } from './played.js';
import { SeededRandom } from './random.js';
import { fail, percentile } from './underlay-checkers.js';
import { type Figure, MINUTE_MS } from './underlay-story.js';

export interface KvScenario {
  readonly name: string;
  readonly about: string;
  /** What happens, each as often as it stands here. */
  readonly faults: readonly Fault[];
  /** Between two faults, on average. */
  readonly everyMs: number;
  /** Changes what the seed has drawn. */
  readonly adjust?: (settings: KvSettings) => KvSettings;
}

const CUTS: readonly Fault[] = [isolate, isolate, halves, bridge, cutLink, flap, lateMail, hearThePast];
const CRASHES: readonly Fault[] = [
  crash,
  crash,
  crash,
  blackout,
  rollingCrashes,
  regicide,
  slowDisk,
  blackHole,
  forgetOwn,
];

export const KV_SCENARIOS: readonly KvScenario[] = [
  { name: 'calm', about: 'nothing goes wrong', faults: [silence, storm], everyMs: 30_000 },
  {
    name: 'elections',
    about: 'leaders are stopped, cut off, killed, slowed, one after the other',
    faults: [
      isolate,
      pause,
      pause,
      crash,
      regicide,
      blackHole,
      weather,
      lateMail,
      flap,
      strandEntries,
      silence,
    ],
    everyMs: 8_000,
  },
  {
    name: 'partitions',
    about: 'halves, one-way cuts, isolated leaders, bridges, flapping links, bad weather',
    faults: [
      ...CUTS,
      ...CUTS,
      weather,
      strandEntries,
      forgetLeader,
      usurp,
      usurp,
      silence,
      strandThenSilence,
    ],
    everyMs: 10_000,
  },
  {
    name: 'crashes',
    about: 'stores lose what they had not flushed, one by one or all at once, on good and slow disks',
    faults: [...CRASHES, strandEntries, storm, loseClients],
    everyMs: 6_000,
  },
  {
    name: 'membership',
    about: 'voters and learners come and go, several at once, while stores crash and are cut off',
    faults: [
      ...Array<Fault>(5).fill(changeMembers),
      strandChange,
      strandChange,
      emigrate,
      emigrate,
      transfer,
      crash,
      isolate,
      halves,
      pause,
      regicide,
    ],
    everyMs: 4_000,
  },
  {
    name: 'snapshots',
    about: 'short logs, replicas left behind, states sent twice and late, crashes in between',
    faults: [leaveBehind, leaveBehind, crash, isolate, changeMembers, storm, weather, regicide],
    everyMs: 8_000,
    adjust: settings => ({
      ...settings,
      compactAfter: Math.min(settings.compactAfter, 20),
      stateDoubled: 0.5,
    }),
  },
  {
    name: 'transfer',
    about: 'leaders hand over, are cut off while they do, and are asked on',
    faults: [
      transfer,
      transfer,
      handOverAndVanish,
      handOverAndVanish,
      forgetLeader,
      forgetLeader,
      forgetLeader,
      crash,
      lateMail,
      hearThePast,
    ],
    everyMs: 5_000,
  },
  {
    name: 'chaos',
    about: 'all of it at once',
    faults: [
      ...CUTS,
      ...CRASHES,
      ...Array<Fault>(5).fill(changeMembers),
      transfer,
      transfer,
      handOverAndVanish,
      forgetLeader,
      usurp,
      strandChange,
      leaveBehind,
      strandEntries,
      pause,
      pause,
      weather,
      loseClients,
      silence,
      storm,
    ],
    everyMs: 5_000,
  },
];

const TOTAL_MS = 10 * MINUTE_MS;
const CALM_MS = MINUTE_MS;
/** Faults have stopped: within this all groups have leaders, are out of joint states, and have the same everywhere. */
const CONVERGE_MS = 30_000;
const DEADLINE_MS = 10_000;

export interface KvPlay {
  readonly seed: number;
  readonly stores?: number;
  readonly isTraced?: boolean;
  readonly isEncoded?: boolean;
}

/** Slower than the defaults, which the suite `ranges` plays: the seeds that found something were found with these. */
const TIMING = { heartbeatMs: 500, electionTimeoutMinMs: 1_500, electionTimeoutMaxMs: 2_500 };

/** What the seed decides about the world before it begins. */
function settingsOf({ seed, stores, isTraced, isEncoded }: KvPlay): KvSettings {
  const random = new SeededRandom(seed).fork('settings');
  const hasLease = random.chance(0.8);
  const drift = random.pick([0.001, 0.02, 0.05]);
  const isSmall = random.chance(0.5);
  return {
    stores: stores ?? random.pick([3, 3, 4, 5, 5, 6, 7]),
    groups: 1 + random.below(3),
    clients: 2 + random.below(4),
    keysPerGroup: 1 + random.below(3),
    timing: {
      ...RAFT_TIMING,
      ...TIMING,
      clockDriftMax: hasLease ? drift : undefined,
      quiesceAfterMs: random.pick([0, 1_000, 3_000]),
    },
    limits: isSmall
      ? {
          ...RAFT_LIMITS,
          appendBytesMax: random.pick([1, 200]),
          windowMessagesMax: 1 + random.below(4),
          windowBytesMax: 1_000,
          burstBytesMax: random.pick([1, 400]),
          uncommittedCountMax: 20,
          applyBytesMax: 200,
          cacheBytesMax: 400,
          readsMax: 8,
        }
      : RAFT_LIMITS,
    isEncoded: isEncoded ?? random.chance(0.3),
    isTraced: isTraced === true,
    isAppliedLater: random.chance(0.4),
    applyMsMax: random.pick([5, 100, 2_000]),
    turnMsMax: random.pick([0, 0, 1, 20]),
    compactAfter: random.pick([1, 10, 50, 500]),
    stateMsMax: random.pick([10, 1_000, 6_000]),
    stateDoubled: 0.2,
    // Without leases no safety may rest on clocks.
    drift: hasLease ? drift : 0.3,
    deadlineMs: DEADLINE_MS,
  };
}

/** Plays one scenario to its end or its first failure, be it of a checker or an assertion in the machine. */
export function playKv(scenario: KvScenario, play: KvPlay, follow?: (line: string) => void): Outcome {
  const drawn = settingsOf(play);
  const world = new KvWorld(play.seed, scenario.adjust?.(drawn) ?? drawn);
  world.time.trace.follow = follow;
  return played(world.time, () => live(world, scenario));
}

function live(world: KvWorld, scenario: KvScenario): readonly Figure[] {
  const { random, time } = world;
  world.start();
  const calmMs = TOTAL_MS - CALM_MS;
  for (let atMs = 3_000; atMs < calmMs; atMs += random.between(0, 2 * scenario.everyMs)) {
    const fault = random.pick(scenario.faults);
    // Most are short.
    const forMs = Math.min(random.between(0, 1) ** 2 * 30_000, calmMs - atMs);
    time.after(atMs, () => fault(world, forMs));
  }
  time.run(calmMs);
  heal(world);
  const tookMs = time.runUntil(() => isReady(world), CONVERGE_MS, 50);
  if (tookMs === undefined)
    fail(`liveness: ${notReady(world)}, ${CONVERGE_MS / 1000} s after the last fault`);
  world.calmSinceMs = time.nowMs;
  time.run(CALM_MS - CONVERGE_MS - DEADLINE_MS);
  world.isWorking = false;
  time.run(DEADLINE_MS);
  const busy = world.clients.find(client => !client.isIdle);
  if (busy !== undefined) fail(`liveness: ${busy.words}, in the calm`);
  if (time.runUntil(() => world.difference() === undefined, CONVERGE_MS, 50) === undefined)
    fail(`liveness: at the end ${world.difference()}`);
  world.checkHistories();
  return figures(world, tookMs);
}

/** Every group has a leader and is in no joint state. */
function isReady(world: KvWorld): boolean {
  return notReady(world) === undefined;
}

function notReady(world: KvWorld): string | undefined {
  for (const [group, { configuration }] of world.configurations.entries()) {
    if (configuration.outgoing.length > 0) return `group ${group} is in a joint state`;
    if (world.leaders(group).length === 0) return `group ${group} has no leader`;
  }
  return undefined;
}

function figures(world: KvWorld, tookMs: number): readonly Figure[] {
  const history = world.clients.flatMap(client => client.history);
  const latencies = history
    .filter(({ endedAt }) => endedAt !== Number.POSITIVE_INFINITY)
    .map(({ startedAt, endedAt }) => endedAt - startedAt);
  const entries = world.truths.reduce((sum, truth) => sum + truth.lastCommitted, 0);
  const terms = world.truths.reduce((sum, truth) => sum + truth.terms, 0);
  return [
    { what: 'operations', text: `${history.length}, ${world.unknownCount} without an answer` },
    { what: 'p50', text: `${percentile(latencies, 0.5).toFixed(0)} ms` },
    { what: 'p99', text: `${percentile(latencies, 0.99).toFixed(0)} ms` },
    { what: 'entries', text: String(entries) },
    { what: 'leaders', text: String(terms) },
    { what: 'messages', text: String(world.messages) },
    { what: 'well after', text: `${(tookMs / 1000).toFixed(1)} s` },
  ];
}
