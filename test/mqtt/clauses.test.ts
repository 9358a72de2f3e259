import { afterEach, describe, expect, it } from 'vitest';
import { acceptAll } from '../../src/plugin/plugin.js';
import { Broker, type BrokerOptions } from './harness.js';

let broker: Broker;
const open = (options: BrokerOptions = {}) => (broker = new Broker(options));
afterEach(() => broker.close());

const KEEP = { expiry: 1000, clean: false } as const;
const LIFE = [
  ['transient', undefined],
  ['persistent', 1000],
] as const;

describe('an acknowledgement that refuses', () => {
  it.each([
    [1, 'puback'],
    [2, 'pubrec'],
  ] as const)('ends a QoS %i message for good: nothing is sent again [MQTT-4.4.0-2]', (qos, cmd) => {
    open();
    const client = broker.connect({ clientId: 'c', ...KEEP });
    client.subscribe('t', { qos: 2 });
    const publisher = broker.connect();
    for (const payload of ['refused', 'taken']) publisher.publish('t', payload, { qos });
    const [refused, taken] = client.messages();
    client.send({ cmd, messageId: refused.messageId, reasonCode: 0x97 });
    broker.pump();
    client.expectNothing();
    client.cut();
    const again = broker.connect({ clientId: 'c', ...KEEP });
    expect(again.messages()).toMatchObject([{ messageId: taken.messageId, dup: true }]);
    again.expectNothing();
  });

  it.each(LIFE)(
    'by a %s member of a shared group: nobody else gets the message [MQTT-4.8.2-6]',
    (_name, expiry) => {
      open({ shards: 2 });
      const members = [0, 1].map(shard => broker.connect({ clientId: `m${shard}`, shard, expiry }));
      for (const member of members) member.subscribe('$share/g/t', { qos: 2 });
      const publisher = broker.connect();
      for (const qos of [1, 2] as const) for (let i = 0; i < 2; i++) publisher.publish('t', 'x', { qos });
      for (const member of members) {
        for (const { qos, messageId } of member.messages())
          member.send({ cmd: qos === 1 ? 'puback' : 'pubrec', messageId, reasonCode: 0x80 });
        broker.pump();
        member.cut();
      }
      const heir = broker.connect({ shard: 1 });
      heir.subscribe('$share/g/t', { qos: 2 });
      for (const shard of [0, 1]) broker.connect({ clientId: `m${shard}`, ...KEEP }).expectNothing();
      heir.expectNothing();
    },
  );
});

describe('a shared group', () => {
  it.each(LIFE)('respects the QoS that its %s member was granted [MQTT-4.8.2-3]', (_name, expiry) => {
    open({ shards: 2 });
    for (const granted of [0, 1, 2] as const) {
      const member = broker.connect({ shard: 1, expiry });
      member.subscribe(`$share/g/${granted}`, { qos: granted });
      const publisher = broker.connect();
      for (const qos of [0, 1, 2] as const) {
        publisher.publish(`${granted}`, 'x', { qos });
        expect(member.messages().map(message => message.qos)).toEqual([Math.min(qos, granted)]);
      }
    }
  });

  it('completes QoS 2 with the member that has begun it, when that comes back [MQTT-4.8.2-4]', () => {
    open({ shards: 2 });
    const member = broker.connect({ clientId: 'm', ...KEEP });
    member.subscribe('$share/g/t', { qos: 2 });
    const publisher = broker.connect();
    for (const payload of ['1', '2']) publisher.publish('t', payload, { qos: 2 });
    const [first, second] = member.messages();
    member.send({ cmd: 'pubrec', messageId: first.messageId });
    broker.pump();
    member.take('pubrel', { messageId: first.messageId });
    const other = broker.connect({ shard: 1 });
    other.subscribe('$share/g/t', { qos: 2 });
    member.cut();
    other.expectNothing();
    const back = broker.connect({ clientId: 'm', shard: 1, ...KEEP });
    back.take('pubrel', { messageId: first.messageId });
    back.take('publish', { messageId: second.messageId, dup: true, payload: Buffer.from('2') });
    back.expectNothing();
    other.expectNothing();
  });
});

describe('a subscription that is replaced', () => {
  it.each(LIFE)('loses no message and doubles none, of a %s session [MQTT-3.8.4-4]', (_name, expiry) => {
    open({ shards: 2, pollFramesMax: 1 });
    const client = broker.connect({ clientId: 'c', shard: 1, expiry, properties: { receiveMaximum: 1000 } });
    client.subscribe('t/+', { qos: 1 });
    const publisher = broker.connect({ properties: { receiveMaximum: 1000 } });
    publisher.publish('t/a', 'kept', { qos: 1, retain: true });
    client.receive();
    const sent: string[] = [];
    for (let round = 0; round < 50; round++) {
      client.sendSubscribe('t/+', { qos: 1 + (round % 2), id: round + 1, rh: 2 } as object);
      // At most two steps of the threads: the change is under way while messages are.
      for (let step = 0; step <= round % 3; step++) {
        sent.push(`${round} ${step}`);
        publisher.sendPublish('t/a', sent.at(-1)!, { qos: 1, id: sent.length });
        broker.turn(round % broker.peers.length);
      }
    }
    broker.pump();
    const received: string[] = [];
    for (const packet of client.peer.packets.splice(0)) {
      if (packet.cmd === 'publish') received.push(String(packet.payload));
      else expect(packet.cmd).toBe('suback');
    }
    expect(received).toEqual(sent);
  });

  it('is sent its retained messages again by Retain Handling 0', () => {
    open();
    const client = broker.connect();
    client.publish('t', 'kept', { qos: 1, retain: true });
    for (const qos of [0, 1, 2] as const) {
      client.subscribe('t', { qos, rh: 0 });
      expect(client.messages()).toMatchObject([{ retain: true, qos: Math.min(1, qos) }]);
    }
  });
});

describe('AUTH', () => {
  it.each([3, 4, 5] as const)(
    'is not sent to who has named no method, whatever a hook says, level %i [MQTT-4.12.0-6]',
    version => {
      open({
        authenticator: {
          ...acceptAll,
          authenticate: () => ({ kind: 'continue', data: Buffer.from('?'), exchange: {} }),
        },
      });
      const client = broker.socket();
      client.sendConnect({ clientId: 'c', version });
      broker.pump();
      client.take('connack', version === 5 ? { reasonCode: 0x83 } : { returnCode: 3 });
      client.expectNothing();
      expect(client.closed).toBe(true);
      expect(broker.errors.splice(0)).toHaveLength(1);
    },
  );
});
