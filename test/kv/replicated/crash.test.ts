import { describe, expect, it } from 'vitest';
import { Cluster, CutEngine, type Host, registerKey } from './cluster.js';

const RANGE = 5;
/** The identity, and the founding, which whoever founds repeats. */
const FIRST_CUT = 3;
const KEYS = ['b0', 'b1', 'm0', 'n0'];

/** The range that has the key, as the newest descriptor says. */
function rangeOf(cluster: Cluster, key: string): number {
  let found = RANGE;
  let epoch = -1;
  const at = registerKey(key);
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

function add(cluster: Cluster, text: string): void {
  for (const key of KEYS) cluster.put(() => rangeOf(cluster, key), key, `+${text}`);
}

/** One transition at a time, whoever crashes meanwhile: what it was asked for comes about, or can be asked for again. */
function bringAbout(
  cluster: Cluster,
  isDone: () => boolean,
  ask: (host: Host, range: number) => void,
  range: () => number,
) {
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

/** Splits at m, merges the halves again, and writes before, between and after. */
function story(cluster: Cluster): void {
  cluster.found(RANGE, 'a', 'z');
  add(cluster, '1');
  bringAbout(
    cluster,
    () => rangeOf(cluster, 'n0') !== rangeOf(cluster, 'b0'),
    ({ store }, range) => store.split(range, cluster.epochOf(range), 1, ++cluster.sequence, registerKey('m')),
    () => rangeOf(cluster, 'b0'),
  );
  add(cluster, '2');
  const child = rangeOf(cluster, 'n0');
  bringAbout(
    cluster,
    () => rangeOf(cluster, 'n0') === rangeOf(cluster, 'b0') && !ranges(cluster).has(child),
    ({ store }, range) => store.merge(range, rangeOf(cluster, 'b0'), 1, ++cluster.sequence),
    () => child,
  );
  add(cluster, '3');
  cluster.run(3000);
}

function engineOf(host: Host): CutEngine {
  return host.engine as CutEngine;
}

function check(cluster: Cluster): void {
  for (const host of cluster.hosts) {
    expect(cluster.held(host)).toEqual(KEYS.map(key => `${key}=123`));
    expect([...host.store.replicas].map(({ rangeId }) => rangeId)).toEqual([RANGE]);
    const { boundary } = host.store.replica(RANGE)!.descriptor!;
    expect(Buffer.from([...boundary.start, ...boundary.end]).toString()).toBe('rarz');
  }
}

describe('a split and a merge', () => {
  const writes = (() => {
    const cluster = new Cluster({ engines: () => new CutEngine() });
    story(cluster);
    check(cluster);
    return cluster.hosts.map(host => engineOf(host).writes);
  })();

  for (const [victim, isDurable] of [
    [0, true],
    [0, false],
    [1, true],
    [2, false],
  ] as const)
    it(`lose and double nothing when store ${victim} ends at any transaction, ${isDurable ? 'with' : 'without'} it`, () => {
      expect(writes[victim]!).toBeGreaterThan(20);
      for (let cutAt = FIRST_CUT; cutAt <= writes[victim]!; cutAt++) {
        const cluster = new Cluster({ engines: () => new CutEngine() });
        const engine = engineOf(cluster.hosts[victim]!);
        engine.cutAt = cutAt;
        engine.isDurable = isDurable;
        try {
          story(cluster);
          check(cluster);
        } catch (error) {
          throw new Error(`cut at ${cutAt}`, { cause: error });
        }
      }
    });
});
