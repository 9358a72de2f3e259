import { describe, expect, it } from 'vitest';
import { ByteReader } from '../../src/base/bytes.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { INSERT_RESULT } from '../../src/contract/inbox.js';
import { REATTACH_GRACE_MS } from '../../src/inbox/session-life.js';
import {
  type Attach,
  type Attached,
  message,
  readAttached,
  readMessageCopy,
  readPushes,
  readSubscriptions,
  StoreHarness,
  type Target,
  TENANT,
  writeAttach,
  writeInsert,
  writeSubscriptions,
} from '../kv/store-harness.js';

function attach(store: StoreHarness, options: Attach, peer = 1): Attached {
  return readAttached(store.call(peer, OP.INBOX_ATTACH, writer => writeAttach(writer, options)));
}

function detach(
  store: StoreHarness,
  instance: number,
  options: {
    expirySeconds?: number;
    nowMs?: number;
    discard?: boolean;
    sentSeq?: number;
    connection?: number;
  } = {},
): ByteReader {
  return store.call(1, OP.INBOX_DETACH, writer =>
    writer
      .u53(instance)
      .u32(options.connection ?? 1)
      .u32(options.expirySeconds ?? 0xffff_ffff)
      .u53(options.nowMs ?? 2000)
      .u8(options.discard ? 1 : 0)
      .u53(options.sentSeq ?? 0),
  );
}

function insert(
  store: StoreHarness,
  payload: string,
  targets: readonly (string | Target)[],
  source = 0,
  packetId = 0,
): { status: number; results: number[] } {
  const reply = store.call(2, OP.INBOX_INSERT, writer =>
    writeInsert(
      writer,
      message('a/b', payload),
      targets.map(target => (typeof target === 'string' ? { clientId: target } : target)),
      source,
      packetId,
    ),
  );
  const status = reply.u8();
  const results: number[] = [];
  for (let left = reply.u32(); left > 0; left--) results.push(reply.u8());
  return { status, results };
}

function pull(store: StoreHarness, instance: number, fromSeq: number, credit: number, peer = 1): void {
  store.ask(peer, OP.INBOX_PULL, writer => writer.u53(instance).u53(fromSeq).u32(credit), false);
  store.store.endTurn();
}

function acked(store: StoreHarness, instance: number, ...seqs: number[]): void {
  store.ask(
    1,
    OP.INBOX_ACKED,
    writer => {
      writer.u53(instance).u32(seqs.length);
      for (const seq of seqs) writer.u53(seq);
    },
    false,
  );
  store.store.endTurn();
}

function payloads(store: StoreHarness): string[] {
  return readPushes(store.take(OP.INBOX_MESSAGES)).map(
    ({ seq, message: { payload } }) => `${seq}:${payload}`,
  );
}

const ONE = { filter: 'a/#', options: 1, subscriptionId: 7 };

describe('inbox sessions', () => {
  it('makes a session and finds it again with its subscriptions', () => {
    const store = new StoreHarness();
    const first = attach(store, { clientId: 'c' });
    expect(first).toMatchObject({ status: STATUS.OK, present: false, nextSeq: 1, sentSeq: 0 });
    const subscribe = () =>
      store.call(1, OP.INBOX_SUBSCRIBE, writer => writeSubscriptions(writer.u53(first.instance), [ONE]));
    expect([...subscribe().raw(6)]).toEqual([STATUS.OK, 1, 0, 0, 0, 0]);
    expect([...subscribe().raw(6)]).toEqual([STATUS.OK, 1, 0, 0, 0, 1]);
    detach(store, first.instance);
    const again = attach(store, { clientId: 'c', connection: 2 });
    expect(again).toMatchObject({
      instance: first.instance,
      present: true,
      subscriptions: [ONE],
      former: [],
    });
  });

  it('ends a session at a clean start and names the routes to remove', () => {
    const store = new StoreHarness();
    const first = attach(store, { clientId: 'c' });
    store.call(1, OP.INBOX_SUBSCRIBE, writer => writeSubscriptions(writer.u53(first.instance), [ONE]));
    insert(store, 'old', ['c']);
    detach(store, first.instance);
    const clean = attach(store, { clientId: 'c', cleanStart: true });
    expect(clean).toMatchObject({ present: false, subscriptions: [], former: [ONE], nextSeq: 1 });
    expect(clean.instance).not.toBe(first.instance);
    pull(store, clean.instance, 1, 10);
    expect(payloads(store)).toEqual([]);
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
    store.call(1, OP.INBOX_SUBSCRIBE, writer => writeSubscriptions(writer.u53(instance), [ONE]));
    detach(store, instance, { expirySeconds: 5, nowMs: 10_000 });
    store.store.tick(15_000);
    store.store.endTurn();
    const [expired] = store.take(OP.INBOX_EXPIRED);
    const body = new ByteReader(expired!.body);
    expect([body.text(), body.text(), body.u53()]).toEqual([TENANT, 'c', instance]);
    expect(readSubscriptions(body)).toEqual([ONE]);
    const waiting = store.ask(2, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' }));
    store.store.endTurn();
    expect(store.reply(waiting)).toBeUndefined();
    store.answer(expired!.peer, expired!.callId);
    store.store.endTurn();
    expect(readAttached(store.reply(waiting)!)).toMatchObject({
      present: false,
      former: [],
      subscriptions: [],
    });
    store.store.tick(20_000);
    store.store.endTurn();
    expect(store.take(OP.INBOX_EXPIRED)).toEqual([]);
  });

  it('hands the routes of an expired session to who attaches when the remover dies', () => {
    const store = new StoreHarness();
    const { instance } = attach(store, { clientId: 'c', expirySeconds: 5 });
    store.call(1, OP.INBOX_SUBSCRIBE, writer => writeSubscriptions(writer.u53(instance), [ONE]));
    detach(store, instance, { expirySeconds: 5, nowMs: 10_000 });
    store.store.tick(15_000);
    store.store.endTurn();
    const [expired] = store.take(OP.INBOX_EXPIRED);
    const living = expired!.peer === 1 ? 2 : 1;
    const waiting = store.ask(living, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' }));
    store.store.endTurn();
    store.store.peerLost(expired!.peer, 16_000);
    store.store.endTurn();
    expect(readAttached(store.reply(waiting)!)).toMatchObject({ present: false, former: [ONE] });
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
