import { describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from '../../../src/base/bytes.js';
import type { KvWriter } from '../../../src/kv/engine.js';
import { RAFT_TIMING } from '../../../src/kv/raft/settings.js';
import { OUTCOME } from '../../../src/kv/replicated/commands.js';
import { Cluster, put } from './cluster.js';

const RANGE = 5;

describe('a range of one voter', () => {
  it('does what is proposed in one transaction, and keeps no log of it', () => {
    const cluster = new Cluster({ stores: 1 });
    const host = cluster.hosts[0]!;
    cluster.found(RANGE);
    const { commits } = host.store;
    for (let i = 1; i <= 100; i++) host.store.propose(RANGE, 1, 9, i, put(`k${i % 10}`, `${i}`));
    host.store.turn();
    expect(host.store.commits).toBe(commits + 1);
    expect(host.told).toHaveLength(100);
    expect(host.told.every(({ outcome }) => outcome === OUTCOME.DONE)).toBe(true);
    expect(host.told.at(-1)).toMatchObject({ sequence: 100, text: '90' });
    cluster.settle();
    expect(host.store.commits).toBe(commits + 1);
    const { log } = host.store.replica(RANGE)!;
    expect([log.snapshot.index, log.storedBytes, log.hasTrimmable]).toEqual([log.lastIndex, 0, false]);
    expect(cluster.held(host)).toContain('k0=100');
  });

  it('does a proposal once, however often and after whatever it comes again', () => {
    const cluster = new Cluster({ stores: 1 });
    cluster.found(RANGE);
    const first = cluster.hosts[0]!;
    first.store.propose(RANGE, 1, 9, 1, put('a', '1'));
    first.store.propose(RANGE, 1, 9, 2, put('a', '2'));
    first.store.propose(RANGE, 1, 9, 1, put('a', '1'));
    cluster.settle();
    expect(first.told.map(({ outcome }) => outcome)).toEqual([OUTCOME.DONE, OUTCOME.DONE]);
    cluster.restart(0);
    const second = cluster.hosts[0]!;
    cluster.until(() => cluster.leaderOf(RANGE) !== undefined);
    second.store.propose(RANGE, 1, 9, 1, put('a', '1'));
    cluster.settle();
    expect(second.told.map(({ outcome }) => outcome)).toEqual([OUTCOME.DONE_BEFORE]);
    expect(cluster.held(second)).toEqual(['a=2']);
    expect(second.registers.get(RANGE)!.count).toBe(2);
  });

  it('leads at once after it was opened', () => {
    const cluster = new Cluster({ stores: 1 });
    cluster.found(RANGE);
    cluster.put(RANGE, 'a', '1');
    cluster.restart(0);
    cluster.settle();
    expect(cluster.leaderOf(RANGE)).toBeDefined();
    expect(cluster.put(RANGE, 'a', '2')).toBe('1');
  });
});

describe('what is decided in a transaction of somebody else', () => {
  function decide(cluster: Cluster, pairs: readonly [string, string][], fails = false): string[] {
    const { engine, store } = cluster.hosts[0]!;
    const out: string[] = [];
    const work = (writer: KvWriter) => {
      for (const [key, value] of pairs) {
        const output = new ByteWriter();
        const replica = store.replica(RANGE)!;
        store.decisions.enter(replica, writer);
        replica.state!.coprocessor.mutate(new ByteReader(put(key, value)), writer, output);
        out.push(output.view().toString());
      }
      store.decisions.finish();
      if (fails) throw new Error('on purpose');
    };
    try {
      engine.write(work, () => store.decisions.end(true));
    } catch {
      store.decisions.end(false);
    }
    return out;
  }

  it('has its outcome at once, is one commit, and is there for those who join', () => {
    const cluster = new Cluster({ stores: 2 });
    cluster.found(RANGE, '', '\x7f', cluster.hosts.slice(0, 1));
    cluster.put(RANGE, 'a', '0');
    expect(
      decide(cluster, [
        ['a', '1'],
        ['a', '2'],
      ]),
    ).toEqual(['0', '1']);
    expect(decide(cluster, [['b', '1']])).toEqual(['']);
    expect(cluster.put(RANGE, 'a', '3')).toBe('2');
    const places = cluster.hosts.map(({ store }) => ({ store: store.id, role: 0 }));
    const { store } = cluster.hosts[0]!;
    expect(store.replica(RANGE)!.descriptor!.pristine).toBe(false);
    store.configure(RANGE, 1, 1, places);
    decide(cluster, [['c', '1']].slice(0, store.replica(RANGE)!.canDecide ? 1 : 0) as [string, string][]);
    cluster.until(() => store.replica(RANGE)!.descriptor!.members.length === 2);
    cluster.run(2000);
    expect(store.replica(RANGE)!.canDecide).toBe(false);
    expect(cluster.held(cluster.hosts[1]!)).toEqual(cluster.held(cluster.hosts[0]!));
    expect(cluster.hosts[1]!.registers.get(RANGE)!.count).toBe(cluster.hosts[0]!.registers.get(RANGE)!.count);
  });

  it('is not done if the transaction comes to nothing, and is kept over a restart if not', () => {
    const cluster = new Cluster({ stores: 1 });
    cluster.found(RANGE);
    decide(cluster, [['a', '1']]);
    decide(cluster, [['a', '2']], true);
    cluster.run(2000);
    expect(cluster.held(cluster.hosts[0]!)).toEqual(['a=1']);
    expect(decide(cluster, [['a', '3']])).toEqual(['1']);
    cluster.restart(0);
    cluster.run(200);
    expect(decide(cluster, [['a', '4']])).toEqual(['3']);
    expect(cluster.hosts[0]!.registers.get(RANGE)!.count).toBe(3);
  });
});

describe('a range of three voters', () => {
  it('does what is proposed at the leader and at a follower, on all of them', () => {
    const cluster = new Cluster();
    cluster.found(RANGE);
    cluster.put(RANGE, 'a', '1');
    const follower = cluster.hosts.find(host => host !== cluster.leaderOf(RANGE))!;
    follower.store.propose(RANGE, 1, 9, 1, put('a', '2'));
    cluster.run(1000);
    expect(follower.told).toMatchObject([{ outcome: OUTCOME.DONE, text: '1' }]);
    for (const host of cluster.hosts) expect(cluster.held(host)).toEqual(['a=2']);
  });

  it('refuses what was proposed under another epoch', () => {
    const cluster = new Cluster();
    cluster.found(RANGE);
    const leader = cluster.leaderOf(RANGE)!;
    leader.store.propose(RANGE, 2, 9, 1, put('a', '2'));
    cluster.run(200);
    expect(leader.told).toMatchObject([{ outcome: OUTCOME.WRONG_RANGE }]);
    expect(cluster.held(leader)).toEqual([]);
  });

  it('reads what was done before, at every replica', () => {
    const cluster = new Cluster();
    cluster.found(RANGE);
    cluster.put(RANGE, 'a', '1');
    for (const [at, host] of cluster.hosts.entries()) {
      host.store.read(RANGE, at, at === 0 ? 'lease' : 'index');
      cluster.until(() => host.readable.length > 0);
      expect(host.readable).toEqual([at]);
      const output = new ByteWriter();
      expect(host.store.query(RANGE, 1, new ByteReader(Buffer.from('a')), output)).toBe(true);
      expect(output.view().toString()).toBe('1');
      expect(host.store.query(RANGE, 2, new ByteReader(Buffer.from('a')), output)).toBe(false);
    }
  });

  it('goes on without one of them, which catches up from the log', () => {
    const cluster = new Cluster();
    cluster.found(RANGE);
    const index = cluster.hosts.findIndex(host => host !== cluster.leaderOf(RANGE));
    cluster.cut(index);
    for (let i = 0; i < 20; i++) cluster.put(RANGE, `k${i}`, `${i}`);
    expect(cluster.held(cluster.hosts[index]!)).toEqual([]);
    cluster.cuts.clear();
    cluster.run(3000);
    expect(cluster.held(cluster.hosts[index]!)).toHaveLength(20);
    expect(cluster.hosts[index]!.store.replica(RANGE)!.log.snapshot.index).toBe(1);
  });

  it('has another leader when that of now is gone, also if the group was quiet', () => {
    const cluster = new Cluster();
    cluster.found(RANGE);
    cluster.put(RANGE, 'a', '1');
    cluster.until(() => cluster.hosts.every(({ store }) => store.replica(RANGE)!.raft.isQuiescent));
    const former = cluster.leaderOf(RANGE)!;
    cluster.run(10_000);
    expect(cluster.leaderOf(RANGE)).toBe(former);
    cluster.cut(cluster.hosts.indexOf(former));
    cluster.until(() => cluster.leaderOf(RANGE) !== former, 8000);
    expect(cluster.put(RANGE, 'a', '2')).toBe('1');
  });

  it('wakes a quiet group whose leader was started anew', () => {
    const cluster = new Cluster();
    cluster.found(RANGE);
    cluster.put(RANGE, 'a', '1');
    cluster.until(() => cluster.hosts.every(({ store }) => store.replica(RANGE)!.raft.isQuiescent));
    cluster.restart(cluster.hosts.indexOf(cluster.leaderOf(RANGE)!));
    cluster.run(600);
    expect(cluster.hosts.some(({ store }) => !store.replica(RANGE)!.raft.isQuiescent)).toBe(true);
    cluster.until(() => cluster.leaderOf(RANGE) !== undefined, 8000);
    expect(cluster.put(RANGE, 'a', '2')).toBe('1');
  });
});

describe('a store of many ranges', () => {
  it('does nothing for those that are quiet, and sends one frame a heartbeat to each store', () => {
    const cluster = new Cluster();
    for (let i = 0; i < 50; i++) {
      const descriptor = cluster.descriptor(i + 1, `${1000 + i}`, `${1001 + i}`);
      for (const { store } of cluster.hosts) store.found(descriptor);
    }
    cluster.run(20_000);
    let frames = 0;
    cluster.filter = () => {
      frames++;
      return true;
    };
    const commits = cluster.hosts.map(({ store }) => store.commits);
    cluster.run(10_000);
    expect(frames).toBe(3 * 2 * (10_000 / RAFT_TIMING.heartbeatMs));
    expect(cluster.hosts.map(({ store }) => store.commits)).toEqual(commits);
  });

  it('commits and flushes once for all of them', () => {
    const cluster = new Cluster({ stores: 1 });
    for (let i = 0; i < 10; i++) cluster.found(i + 1, `${100 + i}`, `${101 + i}`);
    const { store } = cluster.hosts[0]!;
    const { commits } = store;
    for (let i = 0; i < 10; i++) store.propose(i + 1, 1, 9, i + 1, put(`${100 + i}`, 'x'));
    cluster.settle();
    expect(store.commits).toBe(commits + 1);
    expect(cluster.hosts[0]!.told).toHaveLength(10);
  });
});
