import { afterEach, describe, expect, it } from 'vitest';
import { DROP, DROPS } from '../../src/base/metrics.js';
import { Broker, type BrokerOptions, HeldEngine } from './harness.js';

let broker: Broker;
const open = (options: BrokerOptions = {}) => (broker = new Broker(options));
afterEach(() => broker.close());

const KEEP = { clientId: 'keeper', expiry: 1000, clean: false } as const;

describe('when the thread of inboxes dies', () => {
  it('nothing is acknowledged that may be lost; other clients notice nothing', () => {
    open({ shards: 2 });
    const keeper = broker.connect({ ...KEEP, shard: 1 });
    keeper.subscribe('kept', { qos: 1 });
    const publisher = broker.connect();
    publisher.publish('kept', 'before', { qos: 1 });
    keeper.receive();
    const bystanders = [broker.connect(), broker.connect({ shard: 1 })];
    for (const bystander of bystanders) bystander.subscribe('free', { qos: 1 });
    broker.kill(broker.applyPeer);
    publisher.sendPublish('kept', 'lost?', { qos: 1 });
    bystanders[0]!.sendPublish('free', 'hello', { qos: 1 });
    broker.pump();
    publisher.expectNothing();
    broker.replace(broker.applyPeer);
    publisher.take('disconnect', { reasonCode: 0x89 });
    keeper.take('disconnect', { reasonCode: 0x89 });
    for (const bystander of bystanders) {
      expect(bystander.closed).toBe(false);
      expect(bystander.payloads()).toEqual(['hello']);
    }
    bystanders[0]!.take('puback');
    const again = broker.connect(KEEP);
    expect(again.connack.sessionPresent).toBe(true);
    broker.connect().publish('kept', 'after', { qos: 1 });
    expect(again.receive()).toEqual(['after']);
  });

  it('a CONNECT under way is refused, and may come again', () => {
    open();
    broker.kill(broker.applyPeer);
    const socket = broker.socket();
    socket.sendConnect(KEEP);
    broker.pump();
    broker.replace(broker.applyPeer);
    socket.take('connack', { reasonCode: 0x88 });
    expect(broker.dict.size).toBe(0);
    broker.connect(KEEP);
  });

  it('a SUBSCRIBE or UNSUBSCRIBE of a persistent session under way ends the connection unanswered', () => {
    for (const act of ['sendSubscribe', 'sendUnsubscribe'] as const) {
      open();
      const client = broker.connect(KEEP);
      broker.kill(broker.applyPeer);
      client[act]('t');
      broker.pump();
      client.expectNothing();
      broker.replace(broker.applyPeer);
      client.take('disconnect', { reasonCode: 0x89 });
      client.expectNothing();
      broker.close();
    }
  });
});

describe('when the disk is full', () => {
  it('a message is not acknowledged, and the publisher has to come again', () => {
    open();
    const keeper = broker.connect(KEEP);
    keeper.subscribe('kept', { qos: 1 });
    const publisher = broker.connect();
    publisher.publish('kept', 'before', { qos: 1 });
    broker.applyEngine.full = true;
    publisher.sendPublish('kept', 'x', { qos: 1 });
    broker.pump();
    publisher.take('disconnect', { reasonCode: 0x83 });
    publisher.expectNothing();
    broker.applyEngine.full = false;
    expect(keeper.receive()).toEqual(['before']);
  });

  it('a subscription that cannot be stored is not acknowledged', () => {
    open();
    const client = broker.connect(KEEP);
    broker.matchEngine.full = true;
    client.sendSubscribe('t', { qos: 1 });
    broker.pump();
    client.take('disconnect', { reasonCode: 0x89 });
    client.expectNothing();
    broker.matchEngine.full = false;
  });
});

describe('when the match thread dies', () => {
  it('live subscriptions are told to its successor, topics matched anew, also $-topics', () => {
    open({ shards: 2 });
    const [near, far] = [broker.connect(), broker.connect({ shard: 1 })];
    for (const client of [near, far]) client.subscribe(['t', '$own/t', '$share/g/s'], { qos: 1 });
    const publisher = broker.connect();
    const check = (payload: string) => {
      for (const topic of ['t', '$own/t']) publisher.publish(topic, payload, { qos: 1 });
      expect([near.receive(), far.receive()]).toEqual([
        [payload, payload],
        [payload, payload],
      ]);
      publisher.publish('s', payload, { qos: 1 });
      publisher.publish('s', payload, { qos: 1 });
      expect([near.receive(), far.receive()]).toEqual([[payload], [payload]]);
    };
    check('before');
    broker.kill(broker.matchPeer);
    publisher.publish('t', 'cached', { qos: 1 });
    expect([near.receive(), far.receive()]).toEqual([['cached'], ['cached']]);
    publisher.sendPublish('new', 'waits', { qos: 1, id: 1 });
    far.sendSubscribe('new', { qos: 1 });
    near.sendUnsubscribe('$own/t');
    broker.pump();
    publisher.expectNothing();
    broker.replace(broker.matchPeer);
    near.take('unsuback');
    far.take('suback');
    publisher.take('puback', { messageId: 1 });
    far.payloads();
    near.subscribe('$own/t', { qos: 1 });
    check('after');
    publisher.publish('new', 'x', { qos: 1 });
    expect(far.payloads()).toEqual(['x']);
  });

  it('routes of persistent sessions are still there', () => {
    open();
    const first = broker.connect(KEEP);
    first.subscribe('t', { qos: 1 });
    first.cut();
    broker.kill(broker.matchPeer);
    broker.replace(broker.matchPeer);
    broker.connect().publish('t', 'x', { qos: 1 });
    expect(broker.connect(KEEP).receive()).toEqual(['x']);
  });
});

describe('when the database of sessions was put away, and that of routes was not', () => {
  it('routes to sessions that are no more go after a minute', () => {
    open();
    const first = broker.connect(KEEP);
    first.subscribe(['t', 'u/+'], { qos: 1 });
    first.cut();
    const left = broker.matchEngine;
    broker.close();
    open({ engines: { match: left, apply: new HeldEngine() } });
    expect(broker.dist.size).toBe(2);
    const publisher = broker.connect();
    const gone = () => {
      const before = broker.counter(DROPS + DROP.SESSION_GONE);
      for (const topic of ['t', 'u/1']) publisher.publish(topic, 'x', { qos: 1 });
      return broker.counter(DROPS + DROP.SESSION_GONE) - before;
    };
    expect(gone()).toBe(2);
    broker.advance(59_000);
    expect(gone()).toBe(2);
    broker.advance(2000);
    expect(gone()).toBe(2);
    expect([gone(), broker.dist.size]).toEqual([0, 0]);
    const again = broker.connect(KEEP);
    expect(again.connack.sessionPresent).toBe(false);
    again.subscribe('t', { qos: 1 });
    expect(gone()).toBe(0);
    expect(again.receive()).toEqual(['x']);
  });
});

describe('when an mqtt thread dies', () => {
  it('its clients come back with their sessions; messages for its group members go to others', () => {
    open({ shards: 3 });
    const keeper = broker.connect({ ...KEEP, shard: 1 });
    keeper.subscribe('t', { qos: 1 });
    const lost = broker.connect({ shard: 1 });
    lost.subscribe('$share/g/s', { qos: 1 });
    const heir = broker.connect({ shard: 2 });
    heir.subscribe('$share/g/s', { qos: 1 });
    const publisher = broker.connect();
    publisher.publish('s', 'warm', { qos: 1 });
    publisher.publish('s', 'warm', { qos: 1 });
    heir.receive();
    broker.kill(2);
    for (let id = 1; id <= 4; id++) publisher.sendPublish('s', `${id}`, { qos: 1, id });
    publisher.sendPublish('t', 'kept', { qos: 1, id: 5 });
    broker.pump();
    broker.replace(2);
    expect(heir.receive().sort()).toEqual(['1', '2', '3', '4']);
    expect(publisher.peer.packets.splice(0).map(({ messageId }) => messageId)).toEqual([1, 2, 3, 4, 5]);
    const again = broker.connect({ ...KEEP, shard: 1 });
    expect(again.connack.sessionPresent).toBe(true);
    expect(again.receive()).toEqual(['kept']);
    keeper.peer.closed = lost.peer.closed = true;
  });

  it('answers that it is owed do not reach its successor', () => {
    open({ shards: 2 });
    const member = broker.connect({ shard: 1, ...KEEP });
    member.subscribe('$share/g/s', { qos: 1 });
    const publisher = broker.connect();
    publisher.publish('s', 'warm', { qos: 1 });
    broker.applyEngine.held = true;
    for (let id = 1; id <= 5; id++) publisher.sendPublish('s', 'x', { qos: 1, id });
    broker.pump();
    broker.kill(1); // while shard 1 waits for the inbox on its behalf
    broker.replace(1);
    const client = broker.socket();
    client.sendConnect({ clientId: 'new', expiry: 5 });
    broker.pump();
    client.expectNothing();
    broker.applyEngine.release();
    broker.pump();
    client.take('connack', { reasonCode: 0 });
    publisher.peer.closed = true;
    expect(member.receive().length).toBe(6);
  });
});
