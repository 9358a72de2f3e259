import { afterEach, describe, expect, it } from 'vitest';
import { DROP, DROPS } from '../../src/base/metrics.js';
import { Broker, type BrokerOptions } from './harness.js';

let broker: Broker;
const open = (options: BrokerOptions = {}) => (broker = new Broker(options));
afterEach(() => broker.close());

/** Retains a message under each of `count` topics. */
function fill(count: number, qos: 0 | 1 | 2, payload = 'x'): string[] {
  const publisher = broker.connect({ version: 4 });
  const topics = Array.from({ length: count }, (_, i) => `r/${String(i).padStart(5, '0')}`);
  for (const topic of topics) publisher.publish(topic, payload, { qos, retain: true });
  return topics;
}

describe('retained messages', () => {
  for (const qos of [0, 1, 2] as const) {
    for (const expiry of [undefined, 100]) {
      it(`come all, at QoS ${qos}, to a ${expiry ? 'persistent' : 'transient'} session with small buffers`, () => {
        open({
          limits: { queueMessagesMax: 8, inflightOutboundMax: 3, connectionBufferBytesMax: 16 * 1024 },
        });
        const topics = fill(300, qos, 'y'.repeat(300));
        const client = broker.connect({ expiry });
        client.subscribe('r/#', { qos: 2 });
        const received: string[] = [];
        for (let idle = 0; idle < 3; ) {
          const packets = client.peer.packets.splice(0);
          idle = packets.length === 0 ? idle + 1 : 0;
          for (const { cmd, topic, retain, messageId } of packets) {
            if (cmd === 'publish') {
              expect(retain).toBe(true);
              received.push(topic);
              if (qos > 0) client.send({ cmd: qos === 1 ? 'puback' : 'pubrec', messageId });
            } else if (cmd === 'pubrel') client.send({ cmd: 'pubcomp', messageId });
          }
          broker.pump();
        }
        expect(received.sort()).toEqual(topics);
        expect(broker.counter(DROPS + DROP.QUEUE_FULL)).toBe(0);
      });
    }
  }

  it('wait for a client that does not read', () => {
    open({ limits: { connectionBufferBytesMax: 16 * 1024 } });
    const topics = fill(200, 0, 'z'.repeat(1000));
    const client = broker.connect();
    client.peer.stalled = true;
    client.subscribe('r/#');
    broker.pump();
    expect(client.messages().length).toBeLessThan(topics.length);
    expect(client.peer.pendingBytes).toBeLessThan(200_000);
    client.peer.drain();
    broker.pump();
    expect(client.messages().length).toBeGreaterThan(0);
  });

  it('are asked for again when the store died meanwhile', () => {
    open();
    fill(10, 1);
    const client = broker.connect();
    client.sendSubscribe('r/#', { qos: 1 });
    broker.kill(broker.applyPeer);
    broker.pump();
    client.take('suback');
    broker.replace(broker.applyPeer);
    expect(client.receive()).toHaveLength(10);
  });

  it('follow Retain Handling and Retain As Published [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]', () => {
    open({ shards: 2 });
    const publisher = broker.connect();
    publisher.publish('r', 'old', { qos: 1, retain: true });
    const flags = (rh: number, rap: boolean, shard: number) => {
      const client = broker.connect({ shard });
      client.subscribe('r', { rh, rap });
      const first = client.payloads();
      client.subscribe('r', { rh, rap });
      const second = client.payloads();
      publisher.publish('r', 'old', { qos: 1, retain: true });
      return [first.length, second.length, client.messages()[0].retain];
    };
    for (const shard of [0, 1]) {
      expect(flags(0, false, shard)).toEqual([1, 1, false]);
      expect(flags(1, true, shard)).toEqual([1, 0, true]);
      expect(flags(2, true, shard)).toEqual([0, 0, true]);
    }
  });

  it('are counted where the disk is full', () => {
    open();
    const live = broker.connect();
    live.subscribe('r/#', { qos: 1 });
    const publisher = broker.connect();
    broker.applyEngine.full = true;
    publisher.publish('r/0', '0', { retain: true });
    expect(live.receive()).toEqual(['0']);
    expect(broker.counter(DROPS + DROP.STORE_UNAVAILABLE)).toBe(1);
    publisher.sendPublish('r/1', '1', { qos: 1, retain: true });
    broker.pump();
    publisher.take('disconnect', { reasonCode: 0x83 });
    expect(broker.counter(DROPS + DROP.STORE_UNAVAILABLE)).toBe(2);
    broker.applyEngine.full = false;
  });

  it('above the limit are delivered and not kept, and acknowledged', () => {
    open({ limits: { retainedMessagesMax: 1 } });
    const live = broker.connect();
    live.subscribe('r/#', { qos: 1 });
    const publisher = broker.connect();
    publisher.publish('r/1', '1', { qos: 1, retain: true });
    expect(publisher.publish('r/2', '2', { qos: 2, retain: true }).reasonCode ?? 0).toBe(0);
    expect(live.receive()).toEqual(['1', '2']);
    expect(broker.counter(DROPS + DROP.LIMIT)).toBe(1);
    publisher.publish('r/3', '3', { retain: true });
    expect(live.receive()).toEqual(['3']);
    expect(broker.counter(DROPS + DROP.LIMIT)).toBe(2);
    const late = broker.connect();
    late.subscribe('r/#');
    expect(late.payloads()).toEqual(['1']);
  });
});
