import { afterEach, describe, expect, it } from 'vitest';
import { WILLS } from '../../src/base/metrics.js';
import { Broker, type BrokerOptions } from './harness.js';
import type { TestClient } from './test-client.js';

let broker: Broker;
let witness: TestClient;
const open = (options: BrokerOptions = {}) => {
  broker = new Broker(options);
  witness = broker.connect({ clientId: 'witness' });
  witness.subscribe('will', { qos: 2 });
};
afterEach(() => broker.close());

const WILL = { topic: 'will', payload: 'gone', qos: 1 };
const delayed = (seconds: number) => ({ ...WILL, properties: { willDelayInterval: seconds } });
const KEEP = { clientId: 'c', expiry: 1000, clean: false } as const;

describe('a will', () => {
  it('is published once when the connection ends without DISCONNECT [MQTT-3.1.2-8]', () => {
    for (const expiry of [undefined, 1000]) {
      open();
      const client = broker.connect({ expiry, will: WILL });
      client.cut();
      expect(witness.receive()).toEqual(['gone']);
      broker.advance(10_000);
      expect(witness.receive()).toEqual([]);
      expect(broker.counter(WILLS)).toBe(1);
      broker.close();
    }
  });

  it('is dropped by DISCONNECT 0x00 only [MQTT-3.14.4-3]', () => {
    open();
    for (const reasonCode of [0, 0x04, 0x80, 0x98]) {
      broker.connect({ will: WILL, expiry: 100 }).disconnect({ reasonCode });
      expect(witness.receive()).toEqual(reasonCode === 0 ? [] : ['gone']);
    }
    broker.connect({ will: WILL, version: 4 }).disconnect();
    expect(witness.receive()).toEqual([]);
  });

  it('is published when the keep-alive passes [MQTT-3.1.2-22]', () => {
    open();
    const client = broker.connect({ will: WILL, keepalive: 10 });
    broker.advance(14_000);
    expect(witness.receive()).toEqual([]);
    broker.advance(3000);
    client.take('disconnect', { reasonCode: 0x8d });
    expect(witness.receive()).toEqual(['gone']);
  });

  it('waits for its delay, and a reconnect in that time cancels it [MQTT-3.1.3-9]', () => {
    open({ shards: 2 });
    broker.connect({ ...KEEP, will: delayed(20) }).cut();
    broker.advance(15_000);
    expect(witness.receive()).toEqual([]);
    const again = broker.connect({ ...KEEP, shard: 1, will: delayed(20) });
    broker.advance(30_000);
    expect(witness.receive()).toEqual([]);
    again.cut();
    broker.advance(22_000);
    expect(witness.receive()).toEqual(['gone']);
    broker.advance(100_000);
    expect(witness.receive()).toEqual([]);
  });

  it('does not outlive its session (3.1.3.2.2)', () => {
    open();
    broker.connect({ ...KEEP, expiry: 5, will: delayed(3000) }).cut();
    broker.advance(8000);
    expect(witness.receive()).toEqual(['gone']);
    broker.connect({ will: delayed(3000) }).cut(); // a session that ends with its connection
    expect(witness.receive()).toEqual(['gone']);
    broker.connect({ ...KEEP, will: delayed(3000) }).cut();
    broker.connect({ ...KEEP, clean: true });
    broker.advance(1000);
    expect(witness.receive()).toEqual(['gone']);
  });

  it('is published at once when DISCONNECT 0x04 ends the session too', () => {
    open();
    const client = broker.connect({ ...KEEP, will: delayed(3000) });
    client.disconnect({ reasonCode: 4, properties: { sessionExpiryInterval: 0 } });
    expect(witness.receive()).toEqual(['gone']);
    broker.advance(5000);
    expect(witness.receive()).toEqual([]);
  });

  it('of a connection that is taken over is published, or waits for its delay', () => {
    open({ shards: 2 });
    broker.connect({ ...KEEP, will: WILL });
    broker.connect({ ...KEEP, shard: 1, will: delayed(10) });
    expect(witness.receive()).toEqual(['gone']);
    broker.connect(KEEP);
    broker.advance(20_000);
    expect(witness.receive()).toEqual([]);
  });

  it('is published though the thread of its connection died, if the session persists', () => {
    open({ shards: 2 });
    const client = broker.connect({ ...KEEP, shard: 1, will: WILL });
    broker.kill(2);
    broker.replace(2);
    broker.advance(5000);
    expect(witness.receive()).toEqual(['gone']);
    client.peer.closed = true;
  });

  it('is published though the store died in the middle of it', () => {
    open();
    broker.connect({ ...KEEP, will: delayed(10) }).cut();
    broker.kill(broker.applyPeer);
    broker.replace(broker.applyPeer);
    broker.advance(15_000);
    expect(witness.receive()).toEqual(['gone']);
  });

  it('of a client that never was connected is not published', () => {
    open();
    const socket = broker.socket();
    broker.applyEngine.held = true;
    socket.sendConnect({ ...KEEP, will: WILL });
    broker.pump();
    socket.peer.cut();
    broker.applyEngine.release();
    broker.advance(5000);
    expect(witness.receive()).toEqual([]);
  });

  it('may be held to QoS, RETAIN and topics by the authorizer', () => {
    open({
      authorizer: {
        version: 1,
        mayPublish: (_, topic, qos, retain) => topic === 'will' && qos < 2 && !retain,
        maySubscribe: () => true,
      },
    });
    for (const will of [
      { ...WILL, topic: 'x' },
      { ...WILL, qos: 2 },
      { ...WILL, retain: true },
    ]) {
      const socket = broker.socket();
      socket.sendConnect({ clientId: 'w', will });
      broker.pump();
      socket.take('connack', { reasonCode: 0x87 });
    }
  });
});
