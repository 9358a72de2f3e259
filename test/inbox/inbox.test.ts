import { describe, expect, it } from 'vitest';
import { ByteReader } from '../../src/base/bytes.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { INSERT_RESULT } from '../../src/contract/inbox.js';
import { REATTACH_GRACE_MS } from '../../src/inbox/session-life.js';
import {
  message,
  readAttached,
  readMessageCopy,
  readPushes,
  StoreHarness,
  TENANT,
  writeAttach,
  writeInsert,
  writeSubscriptions,
} from '../kv/store-harness.js';
import {
  acked,
  attach,
  detach,
  insert,
  ONE,
  payloads,
  pull,
  settle,
  settleRoutes,
  subscribe,
  tick,
} from './inbox-calls.js';

describe('inbox sessions', () => {
  it('makes a session and finds it again with its subscriptions', () => {
    const store = new StoreHarness();
    const first = attach(store, { clientId: 'c' });
    expect(first).toMatchObject({ status: STATUS.OK, present: false, nextSeq: 1, sentSeq: 0 });
    expect(subscribe(store, first.instance, ONE).existed).toEqual([0]);
    expect(subscribe(store, first.instance, ONE).existed).toEqual([1]);
    settle(store, first.instance, 1);
    detach(store, first.instance);
    const again = attach(store, { clientId: 'c', connection: 2 });
    expect(again).toMatchObject({
      instance: first.instance,
      present: true,
      subscriptions: [ONE],
    });
  });

  it('ends a session at a clean start, and goes on when its routes are removed', () => {
    const store = new StoreHarness();
    const first = attach(store, { clientId: 'c' });
    settle(store, first.instance, subscribe(store, first.instance, ONE).change);
    insert(store, 'old', ['c']);
    detach(store, first.instance);
    const waiting = store.ask(1, OP.INBOX_ATTACH, writer =>
      writeAttach(writer, { clientId: 'c', cleanStart: true }),
    );
    store.store.endTurn();
    expect(store.reply(waiting)).toBeUndefined();
    expect(insert(store, 'late', ['c']).results).toEqual([INSERT_RESULT.GONE]);
    expect(settleRoutes(store)).toEqual([{ instance: first.instance, gone: ['a/#'], kept: [] }]);
    const clean = readAttached(store.reply(waiting)!);
    expect(clean).toMatchObject({ present: false, subscriptions: [], nextSeq: 1 });
    expect(clean.instance).not.toBe(first.instance);
    pull(store, clean.instance, 1, 10);
    expect(payloads(store)).toEqual([]);
  });

  it('ends a session without subscriptions at once', () => {
    const store = new StoreHarness();
    const first = attach(store, { clientId: 'c' });
    detach(store, first.instance);
    const clean = attach(store, { clientId: 'c', cleanStart: true });
    expect(clean.present).toBe(false);
    expect(clean.instance).not.toBe(first.instance);
    expect(settleRoutes(store)).toEqual([]);
  });

  it('stores nothing for a client without expiry, and attaches it to a session that is there', () => {
    const store = new StoreHarness();
    expect(attach(store, { clientId: 'c', expirySeconds: 0 })).toMatchObject({ instance: 0, present: false });
    const kept = attach(store, { clientId: 'c' });
    detach(store, kept.instance);
    const short = attach(store, { clientId: 'c', expirySeconds: 0 });
    expect(short).toMatchObject({ instance: kept.instance, present: true });
    detach(store, kept.instance, { expirySeconds: 0 });
    expect(attach(store, { clientId: 'c' }).present).toBe(false);
  });

  it('counts a session as absent once it has expired', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c', expirySeconds: 5 });
    detach(store, instance, { expirySeconds: 5, nowMs: 10_000 });
    expect(attach(store, { clientId: 'c', nowMs: 14_999 }).present).toBe(true);
    detach(store, instance, { expirySeconds: 5, nowMs: 20_000 });
    expect(attach(store, { clientId: 'c', nowMs: 25_000 }).present).toBe(false);
  });

  it('answers GONE to who does not own the session', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    const asked = (peer: number, named: number) =>
      store.call(peer, OP.INBOX_SUBSCRIBE, writer => writeSubscriptions(writer.u53(named), [ONE])).u8();
    expect(asked(1, instance)).toBe(STATUS.OK);
    expect(asked(2, instance)).toBe(STATUS.GONE);
    expect(asked(1, instance + 1)).toBe(STATUS.GONE);
    expect(detach(store, instance, { connection: 9 }).u8()).toBe(STATUS.GONE);
  });

  it('expires sessions, has their routes removed, and lets nobody attach in between', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c', expirySeconds: 5 });
    settle(store, instance, subscribe(store, instance, ONE).change);
    detach(store, instance, { expirySeconds: 5, nowMs: 10_000 });
    store.store.tick(15_000);
    store.store.endTurn();
    const waiting = store.ask(2, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' }));
    store.store.endTurn();
    expect(store.reply(waiting)).toBeUndefined();
    expect(settleRoutes(store)).toEqual([{ instance, gone: ['a/#'], kept: [] }]);
    expect(readAttached(store.reply(waiting)!)).toMatchObject({ present: false, subscriptions: [] });
    tick(store, 20_000);
    expect(settleRoutes(store)).toEqual([]);
  });

  it('asks another thread when the one that removes routes dies, and not at once', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    subscribe(store, instance, ONE);
    detach(store, instance, { expirySeconds: 0 });
    const [asked] = store.take(OP.INBOX_ROUTES);
    expect(asked!.peer).toBe(1); // what it had sent to dist is ahead of what it is asked now
    const waiting = store.ask(2, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' }));
    store.store.endTurn();
    store.store.peerLost(1, 16_000);
    store.store.endTurn();
    expect(store.take(OP.INBOX_ROUTES)).toEqual([]);
    tick(store, 17_000);
    expect(settleRoutes(store)).toEqual([{ instance, gone: ['a/#'], kept: [] }]);
    expect(readAttached(store.reply(waiting)!)).toMatchObject({ present: false });
  });

  it('asks again when dist has no room, and lets those go who waited for it', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    subscribe(store, instance, ONE);
    detach(store, instance, { expirySeconds: 0 });
    const waiting = store.ask(2, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' }));
    store.store.endTurn();
    const [asked] = store.take(OP.INBOX_ROUTES);
    store.answer(asked!.peer, asked!.callId, STATUS.UNAVAILABLE);
    store.store.endTurn();
    expect(store.reply(waiting)!.u8()).toBe(STATUS.UNAVAILABLE);
    tick(store, 3000);
    expect(settleRoutes(store)).toEqual([{ instance, gone: ['a/#'], kept: [] }]);
    expect(attach(store, { clientId: 'c' }).present).toBe(false);
  });

  it('takes no answer for a call of a former life', () => {
    const asked = [1, 2].map(callIdSeed => {
      const store = new StoreHarness({ callIdSeed });
      const { instance } = attach(store, { clientId: 'c' });
      subscribe(store, instance, ONE);
      detach(store, instance, { expirySeconds: 0 });
      return { store, routes: store.take(OP.INBOX_ROUTES)[0]! };
    });
    expect(asked[0]!.routes.callId).not.toBe(asked[1]!.routes.callId);
    asked[1]!.store.answer(1, asked[0]!.routes.callId);
    asked[1]!.store.store.endTurn();
    const waiting = asked[1]!.store.ask(1, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' }));
    asked[1]!.store.store.endTurn();
    expect(asked[1]!.store.reply(waiting)).toBeUndefined();
  });
});

describe('inbox queue', () => {
  it('pushes within the credit, in order, straight and read back', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    insert(store, 'one', ['c']);
    insert(store, 'two', [{ clientId: 'c', qos: 2, flags: 1, ids: [3, 4] }]);
    expect(payloads(store)).toEqual([]);
    pull(store, instance, 1, 3);
    const pushes = readPushes(store.take(OP.INBOX_MESSAGES));
    expect(pushes.map(({ seq }) => seq)).toEqual([1, 2]);
    expect(pushes[1]).toMatchObject({ peer: 1, connection: 1, qos: 2, flags: 1, ids: [3, 4] });
    insert(store, 'three', ['c']);
    insert(store, 'four', ['c']);
    expect(payloads(store)).toEqual(['3:three']);
    pull(store, instance, 0, 2);
    expect(payloads(store)).toEqual(['4:four']);
    insert(store, 'five', ['c']);
    expect(payloads(store)).toEqual(['5:five']);
    acked(store, instance, 1, 2, 3);
    detach(store, instance, { sentSeq: 5 });
    const again = attach(store, { clientId: 'c' });
    expect(again).toMatchObject({ nextSeq: 6, sentSeq: 5 });
    pull(store, instance, 1, 10);
    expect(payloads(store)).toEqual(['4:four', '5:five']);
  });

  it('joins what one turn has for one owner into one frame', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    pull(store, instance, 1, 100);
    for (let i = 0; i < 5; i++)
      store.ask(
        2,
        OP.INBOX_INSERT,
        writer => writeInsert(writer, message('t', `${i}`), [{ clientId: 'c' }]),
        false,
      );
    store.store.endTurn();
    expect(store.sent.filter(({ op }) => op === OP.INBOX_MESSAGES)).toHaveLength(1);
    expect(payloads(store)).toEqual(['1:0', '2:1', '3:2', '4:3', '5:4']);
  });

  it('commits nothing for acknowledgements alone until somebody needs a commit or time has passed', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    insert(store, 'one', ['c']);
    insert(store, 'two', ['c']);
    const { commits } = store.store;
    acked(store, instance, 1);
    expect([store.store.commits, store.store.pending]).toEqual([commits, false]);
    expect(attach(store, { clientId: 'c' }).nextSeq).toBe(3);
    acked(store, instance, 2);
    store.store.tick(0);
    expect(store.store.pending).toBe(true);
    store.store.endTurn();
    pull(store, instance, 1, 10);
    expect(payloads(store)).toEqual([]);
  });

  it('does not read back for a thread whose ring is full', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    insert(store, 'one', ['c']);
    store.congestedPeers.add(1);
    pull(store, instance, 1, 3);
    expect(payloads(store)).toEqual([]);
    store.congestedPeers.clear();
    store.store.endTurn();
    expect(payloads(store)).toEqual(['1:one']);
  });

  it('marks QoS 2 packet ids in the same transaction, so that nothing is inserted twice', () => {
    const store = new StoreHarness();
    const publisher = attach(store, { clientId: 'p' });
    attach(store, { clientId: 'c', connection: 2 });
    expect(insert(store, 'x', ['c'], publisher.instance, 9).results).toEqual([INSERT_RESULT.QUEUED]);
    expect(insert(store, 'x', ['c'], publisher.instance, 9).results).toEqual([INSERT_RESULT.DUPLICATE]);
    detach(store, publisher.instance);
    expect(attach(store, { clientId: 'p' }).received).toEqual([9]);
    const released = store.call(1, OP.INBOX_RELEASED, writer => writer.u53(publisher.instance).u16(9));
    expect(released.u8()).toBe(STATUS.OK);
    expect(insert(store, 'y', ['c'], publisher.instance, 9).results).toEqual([INSERT_RESULT.QUEUED]);
    expect(insert(store, 'y', [], publisher.instance, 10)).toEqual({ status: STATUS.OK, results: [] });
    expect(insert(store, 'y', ['c'], publisher.instance + 50, 11).status).toBe(STATUS.GONE);
  });

  it('keeps what is owed a PUBREL until it is finished', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    insert(store, 'x', [{ clientId: 'c', qos: 2 }]);
    insert(store, 'y', [{ clientId: 'c', qos: 2 }]);
    const received = store.call(1, OP.INBOX_RECEIVED, writer => writer.u53(instance).u32(1).u53(1));
    expect(received.u8()).toBe(STATUS.OK);
    expect(attach(store, { clientId: 'c' })).toMatchObject({ owed: [1], nextSeq: 3, sentSeq: 2 });
    pull(store, instance, 1, 10);
    expect(payloads(store)).toEqual(['2:y']);
    acked(store, instance, 1);
    expect(attach(store, { clientId: 'c' }).owed).toEqual([]);
  });

  it.each([
    ['newest', INSERT_RESULT.DROPPED_NEWEST, ['1:a', '2:b']],
    ['oldest', INSERT_RESULT.DROPPED_OLDEST, ['2:b', '3:c']],
  ] as const)('drops the %s when the queue is full', (queueDropPolicy, result, left) => {
    const store = new StoreHarness({ inbox: { queueMessagesMax: 2, queueDropPolicy } });
    const { instance } = attach(store, { clientId: 'c' });
    insert(store, 'a', ['c']);
    insert(store, 'b', ['c']);
    expect(insert(store, 'c', ['c', 'nobody']).results).toEqual([result, INSERT_RESULT.GONE]);
    pull(store, instance, 1, 10);
    expect(payloads(store)).toEqual(left);
  });

  it('holds the limit of bytes and refuses what can never fit', () => {
    const store = new StoreHarness({ inbox: { queueBytesMax: 300, queueDropPolicy: 'oldest' } });
    attach(store, { clientId: 'c' });
    expect(insert(store, 'x'.repeat(400), ['c']).results).toEqual([INSERT_RESULT.DROPPED_NEWEST]);
    expect(insert(store, 'x'.repeat(150), ['c']).results).toEqual([INSERT_RESULT.QUEUED]);
    expect(insert(store, 'x'.repeat(150), ['c']).results).toEqual([INSERT_RESULT.DROPPED_OLDEST]);
  });

  it('leaves expired messages out and removes them', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c' });
    const dying = message('t', 'short', { expirySeconds: 1, publishedAtMs: 1000 });
    store.call(2, OP.INBOX_INSERT, writer => writeInsert(writer, dying, [{ clientId: 'c' }]));
    insert(store, 'stays', ['c']);
    store.store.tick(2500);
    pull(store, instance, 1, 10);
    expect(payloads(store)).toEqual(['2:stays']);
    store.store.endTurn();
    store.store.tick(0);
    pull(store, instance, 1, 10);
    expect(payloads(store)).toEqual(['2:stays']);
  });
});

describe('inbox wills', () => {
  const will = { delaySeconds: 10, message: message('will', 'gone', { publishedAtMs: 0 }) };

  function due(store: StoreHarness, nowMs: number): string[] {
    store.store.tick(nowMs);
    store.store.endTurn();
    return store.take(OP.INBOX_WILL).map(({ peer, callId, body }) => {
      const reader = new ByteReader(body);
      expect(reader.text()).toBe(TENANT);
      const clientId = reader.text();
      reader.u53();
      const text = `${clientId}:${Buffer.from(readMessageCopy(reader).payload)}`;
      store.answer(peer, callId);
      store.store.endTurn();
      return text;
    });
  }

  it('fires a will after its delay, once', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c', will });
    detach(store, instance, { nowMs: 10_000 });
    expect(due(store, 19_999)).toEqual([]);
    expect(due(store, 20_000)).toEqual(['c:gone']);
    expect(due(store, 30_000)).toEqual([]);
  });

  it('fires at the end of the session if that comes first', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c', will });
    detach(store, instance, { nowMs: 10_000, expirySeconds: 3 });
    expect(due(store, 13_000)).toEqual(['c:gone']);
  });

  it('fires at once without a delay, and when the session ends now', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c', will: { ...will, delaySeconds: 0 } });
    detach(store, instance, { nowMs: 10_000 });
    expect(store.take(OP.INBOX_WILL)).toHaveLength(1);
    const other = attach(store, { clientId: 'd', will });
    detach(store, other.instance, { nowMs: 10_000, expirySeconds: 0 });
    expect(store.take(OP.INBOX_WILL)).toHaveLength(1);
  });

  it('discards a will when told so, and when the client is back in time', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c', will });
    detach(store, instance, { nowMs: 10_000, discard: true });
    expect(due(store, 100_000)).toEqual([]);
    attach(store, { clientId: 'c', will });
    detach(store, instance, { nowMs: 200_000 });
    attach(store, { clientId: 'c' });
    expect(due(store, 300_000)).toEqual([]);
  });

  it('asks another thread when the one that was asked died', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c', will });
    detach(store, instance, { nowMs: 10_000 });
    store.store.tick(20_000);
    const [first] = store.take(OP.INBOX_WILL);
    store.store.peerLost(first!.peer, 21_000);
    store.store.tick(21_000);
    const [second] = store.take(OP.INBOX_WILL);
    expect(second!.peer).not.toBe(first!.peer);
  });

  it('keeps the wills of a dead thread and of a crashed node', () => {
    const store = new StoreHarness();
    attach(store, { clientId: 'c', will: { ...will, delaySeconds: 0 } });
    store.store.peerLost(1, 5000);
    store.store.endTurn();
    expect(store.take(OP.INBOX_WILL)).toHaveLength(1);
    attach(store, { clientId: 'd', will: { ...will, delaySeconds: 0 } }, 2);
    insert(store, 'x', ['d']);
    const restarted = new StoreHarness({ engine: store.engine });
    restarted.inbox.start(9000);
    restarted.store.endTurn();
    expect(due(restarted, 9000 + REATTACH_GRACE_MS - 1)).toEqual(['c:gone']);
    expect(due(restarted, 9000 + REATTACH_GRACE_MS)).toEqual(['d:gone']);
    expect(attach(restarted, { clientId: 'd' })).toMatchObject({ present: true, nextSeq: 2, sentSeq: 1 });
  });
});
