import { describe, expect, it } from 'vitest';
import { Cluster, CutEngine, registerKey } from './cluster.js';
import { divide, engineOf, FIRST_CUT, join, RANGE, rangeOf } from './division.js';

const KEYS = ['b0', 'b1', 'm0', 'n0'];

function add(cluster: Cluster, text: string): void {
  for (const key of KEYS) cluster.put(() => rangeOf(cluster, registerKey(key)), key, `+${text}`);
}

/** Splits at m, merges the halves again, and writes before, between and after. */
function story(cluster: Cluster): void {
  cluster.found(RANGE, 'a', 'z');
  add(cluster, '1');
  divide(cluster, registerKey('b0'), registerKey('m'));
  add(cluster, '2');
  join(cluster, registerKey('b0'), registerKey('n0'));
  add(cluster, '3');
  cluster.run(3000);
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
