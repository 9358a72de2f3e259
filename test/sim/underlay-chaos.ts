import { LAN } from './network.js';
import {
  type Figure,
  FUSE_MS,
  indexes,
  MINUTE_MS,
  randomParts,
  type Scenario,
  seconds,
} from './underlay-story.js';
import type { Cluster, Seat } from './underlay-world.js';

/** Anything at any time, then calm: whatever has happened, the cluster must be one again. */
export const CHAOS_STORIES: readonly Scenario[] = [
  {
    name: 'chaos',
    about: 'a few minutes of random kills, restarts, moves, stops, cuts, flaps, loss, evictions, then calm',
    hosts: 8,
    hostsMin: 3,
    play: chaos,
  },
];

/** After the calm has come. Hosts that start with it may find a seed that does not know yet who is gone. */
const CALM_MS = FUSE_MS + 10_000;

/** One thing that happens; it plans its own end. `forMs`: how long it lasts. */
type Fault = (cluster: Cluster, forMs: number) => void;

const FAULTS: readonly Fault[] = [
  kill,
  kill,
  pause,
  pause,
  restart,
  move,
  cutLink,
  cutGroup,
  cutParts,
  flap,
  weather,
  blockPath,
  jump,
  leave,
  evict,
  changeAgents,
];

function chaos(cluster: Cluster): readonly Figure[] {
  cluster.isMurky = true;
  const seeds = cluster.seats.slice(0, 1 + cluster.random.below(3)).map(({ node }) => node.address);
  for (let at = 0; at < 2; at += 1) cluster.addSeat(`spare-${at}`);
  for (const seat of cluster.seats) {
    seat.seeds = seeds;
    seat.skewMs = cluster.random.between(-1_000, 1_000);
    seat.driftPpm = cluster.random.between(-100, 100);
  }
  for (const seat of cluster.seats.slice(0, cluster.hostCount)) {
    if (cluster.random.chance(0.9))
      cluster.world.after(cluster.random.between(0, 5_000), () => cluster.start(seat));
  }
  const calmMs = cluster.random.between(1, 5) * MINUTE_MS;
  const faults = 5 + cluster.random.below(Math.ceil(20 + cluster.hostCount / 5));
  for (let at = 0; at < faults; at += 1) {
    const fault = cluster.random.pick(FAULTS);
    const atMs = cluster.random.between(0, calmMs);
    // Most are short; a few last until the calm.
    const forMs = cluster.random.between(0, 1) ** 3 * calmMs;
    cluster.world.after(atMs, () => fault(cluster, Math.min(forMs, calmMs - atMs)));
  }
  cluster.world.run(calmMs + 1);
  calm(cluster, seeds);
  const tookMs = cluster.mustConverge(CALM_MS, 'after the chaos');
  cluster.mustStayConverged(2 * MINUTE_MS, 'after the chaos');
  cluster.mustHaveNoFalseEvictions('after the chaos');
  return [{ what: 'one cluster', text: seconds(tookMs) }];
}

function calm(cluster: Cluster, seeds: readonly string[]): void {
  cluster.heal();
  cluster.isMurky = false;
  for (const seat of cluster.seats) {
    cluster.resume(seat);
    const isSeed = seeds.includes(seat.node.address);
    // Without any seed two hosts that never met have no way to each other.
    if (seat.host === undefined ? isSeed || cluster.random.chance(0.5) : seat.isOut) cluster.start(seat);
  }
}

function someUp(cluster: Cluster): Seat | undefined {
  const seats = cluster.seats.filter(({ host, isOut }) => host !== undefined && !isOut);
  return seats.length === 0 ? undefined : cluster.random.pick(seats);
}

function kill(cluster: Cluster, forMs: number): void {
  const seat = someUp(cluster);
  if (seat === undefined) return;
  let plugIn = () => {};
  if (cluster.random.chance(0.5)) plugIn = cluster.vanish(seat);
  else cluster.kill(seat);
  cluster.world.after(forMs, () => {
    plugIn();
    if (seat.host === undefined) cluster.start(seat);
  });
}

function pause(cluster: Cluster, forMs: number): void {
  const seat = someUp(cluster);
  if (seat === undefined || seat.node.isPaused) return;
  cluster.pause(seat);
  cluster.world.after(Math.min(forMs, 90_000), () => cluster.resume(seat));
}

function restart(cluster: Cluster): void {
  const seat = someUp(cluster);
  if (seat !== undefined) cluster.start(seat);
}

/** Dies for good; another host starts at an address where nobody lives. */
function move(cluster: Cluster): void {
  const seat = someUp(cluster);
  const empty = cluster.seats.filter(({ host }) => host === undefined);
  if (seat === undefined || empty.length === 0) return;
  cluster.kill(seat);
  cluster.start(cluster.random.pick(empty));
}

function cutLink(cluster: Cluster, forMs: number): void {
  const [one, other] = cluster.random.sample(cluster.seats, 2) as [Seat, Seat];
  const words = `${one.node.label} cannot send to ${other.node.label}`;
  const mend = cluster.network.addRule({ from: indexes([one]), to: indexes([other]), isCut: true }, words);
  cluster.world.after(forMs, mend);
}

function cutGroup(cluster: Cluster, forMs: number): void {
  const [some, others] = randomParts(cluster, [0.4, 0.6]) as [Seat[], Seat[]];
  const words = `${some.map(({ node }) => node.label).join(' ')} cannot send to the others`;
  const mend = cluster.network.addRule({ from: indexes(some), to: indexes(others), isCut: true }, words);
  cluster.world.after(forMs, mend);
}

/** By rules and not by `partition`, so that several cuts can overlap. */
function cutParts(cluster: Cluster, forMs: number): void {
  const parts = randomParts(cluster, cluster.random.chance(0.5) ? [0.5, 0.5] : [0.4, 0.3, 0.3]);
  for (const part of parts) {
    const others = indexes(cluster.seats.filter(seat => !part.includes(seat)));
    const words = `${part.map(({ node }) => node.label).join(' ')} form a part`;
    const mend = cluster.network.addRule({ from: indexes(part), to: others, isCut: true }, words);
    cluster.world.after(forMs, mend);
  }
}

function flap(cluster: Cluster, forMs: number): void {
  const [some, others] = randomParts(cluster, [cluster.random.between(0.05, 0.5), 0.5]) as [Seat[], Seat[]];
  const flapping = {
    upMs: cluster.random.between(200, 20_000),
    downMs: cluster.random.between(200, 20_000),
    offsetMs: cluster.random.between(0, 20_000),
  };
  const words = `${some.map(({ node }) => node.label).join(' ')} flap`;
  const there = cluster.network.addRule({ from: indexes(some), to: indexes(others), flapping }, words);
  const back = cluster.random.chance(0.5)
    ? cluster.network.addRule({ from: indexes(others), to: indexes(some), flapping }, words)
    : () => {};
  cluster.world.after(forMs, () => {
    there();
    back();
  });
}

function weather(cluster: Cluster, forMs: number): void {
  const settings = {
    delayMs: cluster.random.between(0, 1) ** 2 * 200,
    jitterMs: cluster.random.between(0, 1) ** 2 * 200,
    loss: cluster.random.between(0, 1) ** 2 * 0.4,
    doubled: cluster.random.between(0, 0.2),
    straggling: cluster.random.between(0, 0.2),
  };
  const from = cluster.random.chance(0.5) ? 'all' : indexes(randomParts(cluster, [0.5, 0.5])[0]!);
  const words = `weather ${JSON.stringify(settings, (_, value) => (typeof value === 'number' ? +value.toFixed(2) : value))}`;
  const clear = cluster.network.addRule({ from, to: 'all', settings: { ...LAN, ...settings } }, words);
  cluster.world.after(forMs, clear);
}

function blockPath(cluster: Cluster, forMs: number): void {
  const path = cluster.random.chance(0.5) ? 'datagram' : 'stream';
  const seat = cluster.random.pick(cluster.seats);
  const words = `no ${path} to ${seat.node.label}`;
  const open = cluster.network.addRule({ from: 'all', to: indexes([seat]), path, isCut: true }, words);
  cluster.world.after(forMs, open);
}

function jump(cluster: Cluster): void {
  const seat = cluster.random.pick(cluster.seats);
  seat.node.clock.skewMs += cluster.random.between(-3_600_000, 3_600_000);
  cluster.world.trace.note('event', seat.node.label, 'its wall clock jumps');
}

function leave(cluster: Cluster, forMs: number): void {
  const seat = someUp(cluster);
  if (seat === undefined || cluster.random.chance(0.5)) return;
  cluster.leave(seat);
  const { host } = seat;
  cluster.world.after(Math.min(forMs, 2_000), () => {
    if (seat.host === host) cluster.kill(seat);
  });
  cluster.world.after(forMs, () => {
    if (seat.host === undefined) cluster.start(seat);
  });
}

function evict(cluster: Cluster): void {
  const [operator, victim] = [someUp(cluster), someUp(cluster)];
  if (operator === undefined || victim === undefined || operator === victim || cluster.random.chance(0.5))
    return;
  cluster.evict(operator, victim);
}

function changeAgents(cluster: Cluster): void {
  const seat = someUp(cluster);
  if (seat !== undefined) cluster.setAgents(seat, [`agent-${cluster.random.below(100)}`]);
}
