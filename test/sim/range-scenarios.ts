import { NO_STEERING } from '../../src/kv/balance/rules-entry.js';
import { randomU53 } from '../../src/kv/replicated/identity.js';
import { GOOD_DISK } from './kv-disk.js';
import { LAN } from './network.js';
import { type Outcome, played } from './played.js';
import { SeededRandom } from './random.js';
import { changeRules, order } from './range-operator.js';
import { recoverAll } from './range-recovery.js';
import type { RangeStoreNode } from './range-store.js';
import { registerKey } from './range-store.js';
import { BUSY_RULES, type RangeSettings, RangeWorld } from './range-world.js';
import { fail, percentile } from './underlay-checkers.js';
import { type Figure, MINUTE_MS } from './underlay-story.js';

type Fault = (world: RangeWorld, forMs: number) => void;

const names = (some: readonly RangeStoreNode[]) => some.map(({ node }) => node.label).join(' ');
const indexes = (some: readonly RangeStoreNode[]) => new Set(some.map(({ node }) => node.index));
const up = (world: RangeWorld) => world.stores.filter(({ node }) => node.isResponsive);

function crash(world: RangeWorld, forMs: number): void {
  const store = world.random.pick(world.stores);
  if (!store.node.isUp || world.isCalm) return;
  store.crash();
  world.time.after(world.random.chance(0.6) ? world.random.between(1, 500) : forMs, () => {
    if (!store.node.isUp) store.start();
  });
}

function blackout(world: RangeWorld): void {
  for (const store of world.stores) {
    if (!store.node.isUp || world.isCalm) continue;
    store.crash();
    world.time.after(world.random.between(1, 3000), () => {
      if (!store.node.isUp) store.start();
    });
  }
}

function pause(world: RangeWorld, forMs: number): void {
  const store = world.random.pick(world.stores);
  if (store.node.isPaused || world.isCalm) return;
  store.node.pause();
  world.note(store.node.label, 'is stopped');
  world.time.after(Math.min(forMs, world.random.between(50, 8000)), () => resume(world, store));
}

function resume(world: RangeWorld, store: RangeStoreNode): void {
  if (!store.node.isPaused) return;
  world.note(store.node.label, 'goes on');
  store.node.resume();
}

function cut(
  world: RangeWorld,
  from: readonly RangeStoreNode[],
  to: readonly RangeStoreNode[],
  forMs: number,
): void {
  if (world.isCalm) return;
  const rule = { from: indexes(from), to: indexes(to), isCut: true };
  world.time.after(forMs, world.network.addRule(rule, `${names(from)} cannot send to ${names(to)}`));
}

/** Some from the others; clients reach all. */
function parts(world: RangeWorld, forMs: number): void {
  const some = world.random.sample(world.stores, 1 + world.random.below(world.stores.length - 1));
  const others = world.stores.filter(store => !some.includes(store));
  const shape = world.random.below(4);
  if (shape !== 0) cut(world, some, others, forMs);
  if (shape !== 1) cut(world, others, some, forMs);
}

function weather(world: RangeWorld, forMs: number): void {
  const { random } = world;
  const settings = {
    ...LAN,
    delayMs: random.between(0, 1) ** 3 * 200,
    jitterMs: random.between(0, 1) ** 2 * 300,
    loss: random.between(0, 1) ** 2 * 0.3,
    doubled: random.between(0, 0.2),
    straggling: random.between(0, 0.2),
  };
  const words = `weather: loss ${settings.loss.toFixed(2)}, delay ${settings.delayMs.toFixed(0)} ms`;
  world.time.after(forMs, world.network.addRule({ from: 'all', to: 'all', settings }, words));
}

function lateMail(world: RangeWorld, forMs: number): void {
  world.lateness = world.random.between(0.1, 1);
  world.note('network', `${(world.lateness * 100).toFixed(0)} % of the attempts come once more, late`);
  world.time.after(Math.max(forMs, 10_000), () => {
    world.lateness = 0;
  });
}

function slowDisk(world: RangeWorld, forMs: number): void {
  const { random } = world;
  const store = random.pick(world.stores);
  store.disk.settings = {
    flushMsMin: 1,
    flushMsMax: 5 + random.between(0, 1) ** 3 * 2000,
    hanging: 0.02,
    hangMsMax: 3000,
  };
  world.time.after(forMs, () => {
    store.disk.settings = GOOD_DISK;
  });
}

/** Transactions find no room now and then, or none does. */
function fullDisk(world: RangeWorld, forMs: number): void {
  const { random } = world;
  const store = random.pick(world.stores);
  store.disk.full = random.pick([0.05, 0.3, 1]);
  world.note(store.node.label, `has no room for ${store.disk.full * 100} % of its transactions`);
  const { disk } = store;
  world.time.after(Math.min(forMs, 15_000), () => {
    disk.full = 0;
  });
}

/** Past the product's commands and what they refuse: what its log has to refuse. */
function operate(world: RangeWorld): void {
  const { random } = world;
  const leaders = up(world).flatMap(store =>
    store.replicas.filter(({ isLeader }) => isLeader).map(replica => ({ store, replica })),
  );
  if (leaders.length === 0) return;
  const { store, replica } = random.pick(leaders);
  const { descriptor } = replica;
  if (descriptor === undefined) return;
  const sequence = 1 + randomU53(random);
  const draw = random.below(4);
  if (draw === 0) {
    const key = registerKey(random.below(world.settings.registers));
    store.store.split(descriptor.id, descriptor.epoch, 9_999_999, sequence, key);
    world.note(store.node.label, `is asked to split ${descriptor.id.toString(36)}`);
  } else if (draw === 1) {
    const places = random
      .sample(world.stores, random.pick([1, 3, 3, 5]))
      .map(other => ({ store: other.store.id, role: 0 }));
    store.store.configure(descriptor.id, 9_999_999, sequence, places);
    world.note(store.node.label, `is asked to move ${descriptor.id.toString(36)} to ${places.length} stores`);
  } else if (draw === 2) {
    const to = random.pick(descriptor.members);
    store.store.transfer(descriptor.id, to.store);
  } else {
    const other = random.pick(leaders).replica;
    store.store.merge(descriptor.id, other.rangeId, 9_999_999, sequence);
    world.note(
      store.node.label,
      `is asked to merge ${descriptor.id.toString(36)} into ${other.rangeId.toString(36)}`,
    );
  }
  store.node.settle();
}

export interface RangeScenario {
  readonly name: string;
  readonly about: string;
  readonly faults: readonly Fault[];
  /** Milliseconds between two faults, in the mean. */
  readonly everyMs: number;
  /**
   * When the first comes. A cluster that is cut while it begins may begin twice; what then holds data in both parts is
   * kept, and an operator's affair.
   */
  readonly fromMs: number;
  /** A majority of many ranges is lost, and an operator gives it up. */
  readonly hasDisasters?: true;
  /** The last comes before; clients begin half a minute later. Undefined: clients work from the start. */
  readonly bornMs?: number;
}

/** By then there is a first range, and everybody has heard of it. */
const BEGUN_MS = 20_000;

export const RANGE_SCENARIOS: readonly RangeScenario[] = [
  {
    name: 'housekeeping',
    about: 'no faults: ranges begin, spread, divide, and come together',
    faults: [operate, order, order, changeRules],
    everyMs: 15_000,
    fromMs: BEGUN_MS,
  },
  {
    name: 'range-birth',
    about: 'cut and crashing from the first moment, so that several first ranges are made; one is left',
    faults: [parts, parts, crash, blackout, pause],
    everyMs: 1500,
    fromMs: 0,
    bornMs: 60_000,
  },
  {
    name: 'range-crashes',
    about: 'stores crash at any point, also all at once',
    faults: [crash, crash, crash, blackout, operate, operate, order],
    everyMs: 8000,
    fromMs: BEGUN_MS,
  },
  {
    name: 'range-full',
    about: 'disks without room, for a while or now and then, while stores crash and ranges change',
    faults: [fullDisk, fullDisk, fullDisk, slowDisk, crash, operate, order],
    everyMs: 8000,
    fromMs: BEGUN_MS,
  },
  {
    name: 'range-recovery',
    about:
      'most of a cluster is lost at once, and an operator has what is left go on alone; the lost come back',
    faults: [crash, order, order, operate],
    everyMs: 15_000,
    fromMs: BEGUN_MS,
    hasDisasters: true,
  },
  {
    name: 'range-parts',
    about: 'cuts in one direction and in both, lost and late packets',
    faults: [parts, parts, weather, lateMail, lateMail, operate, operate, order, changeRules],
    everyMs: 8000,
    fromMs: BEGUN_MS,
  },
  {
    name: 'range-chaos',
    about: 'all of it at once',
    faults: [
      ...[crash, crash, blackout, pause, parts, parts, weather, lateMail, slowDisk, fullDisk],
      ...[operate, operate, order, order, changeRules],
    ],
    everyMs: 5000,
    fromMs: BEGUN_MS,
  },
];

/** In the midst of what it was asked. */
function crashSoon(world: RangeWorld, store: RangeStoreNode): void {
  world.time.after(world.random.between(0, 1) ** 2 * 100, () => {
    store.crash();
    world.time.after(world.random.between(1, 1000), () => {
      if (!store.node.isUp) store.start();
    });
  });
}

/** When most is lost, and until when nothing else goes wrong. */
const DISASTERS_MS: readonly number[] = [100_000, 300_000];
const DISASTER_MS = 140_000;
const NOTICED_MS = 12_000;

/**
 * So many stores are lost that some ranges have no majority left, and none is without a replica; an operator waits until all
 * know that they are gone, and recovers what is left. Then the lost come back, at once or one by one, with their disks or
 * with new ones; the network is well meanwhile.
 */
function disaster(world: RangeWorld, atMs: number): void {
  const { random, time } = world;
  time.after(atMs, () => {
    world.network.heal();
    const lost = random.sample(world.stores, (world.settings.rules.voters + 1) / 2);
    for (const store of lost) store.crash();
    for (const store of world.stores) if (!lost.includes(store) && !store.node.isUp) store.start();
    const areEmpty = random.chance(0.3);
    if (areEmpty) for (const store of lost) store.replaceDisk();
    for (let ms = NOTICED_MS; ms < 60_000; ms += 2000)
      time.after(ms, () => {
        for (const survivor of recoverAll(world)) if (random.chance(0.3)) crashSoon(world, survivor);
      });
    let backMs = random.between(65_000, 75_000);
    const isTogether = random.chance(0.5);
    for (const store of lost) {
      time.after(backMs, () => {
        if (!store.node.isUp) store.start();
      });
      if (!isTogether) backMs += random.between(0, 15_000);
    }
  });
}

const TOTAL_MS = 10 * MINUTE_MS;
const CALM_MS = 2 * MINUTE_MS;
const DEADLINE_MS = 10_000;
/** Faults have stopped: within this every operation is answered in time again. */
const READY_MS = 30_000;

export interface RangePlay {
  readonly seed: number;
  readonly stores?: number;
}

function settingsOf({ seed, stores }: RangePlay): RangeSettings {
  const random = new SeededRandom(seed).fork('settings');
  const drift = random.pick([0.001, 0.02, 0.05]);
  const isSmall = random.chance(0.5);
  const count = stores ?? random.pick([3, 3, 4, 5, 5, 6, 7]);
  return {
    stores: count,
    clients: 4 + random.below(4),
    registers: 10 + random.below(20),
    pipeline: random.pick([1, 1, 2, 4]),
    timing: {
      clockDriftMax: random.chance(0.7) ? drift : undefined!,
      quiesceAfterMs: random.pick([0, 1000, 3000]),
    },
    limits: isSmall ? { logBytesMax: 2000, tailBytesMax: 500, batchBytesMax: 300 } : {},
    snapshots: { chunkBytesMax: random.pick([1000, 100_000]) },
    rules:
      stores === undefined && count >= 5 && random.chance(0.3) ? { ...BUSY_RULES, voters: 5 } : BUSY_RULES,
    drift,
    deadlineMs: DEADLINE_MS,
  };
}

/** Plays one scenario to its end or its first failure. */
export function playRanges(
  scenario: RangeScenario,
  play: RangePlay,
  follow?: (line: string) => void,
): Outcome {
  const world = new RangeWorld(play.seed, settingsOf(play));
  world.time.trace.follow = follow;
  return played(world.time, () => live(world, scenario));
}

function live(world: RangeWorld, scenario: RangeScenario): readonly Figure[] {
  const { random, time } = world;
  world.start();
  const calmAtMs = TOTAL_MS - CALM_MS;
  const faultsEndMs = scenario.bornMs ?? calmAtMs;
  if (scenario.bornMs !== undefined) {
    world.isWorking = false;
    time.after(scenario.bornMs + READY_MS, () => {
      world.isWorking = true;
    });
  }
  if (scenario.hasDisasters === true) for (const atMs of DISASTERS_MS) disaster(world, atMs);
  for (let atMs = scenario.fromMs; atMs < faultsEndMs; atMs += random.between(0, 2 * scenario.everyMs)) {
    if (scenario.hasDisasters === true && DISASTERS_MS.some(ms => atMs > ms && atMs < ms + DISASTER_MS))
      continue;
    const fault = random.pick(scenario.faults);
    const forMs = Math.min(random.between(0, 1) ** 2 * 40_000, faultsEndMs - atMs);
    time.after(atMs, () => fault(world, forMs));
  }
  time.run(calmAtMs);
  world.isCalm = true;
  world.network.heal();
  for (const store of world.stores) {
    store.disk.settings = GOOD_DISK;
    store.disk.full = 0;
    resume(world, store);
    if (!store.node.isUp) store.start();
  }
  world.calmFromMs = time.nowMs;
  world.steer(NO_STEERING);
  time.run(READY_MS);
  world.calmSinceMs = time.nowMs;
  time.run(CALM_MS - READY_MS - DEADLINE_MS);
  world.isWorking = false;
  time.run(DEADLINE_MS + 1000);
  if (world.clients.some(({ open }) => open.size > 0)) fail('liveness: a client still waits, in the calm');
  const tookMs = time.runUntil(() => world.difference() === undefined, 3 * MINUTE_MS, 500);
  if (tookMs === undefined) fail(`liveness: at the end ${world.difference()}`);
  world.checkHistories();
  const history = world.clients.flatMap(client => client.history);
  const latencies = history
    .filter(one => one.endedAt !== Number.POSITIVE_INFINITY)
    .map(one => one.endedAt - one.startedAt);
  return [
    {
      what: 'operations',
      text: `${history.length}, ${world.clients.reduce((sum, one) => sum + one.unknown, 0)} unknown`,
    },
    { what: 'p50', text: `${percentile(latencies, 0.5).toFixed(0)} ms` },
    { what: 'p99', text: `${percentile(latencies, 0.99).toFixed(0)} ms` },
    { what: 'ranges', text: String(world.ranges) },
    ...(world.recoveries.count === 0 ? [] : [{ what: 'recoveries', text: String(world.recoveries.count) }]),
    { what: 'at rest after', text: `${(tookMs / 1000).toFixed(1)} s` },
  ];
}
