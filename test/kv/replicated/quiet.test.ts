import { describe, expect, it } from 'vitest';
import { Cluster } from './cluster.js';
import { delay } from './delays.js';

const RANGES = 8;

/** A cluster in which every frame takes `delayMs`. */
function delayed(delayMs: number): Cluster {
  const cluster = new Cluster();
  for (let range = 1; range <= RANGES; range++) cluster.found(range, String(range - 1), String(range));
  delay(cluster, delayMs);
  return cluster;
}

function awake(cluster: Cluster): number {
  let count = 0;
  for (const { store } of cluster.hosts)
    for (const { raft } of store.replicas) if (!raft.isQuiescent) count++;
  return count;
}

describe('quiet ranges', () => {
  it('fall quiet though an answer takes longer than the time between two heartbeats', () => {
    for (const delayMs of [0, 200, 400, 600]) {
      const cluster = delayed(delayMs);
      cluster.run(12_000);
      expect(awake(cluster), `${delayMs} ms each way`).toBe(0);
      const leaders = cluster.hosts.flatMap(({ store }) => [...store.replicas]).filter(one => one.isLeader);
      expect(leaders).toHaveLength(RANGES);
      // And stay so.
      const terms = leaders.map(({ raft }) => raft.term);
      cluster.run(30_000);
      expect(awake(cluster)).toBe(0);
      expect(leaders.map(({ raft }) => raft.term)).toEqual(terms);
    }
  });

  it('stay quiet, and led, when a machine stands still for a while and finds what was said in the meantime', () => {
    const cluster = new Cluster();
    for (let range = 1; range <= RANGES; range++) cluster.found(range, String(range - 1), String(range));
    const termOf = () =>
      cluster.hosts.flatMap(({ store }) => [...store.replicas]).map(({ raft }) => raft.term);
    cluster.run(1000);
    const terms = termOf();
    cluster.nowMs += 2400;
    cluster.run(6000);
    expect(termOf()).toEqual(terms);
    expect(awake(cluster)).toBe(0);
    cluster.nowMs += 60_000;
    cluster.run(50);
    expect(awake(cluster)).toBe(0);
    expect(termOf()).toEqual(terms);
    // Who is gone is found out as soon as ever.
    cluster.cut(0);
    const led = [...cluster.hosts[0]!.store.replicas].filter(({ isLeader }) => isLeader);
    cluster.run(6000);
    for (const { rangeId, raft } of led)
      expect(cluster.leaderOf(rangeId)!.store.replica(rangeId)!.raft.term).toBeGreaterThan(raft.term);
  });
});
