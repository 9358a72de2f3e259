import { describe, expect, it } from 'vitest';
import { encodeReplica, encodeStore, replicaKey, storeKey } from '../../../src/kv/balance/account-codec.js';
import { Board, FIGURES_MS } from '../../../src/kv/balance/board.js';
import type { ReplicaAccount } from '../../../src/kv/balance/landscape.js';
import { Model } from './model.js';

const STORE = { host: 71, name: 'n1', cores: 2, draining: false, services: [0x61] };

class Desk {
  wall = 1_700_000_000_000;
  mono = 5000;
  readonly clock = { wallMs: () => this.wall, monotonicMs: () => this.mono };
  readonly map = new Map<string, Uint8Array>();

  pass(ms: number): void {
    this.wall += ms;
    this.mono += ms;
  }

  publish(board: Board): string[] {
    const changes = board.publications();
    for (const { key, bytes } of changes)
      if (bytes === undefined) this.map.delete(key);
      else this.map.set(key, bytes);
    return changes.map(({ key }) => key);
  }
}

function replicaOf(more: Partial<ReplicaAccount> = {}): ReplicaAccount {
  const model = new Model(3);
  const range = model.addRange('a', 'b', [1, 2, 3], { bytes: 1000, epochSinceMs: 4000 });
  return { ...model.replica(range, 1), ...more };
}

describe('Board', () => {
  it('brings an account to others, with times of their own clock', () => {
    const here = new Desk();
    const writer = new Board(here.clock, { id: 1, account: STORE });
    const replica = replicaOf({ silent: [{ replica: 3, sinceMs: 1 }] });
    writer.ownIs(STORE, [replica]);
    here.publish(writer);
    const there = new Desk();
    there.mono = 90_000;
    const reader = new Board(there.clock, { id: 2, account: { ...STORE, host: 72 } });
    for (const [key, bytes] of here.map) expect(reader.hear(key, bytes)).toBe(true);
    reader.hostsAre(new Set([71, 72]));
    const [account] = reader.landscape().stores;
    // 1,000 ms old there, so here.
    const load = { ...replica.load, epochSinceMs: 89_000 };
    expect(account).toMatchObject({
      store: 1,
      alive: true,
      sinceMs: 90_000,
      cores: 2,
      draining: false,
      services: [0x61],
    });
    const [copy] = account!.replicas;
    expect({ ...copy, boundary: null }).toEqual({ ...replica, boundary: null, load, silent: [] });
    expect(Buffer.compare(copy!.boundary.end, replica.boundary.end)).toBe(0);
  });

  it('publishes a change of form at once, figures now and then and when they differ, and nothing twice', () => {
    const desk = new Desk();
    const board = new Board(desk.clock, { id: 1, account: STORE });
    const replica = replicaOf();
    const key = replicaKey(1, replica.range);
    board.ownIs(STORE, [replica]);
    expect(desk.publish(board)).toEqual([storeKey(1), key]);
    expect(desk.publish(board)).toEqual([]);
    const figures = (bytes: number) => ({ ...replica, load: { ...replica.load, bytes } });
    board.ownIs(STORE, [figures(9000)]);
    expect(desk.publish(board)).toEqual([]);
    desk.pass(FIGURES_MS);
    expect(desk.publish(board)).toEqual([key]);
    desk.pass(FIGURES_MS);
    board.ownIs(STORE, [figures(9500)]);
    expect(desk.publish(board)).toEqual([]);
    board.ownIs(STORE, [{ ...figures(9500), leads: false }]);
    expect(desk.publish(board)).toEqual([key]);
    board.ownIs({ ...STORE, draining: true }, []);
    expect(desk.publish(board)).toEqual([storeKey(1), key]);
    expect(desk.map.has(key)).toBe(false);
  });

  it('takes a store for alive while the underlay has its host, and keeps the account of one that is lost', () => {
    const desk = new Desk();
    const board = new Board(desk.clock, { id: 1, account: STORE });
    board.hear(storeKey(9), encodeStore({ ...STORE, host: 79 }));
    board.hear(replicaKey(9, 5), encodeReplica(replicaOf()));
    const account = () => board.landscape().stores[1]!;
    expect(account()).toMatchObject({ store: 9, alive: false });
    board.hostsAre(new Set([79]));
    expect(account()).toMatchObject({ alive: true, sinceMs: 5000 });
    desk.pass(700);
    board.hostsAre(new Set());
    expect(account()).toMatchObject({ alive: false, sinceMs: 5700 });
    expect(account().replicas.length).toBe(1);
    // Its node came back as another host.
    board.hostsAre(new Set([80]));
    board.hear(storeKey(9), encodeStore({ ...STORE, host: 80 }));
    expect(account()).toMatchObject({ alive: true });
    board.hear(storeKey(9), undefined);
    board.hear(replicaKey(9, 5), undefined);
    expect(board.landscape().stores.length).toBe(1);
  });

  it('deletes what an earlier life of its store has left in the map', () => {
    const desk = new Desk();
    const board = new Board(desk.clock, { id: 1, account: STORE });
    const replica = replicaOf();
    const [held, gone] = [replicaKey(1, replica.range), replicaKey(1, 7)];
    for (const key of [held, gone]) board.hear(key, encodeReplica(replica));
    board.ownIs(STORE, [replica]);
    expect(board.publications()).toMatchObject([
      { key: storeKey(1) },
      { key: held, bytes: expect.any(Uint8Array) },
      { key: gone, bytes: undefined },
    ]);
    expect(board.publications()).toEqual([]);
  });

  it('refuses what is no account, and hears nothing of itself from others', () => {
    const desk = new Desk();
    const board = new Board(desk.clock, { id: 1, account: STORE });
    expect(board.hear('x', new Uint8Array(3))).toBe(false);
    expect(board.hear(storeKey(2), new Uint8Array(3))).toBe(false);
    expect(board.hear(replicaKey(2, 1), new Uint8Array(3))).toBe(false);
    expect(board.hear(replicaKey(1, 1), encodeReplica(replicaOf()))).toBe(true);
    const same = board.landscape();
    expect(same.stores.map(({ store }) => store)).toEqual([1]);
    expect(same.stores[0]!.replicas).toEqual([]);
    expect(board.landscape()).toBe(same);
  });
});
