import { afterEach, describe, expect, it } from 'vitest';
import { Broker, type BrokerOptions } from './harness.js';

let broker: Broker;
const open = (options: BrokerOptions = {}) => (broker = new Broker(options));
afterEach(() => broker.close());

describe('acknowledgements to a publisher', () => {
  it('go in the order of the messages, while stores and topics are waited for [MQTT-4.6.0-2] [MQTT-4.6.0-3]', () => {
    open();
    const keeper = broker.connect({ expiry: 100 });
    keeper.subscribe('kept/#', { qos: 2 });
    const publisher = broker.connect();
    broker.applyEngine.held = true;
    publisher.sendPublish('kept/a', '1', { qos: 1, id: 1 });
    publisher.sendPublish('free', '2', { qos: 1, id: 2 });
    publisher.sendPublish('kept/b', '3', { qos: 2, id: 3 });
    publisher.sendPublish('free', '4', { qos: 2, id: 4 });
    broker.pump();
    publisher.expectNothing();
    expect(keeper.messages()).toEqual([]);
    broker.applyEngine.release();
    broker.pump();
    const acks = publisher.peer.packets.splice(0).map(({ cmd, messageId }) => [cmd, messageId]);
    expect(acks).toEqual([
      ['puback', 1],
      ['puback', 2],
      ['pubrec', 3],
      ['pubrec', 4],
    ]);
    expect(keeper.receive()).toEqual(['1', '3']);
  });

  it('wait for a retained message to be stored, at QoS 1 and 2 only', () => {
    open();
    const publisher = broker.connect();
    publisher.publish('r', 'warm'); // the topic is routed
    broker.applyEngine.held = true;
    publisher.sendPublish('r', '0', { qos: 0, retain: true });
    publisher.sendPublish('r', '1', { qos: 1, id: 1, retain: true });
    broker.pump();
    publisher.expectNothing();
    broker.applyEngine.release();
    broker.pump();
    publisher.take('puback', { messageId: 1 });
  });

  it('say that nobody was there (3.4.2.1), in MQTT 5', () => {
    open();
    const publisher = broker.connect();
    expect(publisher.publish('nobody', 'x', { qos: 1 })).toMatchObject({ reasonCode: 0x10 });
    expect(publisher.publish('nobody', 'x', { qos: 2 })).toMatchObject({ reasonCode: 0x10 });
    publisher.subscribe('nobody');
    expect(publisher.publish('nobody', 'x', { qos: 1 }).reasonCode ?? 0).toBe(0);
  });

  it('keep a refusal in its place', () => {
    open({
      authorizer: {
        version: 1,
        mayPublish: (_, topic) => topic !== 'secret',
        maySubscribe: () => true,
      },
    });
    const keeper = broker.connect({ expiry: 100 });
    keeper.subscribe('kept', { qos: 1 });
    const publisher = broker.connect();
    broker.applyEngine.held = true;
    publisher.sendPublish('kept', '1', { qos: 1, id: 1 });
    publisher.sendPublish('secret', '2', { qos: 1, id: 2 });
    publisher.sendPublish('secret', '3', { qos: 2, id: 3 });
    broker.pump();
    publisher.expectNothing();
    broker.applyEngine.release();
    broker.pump();
    expect(publisher.peer.packets.splice(0)).toMatchObject([
      { cmd: 'puback', messageId: 1 },
      { cmd: 'puback', messageId: 2, reasonCode: 0x87 },
      { cmd: 'pubrec', messageId: 3, reasonCode: 0x87 },
    ]);
    // The refused QoS 2 message is over: its id begins another.
    publisher.publish('kept', '4', { qos: 2, id: 3 });
  });
});

describe('reading from a publisher', () => {
  it('stops while too much of it is under way, and goes on at half', () => {
    open({ limits: { pendingPublishMax: 10 } });
    const keeper = broker.connect({ expiry: 100 });
    keeper.subscribe('kept', { qos: 1 });
    const publisher = broker.connect();
    broker.applyEngine.held = true;
    for (let i = 1; i <= 40; i++) publisher.sendPublish('kept', `${i}`, { qos: 1, id: i });
    broker.pump();
    expect(publisher.peer.paused).toBe(true);
    expect(publisher.peer.unreadBytes).toBeGreaterThan(0);
    broker.applyEngine.release();
    broker.pump();
    expect(publisher.peer.paused).toBe(false);
    expect(publisher.peer.packets.splice(0).map(({ messageId }) => messageId)).toEqual(
      Array.from({ length: 40 }, (_, i) => i + 1),
    );
    expect(keeper.receive()).toHaveLength(40);
  });

  it('does not count against its keep-alive while we stop it', () => {
    open({ limits: { pendingPublishMax: 1 } });
    const keeper = broker.connect({ expiry: 100 });
    keeper.subscribe('kept', { qos: 1 });
    const publisher = broker.connect({ keepalive: 2 });
    broker.applyEngine.held = true;
    for (let i = 1; i <= 4; i++) publisher.sendPublish('kept', 'x', { qos: 1, id: i });
    broker.pump();
    expect(publisher.peer.paused).toBe(true);
    broker.advance(10_000);
    expect(publisher.closed).toBe(false);
    broker.applyEngine.release();
    broker.pump();
    broker.advance(10_000);
    expect(publisher.closed).toBe(true);
  });
});

describe('a message', () => {
  it('whose connection ends behind it is still delivered', () => {
    open({ shards: 2 });
    const subscriber = broker.connect({ shard: 1 });
    subscriber.subscribe('t', { qos: 1 });
    const publisher = broker.connect();
    publisher.sendPublish('t', 'last words');
    publisher.send({ cmd: 'disconnect' });
    broker.pump();
    expect(publisher.closed).toBe(true);
    expect(subscriber.payloads()).toEqual(['last words']);
  });
});
