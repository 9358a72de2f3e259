import { afterEach, describe, expect, it } from 'vitest';
import { Broker, type BrokerOptions } from './harness.js';

let broker: Broker;
const open = (options: BrokerOptions = {}) => (broker = new Broker(options));
afterEach(() => broker.close());

const KEEP = { clientId: 'keeper', expiry: 1000, clean: false } as const;

describe('a persistent session', () => {
  it('is sent again what it had not acknowledged, with DUP and the old ids, then the rest [MQTT-4.4.0-1]', () => {
    open({ shards: 2 });
    const first = broker.connect({ ...KEEP, properties: { receiveMaximum: 2 } });
    first.subscribe('t', { qos: 1 });
    const publisher = broker.connect();
    for (let i = 1; i <= 4; i++) publisher.publish('t', `${i}`, { qos: 1 });
    expect(first.messages()).toMatchObject([
      { payload: Buffer.from('1'), messageId: 1, dup: false },
      { payload: Buffer.from('2'), messageId: 2, dup: false },
    ]);
    first.send({ cmd: 'puback', messageId: 1 });
    broker.pump();
    first.take('publish', { messageId: 3, dup: false });
    first.cut();
    const again = broker.connect({ ...KEEP, shard: 1 });
    expect(again.connack.sessionPresent).toBe(true);
    expect(again.messages().map(({ messageId, dup }) => [messageId, dup])).toEqual([
      [2, true],
      [3, true],
      [4, false],
    ]);
    for (const messageId of [2, 3, 4]) again.send({ cmd: 'puback', messageId });
    again.cut();
    expect(broker.connect(KEEP).messages()).toEqual([]);
  });

  it('owes PUBREL after a reconnect, and the id stays taken until PUBCOMP', () => {
    open();
    const first = broker.connect(KEEP);
    first.subscribe('t', { qos: 2 });
    const publisher = broker.connect();
    publisher.publish('t', '1', { qos: 2 });
    publisher.publish('t', '2', { qos: 2 });
    first.messages();
    first.send({ cmd: 'pubrec', messageId: 1 });
    broker.pump();
    first.take('pubrel', { messageId: 1 });
    first.cut();
    const again = broker.connect(KEEP);
    again.take('pubrel', { messageId: 1 });
    again.take('publish', { messageId: 2, dup: true });
    again.send({ cmd: 'pubcomp', messageId: 1 });
    again.send({ cmd: 'pubrec', messageId: 2 });
    broker.pump();
    again.take('pubrel', { messageId: 2 });
    again.send({ cmd: 'pubcomp', messageId: 2 });
    broker.pump();
    again.cut();
    broker.connect(KEEP).expectNothing();
  });

  it('sends PUBREL only when it is stored that the client has the message', () => {
    open();
    const client = broker.connect(KEEP);
    client.subscribe('t', { qos: 2 });
    broker.connect().publish('t', '1', { qos: 2 });
    client.messages();
    broker.applyEngine.held = true;
    client.send({ cmd: 'pubrec', messageId: 1 });
    broker.pump();
    client.expectNothing();
    client.send({ cmd: 'pubrec', messageId: 1 }); // impatient
    broker.pump();
    client.expectNothing();
    broker.applyEngine.release();
    broker.pump();
    client.take('pubrel', { messageId: 1 });
    client.send({ cmd: 'pubrec', messageId: 1 });
    broker.pump();
    client.take('pubrel', { messageId: 1 });
    client.expectNothing();
  });

  it('ends a message whose PUBREC refuses it', () => {
    open();
    const client = broker.connect(KEEP);
    client.subscribe('t', { qos: 2 });
    broker.connect().publish('t', '1', { qos: 2 });
    client.messages();
    client.send({ cmd: 'pubrec', messageId: 1, reasonCode: 0x97 });
    broker.pump();
    client.expectNothing();
    client.cut();
    broker.connect(KEEP).expectNothing();
  });

  it('goes on with packet id 1 behind 65,535, and waits for an id that is still in flight', () => {
    open({ limits: { queueMessagesMax: 100_000, inflightOutboundMax: 65_535 } });
    const client = broker.connect(KEEP);
    client.subscribe('t', { qos: 1 });
    const publisher = broker.connect({ version: 4 });
    let next = 1;
    const publish = (count: number) => {
      for (let i = 0; i < count; i++)
        publisher.sendPublish('t', `${next}`, { qos: 1, id: (next++ % 60_000) + 1 });
      broker.pump();
      publisher.peer.packets.length = 0;
    };
    publish(1);
    client.take('publish', { messageId: 1 }); // never acknowledged
    let last = 1;
    while (last < 65_535) {
      publish(Math.min(5000, 65_535 - last));
      for (const { messageId } of client.messages()) {
        last = messageId;
        client.send({ cmd: 'puback', messageId });
      }
      broker.pump();
    }
    publish(3);
    expect(client.messages()).toEqual([]);
    client.send({ cmd: 'puback', messageId: 1 });
    broker.pump();
    expect(client.messages().map(({ messageId, payload }) => [messageId, String(payload)])).toEqual([
      [1, '65536'],
      [2, '65537'],
      [3, '65538'],
    ]);
  }, 60_000);

  it('drops what expired before it was sent, completes what was sent [MQTT-3.3.2-5] [MQTT-4.3.3-7]', () => {
    open();
    const first = broker.connect({ ...KEEP, properties: { receiveMaximum: 1 } });
    first.subscribe('t', { qos: 2 });
    const publisher = broker.connect();
    const properties = { messageExpiryInterval: 5 };
    for (const payload of ['sent', 'queued']) publisher.publish('t', payload, { qos: 2, properties });
    publisher.publish('t', 'lasting', { qos: 2 });
    expect(first.payloads()).toEqual(['sent']);
    first.cut();
    broker.advance(10_000);
    const again = broker.connect(KEEP);
    expect(again.messages().map(({ payload, dup }) => [String(payload), dup])).toEqual([
      ['sent', true],
      ['lasting', false],
    ]);
  });

  it('counts the expiry down [MQTT-3.3.2-6]', () => {
    open();
    const first = broker.connect(KEEP);
    first.subscribe('t', { qos: 1 });
    first.cut();
    broker.connect().publish('t', 'x', { qos: 1, properties: { messageExpiryInterval: 100 } });
    broker.advance(30_000);
    expect(broker.connect(KEEP).messages()).toMatchObject([{ properties: { messageExpiryInterval: 70 } }]);
  });

  it('goes on when its socket had no room while nothing was in flight', () => {
    open({ limits: { connectionBufferBytesMax: 16 * 1024 } });
    const client = broker.connect(KEEP);
    client.subscribe('t', { qos: 1 });
    client.subscribe('big');
    const publisher = broker.connect();
    publisher.publish('big', 'warm');
    client.messages();
    // One turn brings more QoS 0 than the buffer takes, and the QoS 1 message behind it.
    publisher.sendPublish('big', Buffer.alloc(20_000));
    publisher.sendPublish('t', 'x', { qos: 1 });
    broker.pump();
    expect(client.messages().map(({ topic }) => topic)).toEqual(['big', 't']);
    publisher.peer.packets.length = 0;
  });
});

describe('a transient session', () => {
  it('is sent no more than its Receive Maximum, and the rest in order [MQTT-3.3.4-9]', () => {
    open();
    const client = broker.connect({ properties: { receiveMaximum: 3 } });
    client.subscribe('t', { qos: 2 });
    const publisher = broker.connect();
    const sent = Array.from({ length: 20 }, (_, i) => `${i}`);
    for (const [i, payload] of sent.entries())
      publisher.publish('t', payload, { qos: ((i % 2) + 1) as 1 | 2 });
    expect(client.peer.packets).toHaveLength(3);
    expect(client.receive()).toEqual(sent);
  });

  it('loses the newest or the oldest when its queue is full, as set', () => {
    for (const queueDropPolicy of ['newest', 'oldest'] as const) {
      open({ limits: { queueMessagesMax: 3, queueDropPolicy } });
      const client = broker.connect({ properties: { receiveMaximum: 1 } });
      client.subscribe('t', { qos: 1 });
      const publisher = broker.connect();
      for (let i = 1; i <= 8; i++) publisher.publish('t', `${i}`, { qos: 1 });
      expect(client.receive()).toEqual(
        queueDropPolicy === 'newest' ? ['1', '2', '3', '4'] : ['1', '6', '7', '8'],
      );
      broker.close();
    }
  });

  it('goes on when its socket had no room while nothing was in flight', () => {
    open({ limits: { connectionBufferBytesMax: 16 * 1024 } });
    const client = broker.connect();
    client.subscribe('#', { qos: 1 });
    const publisher = broker.connect();
    publisher.publish('big', 'warm');
    publisher.publish('t', 'warm');
    client.messages();
    publisher.sendPublish('big', Buffer.alloc(20_000));
    publisher.sendPublish('t', 'x', { qos: 1 });
    broker.pump();
    expect(client.messages().map(({ topic }) => topic)).toEqual(['big', 't']);
    publisher.peer.packets.length = 0;
  });

  it('is sent PUBREL for a PUBREC that nobody waits for, with the reason (3.6.2.1)', () => {
    open();
    const client = broker.connect();
    client.send({ cmd: 'pubrec', messageId: 77 });
    broker.pump();
    client.take('pubrel', { messageId: 77, reasonCode: 0x92 });
    client.send({ cmd: 'puback', messageId: 77 });
    client.send({ cmd: 'pubcomp', messageId: 77 });
    broker.pump();
    client.expectNothing();
  });
});
