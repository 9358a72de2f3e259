import type { Cluster, Seat } from './underlay-world.js';

/** One number of a scenario, in words with its unit. */
export interface Figure {
  readonly what: string;
  readonly text: string;
}

/** A story that a cluster lives through. It throws `CheckFailure` where something does not hold that must. */
export interface Scenario {
  readonly name: string;
  readonly about: string;
  /** How many hosts it is told with when nobody says otherwise, and at least. */
  readonly hosts: number;
  readonly hostsMin: number;
  play(cluster: Cluster): readonly Figure[];
}

/** What the issue grants after a cut has healed or many hosts have died, milliseconds. */
export const FUSE_MS = 30_000;

export const MINUTE_MS = 60_000;

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** All hosts at once through one seed, as the issue grants: 10 s up to 100 hosts, 30 s up to 1,000. */
export function joinMaxMs(hosts: number): number {
  return hosts <= 100 ? 10_000 : 30_000;
}

/** Starts everybody and waits until all see all. */
export function up(cluster: Cluster): number {
  cluster.startAll();
  return cluster.mustConverge(joinMaxMs(cluster.hostCount), 'the first join');
}

/** A host that nothing happens to may send so many bytes a second: the limit at 100 hosts, log N beyond. */
export function quietBytesMax(hosts: number): number {
  return hosts <= 100 ? 2_000 : (2_000 * Math.log2(hosts)) / Math.log2(100);
}

export function indexes(seats: readonly Seat[]): ReadonlySet<number> {
  return new Set(seats.map(({ node }) => node.index));
}

/** The seats in random order, cut into parts of these shares; each part has one at least, the last one the rest. */
export function randomParts(cluster: Cluster, shares: readonly number[]): Seat[][] {
  const shuffled = cluster.random.sample(cluster.seats, cluster.seats.length);
  const parts: Seat[][] = [];
  let from = 0;
  shares.forEach((share, at) => {
    const partsLeft = shares.length - at - 1;
    const wanted = Math.max(1, Math.round(share * shuffled.length));
    const to = partsLeft === 0 ? shuffled.length : Math.min(from + wanted, shuffled.length - partsLeft);
    parts.push(shuffled.slice(from, to));
    from = to;
  });
  return parts;
}
