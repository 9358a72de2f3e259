import { fail } from './underlay-checkers.js';
import {
  type Figure,
  FUSE_MS,
  joinMaxMs,
  MINUTE_MS,
  quietBytesMax,
  type Scenario,
  seconds,
  up,
} from './underlay-story.js';
import type { Cluster, Seat } from './underlay-world.js';

/** Joining, merging, keeping out, leaving, idling: stories in which nothing breaks. */
export const CALM_STORIES: readonly Scenario[] = [
  {
    name: 'join',
    about: 'all hosts start at once and know one seed',
    hosts: 100,
    hostsMin: 1,
    play: cluster => {
      const tookMs = up(cluster);
      cluster.mustStayConverged(MINUTE_MS, 'after the join');
      cluster.mustHaveNoFalseEvictions('joining');
      return [{ what: 'all see all', text: seconds(tookMs) }];
    },
  },
  {
    name: 'stagger',
    about: 'hosts start within a minute in any order, the seed at any time among them',
    hosts: 20,
    hostsMin: 2,
    play: cluster => {
      for (const seat of cluster.seats) {
        cluster.world.after(cluster.random.between(0, MINUTE_MS), () => cluster.start(seat));
      }
      cluster.world.run(MINUTE_MS);
      const tookMs = cluster.mustConverge(FUSE_MS, 'after the last start');
      cluster.mustHaveNoFalseEvictions('joining');
      return [{ what: 'all see all', text: seconds(tookMs) }];
    },
  },
  {
    name: 'late-seed',
    about: 'the only seed is down for three hours',
    hosts: 10,
    hostsMin: 2,
    play: lateSeed,
  },
  {
    name: 'merge',
    about: 'two clusters fuse when one host is told of a seed of the other',
    hosts: 20,
    hostsMin: 4,
    play: merge,
  },
  {
    name: 'environments',
    about: 'hosts of two environments share a seed list and never join',
    hosts: 10,
    hostsMin: 4,
    play: environments,
  },
  {
    name: 'leave',
    about: 'hosts say goodbye, and all hear that it was no failure',
    hosts: 10,
    hostsMin: 3,
    play: leave,
  },
  {
    name: 'agents',
    about: 'hosts change what they carry, and all hear of it',
    hosts: 20,
    hostsMin: 2,
    play: agents,
  },
  {
    name: 'twins',
    about: 'all hosts have the same name',
    hosts: 10,
    hostsMin: 2,
    play: cluster => {
      for (const seat of cluster.seats) seat.name = 'twin';
      const tookMs = up(cluster);
      cluster.mustStayConverged(MINUTE_MS, 'after the join');
      return [{ what: 'all see all', text: seconds(tookMs) }];
    },
  },
  {
    name: 'clocks',
    about: 'wall clocks hours apart that drift and jump',
    hosts: 10,
    hostsMin: 2,
    play: clocks,
  },
  {
    name: 'idle',
    about: 'ten minutes in which nothing happens',
    hosts: 100,
    hostsMin: 1,
    play: idle,
  },
];

function lateSeed(cluster: Cluster): readonly Figure[] {
  const [seed, ...others] = cluster.seats;
  for (const seat of others) cluster.start(seat);
  cluster.world.run(3 * 60 * MINUTE_MS);
  cluster.start(seed!);
  const tookMs = cluster.mustConverge(45_000, 'after the seed has come up');
  return [{ what: 'all see all', text: seconds(tookMs) }];
}

function merge(cluster: Cluster): readonly Figure[] {
  const half = cluster.seats.length >> 1;
  const [first, second] = [cluster.seats[0]!, cluster.seats[half]!];
  cluster.seats.forEach((seat, at) => {
    seat.part = at < half ? 0 : 1;
    seat.seeds = [(at < half ? first : second).node.address];
    cluster.start(seat);
  });
  cluster.mustConverge(joinMaxMs(half), 'each cluster for itself');
  cluster.mustStayConverged(MINUTE_MS, 'two clusters that do not know each other');
  for (const seat of cluster.seats) seat.part = 0;
  const messenger = cluster.seats.at(-1)!;
  messenger.host!.machine.setSeeds([first.node.address]);
  cluster.drive(messenger);
  const tookMs = cluster.mustConverge(FUSE_MS, 'after one host was told of the other cluster');
  cluster.mustHaveNoFalseEvictions('merging');
  return [{ what: 'one cluster', text: seconds(tookMs) }];
}

function environments(cluster: Cluster): readonly Figure[] {
  cluster.seats.forEach((seat, at) => {
    seat.environment = at % 2 === 0 ? 'production' : 'staging';
    seat.seeds = cluster.seats.slice(0, 2).map(({ node }) => node.address);
    cluster.start(seat);
  });
  cluster.mustConverge(10_000, 'each environment for itself');
  cluster.mustStayConverged(10 * MINUTE_MS, 'two environments');
  const first = cluster.seats[0]!;
  const refusals = first.host!.machine.refusals().filter(({ why }) => why === 'environment');
  if (refusals.length === 0) fail('the seed has refused hosts of another environment and does not say so');
  if (!refusals.some(({ detail }) => detail === 'staging'))
    fail('a refusal does not name the other environment');
  const lines = cluster.seats.at(-1)!.host!.logLines;
  if (lines === 0) fail('a host whose environment is refused has no line about it in its log');
  if (lines > 2 * 11) fail(`${lines} log lines in ten minutes of being refused`);
  return [{ what: 'log lines in 10 minutes', text: String(lines) }];
}

function leave(cluster: Cluster): readonly Figure[] {
  up(cluster);
  const leavers = cluster.random.sample(cluster.seats.slice(1), Math.max(1, cluster.seats.length >> 2));
  const reasons = new Set<string>();
  cluster.watch = (_, event) => {
    if (event.kind === 'gone') reasons.add(event.reason);
  };
  for (const seat of leavers) cluster.leave(seat);
  const hasLeft = (seat: Seat) => seat.host!.machine.left();
  if (cluster.world.runUntil(() => leavers.every(hasLeft), 10_000) === undefined) {
    fail('a host that leaves is not done with it after 10 s');
  }
  for (const seat of leavers) cluster.kill(seat);
  const tookMs = cluster.mustConverge(10_000, 'after the goodbyes');
  cluster.world.run(MINUTE_MS);
  if ([...reasons].some(reason => reason !== 'left'))
    fail(`hosts that left are gone as ${[...reasons].join(', ')}`);
  cluster.mustStayConverged(MINUTE_MS, 'after the goodbyes');
  return [{ what: 'all informed', text: seconds(tookMs) }];
}

function agents(cluster: Cluster): readonly Figure[] {
  up(cluster);
  let slowestMs = 0;
  for (let round = 0; round < 5; round += 1) {
    const changed = cluster.random.sample(cluster.seats, 3);
    for (const seat of changed) cluster.setAgents(seat, ['dist', `round-${round}`]);
    const isKnown = (seat: Seat) =>
      cluster.seats.every(({ host }) =>
        host!.machine
          .hosts()
          .some(
            ({ record }) => record.id === seat.host!.options.id && record.agents.includes(`round-${round}`),
          ),
      );
    const tookMs = cluster.world.runUntil(() => changed.every(isKnown), 10_000);
    if (tookMs === undefined) fail('a change of agents is not known to all after 10 s');
    slowestMs = Math.max(slowestMs, tookMs);
  }
  cluster.mustHaveNoFalseEvictions('changing agents');
  return [{ what: 'all informed', text: seconds(slowestMs) }];
}

function clocks(cluster: Cluster): readonly Figure[] {
  for (const seat of cluster.seats) {
    seat.skewMs = cluster.random.between(-7_200_000, 7_200_000);
    seat.driftPpm = cluster.random.between(-200, 200);
  }
  const tookMs = up(cluster);
  for (let jump = 0; jump < 10; jump += 1) {
    cluster.random.pick(cluster.seats).node.clock.skewMs += cluster.random.between(-86_400_000, 86_400_000);
    cluster.mustStayConverged(MINUTE_MS, 'after a clock has jumped');
  }
  // A restart is a newer identity even where the clock says that it is older.
  const seat = cluster.random.pick(cluster.seats);
  seat.skewMs = -86_400_000;
  cluster.start(seat);
  cluster.mustConverge(FUSE_MS, 'after a restart with a clock a day late');
  cluster.mustStayConverged(MINUTE_MS, 'after a restart with a clock a day late');
  return [{ what: 'all see all', text: seconds(tookMs) }];
}

function idle(cluster: Cluster): readonly Figure[] {
  up(cluster);
  cluster.world.run(MINUTE_MS);
  const before = cluster.tally.suspected;
  const bytes = cluster.measureBytesPerSecond(9 * MINUTE_MS);
  if (cluster.tally.suspected > before) fail('a host was suspected in a faultless network');
  cluster.mustHaveNoFalseEvictions('idling');
  const max = quietBytesMax(cluster.hostCount);
  if (bytes > max) fail(`${bytes.toFixed(0)} bytes/s a host, expected at most ${max.toFixed(0)}`);
  return [{ what: 'bytes/s a host', text: bytes.toFixed(0) }];
}
