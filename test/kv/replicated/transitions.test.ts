import { describe, expect, it } from 'vitest';
import { OUTCOME } from '../../../src/kv/replicated/commands.js';
import { Cluster, type Host, put, registerKey } from './cluster.js';

const RANGE = 5;
const SMALL = {
  limits: { logBytesMax: 600, tailBytesMax: 100 },
  snapshots: { chunkBytesMax: 100, windowChunksMax: 2 },
};

function split(cluster: Cluster, range: number, key: string): number {
  const host = cluster.leaderOf(range)!;
  const child = host.store.split(range, cluster.epochOf(range), 1, ++cluster.sequence, registerKey(key));
  const { sequence } = cluster;
  cluster.until(() => host.outcomeOf(1, sequence) !== undefined);
  expect(host.outcomeOf(1, sequence)).toBe(OUTCOME.DONE);
  cluster.until(() => cluster.leaderOf(child) !== undefined);
  return child;
}

function merge(cluster: Cluster, source: number, target: number): number {
  cluster.until(() => cluster.leaderOf(source) !== undefined);
  const host = cluster.leaderOf(source)!;
  const sequence = ++cluster.sequence;
  host.store.merge(source, target, 1, sequence);
  cluster.until(() => host.outcomeOf(1, sequence) !== undefined);
  return host.outcomeOf(1, sequence)!;
}

function fill(cluster: Cluster, range: number, prefix: string, count: number): void {
  for (let i = 0; i < count; i++) cluster.put(range, `${prefix}${i}`, `${i}`);
}

function boundaryOf(host: Host, range: number): string {
  const { start, end } = host.store.replica(range)!.descriptor!.boundary;
  return `${Buffer.from(start.subarray(1))}..${Buffer.from(end.subarray(1))}`;
}

describe('a split', () => {
  it('gives each half its keys, on every store, and a later epoch', () => {
    const cluster = new Cluster();
    cluster.found(RANGE, 'a', 'z');
    fill(cluster, RANGE, 'b', 3);
    fill(cluster, RANGE, 'n', 3);
    const child = split(cluster, RANGE, 'm');
    cluster.run(1000);
    for (const host of cluster.hosts) {
      expect([boundaryOf(host, RANGE), boundaryOf(host, child)]).toEqual(['a..m', 'm..z']);
      expect([RANGE, child].map(range => host.store.replica(range)!.descriptor!.epoch)).toEqual([2, 2]);
      expect(Buffer.from(host.registers.get(child)!.boundary!.start.subarray(1)).toString()).toBe('m');
      expect(Buffer.from(host.registers.get(RANGE)!.boundary!.end.subarray(1)).toString()).toBe('m');
    }
    expect(cluster.put(child, 'n1', 'x')).toBe('1');
    expect(cluster.put(RANGE, 'b1', 'x')).toBe('1');
  });

  it('does once what was proposed before and is proposed again after', () => {
    const cluster = new Cluster();
    cluster.found(RANGE, 'a', 'z');
    const leader = cluster.leaderOf(RANGE)!;
    leader.store.propose(RANGE, 1, 9, 1, put('n', '1'));
    cluster.run(200);
    const child = split(cluster, RANGE, 'm');
    const host = cluster.leaderOf(child)!;
    host.told.length = 0;
    host.store.propose(child, 2, 9, 1, put('n', '1'));
    host.store.propose(child, 1, 9, 2, put('n', '2'));
    cluster.run(200);
    expect(host.told.map(({ outcome }) => outcome)).toEqual([OUTCOME.DONE_BEFORE, OUTCOME.WRONG_RANGE]);
  });

  it('reaches who was away, by the log or by states of both', () => {
    for (const limits of [{}, SMALL]) {
      const cluster = new Cluster({ store: limits });
      cluster.found(RANGE, 'a', 'z');
      fill(cluster, RANGE, 'b', 3);
      fill(cluster, RANGE, 'n', 3);
      cluster.run(1000);
      const index = cluster.hosts.findIndex(host => host !== cluster.leaderOf(RANGE));
      cluster.cut(index);
      const child = split(cluster, RANGE, 'm');
      fill(cluster, RANGE, 'b', 20);
      fill(cluster, child, 'n', 20);
      cluster.cuts.clear();
      cluster.until(() => cluster.held(cluster.hosts[index]!).length === 40);
      cluster.run(1000);
      const host = cluster.hosts[index]!;
      expect([boundaryOf(host, RANGE), boundaryOf(host, child)]).toEqual(['a..m', 'm..z']);
      expect(cluster.held(host)).toEqual(cluster.held(cluster.leaderOf(child)!));
    }
  });

  it('is refused at a key that is not inside, and at an epoch that has passed', () => {
    const cluster = new Cluster();
    cluster.found(RANGE, 'a', 'z');
    const host = cluster.leaderOf(RANGE)!;
    host.store.split(RANGE, 1, 1, 801, registerKey('a'));
    host.store.split(RANGE, 1, 1, 802, registerKey('zz'));
    host.store.split(RANGE, 1, 1, 803, registerKey('m'));
    host.store.split(RANGE, 1, 1, 804, registerKey('c'));
    cluster.run(500);
    expect([801, 802, 803, 804].map(sequence => host.outcomeOf(1, sequence))).toEqual([
      OUTCOME.REFUSED,
      OUTCOME.REFUSED,
      OUTCOME.DONE,
      OUTCOME.WRONG_RANGE,
    ]);
  });
});

describe('a merge', () => {
  /** Two neighbours with keys, b… and n…. */
  function pair(cluster: Cluster): number {
    cluster.found(RANGE, 'a', 'z');
    fill(cluster, RANGE, 'b', 3);
    const child = split(cluster, RANGE, 'm');
    fill(cluster, child, 'n', 3);
    return child;
  }

  it('makes one of two neighbours, on every store, to either side', () => {
    for (const toTheLeft of [true, false]) {
      const cluster = new Cluster();
      const child = pair(cluster);
      const [source, target] = toTheLeft ? [child, RANGE] : [RANGE, child];
      expect(merge(cluster, source, target)).toBe(OUTCOME.DONE);
      cluster.until(() => cluster.hosts.every(({ store }) => store.replica(source) === undefined));
      cluster.run(1000);
      for (const host of cluster.hosts) {
        expect(boundaryOf(host, target)).toBe('a..z');
        expect(cluster.held(host)).toHaveLength(6);
        expect(host.store.replica(target)!.descriptor!.absorbed.map(({ range }) => range)).toEqual([source]);
      }
      expect(cluster.epochOf(target)).toBe(4);
      expect(cluster.put(target, 'n1', 'x')).toBe('1');
      expect(cluster.put(target, 'b1', 'x')).toBe('1');
    }
  });

  it('knows what both had applied, and answers who still waits at the source', () => {
    const cluster = new Cluster();
    const child = pair(cluster);
    const former = cluster.leaderOf(child)!;
    former.store.propose(child, 2, 9, 1, put('n0', 'x'));
    cluster.run(200);
    former.store.merge(child, RANGE, 1, 700);
    former.store.propose(child, 2, 9, 2, put('n0', 'y'));
    former.store.propose(child, 3, 9, 3, put('n0', 'z'));
    cluster.until(() => cluster.hosts.every(({ store }) => store.replica(child) === undefined));
    expect(former.outcomeOf(9, 2)).toBe(OUTCOME.WRONG_RANGE);
    expect([OUTCOME.MERGING, OUTCOME.WRONG_RANGE]).toContain(former.outcomeOf(9, 3));
    const host = cluster.leaderOf(RANGE)!;
    host.store.propose(RANGE, cluster.epochOf(RANGE), 9, 1, put('n0', 'x'));
    cluster.run(200);
    expect(host.told.at(-1)).toMatchObject({ sequence: 1, outcome: OUTCOME.DONE_BEFORE });
    expect(cluster.held(host)).toContain('n0=x');
  });

  it('waits for a store that is away, and is given up in time', () => {
    const cluster = new Cluster();
    const child = pair(cluster);
    const index = cluster.hosts.findIndex(
      host => host !== cluster.leaderOf(RANGE) && host !== cluster.leaderOf(child),
    );
    cluster.cut(index);
    expect(merge(cluster, child, RANGE)).toBe(OUTCOME.DONE);
    cluster.run(3000);
    expect(cluster.leaderOf(child)!.store.replica(child)!.descriptor!.merging).toBeDefined();
    cluster.until(() => cluster.leaderOf(child)?.store.replica(child)?.descriptor?.merging === undefined);
    expect(cluster.put(child, 'n1', 'x')).toBe('1');
    cluster.cuts.clear();
    cluster.run(5000);
    for (const host of cluster.hosts) {
      expect([boundaryOf(host, RANGE), boundaryOf(host, child)]).toEqual(['a..m', 'm..z']);
      expect(cluster.held(host)).toContain('n1=x');
    }
    expect(merge(cluster, child, RANGE)).toBe(OUTCOME.DONE);
    cluster.until(() => cluster.hosts.every(({ store }) => store.replica(child) === undefined));
    for (const host of cluster.hosts) expect(cluster.held(host)).toHaveLength(6);
  });

  it('is given up when it is asked to be', () => {
    const cluster = new Cluster();
    const child = pair(cluster);
    const index = cluster.hosts.findIndex(
      host => host !== cluster.leaderOf(RANGE) && host !== cluster.leaderOf(child),
    );
    cluster.cut(index);
    merge(cluster, child, RANGE);
    cluster.leaderOf(child)!.store.giveUpMerge(child);
    cluster.until(
      () => cluster.leaderOf(child)?.store.replica(child)?.descriptor?.merging === undefined,
      5000,
    );
  });

  it('is given up when the target is moved away, or is over', () => {
    for (const isOver of [false, true]) {
      const cluster = new Cluster({ stores: 4 });
      cluster.found(1, 'a', 'm', cluster.hosts.slice(0, 3));
      cluster.found(2, 'm', 'z', cluster.hosts.slice(0, 3));
      fill(cluster, 1, 'b', 2);
      cluster.run(500);
      // Nobody can say that it has the preparation, so that it is not committed.
      const source = cluster.leaderOf(1)!;
      const index = cluster.hosts.findIndex(
        (host, at) => at < 3 && host !== source && host !== cluster.leaderOf(2),
      );
      cluster.cut(index);
      expect(merge(cluster, 1, 2)).toBe(OUTCOME.DONE);
      const target = cluster.leaderOf(2)!;
      if (isOver) target.store.discard(2);
      else {
        const stores = cluster.hosts.map(({ store }) => store.id).filter(id => id !== source.store.id);
        target.store.configure(
          2,
          1,
          900,
          stores.map(store => ({ store, role: 0 })),
        );
      }
      cluster.run(5000);
      cluster.cuts.clear();
      const isBack = () => cluster.leaderOf(1)?.store.replica(1)?.descriptor?.merging === undefined;
      cluster.until(isBack, 15_000);
      expect(cluster.put(1, 'b1', 'x')).toBe('1');
    }
  });

  it('reaches a store that was away when it was committed, by the log or by the state', () => {
    for (const limits of [{}, SMALL]) {
      const cluster = new Cluster({ store: limits });
      const child = pair(cluster);
      cluster.until(() => cluster.leaderOf(child) !== undefined && cluster.leaderOf(RANGE) !== undefined);
      const index = cluster.hosts.findIndex(
        host => host !== cluster.leaderOf(RANGE) && host !== cluster.leaderOf(child),
      );
      const host = cluster.hosts[index]!;
      // It has the preparation, and not the end.
      const isPrepared = () => {
        const { merging } = cluster.leaderOf(child)?.store.replica(child)?.descriptor ?? {};
        return merging !== undefined && host.store.replica(child)!.log.lastIndex >= merging.at;
      };
      cluster.filter = (_, to) => {
        if (to === index && isPrepared()) cluster.cut(index);
        return true;
      };
      merge(cluster, child, RANGE);
      cluster.until(() => cluster.leaderOf(child) === undefined);
      expect(host.store.replica(child)!.descriptor).toBeDefined();
      fill(cluster, RANGE, 'n', 30);
      cluster.cuts.clear();
      cluster.until(() => cluster.held(host).length === 33, 120_000);
      cluster.run(2000);
      expect(host.store.replica(child)).toBeUndefined();
      expect(boundaryOf(host, RANGE)).toBe('a..z');
      expect(cluster.held(host)).toEqual(cluster.held(cluster.leaderOf(RANGE)!));
    }
  });

  it('is refused between ranges that do not touch, or that are on other stores', () => {
    const cluster = new Cluster({ stores: 4 });
    cluster.found(1, 'a', 'c', cluster.hosts.slice(0, 3));
    cluster.found(2, 'c', 'e', cluster.hosts.slice(1, 4));
    cluster.found(3, 'g', 'i', cluster.hosts.slice(0, 3));
    expect(merge(cluster, 1, 2)).toBe(OUTCOME.REFUSED);
    expect(merge(cluster, 1, 3)).toBe(OUTCOME.REFUSED);
    expect(merge(cluster, 1, 1)).toBe(OUTCOME.REFUSED);
  });

  it('of two into each other ends with both alive or one of them', () => {
    const cluster = new Cluster();
    const child = pair(cluster);
    cluster.leaderOf(child)!.store.merge(child, RANGE, 1, 600);
    cluster.leaderOf(RANGE)!.store.merge(RANGE, child, 1, 601);
    cluster.until(() => {
      const hosts = cluster.hosts;
      return hosts.every(({ store }) => {
        const held = [...store.replicas].map(({ descriptor }) => descriptor!);
        return held.length > 0 && held.every(({ merging }) => merging === undefined);
      });
    });
    cluster.run(3000);
    const covered = [...cluster.hosts[0]!.store.replicas]
      .map(({ rangeId }) => boundaryOf(cluster.hosts[0]!, rangeId))
      .sort();
    expect([['a..z'], ['a..m', 'm..z']]).toContainEqual(covered);
    for (const host of cluster.hosts) expect(cluster.held(host)).toHaveLength(6);
  });
});
