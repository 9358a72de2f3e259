import { describe, expect, it } from 'vitest';
import { Cluster, CutEngine } from './cluster.js';

const RANGE = 5;
const SMALL = {
  limits: { logBytesMax: 600, tailBytesMax: 100 },
  snapshots: { chunkBytesMax: 200, windowChunksMax: 2 },
};

/** A follower with an old state is given a new one, which another one has been put in place of. */
function story(index: number, prepare: (engine: CutEngine) => void): Cluster {
  const cluster = new Cluster({ engines: () => new CutEngine(), store: SMALL });
  cluster.found(RANGE);
  for (let i = 0; i < 8; i++) cluster.put(RANGE, `old${i}`, 'x'.repeat(20));
  cluster.run(1000);
  cluster.cut(index);
  cluster.until(
    () => cluster.leaderOf(RANGE) !== undefined && cluster.leaderOf(RANGE) !== cluster.hosts[index],
  );
  for (let i = 0; i < 40; i++) cluster.put(RANGE, `new${i}`, 'y'.repeat(20));
  cluster.cuts.clear();
  prepare(cluster.hosts[index]!.engine as CutEngine);
  return cluster;
}

describe('a state that is being received', () => {
  for (const isDurable of [true, false])
    it(`is whole or the old one after the process ended at any transaction, ${isDurable ? 'with' : 'without'} it`, () => {
      const index = 2;
      let first = 0;
      const whole = story(index, engine => {
        first = engine.writes;
      });
      whole.until(() => whole.held(whole.hosts[index]!).length === 48);
      const count = (whole.hosts[index]!.engine as CutEngine).writes - first;
      expect(count).toBeGreaterThan(8);
      for (let cut = 1; cut <= count; cut++) {
        const cluster = story(index, engine => {
          engine.cutAt = engine.writes + cut;
          engine.isDurable = isDurable;
        });
        const former = cluster.hosts[index]!;
        for (let waited = 0; waited < 20_000 && cluster.hosts[index] === former; waited += 50)
          cluster.run(50);
        const host = cluster.hosts[index]!;
        // What is served is one of the two, whole; while it is neither, nothing is.
        const held = cluster.held(host);
        if (host.store.replica(RANGE)!.state !== undefined) expect([8, 48]).toContain(held.length);
        cluster.until(
          () => cluster.held(host).length === 48 && host.store.replica(RANGE)!.install === undefined,
        );
        expect(cluster.held(host)).toEqual(cluster.held(cluster.leaderOf(RANGE)!));
        expect(host.registers.get(RANGE)!.count).toBe(48);
      }
    });
});
