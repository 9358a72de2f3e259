import { describe, expect, it } from 'vitest';
import { AssertionError } from '../../src/base/assert.js';
import { Replicator } from '../../src/crdt/anti-entropy.js';
import type { ReplicatorOptions } from '../../src/crdt/crdt.js';
import { crdtMessageBytes } from '../../src/crdt/message.js';
import { OrMap } from '../../src/crdt/or-map.js';
import { canonical } from './map-history.js';
import { contents, Network } from './network.js';
import { bytes, SeededRandom, text } from './seeded.js';

/** Windows, logs and pages so small that every bound is met. */
const TIGHT: Partial<ReplicatorOptions> = {
  newsMax: 8,
  windowDeltas: 1,
  deltaBytesMax: 150,
  bulkNewsMin: 4,
  bulkBytesMax: 300,
  repairPagesMax: 2,
  pushedBytesMax: 200,
  resendsMax: 1,
  eagerMin: 1,
};

/** Random writes and removals at random nodes, some time apart. */
function stir(network: Network, ids: readonly number[], count: number, keys = 40): void {
  for (let i = 0; i < count; i++) {
    const key = `key ${network.random.below(keys)}`;
    network.act(ids[network.random.below(ids.length)]!, node => {
      if (network.random.chance(0.3)) node.remove(key);
      else node.set(key, bytes(`value ${i} of ${network.nowMs}`));
    });
    network.run(network.random.below(60));
  }
}

/** A cluster of nodes, each of which wrote one key, equal and quiet. */
function settled(seed: number, count: number, options: Partial<ReplicatorOptions> = {}) {
  const network = new Network(seed);
  const ids = Array.from({ length: count }, () => network.add(options));
  for (const id of ids) network.act(id, node => node.set(`host ${id}`, bytes(`record of ${id}`)));
  network.mesh();
  network.converge(30_000);
  network.run(30_000);
  return { network, ids };
}

describe('Replicator on a bad network', () => {
  it.each(Array.from({ length: 24 }, (_, i) => i + 1))(
    'converges, over a cut and its healing, seed %i',
    seed => {
      const network = new Network(seed);
      const count = 2 + network.random.below(14);
      const options = seed % 3 === 0 ? TIGHT : {};
      const ids = Array.from({ length: count }, () => network.add(options));
      network.weather = { loss: 0.2, duplication: 0.2, latencyMinMs: 1, latencyMaxMs: 120 };
      network.mesh();
      stir(network, ids, 150);
      for (const id of ids) network.sides.set(id, network.random.below(2));
      if (seed % 2 === 0) network.mesh();
      stir(network, ids, 150);
      for (const id of ids) network.sides.set(id, 0);
      network.mesh();
      stir(network, ids, 50);
      network.converge(seed % 3 === 0 ? 300_000 : 60_000);
      const [first, ...others] = ids.map(id => contents(network.nodes.get(id)!.map));
      expect(Object.keys(first!).length).toBeGreaterThan(5);
      for (const other of others) expect(other).toEqual(first);
      // And the digests tell the truth: a state joined afresh from the whole has the same.
      for (const id of ids) {
        const { map } = network.nodes.get(id)!;
        const fresh = new OrMap(1_000);
        fresh.apply(map.toDelta());
        expect(canonical(fresh)).toEqual(canonical(map));
      }
    },
  );

  it.each([1, 2, 3])('replicates deltas to what joining whole states gives, seed %i', seed => {
    const network = new Network(seed);
    const ids = Array.from({ length: 6 }, () => network.add());
    network.weather = { loss: 0.3, duplication: 0.3, latencyMinMs: 1, latencyMaxMs: 300 };
    network.mesh();
    const whole = new OrMap(1_000);
    // After every local change its node's whole state is joined on the side.
    network.onStep = (_, { map }, changed) => {
      if (changed.length > 0) whole.apply(map.toDelta());
    };
    stir(network, ids, 200);
    network.converge(60_000);
    for (const id of ids) expect(contents(network.nodes.get(id)!.map)).toEqual(contents(whole));
  });

  it.each([1, 2, 3, 4])('never shows a key gone that is only being overwritten, seed %i', seed => {
    const network = new Network(seed);
    const ids = Array.from({ length: 9 }, () => network.add());
    network.act(ids[0]!, node => {
      for (let i = 0; i < 6; i++) node.set(`key ${i}`, bytes('first'));
    });
    network.mesh();
    network.converge(30_000);
    network.weather = { loss: 0.2, duplication: 0.2, latencyMinMs: 1, latencyMaxMs: 400 };
    network.onStep = (_, { map }) => expect(map.size).toBe(6);
    for (let i = 0; i < 600; i++) {
      const node = ids[network.random.below(ids.length)]!;
      network.act(node, replicator => replicator.set(`key ${network.random.below(6)}`, new Uint8Array(150)));
      if (network.random.chance(0.3)) network.run(network.random.below(80));
    }
    network.converge(60_000);
  });
});

describe('Replicator in quiet times', () => {
  it.each([3, 40])('of %i sends roots of under 100 bytes and nothing else', count => {
    const { network, ids } = settled(7, count);
    network.sentMessages = 0;
    network.largestBytes = 0;
    network.sentByKind.clear();
    network.run(100_000);
    expect([...network.sentByKind.keys()]).toEqual(['root']);
    expect(network.largestBytes).toBeLessThan(100);
    // One root a link in 7.5 to 12.5 s, whoever is first; two when they cross.
    const linkCount = (ids.length * (count === 3 ? 2 : 6.5)) / 2;
    expect(network.sentMessages).toBeLessThan(linkCount * 14 * 1.1);
    expect(network.sentMessages).toBeGreaterThan(linkCount * 6);
    for (const { newsHeld } of network.nodes.values()) expect(newsHeld).toBe(0);
  });

  it('brings one change to all within a second, and tells each of it but a few times', () => {
    const { network, ids } = settled(8, 40);
    network.sentByKind.clear();
    network.act(ids[0]!, node => node.set('news', bytes('fresh')));
    expect(network.converge(1_000, 10)).toBeLessThan(1_000);
    network.run(100);
    expect(network.sentByKind.get('delta')!).toBeLessThan(ids.length * 5);
  });

  it('has nothing to wake up for without neighbours', () => {
    const node = new Replicator(new OrMap(1), new SeededRandom(1));
    node.set('k', bytes('v'));
    node.setNeighbours([1]);
    expect(node.nextDeadlineMs()).toBe(Number.POSITIVE_INFINITY);
    expect(node.newsHeld).toBe(0);
    expect(node.takeChanges()).toEqual(['k']);
    expect(node.takeChanges()).toEqual([]);
    expect(() => node.setNeighbours(Array.from({ length: 257 }, (_, i) => i + 2))).toThrow(AssertionError);
  });
});

describe('Replicator', () => {
  it('tells the others what one neighbour told it, but not that neighbour', () => {
    const network = new Network(1);
    const [a, b, c] = [network.add(), network.add(), network.add()];
    network.act(a, node => node.setNeighbours([b]));
    network.act(b, node => node.setNeighbours([a, c]));
    network.act(c, node => node.setNeighbours([b]));
    network.run(2_000);
    const deltas: string[] = [];
    const names = new Map([a, b, c].map((id, i) => [id, 'abc'[i]!]));
    network.onSend = (from, { to, message }) => {
      if (message.kind === 'delta') deltas.push(`${names.get(from)} to ${names.get(to)}`);
    };
    network.act(a, node => node.set('k', bytes('v')));
    network.run(5_000);
    network.act(a, node => node.remove('k'));
    network.run(5_000);
    expect(deltas).toEqual(['a to b', 'b to c', 'a to b', 'b to c']);
    expect(network.nodes.get(c)!.map.size).toBe(0);
  });

  it('gathers what is written in a row, and sends a value that was replaced meanwhile no more', () => {
    const { network, ids } = settled(2, 2);
    const [a, b] = ids as [number, number];
    const sent: string[] = [];
    network.onSend = (_, { message }) => {
      if (message.kind === 'delta') sent.push(message.entries.map(({ value }) => text(value)).join());
    };
    network.act(a, node => {
      for (let i = 0; i < 50; i++) node.set('k', bytes(`${i}`));
      node.set('l', bytes('l'));
    });
    network.run(150);
    for (let i = 50; i < 60; i++) network.act(a, node => node.set('k', bytes(`${i}`)));
    network.run(40);
    expect(sent).toEqual(['49,l']);
    network.run(300);
    expect(sent).toEqual(['49,l', '59']);
    const { map } = network.nodes.get(b)!;
    expect(map.values('k').map(text)).toEqual(['59']);
    expect(map.toDelta().dropped.length).toBeLessThanOrEqual(6);
  });

  it('fills deltas up to their bound, and sends what is larger alone', () => {
    const { network, ids } = settled(3, 2);
    const sizes: number[] = [];
    network.onSend = (_, { message }) => {
      if (message.kind === 'delta') sizes.push(crdtMessageBytes(message));
    };
    network.act(ids[0]!, node => {
      for (let i = 0; i < 12; i++) node.set(`k${i}`, new Uint8Array(i === 6 ? 5_000 : 120));
    });
    network.converge(5_000);
    expect(sizes.filter(size => size > 1_100)).toHaveLength(1);
    expect(sizes).toHaveLength(4);
  });

  it('keeps a bounded log for a neighbour that does not answer, and repairs it when it does', () => {
    const { network, ids } = settled(4, 2, { newsMax: 64 });
    const [a, b] = ids as [number, number];
    network.sides.set(b, 1);
    network.sentMessages = 0;
    for (let i = 0; i < 2_000; i++) {
      network.act(a, node => node.set(`k${i % 500}`, bytes(`${i}`)));
      network.run(100);
      expect(network.nodes.get(a)!.newsHeld).toBeLessThanOrEqual(64);
    }
    // 200 s: four deltas with their resends, then roots, of both.
    expect(network.sentMessages).toBeLessThan(4 * 7 + 2 * 27);
    network.sides.set(b, 0);
    network.converge(20_000);
    expect(network.nodes.get(b)!.map.values('k499').map(text)).toEqual(['1999']);
  });

  it('fills an empty newcomer in pages', () => {
    const { network, ids } = settled(6, 5);
    network.act(ids[0]!, node => {
      for (let i = 0; i < 3_000; i++) node.set(`key ${i}`, new Uint8Array(200));
    });
    network.converge(60_000);
    network.run(30_000);
    network.largestBytes = 0;
    network.sentBytes = 0;
    network.add();
    network.mesh();
    expect(network.converge(20_000)).toBeLessThan(12_000);
    expect(network.largestBytes).toBeLessThanOrEqual(16_100);
    // Once over from somebody, not from each of its neighbours.
    expect(network.sentBytes).toBeLessThan(2.5 * 3_000 * 270);
  });

  it('answers a host that is no neighbour, and keeps nothing of it', () => {
    const [one, two] = [new Replicator(new OrMap(1), new SeededRandom(1)), new OrMap(2)];
    one.set('k', bytes('v'));
    one.takeSends();
    one.receive(2, { kind: 'root', low: 0, high: 0, count: 0 }, 5);
    expect(one.takeSends()).toMatchObject([{ to: 2, message: { kind: 'dots', dots: [1, 1] } }]);
    one.receive(2, { kind: 'repair', entries: [], dropped: [], wanted: [1, 1, 7, 7] }, 5);
    expect(one.takeSends()).toMatchObject([{ to: 2, message: { kind: 'repair', entries: [{ key: 'k' }] } }]);
    const { entries, dropped } = two.set('l', bytes('w'))!.toDelta();
    one.receive(2, { kind: 'delta', seq: 8, entries, dropped }, 5);
    expect(one.takeSends()).toEqual([{ to: 2, message: { kind: 'ack', seq: 8 } }]);
    one.receive(2, { kind: 'delta', seq: 10, entries, dropped }, 5);
    expect(one.takeSends()).toEqual([{ to: 2, message: { kind: 'ack', seq: 11 } }]);
    expect(one.map.size).toBe(2);
    expect([one.newsHeld, one.nextDeadlineMs()]).toEqual([0, Number.POSITIVE_INFINITY]);
  });

  it('lists all when the buckets agree and the roots do not', () => {
    const node = new Replicator(new OrMap(1), new SeededRandom(1));
    for (let i = 0; i < 100; i++) node.set(`k${i}`, bytes('v'));
    const digests = node.map.digest.buckets();
    const check = node.map.digest.high >>> 0;
    node.receive(2, { kind: 'buckets', digests, check }, 0);
    expect(node.takeSends()).toEqual([]);
    node.receive(2, { kind: 'buckets', digests, check: check ^ 1 }, 0);
    expect(node.takeSends()).toMatchObject([{ to: 2, message: { kind: 'dots', ranges: [0, 0xffff_ffff] } }]);
  });

  it('forgets the dead everywhere, and removes a late zombie again', () => {
    const { network, ids } = settled(9, 8);
    const [dead, zombie, ...rest] = ids as [number, number, ...number[]];
    // The zombie is cut off while the others bury the dead and forget it.
    network.sides.set(zombie, 1);
    network.kill(dead);
    network.mesh();
    network.act(rest[0]!, node => node.remove(`host ${dead}`));
    network.converge(20_000);
    for (const id of rest) {
      const node = network.nodes.get(id)!;
      expect([...node.map.dormantReplicas()]).toEqual([dead]);
      expect(node.map.forget(dead)).toBe(true);
    }
    network.sides.set(zombie, 0);
    network.mesh();
    network.converge(20_000);
    expect(network.nodes.get(rest[1]!)!.map.has(`host ${dead}`)).toBe(true);
    network.act(rest[2]!, node => node.remove(`host ${dead}`));
    network.converge(20_000);
    for (const { map } of network.nodes.values()) {
      expect(map.size).toBe(7);
      expect(map.originCount).toBe(8);
    }
  });
});
