import { fail } from './underlay-checkers.js';
import {
  type Figure,
  FUSE_MS,
  indexes,
  MINUTE_MS,
  randomParts,
  type Scenario,
  seconds,
  up,
} from './underlay-story.js';
import type { Cluster, Seat } from './underlay-world.js';

/** Links that are cut, in one direction or both, for long or again and again. */
export const CUT_STORIES: readonly Scenario[] = [
  {
    name: 'halves',
    about: 'cut into halves for ten minutes, then joined',
    hosts: 10,
    hostsMin: 3,
    play: cluster => parts(cluster, [0.5, 0.5]),
  },
  {
    name: 'five-parts',
    about: 'cut into five parts of unequal size for ten minutes, then joined',
    hosts: 20,
    hostsMin: 5,
    play: cluster => parts(cluster, [0.45, 0.25, 0.15, 0.1, 0.05]),
  },
  {
    name: 'shatter',
    about: 'every host alone for ten minutes, then joined',
    hosts: 10,
    hostsMin: 2,
    play: cluster =>
      parts(
        cluster,
        cluster.seats.map(() => 1 / cluster.hostCount),
      ),
  },
  {
    name: 'one-way-link',
    about: 'one host cannot send to one other for five minutes or more: nobody is evicted',
    hosts: 10,
    hostsMin: 3,
    play: oneWayLink,
  },
  {
    name: 'one-way-group',
    about:
      'a third of the hosts cannot send to the others for five minutes, and hears them: nothing oscillates',
    hosts: 10,
    hostsMin: 3,
    play: oneWayGroup,
  },
  {
    name: 'no-datagrams',
    about: 'a firewall lets only TCP through between one host and all others: nobody is evicted',
    hosts: 10,
    hostsMin: 3,
    play: noDatagrams,
  },
  {
    name: 'flapping-link',
    about: 'a link between two hosts goes every few seconds for five minutes: nobody is evicted',
    hosts: 10,
    hostsMin: 3,
    play: flappingLink,
  },
  {
    name: 'flapping-cut',
    about: 'half of the hosts are cut off for 20 s of every 40 s, then joined',
    hosts: 10,
    hostsMin: 3,
    play: flappingCut,
  },
  {
    name: 'evict-apart',
    about: 'an operator evicts a host that is in the other half; it is out when the halves join',
    hosts: 10,
    hostsMin: 5,
    play: evictApart,
  },
  {
    name: 'restart-apart',
    about: 'hosts restart at their addresses while the network is cut',
    hosts: 10,
    hostsMin: 4,
    play: restartApart,
  },
];

/** A host that hears hardly anybody blames itself first, and takes its time to give the others up. */
const APART_MS = 4 * MINUTE_MS;

function parts(cluster: Cluster, shares: readonly number[]): readonly Figure[] {
  up(cluster);
  cluster.forgetSeedsAtTimes();
  cluster.partition(randomParts(cluster, shares));
  const { counters } = cluster.network;
  const blocked = counters.blocked;
  const apartMs = cluster.world.runUntil(() => cluster.isConverged(), 10 * MINUTE_MS);
  // A host that is nearly alone takes its time, and may still be at it when the parts are joined.
  if (apartMs !== undefined) cluster.mustStayConverged(10 * MINUTE_MS - apartMs, 'parts, each for itself');
  if (counters.blocked === blocked) fail('nobody was cut off from anybody');
  cluster.heal();
  const before = cluster.tally.gone;
  const tookMs = cluster.mustConverge(FUSE_MS, 'after the parts were joined');
  cluster.mustStayConverged(2 * MINUTE_MS, 'after the parts were joined');
  cluster.mustHaveNoFalseEvictions('parts and their joining');
  const back = cluster.tally.gone - before;
  return [
    { what: 'each part for itself', text: apartMs === undefined ? 'not yet' : seconds(apartMs) },
    { what: 'one cluster', text: seconds(tookMs) },
    { what: 'evictions while fusing', text: String(back) },
  ];
}

function mustNotEvict(cluster: Cluster, forMs: number, what: string): void {
  const before = cluster.tally.gone;
  cluster.world.run(forMs);
  if (cluster.tally.gone > before) fail(`${what}: ${cluster.tally.gone - before} evictions, expected none`);
}

function seesOneWay(from: Seat, to: Seat): boolean {
  const id = to.host!.options.id;
  return from.host!.machine.hosts().some(({ record, oneWay }) => record.id === id && oneWay);
}

function oneWayLink(cluster: Cluster): readonly Figure[] {
  up(cluster);
  const [from, to] = cluster.random.sample(cluster.seats, 2) as [Seat, Seat];
  const words = `${from.node.label} cannot send to ${to.node.label}`;
  const mend = cluster.network.addRule({ from: indexes([from]), to: indexes([to]), isCut: true }, words);
  // Time for each to probe the other three times, a second for each host and probe; in very large clusters too much.
  const isSeen = cluster.hostCount <= 200;
  mustNotEvict(cluster, Math.max(5 * MINUTE_MS, isSeen ? 6_000 * cluster.hostCount : 0), words);
  if (isSeen && !seesOneWay(from, to) && !seesOneWay(to, from)) fail(`${words}, and neither of them says so`);
  mend();
  const tookMs = cluster.mustConverge(FUSE_MS, 'after the link was mended');
  cluster.world.run(MINUTE_MS + (isSeen ? 2_000 * cluster.hostCount : 0));
  if (isSeen && (seesOneWay(from, to) || seesOneWay(to, from)))
    fail('a link that was mended still counts as one-way');
  return [
    { what: 'evictions', text: '0' },
    { what: 'one cluster', text: seconds(tookMs) },
  ];
}

/** Either side hears of the other at most once more: coming back again and again is what must not be. */
function oneWayGroup(cluster: Cluster): readonly Figure[] {
  up(cluster);
  cluster.forgetSeedsAtTimes();
  const [mute, others] = randomParts(cluster, [0.34, 0.66]) as [Seat[], Seat[]];
  cluster.isMurky = true;
  const words = `${mute.map(({ node }) => node.label).join(' ')} cannot send to the others`;
  const mend = cluster.network.addRule({ from: indexes(mute), to: indexes(others), isCut: true }, words);
  cluster.world.run(MINUTE_MS);
  const before = cluster.tally.joined;
  cluster.world.run(4 * MINUTE_MS);
  const returns = cluster.tally.joined - before;
  const pairs = mute.length * others.length;
  if (returns > pairs) fail(`${returns} joins in four minutes over ${pairs} pairs of hosts that cannot talk`);
  mend();
  const tookMs = cluster.mustConverge(FUSE_MS, 'after the links were mended');
  cluster.mustStayConverged(2 * MINUTE_MS, 'after the links were mended');
  return [
    { what: 'one cluster', text: seconds(tookMs) },
    { what: 'joins while cut', text: String(returns) },
  ];
}

function noDatagrams(cluster: Cluster): readonly Figure[] {
  up(cluster);
  const lonely = cluster.random.pick(cluster.seats);
  const self = indexes([lonely]);
  const words = `no datagrams to or from ${lonely.node.label}`;
  cluster.network.addRule({ from: self, to: 'all', path: 'datagram', isCut: true }, words);
  cluster.network.addRule({ from: 'all', to: self, path: 'datagram', isCut: true }, words);
  mustNotEvict(cluster, 5 * MINUTE_MS, words);
  cluster.heal();
  const tookMs = cluster.mustConverge(FUSE_MS, 'after the firewall let datagrams through');
  return [{ what: 'one cluster', text: seconds(tookMs) }];
}

function flappingLink(cluster: Cluster): readonly Figure[] {
  up(cluster);
  const [one, other] = cluster.random.sample(cluster.seats, 2) as [Seat, Seat];
  const flapping = {
    upMs: cluster.random.between(1_000, 5_000),
    downMs: cluster.random.between(1_000, 5_000),
    offsetMs: 0,
  };
  const words = `the link of ${one.node.label} and ${other.node.label} flaps`;
  const [ones, others] = [indexes([one]), indexes([other])];
  cluster.network.addRule({ from: ones, to: others, flapping }, words);
  cluster.network.addRule({ from: others, to: ones, flapping }, words);
  mustNotEvict(cluster, 5 * MINUTE_MS, words);
  cluster.heal();
  const tookMs = cluster.mustConverge(FUSE_MS, 'after the link was mended');
  return [{ what: 'one cluster', text: seconds(tookMs) }];
}

function flappingCut(cluster: Cluster): readonly Figure[] {
  up(cluster);
  cluster.forgetSeedsAtTimes();
  const [ones, others] = randomParts(cluster, [0.5, 0.5]).map(indexes) as [
    ReadonlySet<number>,
    ReadonlySet<number>,
  ];
  const flapping = { upMs: 20_000, downMs: 20_000, offsetMs: 0 };
  cluster.isMurky = true;
  const words = 'half of the hosts is cut off every other 20 s';
  const before = cluster.tally.gone;
  cluster.network.addRule({ from: ones, to: others, flapping }, words);
  cluster.network.addRule({ from: others, to: ones, flapping }, words);
  const rounds = 8;
  cluster.world.run(rounds * 40_000);
  // The last cut ends it when its twenty seconds are over.
  cluster.world.run((59_900 - (cluster.world.nowMs % 40_000)) % 40_000);
  const gone = cluster.tally.gone - before;
  const pairs = 2 * ones.size * others.size;
  if (gone > 1.2 * (rounds + 1) * pairs)
    fail(`${gone} evictions in ${rounds + 1} cuts over ${pairs} pairs: once each is enough`);
  cluster.heal();
  const tookMs = cluster.mustConverge(FUSE_MS, 'after the last cut');
  cluster.mustStayConverged(2 * MINUTE_MS, 'after the last cut');
  return [
    { what: 'one cluster', text: seconds(tookMs) },
    { what: 'evictions a cut and pair', text: (gone / (rounds + 1) / pairs).toFixed(2) },
  ];
}

function evictApart(cluster: Cluster): readonly Figure[] {
  up(cluster);
  cluster.forgetSeedsAtTimes();
  const [here, there] = randomParts(cluster, [0.5, 0.5]) as [Seat[], Seat[]];
  const victim = there[0]!;
  cluster.partition([here, there]);
  // Before the failure is known: afterwards nobody here has the victim in the view.
  if (!cluster.evict(here[0]!, victim))
    fail('the operator evicts a host of the view, and the machine does not know it');
  victim.isOut = false;
  const apartMs = cluster.mustConverge(APART_MS, 'each half for itself');
  cluster.mustStayConverged(5 * MINUTE_MS - apartMs, 'halves, each for itself');
  victim.isOut = true;
  cluster.heal();
  const tookMs = cluster.mustConverge(FUSE_MS, 'after the halves were joined');
  cluster.mustStayConverged(2 * MINUTE_MS, 'after the halves were joined');
  if (!victim.host!.replay.isSelfEvicted) fail('the evicted host has not heard of it');
  return [{ what: 'one cluster without it', text: seconds(tookMs) }];
}

function restartApart(cluster: Cluster): readonly Figure[] {
  for (const seat of cluster.seats) seat.seeds = cluster.seats.slice(0, 3).map(({ node }) => node.address);
  up(cluster);
  const [here, there] = randomParts(cluster, [0.5, 0.5]) as [Seat[], Seat[]];
  cluster.partition([here, there]);
  cluster.world.run(MINUTE_MS);
  for (const seat of [...here.slice(1), ...there.slice(1)])
    if (cluster.random.chance(0.5)) cluster.start(seat);
  cluster.world.run(4 * MINUTE_MS);
  cluster.heal();
  const tookMs = cluster.mustConverge(FUSE_MS, 'after the halves were joined');
  cluster.mustStayConverged(2 * MINUTE_MS, 'after the halves were joined');
  return [{ what: 'one cluster', text: seconds(tookMs) }];
}
