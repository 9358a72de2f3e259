import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ShoalError } from '../../../src/base/errors.js';
import { MemoryEngine } from '../../../src/kv/memory-engine.js';
import { VarintWriter } from '../../../src/kv/raft/varint.js';
import { OUTCOME } from '../../../src/kv/replicated/commands.js';
import { ITEM } from '../../../src/kv/replicated/frames.js';
import type { RaftStore } from '../../../src/kv/replicated/raft-store.js';
import { encodeChunk, PART } from '../../../src/kv/replicated/snapshot.js';
import { Cluster, put } from './cluster.js';

const RANGE = 5;

function frame(cluster: Cluster, from: number, to: number, kind: number, body: Uint8Array): Uint8Array {
  const head = new VarintWriter(64).byte(1).number(cluster.hosts[from]!.store.id);
  head.number(cluster.hosts[to]!.store.id).number(1);
  return head.byte(kind).number(RANGE).blob(body).copy();
}

describe('frames that nobody of us has sent', () => {
  it('change nothing, whatever is in them', () => {
    const cluster = new Cluster();
    cluster.found(RANGE);
    cluster.put(RANGE, 'a', '1');
    const kept: Uint8Array[] = [];
    cluster.filter = (_, to, bytes) => {
      if (to === 0 && kept.length < 40) kept.push(Uint8Array.from(bytes));
      return true;
    };
    cluster.put(RANGE, 'a', '2');
    cluster.run(1000);
    const from = cluster.hosts[1]!.store.id;
    const { store } = cluster.hosts[0]!;
    fc.assert(
      fc.property(
        fc.nat(),
        fc.nat(),
        fc.nat(255),
        fc.uint8Array({ maxLength: 60 }),
        (which, at, byte, noise) => {
          const bytes = Uint8Array.from(kept[which % kept.length]!);
          store.step(from, bytes.slice(0, at % (bytes.length + 1)));
          // Noise that happens to be a whole word of another store is believed, as its transport vouches for it.
          const isWord = byte % 7 === ITEM.GONE && noise[0] === store.replica(RANGE)!.id;
          if (!isWord) store.step(from, frame(cluster, 1, 0, byte % 7, noise));
          store.step(from, noise);
          while (store.pending) store.turn();
        },
      ),
      { numRuns: 500 },
    );
    cluster.run(5000);
    for (const host of cluster.hosts) expect(cluster.held(host)).toEqual(['a=2']);
  });

  it('make no state, though their checksums are right', () => {
    const cluster = new Cluster();
    cluster.found(RANGE);
    cluster.put(RANGE, 'a', '1');
    const index = cluster.hosts.findIndex(host => host !== cluster.leaderOf(RANGE));
    const { store } = cluster.hosts[index]!;
    const other = cluster.hosts.findIndex((_, at) => at !== index);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(2), fc.nat(3), (bytes, number, part) => {
        const chunk = { from: other + 1, to: index + 1, transfer: 7, number, part, bytes };
        const body = encodeChunk(new VarintWriter(256), chunk);
        store.step(cluster.hosts[other]!.store.id, frame(cluster, other, index, ITEM.CHUNK, body));
        while (store.pending) store.turn();
        expect(PART.LAST).toBe(1);
      }),
    );
    cluster.run(5000);
    for (const host of cluster.hosts) expect(cluster.held(host)).toEqual(['a=1']);
    expect(store.replica(RANGE)!.install?.received ?? 0).toBe(0);
  });

  it('for another store, or of another one, are not read', () => {
    const cluster = new Cluster();
    cluster.found(RANGE);
    const frames: Uint8Array[] = [];
    cluster.filter = (_, to, bytes) => {
      if (to === 1) frames.push(bytes);
      return true;
    };
    cluster.run(2000);
    cluster.cut(0);
    const { commits } = cluster.hosts[0]!.store;
    for (const bytes of frames) {
      cluster.hosts[0]!.store.step(cluster.hosts[2]!.store.id, bytes);
      cluster.hosts[1]!.store.step(12345, bytes);
    }
    cluster.settle();
    expect(cluster.hosts[0]!.store.commits).toBe(commits);
  });
});

/** Has room for a while. */
class FullEngine extends MemoryEngine {
  full = false;

  override write(...[work, durable]: Parameters<MemoryEngine['write']>): void {
    super.write(writer => {
      work(writer);
      if (this.full) throw new ShoalError('SHOAL_STORAGE_FULL', 'no room');
    }, durable);
  }
}

describe('a store without room', () => {
  it('leaves nothing of what it could not store, says that it is not known, and goes on when there is room', () => {
    const cluster = new Cluster({ stores: 1, engines: () => new FullEngine() });
    cluster.found(RANGE);
    cluster.put(RANGE, 'a', '1');
    const host = cluster.hosts[0]!;
    const engine = host.engine as FullEngine;
    engine.full = true;
    host.store.propose(RANGE, 1, 9, 1, put('a', '2'));
    host.store.propose(RANGE, 1, 9, 2, put('b', '2'));
    cluster.settle();
    expect(host.told.slice(-2).map(({ outcome }) => outcome)).toEqual([OUTCOME.UNKNOWN, OUTCOME.UNKNOWN]);
    expect(cluster.held(host)).toEqual(['a=1']);
    expect(host.registers.get(RANGE)!.count).toBe(1);
    cluster.run(3000);
    expect(host.store.failures).toBeGreaterThan(1);
    expect(host.store.failures).toBeLessThan(6);
    engine.full = false;
    expect(cluster.put(RANGE, 'a', '3')).toBe('1');
  });

  it('is no obstacle for a range that has others', () => {
    const cluster = new Cluster({ engines: () => new FullEngine() });
    cluster.found(RANGE);
    const full = cluster.hosts.indexOf(cluster.leaderOf(RANGE)!);
    const engine = cluster.hosts[full]!.engine as FullEngine;
    engine.full = true;
    cluster.put(RANGE, 'a', '1');
    engine.full = false;
    cluster.run(5000);
    for (const host of cluster.hosts) expect(cluster.held(host)).toEqual(['a=1']);
  });
});

describe('a replica that nobody counts any more', () => {
  it('ends when it asks, though it does not campaign', () => {
    const cluster = new Cluster({ stores: 4 });
    cluster.found(RANGE, '', '\x7f', cluster.hosts.slice(0, 3));
    const places = [0, 1, 2, 3].map(at => ({ store: cluster.hosts[at]!.store.id, role: at === 3 ? 1 : 0 }));
    const leader = () => cluster.leaderOf(RANGE)!;
    const isSettled = () => leader()?.store.replica(RANGE)?.descriptor?.changing === false;
    leader().store.configure(RANGE, 1, 1, places);
    cluster.until(() => isSettled() && cluster.hosts[3]!.store.replica(RANGE)?.state !== undefined);
    cluster.cut(3);
    leader().store.configure(RANGE, 1, 2, places.slice(0, 3));
    cluster.run(3000);
    cluster.cuts.clear();
    cluster.run(10_000);
    const { store } = cluster.hosts[3]!;
    expect(store.replica(RANGE)).toBeDefined();
    store.inquire(RANGE);
    cluster.run(200);
    expect(store.replica(RANGE)).toBeUndefined();
    leader().store.inquire(RANGE);
    cluster.run(200);
    expect(leader()).toBeDefined();
  });
});

describe('a replica without a state', () => {
  it('asks by itself whether it is to wait on, and ends if it is not', () => {
    const cluster = new Cluster({ stores: 2 });
    cluster.found(RANGE, '', '\x7f', cluster.hosts.slice(0, 1));
    cluster.put(RANGE, 'a', '1');
    const [first, second] = cluster.hosts.map(({ store }) => store) as [RaftStore, RaftStore];
    const places = [first, second].map((store, at) => ({ store: store.id, role: at }));
    // It is heard of, and its state never comes.
    cluster.filter = (from, _, frame) => from === 1 || frame.length < 120;
    first.configure(RANGE, 1, 1, places);
    cluster.until(() => second.replica(RANGE) !== undefined);
    cluster.cut(1);
    first.configure(RANGE, 1, 2, places.slice(0, 1));
    cluster.run(3000);
    cluster.cuts.clear();
    cluster.run(2000);
    expect(second.replica(RANGE)!.state).toBeUndefined();
    cluster.run(12_000);
    expect(second.replica(RANGE)).toBeUndefined();
  });
});

describe('a range that was never used', () => {
  it('is discarded, and one that was used is not', () => {
    const cluster = new Cluster({ stores: 2 });
    cluster.found(1, 'a', 'm', cluster.hosts.slice(0, 1));
    const { store } = cluster.hosts[0]!;
    expect([store.discard(2), store.discard(1)]).toEqual([false, true]);
    cluster.run(200);
    expect(store.replica(1)).toBeUndefined();
    cluster.found(4, 'a', 'm', cluster.hosts.slice(0, 1));
    cluster.put(4, 'b', '1');
    expect(store.discard(4)).toBe(false);
    cluster.found(5, 'm', 'z', cluster.hosts.slice(0, 1));
    store.propose(5, 1, 9, 1, put('n', '1'));
    expect(store.discard(5)).toBe(true);
    cluster.run(500);
    expect(cluster.held(cluster.hosts[0]!)).toEqual(['b=1', 'n=1']);
    expect(store.replica(5)).toBeDefined();
  });

  it('is discarded at all its members, and at those that were away when they ask', () => {
    const cluster = new Cluster({ stores: 4 });
    cluster.found(1, 'a', 'm', cluster.hosts.slice(0, 3));
    const leader = cluster.leaderOf(1)!;
    const places = cluster.hosts.map(({ store }, at) => ({ store: store.id, role: at === 3 ? 1 : 0 }));
    leader.store.configure(1, 1, 1, places);
    cluster.until(() => leader.store.replica(1)!.descriptor!.members.length === 4);
    cluster.until(() => !leader.store.replica(1)!.descriptor!.changing);
    const stores: RaftStore[] = cluster.hosts.map(({ store }) => store);
    cluster.cut(3);
    expect(leader.store.discard(1)).toBe(true);
    cluster.run(15_000);
    expect(stores.slice(0, 3).map(store => store.replica(1))).toEqual([undefined, undefined, undefined]);
    cluster.cuts.clear();
    stores[3]!.inquire(1);
    cluster.run(500);
    expect(stores[3]!.replica(1)).toBeUndefined();
  });
});
