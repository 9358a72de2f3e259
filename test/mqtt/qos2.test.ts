import { afterEach, describe, expect, it } from 'vitest';
import { Broker, type BrokerOptions } from './harness.js';

let broker: Broker;
const open = (options: BrokerOptions = {}) => (broker = new Broker(options));
afterEach(() => broker.close());

const PUBLISHER = { clientId: 'publisher', expiry: 1000, clean: false } as const;

describe('a QoS 2 message', () => {
  for (const expiry of [undefined, 1000]) {
    const kind = expiry === undefined ? 'transient' : 'persistent';

    it(`of a ${kind} session is published once however often it comes, until PUBREL [MQTT-4.3.3-10]`, () => {
      open();
      const receiver = broker.connect();
      receiver.subscribe('t', { qos: 2 });
      const publisher = broker.connect({ expiry });
      publisher.sendPublish('t', 'x', { qos: 2, id: 9 });
      publisher.sendPublish('t', 'x', { qos: 2, id: 9, dup: true });
      broker.pump();
      publisher.sendPublish('t', 'x', { qos: 2, id: 9, dup: true });
      broker.pump();
      const pubrecs = publisher.peer.packets.splice(0);
      expect(pubrecs.every(({ cmd, messageId }) => cmd === 'pubrec' && messageId === 9)).toBe(true);
      expect(pubrecs.length).toBeGreaterThanOrEqual(2);
      for (let i = 0; i < 2; i++) {
        publisher.send({ cmd: 'pubrel', messageId: 9 });
        broker.pump();
        expect(publisher.take('pubcomp', { messageId: 9 }).reasonCode ?? 0).toBe(i === 0 ? 0 : 0x92);
      }
      publisher.publish('t', 'y', { qos: 2, id: 9 });
      expect(receiver.receive()).toEqual(['x', 'y']);
    });
  }

  it('is known again after a reconnect on another shard, also when its PUBREC was lost', () => {
    open({ shards: 2 });
    const receiver = broker.connect({ expiry: 1000 });
    receiver.subscribe('t', { qos: 2 });
    const first = broker.connect(PUBLISHER);
    first.publish('t', 'warm');
    first.sendPublish('t', 'x', { qos: 2, id: 5 });
    broker.pump();
    first.cut();
    const again = broker.connect({ ...PUBLISHER, shard: 1 });
    again.sendPublish('t', 'x', { qos: 2, id: 5, dup: true });
    broker.pump();
    again.take('pubrec', { messageId: 5 });
    again.send({ cmd: 'pubrel', messageId: 5 });
    broker.pump();
    again.take('pubcomp', { messageId: 5 });
    expect(receiver.receive()).toEqual(['warm', 'x']);
  });

  it('is published by its repetition if the store died with it', () => {
    open();
    const receiver = broker.connect({ clientId: 'r', expiry: 1000, clean: false });
    receiver.subscribe('t', { qos: 2 });
    const first = broker.connect(PUBLISHER);
    first.publish('t', 'warm', { qos: 2 });
    receiver.receive();
    broker.kill(broker.applyPeer);
    first.sendPublish('t', 'x', { qos: 2, id: 5 });
    broker.pump();
    first.expectNothing();
    broker.replace(broker.applyPeer);
    first.take('disconnect', { reasonCode: 0x89 });
    expect(first.closed).toBe(true);
    expect(receiver.closed).toBe(true);
    const again = broker.connect(PUBLISHER);
    again.publish('t', 'x', { qos: 2, id: 5, dup: true });
    expect(broker.connect({ clientId: 'r', expiry: 1000, clean: false }).receive()).toEqual(['x']);
  });

  it('is not taken for received while a member on a thread that dies may not have it', () => {
    open({ shards: 3 });
    const member = { clientId: 'member', expiry: 1000, clean: false } as const;
    broker.connect({ ...member, shard: 1 }).subscribe('$share/g/t', { qos: 2 });
    const first = broker.connect(PUBLISHER);
    first.publish('t', 'warm', { qos: 2 });
    broker.kill(2);
    first.sendPublish('t', 'x', { qos: 2, id: 5 });
    broker.pump();
    first.expectNothing();
    broker.kill(1); // nobody is left who would ask another member
    broker.replace(1);
    broker.replace(2);
    for (const client of broker.open) client.peer.closed = true;
    const again = broker.connect({ ...PUBLISHER, shard: 2 });
    again.publish('t', 'x', { qos: 2, id: 5, dup: true });
    expect(broker.connect(member).receive()).toEqual(['warm', 'x']);
  });

  it('releases its id for good before PUBCOMP goes', () => {
    open();
    const publisher = broker.connect(PUBLISHER);
    publisher.sendPublish('t', 'x', { qos: 2, id: 5 });
    broker.pump();
    publisher.take('pubrec');
    broker.applyEngine.held = true;
    publisher.send({ cmd: 'pubrel', messageId: 5 });
    broker.pump();
    publisher.expectNothing();
    broker.applyEngine.release();
    broker.pump();
    publisher.take('pubcomp', { messageId: 5 });
  });

  it('counts against Receive Maximum until PUBCOMP, those of an earlier connection do not [MQTT-3.3.4-9]', () => {
    open({ limits: { inflightInboundMax: 2 } });
    const first = broker.connect(PUBLISHER);
    expect(first.connack.properties.receiveMaximum).toBe(2);
    first.sendPublish('t', '1', { qos: 2, id: 1 });
    first.sendPublish('t', '2', { qos: 2, id: 2 });
    broker.pump();
    first.cut();
    const again = broker.connect(PUBLISHER);
    again.send({ cmd: 'pubrel', messageId: 1 });
    again.sendPublish('t', '3', { qos: 2, id: 3 });
    again.sendPublish('t', '4', { qos: 1, id: 4 });
    broker.pump();
    expect(again.closed).toBe(false);
    expect(again.peer.packets.splice(0).map(({ cmd, messageId }) => [cmd, messageId])).toEqual(
      expect.arrayContaining([
        ['pubcomp', 1],
        ['pubrec', 3],
        ['puback', 4],
      ]),
    );
    again.sendPublish('t', '5', { qos: 2, id: 5 });
    again.sendPublish('t', '6', { qos: 2, id: 6 });
    broker.pump();
    again.take('disconnect', { reasonCode: 0x93 });
  });

  it('is not limited so in MQTT 3.1.1', () => {
    open({ limits: { inflightInboundMax: 2 } });
    const publisher = broker.connect({ version: 4 });
    for (let id = 1; id <= 5; id++) publisher.sendPublish('t', 'x', { qos: 2, id });
    broker.pump();
    expect(publisher.peer.packets.splice(0)).toHaveLength(5);
  });
});
