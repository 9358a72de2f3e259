import type { HostId } from '../../src/underlay/message.js';
import { LAN } from './network.js';
import { fail, percentile } from './underlay-checkers.js';
import { type Figure, FUSE_MS, joinMaxMs, MINUTE_MS, type Scenario, seconds, up } from './underlay-story.js';
import type { Cluster, Seat } from './underlay-world.js';

/** Hosts that die, stop, come back and are put out, and networks that lose: all links are there. */
export const FAILURE_STORIES: readonly Scenario[] = [
  {
    name: 'kill',
    about: 'hosts die one after another; how fast it is known',
    hosts: 10,
    hostsMin: 3,
    play: kill,
  },
  {
    name: 'kill-tenth',
    about: 'a tenth of the hosts dies at once',
    hosts: 100,
    hostsMin: 3,
    play: killTenth,
  },
  {
    name: 'loss',
    about: 'an hour in which one packet of ten is lost',
    hosts: 20,
    hostsMin: 3,
    play: loss,
  },
  {
    name: 'wan',
    about: 'half an hour between continents: 150 ms one way, some jitter, one packet of fifty lost',
    hosts: 20,
    hostsMin: 3,
    play: wan,
  },
  {
    name: 'churn',
    about: 'for an hour hosts die without a word and others start at addresses never seen before',
    hosts: 10,
    hostsMin: 3,
    play: churn,
  },
  {
    name: 'pauses',
    about:
      'one host of twenty stops for 10 s every minute, for ten minutes (the test of the Lifeguard paper)',
    hosts: 100,
    hostsMin: 3,
    play: pauses,
  },
  {
    name: 'stop',
    about: 'hosts stop for 20 s and for minutes, and are taken in again',
    hosts: 10,
    hostsMin: 3,
    play: stop,
  },
  {
    name: 'restart',
    about: 'a host restarts at its address: the old identity is gone at once, not after a timeout',
    hosts: 10,
    hostsMin: 3,
    play: restart,
  },
  { name: 'restart-all', about: 'all hosts restart at once', hosts: 20, hostsMin: 2, play: restartAll },
  { name: 'rolling', about: 'all hosts restart one by one', hosts: 10, hostsMin: 3, play: rolling },
  {
    name: 'move',
    about: 'hosts die for good and new ones start at other addresses, and at those of the dead',
    hosts: 10,
    hostsMin: 4,
    play: move,
  },
  {
    name: 'evict',
    about: 'an operator evicts a host, which stays out until it restarts',
    hosts: 10,
    hostsMin: 3,
    play: evict,
  },
];

/** Enough for a p99 that means something at small sizes, and for an end at large ones. */
function kills(cluster: Cluster): number {
  if (!cluster.isThorough) return cluster.hostCount <= 20 ? 40 : 10;
  return cluster.hostCount <= 10 ? 200 : cluster.hostCount <= 100 ? 100 : 20;
}

/** Half of them die as a process does (connections are refused), half as a machine does (nothing answers). */
function kill(cluster: Cluster): readonly Figure[] {
  up(cluster);
  const suspectedMs: number[] = [];
  const firstMs: number[] = [];
  const lastMs: number[] = [];
  for (let round = 0; round < kills(cluster); round += 1) {
    const victim = cluster.random.pick(cluster.seats.slice(1));
    const id = victim.host!.options.id;
    const deadMs = cluster.world.nowMs;
    const accusedMs: number[] = [];
    const goneMs: number[] = [];
    cluster.watch = (_, event) => {
      if (event.kind === 'self-evicted' || event.host.id !== id) return;
      if (event.kind === 'suspected') accusedMs.push(cluster.world.nowMs - deadMs);
      if (event.kind === 'gone') goneMs.push(cluster.world.nowMs - deadMs);
    };
    let plugIn = () => {};
    if (round % 2 === 0) cluster.kill(victim);
    else plugIn = cluster.vanish(victim);
    cluster.mustConverge(40_000, `after the death of ${victim.node.label}`);
    if (goneMs.length !== cluster.hostCount - 1) {
      fail(`${goneMs.length} of ${cluster.hostCount - 1} hosts say once that the dead one is gone`);
    }
    if (accusedMs.length === 0) fail('a dead host is gone, and nobody has suspected it');
    suspectedMs.push(accusedMs[0]!);
    firstMs.push(goneMs[0]!);
    lastMs.push(goneMs.at(-1)!);
    cluster.watch = undefined;
    plugIn();
    cluster.start(victim);
    cluster.mustConverge(FUSE_MS, `after the restart of ${victim.node.label}`);
    cluster.world.run(cluster.random.between(0, 3_000));
  }
  cluster.mustHaveNoFalseEvictions('hosts dying');
  const worst = percentile(lastMs, 0.99);
  if (cluster.hostCount <= 3 && worst > 10_000) fail(`evicted after ${seconds(worst)}, expected below 10 s`);
  if (cluster.hostCount <= 100 && worst > 15_000)
    fail(`all informed after ${seconds(worst)}, expected below 15 s`);
  const both = (values: readonly number[]) =>
    `${seconds(percentile(values, 0.5))} / ${seconds(percentile(values, 0.99))}`;
  return [
    { what: 'first suspected p50/p99', text: both(suspectedMs) },
    { what: 'first evicted p50/p99', text: both(firstMs) },
    { what: 'last evicted p50/p99', text: both(lastMs) },
  ];
}

function killTenth(cluster: Cluster): readonly Figure[] {
  up(cluster);
  const victims = cluster.random.sample(
    cluster.seats.slice(1),
    Math.max(1, Math.round(cluster.hostCount / 10)),
  );
  for (const victim of victims) cluster.kill(victim);
  const tookMs = cluster.mustConverge(FUSE_MS, 'after the death of a tenth');
  cluster.mustStayConverged(MINUTE_MS, 'after the death of a tenth');
  cluster.mustHaveNoFalseEvictions('a tenth dying');
  return [{ what: 'all converged', text: seconds(tookMs) }];
}

function loss(cluster: Cluster): readonly Figure[] {
  up(cluster);
  cluster.network.settings = { ...LAN, loss: 0.1, doubled: 0.01, straggling: 0.01 };
  const { counters } = cluster.network;
  const before = { ...counters };
  cluster.world.run(60 * MINUTE_MS);
  const lost = (counters.lost - before.lost) / (counters.datagrams - before.datagrams);
  if (Math.abs(lost - 0.1) > 0.01 || counters.doubled === before.doubled)
    fail(`the network has lost ${(100 * lost).toFixed(1)} % of the datagrams, expected were 10 %`);
  cluster.network.heal();
  cluster.mustHaveNoFalseEvictions('an hour of 10 % loss');
  return [
    { what: 'false evictions', text: String(cluster.falseEvictionCount) },
    { what: 'suspicions, all refuted', text: String(cluster.tally.suspected) },
  ];
}

function wan(cluster: Cluster): readonly Figure[] {
  cluster.network.settings = { delayMs: 150, jitterMs: 60, loss: 0.02, doubled: 0.005, straggling: 0.01 };
  cluster.startAll();
  const tookMs = cluster.mustConverge(FUSE_MS, 'the first join');
  cluster.world.run(30 * MINUTE_MS);
  cluster.mustHaveNoFalseEvictions('half an hour between continents');
  cluster.network.heal();
  return [
    { what: 'all see all', text: seconds(tookMs) },
    { what: 'suspicions, all refuted', text: String(cluster.tally.suspected) },
  ];
}

/** Every dead host stays on the lists of lost ones: what they cost must stay small, however many they become. */
function churn(cluster: Cluster): readonly Figure[] {
  const seeds = cluster.seats.slice(0, 2).map(({ node }) => node.address);
  for (const seat of cluster.seats) seat.seeds = seeds;
  up(cluster);
  for (let round = 0; round < (cluster.isThorough ? 240 : 60); round += 1) {
    const victim = cluster.random.pick(cluster.seats.slice(2).filter(({ host }) => host !== undefined));
    const heir = cluster.addSeat();
    heir.seeds = seeds;
    if (cluster.random.chance(0.5)) cluster.kill(victim);
    else cluster.vanish(victim);
    cluster.start(heir);
    cluster.world.run(MINUTE_MS);
    if (!cluster.isConverged()) cluster.mustConverge(FUSE_MS, 'a minute after a change');
  }
  cluster.mustHaveNoFalseEvictions('churn');
  const lost = cluster.seats[0]!.host!.machine.lostHosts().length;
  return [{ what: 'hosts still looked for', text: String(lost) }];
}

function pauses(cluster: Cluster): readonly Figure[] {
  up(cluster);
  const patients = cluster.random.sample(cluster.seats, Math.max(1, Math.round(cluster.hostCount / 20)));
  const sick = new Set<HostId>(patients.map(({ host }) => host!.options.id));
  let evictions = 0;
  cluster.watch = (_, event) => {
    if (event.kind === 'gone' && sick.has(event.host.id)) evictions += 1;
  };
  for (let minute = 0; minute < 10; minute += 1) {
    for (const seat of patients) cluster.pause(seat);
    cluster.world.run(10_000);
    for (const seat of patients) cluster.resume(seat);
    cluster.world.run(50_000);
  }
  cluster.mustHaveNoFalseEvictions('others pausing');
  cluster.mustConverge(FUSE_MS, 'after the last pause');
  return [
    { what: 'false evictions of healthy hosts', text: String(cluster.falseEvictionCount) },
    { what: 'hosts that lost a paused one, times', text: String(evictions) },
  ];
}

function stop(cluster: Cluster): readonly Figure[] {
  up(cluster);
  let slowestMs = 0;
  for (const pauseMs of [20_000, 45_000, 300_000, 20_000]) {
    const seats = cluster.random.sample(cluster.seats, 1 + cluster.random.below(2));
    for (const seat of seats) cluster.pause(seat);
    cluster.world.run(pauseMs);
    for (const seat of seats) cluster.resume(seat);
    slowestMs = Math.max(slowestMs, cluster.mustConverge(FUSE_MS, `after a stop of ${seconds(pauseMs)}`));
  }
  cluster.mustHaveNoFalseEvictions('others stopping');
  return [{ what: 'taken in again', text: seconds(slowestMs) }];
}

function restart(cluster: Cluster): readonly Figure[] {
  up(cluster);
  let slowestMs = 0;
  for (let round = 0; round < 8; round += 1) {
    const seat = cluster.random.pick(cluster.seats);
    const old = seat.host!.options.id;
    cluster.kill(seat);
    cluster.world.run(cluster.random.between(10, 800));
    let strange = '';
    cluster.watch = (_, event) => {
      if (event.kind === 'gone' && event.host.id === old && event.reason !== 'replaced')
        strange = event.reason;
    };
    seat.seeds = cluster.seats
      .filter(other => other !== seat)
      .slice(0, 2)
      .map(({ node }) => node.address);
    cluster.start(seat);
    slowestMs = Math.max(slowestMs, cluster.mustConverge(5_000, 'after a restart'));
    if (strange !== '') fail(`the old identity of a restarted host is gone as ${strange}, expected replaced`);
    cluster.world.run(2_000);
  }
  cluster.mustHaveNoFalseEvictions('restarts');
  return [{ what: 'old one gone, new one known', text: seconds(slowestMs) }];
}

function restartAll(cluster: Cluster): readonly Figure[] {
  up(cluster);
  for (const seat of cluster.seats) cluster.kill(seat);
  cluster.world.run(cluster.random.between(0, 5_000));
  cluster.startAll();
  const tookMs = cluster.mustConverge(joinMaxMs(cluster.hostCount), 'after the restart of all');
  cluster.mustStayConverged(MINUTE_MS, 'after the restart of all');
  return [{ what: 'all see all', text: seconds(tookMs) }];
}

function rolling(cluster: Cluster): readonly Figure[] {
  for (const seat of cluster.seats) seat.seeds = cluster.seats.slice(0, 2).map(({ node }) => node.address);
  up(cluster);
  for (const seat of cluster.seats) {
    if (cluster.random.chance(0.5)) {
      cluster.leave(seat);
      cluster.world.run(2_000);
    }
    cluster.kill(seat);
    cluster.world.run(cluster.random.between(500, 5_000));
    cluster.start(seat);
    cluster.world.run(cluster.random.between(500, 5_000));
  }
  const tookMs = cluster.mustConverge(FUSE_MS, 'after a rolling restart');
  return [{ what: 'after the last one', text: seconds(tookMs) }];
}

function move(cluster: Cluster): readonly Figure[] {
  const seeds = cluster.seats.slice(0, 2).map(({ node }) => node.address);
  for (const seat of cluster.seats) seat.seeds = seeds;
  const spares: Seat[] = [];
  for (let at = 0; at < 3; at += 1) {
    const spare = cluster.addSeat(`spare-${at}`);
    spare.seeds = seeds;
    spares.push(spare);
  }
  for (const seat of cluster.seats) if (!spares.includes(seat)) cluster.start(seat);
  cluster.mustConverge(joinMaxMs(cluster.hostCount), 'the first join');
  let slowestMs = 0;
  for (let round = 0; round < 6; round += 1) {
    const victim = cluster.random.pick(cluster.seats.slice(2).filter(({ host }) => host !== undefined));
    const heir = cluster.random.pick(cluster.seats.filter(({ host }) => host === undefined));
    cluster.kill(victim);
    cluster.world.run(cluster.random.between(0, 20_000));
    cluster.start(heir);
    slowestMs = Math.max(slowestMs, cluster.mustConverge(FUSE_MS, 'after a move'));
  }
  cluster.mustStayConverged(3 * MINUTE_MS, 'after all moves');
  cluster.mustHaveNoFalseEvictions('moves');
  return [{ what: 'all see the new ones only', text: seconds(slowestMs) }];
}

function evict(cluster: Cluster): readonly Figure[] {
  up(cluster);
  const [operator, victim] = cluster.random.sample(cluster.seats.slice(1), 2) as [Seat, Seat];
  if (!cluster.evict(operator, victim))
    fail('the operator evicts a host of the view, and the machine does not know it');
  const tookMs = cluster.mustConverge(10_000, 'after the eviction');
  cluster.mustStayConverged(5 * MINUTE_MS, 'with an evicted host that is alive');
  if (!victim.host!.replay.isSelfEvicted) fail('the evicted host has not heard of it after five minutes');
  const before = victim.host!.packetsSent;
  cluster.world.run(MINUTE_MS);
  if (victim.host!.packetsSent > before) fail('an evicted host is not silent');
  cluster.start(victim);
  cluster.mustConverge(FUSE_MS, 'after the restart of the evicted host');
  cluster.mustStayConverged(MINUTE_MS, 'after the restart of the evicted host');
  return [{ what: 'all informed', text: seconds(tookMs) }];
}
