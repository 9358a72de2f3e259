import { describe, expect, it } from 'vitest';
import { ROLE } from '../../../src/kv/replicated/descriptor.js';
import { Cluster, registerKey } from './cluster.js';

const RANGE = 5;
/** A log that is compacted soon, and states in small chunks. */
const SMALL = {
  limits: { logBytesMax: 600, tailBytesMax: 100 },
  snapshots: { chunkBytesMax: 100, windowChunksMax: 2 },
};

function fill(cluster: Cluster, from: number, count: number): void {
  for (let i = from; i < from + count; i++) cluster.put(RANGE, `k${i}`, `${i}`.padStart(10, '0'));
}

function places(cluster: Cluster, ...indices: number[]) {
  return indices.map(index => ({ store: cluster.hosts[index]!.store.id, role: ROLE.VOTER }));
}

function membersOf(cluster: Cluster): number[] | undefined {
  const descriptor = cluster.leaderOf(RANGE)?.store.replica(RANGE)?.descriptor;
  if (descriptor === undefined || descriptor.changing) return undefined;
  return descriptor.members.map(({ store }) => cluster.hosts.findIndex(host => host.store.id === store));
}

function configure(cluster: Cluster, ...indices: number[]): void {
  const host = cluster.leaderOf(RANGE)!;
  host.store.configure(RANGE, 1, ++cluster.sequence, places(cluster, ...indices));
  cluster.until(() => membersOf(cluster)?.join() === indices.join());
}

describe('a follower that the log does not reach', () => {
  it('gets the state, in chunks, while writes go on', () => {
    const cluster = new Cluster({
      store: { ...SMALL, snapshots: { chunkBytesMax: 100, windowChunksMax: 1 } },
    });
    cluster.found(RANGE);
    const index = cluster.hosts.findIndex(host => host !== cluster.leaderOf(RANGE));
    const lagging = cluster.hosts[index]!;
    fill(cluster, 0, 3);
    cluster.run(1000);
    cluster.cut(index);
    fill(cluster, 3, 60);
    expect(cluster.leaderOf(RANGE)!.store.replica(RANGE)!.log.snapshot.index).toBeGreaterThan(20);
    cluster.cuts.clear();
    let chunks = 0;
    let writes = 0;
    cluster.filter = (from, _, frame) => {
      if (frame.length > 90 && from === cluster.hosts.indexOf(cluster.leaderOf(RANGE)!)) chunks++;
      if (chunks > writes && writes < 5) {
        const leader = cluster.leaderOf(RANGE)!;
        leader.store.propose(
          RANGE,
          1,
          3,
          ++writes,
          Buffer.concat([Uint8Array.of(1), Buffer.from(`a${writes}`)]),
        );
      }
      return true;
    };
    cluster.until(() => cluster.held(lagging).length === 64);
    expect(writes).toBe(5);
    expect(chunks).toBeGreaterThan(10);
    expect(cluster.held(lagging)).toEqual(cluster.held(cluster.leaderOf(RANGE)!));
    expect(lagging.registers.get(RANGE)!.count).toBe(cluster.leaderOf(RANGE)!.registers.get(RANGE)!.count);
  });

  it('gets what it has not from where it was, when chunks are lost or it is started anew', () => {
    for (const restart of [false, true]) {
      const cluster = new Cluster({ store: SMALL });
      cluster.found(RANGE);
      const index = cluster.hosts.findIndex(host => host !== cluster.leaderOf(RANGE));
      cluster.cut(index);
      fill(cluster, 0, 60);
      cluster.cuts.clear();
      let frames = 0;
      cluster.filter = (_, to) => to !== index || ++frames % 5 !== 4;
      cluster.until(() => (cluster.hosts[index]!.store.replica(RANGE)!.install?.received ?? 0) > 5);
      if (restart) cluster.restart(index);
      const received = cluster.hosts[index]!.store.replica(RANGE)!.install!.received;
      expect(received).toBeGreaterThan(5);
      cluster.until(() => cluster.held(cluster.hosts[index]!).length === 60);
      cluster.run(2000);
      expect(cluster.hosts[index]!.store.replica(RANGE)!.install).toBeUndefined();
      // Nothing of the stage stays.
      let records = 0;
      cluster.hosts[index]!.engine.scan(
        Uint8Array.of(0x4c, 1, 0x63),
        Uint8Array.of(0x4c, 1, 0x64),
        () => ++records > 0,
      );
      expect(records).toBe(0);
    }
  });

  it('does not take a state that was altered on its way', () => {
    const cluster = new Cluster({ store: SMALL });
    cluster.found(RANGE);
    const index = cluster.hosts.findIndex(host => host !== cluster.leaderOf(RANGE));
    cluster.cut(index);
    fill(cluster, 0, 60);
    cluster.cuts.clear();
    let altered = 0;
    cluster.filter = (_, to, frame) => {
      const at = Buffer.from(frame.buffer, frame.byteOffset, frame.length).indexOf('0000000042');
      if (to === index && at >= 0 && altered < 3) {
        frame[at + 5]! ^= 1;
        altered++;
      }
      return true;
    };
    cluster.until(() => cluster.held(cluster.hosts[index]!).length === 60);
    expect(altered).toBe(3);
    expect(cluster.held(cluster.hosts[index]!)).toEqual(cluster.held(cluster.leaderOf(RANGE)!));
  });
});

describe('members', () => {
  it('come, with the state, and go, with all that they had', () => {
    const cluster = new Cluster({ stores: 5, store: SMALL });
    cluster.found(RANGE, '', '\x7f', cluster.hosts.slice(0, 1));
    fill(cluster, 0, 30);
    configure(cluster, 0, 1, 2);
    fill(cluster, 30, 5);
    cluster.run(1000);
    for (const host of cluster.hosts.slice(0, 3)) expect(cluster.held(host)).toHaveLength(35);
    configure(cluster, 0, 3, 4);
    cluster.run(8000);
    for (const host of cluster.hosts.slice(1, 3)) {
      expect(cluster.held(host)).toEqual([]);
      expect(host.store.replica(RANGE)).toBeUndefined();
      let records = 0;
      host.engine.scan(Uint8Array.of(0x4c), Uint8Array.of(0x4d), () => ++records > 0);
      // Who the store is, and the tombstone.
      expect(records).toBe(2);
    }
    fill(cluster, 40, 1);
    cluster.run(1000);
    for (const index of [0, 3, 4]) expect(cluster.held(cluster.hosts[index]!)).toHaveLength(36);
  });

  it('are no voters before they have the state, however short the log is', () => {
    const cluster = new Cluster({ store: SMALL });
    cluster.found(RANGE, '', '\x7f', cluster.hosts.slice(0, 1));
    fill(cluster, 0, 3);
    cluster.cut(1);
    cluster.cut(2);
    const { store } = cluster.hosts[0]!;
    store.configure(RANGE, 1, 500, places(cluster, 0, 1, 2));
    cluster.run(5000);
    expect(store.replica(RANGE)!.raft.configuration).toMatchObject({ voters: [1], learners: [2, 3] });
    fill(cluster, 3, 1);
    cluster.cuts.clear();
    cluster.until(() => membersOf(cluster)?.join() === '0,1,2');
  });

  it('may come back to a store, under another id, and old messages wake nobody', () => {
    const cluster = new Cluster({ store: SMALL });
    cluster.found(RANGE);
    fill(cluster, 0, 3);
    const leader = cluster.leaderOf(RANGE)!;
    const leaderIndex = cluster.hosts.indexOf(leader);
    const [stays, leaves] = [0, 1, 2].filter(index => index !== leaderIndex) as [number, number];
    const frames: Uint8Array[] = [];
    cluster.filter = (from, to, frame) => {
      if (from === leaderIndex && to === leaves) frames.push(Uint8Array.from(frame));
      return true;
    };
    fill(cluster, 3, 2);
    configure(cluster, ...[leaderIndex, stays].sort());
    cluster.run(8000);
    const { store } = cluster.hosts[leaves]!;
    expect(store.replica(RANGE)).toBeUndefined();
    for (const frame of frames) store.step(leader.store.id, frame);
    cluster.settle();
    expect(store.replica(RANGE)).toBeUndefined();
    configure(
      cluster,
      ...[leaderIndex, stays, leaves].sort((a, b) => (a === leaves ? 1 : b === leaves ? -1 : a - b)),
    );
    cluster.run(2000);
    expect(store.replica(RANGE)!.id).toBe(4);
    expect(cluster.held(cluster.hosts[leaves]!)).toHaveLength(5);
  });

  it('that were away when they were removed are told, and end', () => {
    const cluster = new Cluster({ store: SMALL });
    cluster.found(RANGE);
    fill(cluster, 0, 3);
    const index = cluster.hosts.findIndex(host => host !== cluster.leaderOf(RANGE));
    cluster.cut(index);
    configure(cluster, ...[0, 1, 2].filter(other => other !== index));
    cluster.run(5000);
    cluster.cuts.clear();
    cluster.run(10_000);
    expect(cluster.hosts[index]!.store.replica(RANGE)).toBeUndefined();
    expect(cluster.held(cluster.hosts[index]!)).toEqual([]);
  });

  it('that lead hand over before they go', () => {
    const cluster = new Cluster({ store: SMALL });
    cluster.found(RANGE);
    const leader = cluster.hosts.indexOf(cluster.leaderOf(RANGE)!);
    configure(cluster, ...[0, 1, 2].filter(index => index !== leader));
    cluster.run(8000);
    expect(cluster.hosts[leader]!.store.replica(RANGE)).toBeUndefined();
    fill(cluster, 0, 1);
  });

  it('can be given up by force, and the lost ones are none any more', () => {
    const cluster = new Cluster({ store: SMALL });
    cluster.found(RANGE);
    fill(cluster, 0, 3);
    cluster.run(1000);
    const left = cluster.hosts.findIndex(host => host !== cluster.leaderOf(RANGE));
    const lost = [0, 1, 2].filter(index => index !== left);
    for (const index of lost) cluster.cut(index);
    const survivor = cluster.hosts[left]!;
    cluster.run(5000);
    expect(survivor.store.recoverAsSoleVoterAndLoseWhatOnlyOthersHave(RANGE)).toBe(true);
    cluster.until(() => survivor.store.replica(RANGE)!.descriptor!.members.length === 1);
    expect(survivor.store.replica(RANGE)!.isLeader).toBe(true);
    const { epoch, nextReplica } = survivor.store.replica(RANGE)!.descriptor!;
    expect([epoch > 1_000_000, nextReplica > 1_000_000]).toEqual([true, true]);
    cluster.cuts.clear();
    cluster.until(
      () => lost.every(index => cluster.hosts[index]!.store.replica(RANGE) === undefined),
      20_000,
    );
    expect(cluster.held(survivor)).toHaveLength(3);
    configure(cluster, left, ...lost);
    expect(cluster.put(RANGE, 'k0', 'x')).toBe('0000000000');
  });

  it('are not changed by one who looked too long ago', () => {
    const cluster = new Cluster({ stores: 4 });
    cluster.found(RANGE, '', '\x7f', cluster.hosts.slice(0, 3));
    const host = cluster.leaderOf(RANGE)!;
    host.store.configure(RANGE, 1, 901, places(cluster, 0, 1, 3));
    host.store.configure(RANGE, 1, 902, places(cluster, 0, 2, 3));
    cluster.until(() => membersOf(cluster)?.join() === '0,1,3');
    expect([host.outcomeOf(1, 901), host.outcomeOf(1, 902)]).toEqual([0, 4]);
    expect(cluster.held(host, '', '\x7f')).toEqual([]);
    expect(registerKey('a')[0]).toBe(0x72);
  });
});
