import { expect } from 'vitest';
import { type Cluster, CutEngine, type Host } from './cluster.js';

export const RANGE = 5;
/** The identity, and the founding, which whoever founds repeats. */
export const FIRST_CUT = 3;

/** The range that has the key, as the newest descriptor says. */
export function rangeOf(cluster: Cluster, at: Uint8Array): number {
  let found = RANGE;
  let epoch = -1;
  for (const { store } of cluster.hosts)
    for (const { descriptor } of store.replicas) {
      if (descriptor === undefined || descriptor.epoch <= epoch) continue;
      const { start, end } = descriptor.boundary;
      if (Buffer.compare(start, at) > 0 || Buffer.compare(at, end) >= 0) continue;
      found = descriptor.id;
      ({ epoch } = descriptor);
    }
  return found;
}

/** One transition at a time, whoever crashes meanwhile: what it was asked for comes about, or can be asked for again. */
function bringAbout(
  cluster: Cluster,
  isDone: () => boolean,
  ask: (host: Host, range: number) => void,
  range: () => number,
): void {
  for (let attempt = 0; attempt < 20 && !isDone(); attempt++) {
    cluster.until(() => cluster.leaderOf(range()) !== undefined);
    const host = cluster.leaderOf(range());
    if (host !== undefined) ask(host, range());
    for (let waited = 0; waited < 20_000 && !isDone(); waited += 100) cluster.run(100);
  }
  expect(isDone()).toBe(true);
}

function ranges(cluster: Cluster): Set<number> {
  return new Set(cluster.hosts.flatMap(({ store }) => [...store.replicas].map(({ rangeId }) => rangeId)));
}

/** Divides the range that has `first` at `key`. */
export function divide(cluster: Cluster, first: Uint8Array, key: Uint8Array): void {
  bringAbout(
    cluster,
    () => rangeOf(cluster, key) !== rangeOf(cluster, first),
    ({ store }, range) => store.split(range, cluster.epochOf(range), 1, ++cluster.sequence, key),
    () => rangeOf(cluster, first),
  );
}

/** Has the range with `key` taken over by the one with `first`. */
export function join(cluster: Cluster, first: Uint8Array, key: Uint8Array): void {
  const child = rangeOf(cluster, key);
  bringAbout(
    cluster,
    () => rangeOf(cluster, key) === rangeOf(cluster, first) && !ranges(cluster).has(child),
    ({ store }, range) => store.merge(range, rangeOf(cluster, first), 1, ++cluster.sequence),
    () => child,
  );
}

export function engineOf(host: Host): CutEngine {
  expect(host.engine).toBeInstanceOf(CutEngine);
  return host.engine as CutEngine;
}
