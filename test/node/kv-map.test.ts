import { beforeEach, describe, expect, it } from 'vitest';
import { encodeReplica, encodeStore, replicaKey, storeKey } from '../../src/kv/balance/account-codec.js';
import { Board } from '../../src/kv/balance/board.js';
import type { CallSink } from '../../src/kv/route/client.js';
import { ASK } from '../../src/kv/route/client.js';
import { type MapAccess, mapRoutes } from '../../src/node/kv-map-routes.js';
import { examineKv } from '../../src/node/kv-probe.js';
import { rpcFailure } from '../../src/rpc/failure.js';
import { OneRange } from '../kv/map/map-model.js';
import { landscapeOf, soleReplica } from './kv-stores.js';

const CLOCK = { wallMs: () => 1_234, monotonicMs: () => 5_000 };

/** A map of one range, which answers or does not. */
class Access implements MapAccess {
  readonly range = new OneRange(7);
  /** What becomes of the next calls instead. */
  end: ((sink: CallSink) => void) | undefined;
  isFull = false;
  readonly asked: number[] = [];

  call(ask: number, key: Uint8Array, body: Uint8Array, _timeoutMs: number, sink: CallSink): boolean {
    if (this.isFull) return false;
    this.asked.push(ask);
    expect(key[0]).toBe(0x6d);
    const { end, range } = this;
    queueMicrotask(() => {
      if (end !== undefined) end(sink);
      else sink.done(ask === ASK.MUTATE ? range.tell(body) : range.ask(body));
    });
    return true;
  }
}

let access: Access;
beforeEach(() => {
  access = new Access();
});

async function ask(word: string, body: object): Promise<readonly [number, Record<string, unknown>]> {
  const route = new Map(mapRoutes({ access }, CLOCK)).get(`POST /kv/map/${word}`)!;
  const { status, body: answer } = await route(body);
  return [status, answer as Record<string, unknown>];
}

const value = Buffer.from('näher').toString('base64');

describe('the map, at the administration port', () => {
  it('keeps, gives and removes values', async () => {
    expect(await ask('get', { key: 'a' })).toEqual([200, { outcome: 'absent' }]);
    expect(await ask('put', { key: 'a', value })).toEqual([200, { outcome: 'done', revision: 1 }]);
    const found = { outcome: 'found', revision: 1, modifiedAtMs: 1_234, value };
    expect(await ask('get', { key: 'a' })).toEqual([200, found]);
    expect(await ask('delete', { key: 'a' })).toEqual([200, { outcome: 'done', revision: 1 }]);
    expect(await ask('delete', { key: 'a' })).toEqual([200, { outcome: 'done', revision: 0 }]);
  });

  it('does what is expected of it or nothing', async () => {
    const absent = { key: 'a', value, expected: 0 };
    expect(await ask('put', absent)).toMatchObject([200, { outcome: 'done' }]);
    expect(await ask('put', absent)).toMatchObject([
      200,
      { outcome: 'not-done', why: expect.stringContaining('revision 1 now') },
    ]);
    const gone = { outcome: 'not-done', why: 'the key is not there' };
    expect(await ask('delete', { key: 'b', expected: 5 })).toEqual([200, gone]);
  });

  it('lists, and says whether there is more', async () => {
    for (const key of ['a/1', 'a/2', 'a/3', 'b']) await ask('put', { key, value });
    const keys = async (body: object) => {
      const [, { entries, more }] = await ask('list', body);
      return [(entries as { key: string }[]).map(({ key }) => key).join(), more];
    };
    expect(await keys({})).toEqual(['a/1,a/2,a/3,b', false]);
    expect(await keys({ prefix: 'a/', entriesMax: 2 })).toEqual(['a/1,a/2', true]);
    expect(await keys({ prefix: 'a/', after: 'a/2' })).toEqual(['a/3', false]);
  });

  it('says what became of a call that was not answered', async () => {
    access.end = sink => sink.notDone('deadline');
    expect(await ask('put', { key: 'a', value })).toMatchObject([
      200,
      { outcome: 'not-done', why: expect.stringContaining('in time') },
    ]);
    expect(await ask('get', { key: 'a' })).toMatchObject([200, { outcome: 'not-done' }]);
    expect(await ask('list', {})).toMatchObject([200, { outcome: 'not-done' }]);
    access.end = sink => sink.unknown();
    expect(await ask('delete', { key: 'a' })).toMatchObject([
      200,
      { outcome: 'unknown', why: expect.stringContaining('may have been done') },
    ]);
    access.end = sink => sink.done(undefined);
    expect(await ask('put', { key: 'a', value })).toEqual([200, { outcome: 'done', revision: null }]);
    access.end = sink => sink.done(Uint8Array.of(99, 99));
    expect(await ask('put', { key: 'a', value })).toMatchObject([
      200,
      { outcome: 'not-done', why: expect.stringContaining('no sense') },
    ]);
    access.isFull = true;
    expect(await ask('get', { key: 'a' })).toMatchObject([
      200,
      { outcome: 'not-done', why: expect.stringContaining('too many') },
    ]);
  });

  it.each([
    ['get', { key: '' }, 'not empty'],
    ['get', { key: 7 }, 'has to be a text'],
    ['put', { key: 'k'.repeat(513), value }, 'at most 512 bytes'],
    ['put', { key: 'a' }, 'Base64'],
    ['put', { key: 'a', value, expected: -1 }, 'whole number'],
    ['delete', { key: 'a', expected: 'x' }, 'whole number'],
    ['get', { key: 'a', timeoutMs: 60_000 }, 'timeoutMs'],
    ['list', { prefix: 7 }, 'prefix'],
    ['list', { entriesMax: 0 }, 'entriesMax'],
    ['list', { after: '' }, 'not empty'],
  ])('%s refuses %o', async (word, body, why) => {
    expect(await ask(word, body)).toEqual([400, { error: expect.stringContaining(why) }]);
    expect(access.asked).toEqual([]);
  });

  it('refuses a value that is too long', async () => {
    const long = Buffer.alloc(65_537).toString('base64');
    expect(await ask('put', { key: 'a', value: long })).toMatchObject([
      413,
      { error: expect.stringContaining('65536') },
    ]);
  });
});

describe('the doctor', () => {
  const kv = (isPristine: boolean) => {
    const { stores } = landscapeOf(1, [{ id: 40, stores: [1], more: { pristine: isPristine } }]);
    const board = new Board(CLOCK);
    const { replicas, ...account } = stores[0]!;
    board.hear(storeKey(1), encodeStore({ ...account, host: 71, services: [0x6d], draining: false }));
    for (const replica of [...replicas, soleReplica(1)])
      board.hear(replicaKey(1, replica.range), encodeReplica(replica));
    board.hostsAre(new Set([71]));
    return {
      ...{ board, access, ownStores: [1], begunServices: new Set<number>() },
      steer: async () => rpcFailure('unavailable', ''),
      publish: () => undefined,
    };
  };

  it('writes where something was written before, and leaves nothing behind', async () => {
    await ask('put', { key: 'a', value });
    access.asked.length = 0;
    const found = await examineKv(kv(false), CLOCK);
    expect(access.asked).toEqual([ASK.MUTATE]);
    expect(found.map(({ severity }) => severity)).toEqual(['note']);
    expect((await ask('list', {}))[1]).toMatchObject({ entries: [{ key: 'a', revision: 1 }] });
  });

  it('only asks where nothing was ever written: an empty twin has to go by itself', async () => {
    await examineKv(kv(true), CLOCK);
    expect(access.asked).toEqual([ASK.QUERY]);
  });

  it('tells that a write was not taken', async () => {
    access.end = sink => sink.unknown();
    const [first] = await examineKv(kv(false), CLOCK);
    expect(first).toMatchObject({ severity: 'wrong', what: expect.stringContaining('takes no write') });
  });

  it('has nothing to say in a node without a cluster', async () => {
    expect(await examineKv({ ...kv(false), access: undefined }, CLOCK)).toEqual([]);
  });
});
