import { generate } from 'mqtt-packet';
import { afterEach, describe, expect, it } from 'vitest';
import {
  CONNECT_REFUSAL,
  CONNECT_REFUSALS,
  DROP,
  DROPS,
  VIOLATION,
  VIOLATIONS,
} from '../../src/base/metrics.js';
import { Broker, type BrokerOptions } from './harness.js';

let broker: Broker;
const open = (options: BrokerOptions = {}) => (broker = new Broker(options));
afterEach(() => broker.close());

describe('time', () => {
  it('ends a silent client at one and a half times its keep-alive, and no busy one [MQTT-3.1.2-22]', () => {
    open();
    const silent = broker.connect({ keepalive: 10 });
    const busy = broker.connect({ keepalive: 10 });
    const unlimited = broker.connect();
    for (let i = 0; i < 5; i++) {
      broker.advance(8000);
      busy.send({ cmd: 'pingreq' });
      broker.pump();
      busy.take('pingresp');
    }
    expect([silent.closed, busy.closed, unlimited.closed]).toEqual([true, false, false]);
    silent.take('disconnect', { reasonCode: 0x8d });
  });

  it('ends a socket that does not become a session, however busily it sends', () => {
    open({ limits: { connectTimeoutMs: 5000 } });
    const idle = broker.socket();
    const dripping = broker.socket();
    const connect = Buffer.from([0x10, 0x20, 0, 4, 0x4d, 0x51, 0x54, 0x54, 5, 2, 0, 0, 0]);
    for (const byte of connect) {
      dripping.peer.send(Buffer.from([byte]));
      broker.advance(1000);
    }
    expect([idle.closed, dripping.closed]).toEqual([true, true]);
    expect(broker.counter(VIOLATIONS + VIOLATION.CONNECT_TIMEOUT)).toBe(2);
  });

  it('gives MQTT 5 clients a keep-alive where settings say so, and the time runs from CONNACK', () => {
    open({ limits: { keepAliveSecondsMax: 60, keepAliveSecondsDefault: 30 } });
    expect(broker.connect({ keepalive: 100 }).connack.properties.serverKeepAlive).toBe(60);
    const client = broker.connect();
    expect(client.connack.properties.serverKeepAlive).toBe(30);
    expect(broker.connect({ keepalive: 20 }).connack.properties.serverKeepAlive).toBeUndefined();
    broker.advance(40_000);
    expect(client.closed).toBe(false);
    broker.advance(10_000);
    expect(client.closed).toBe(true);
  });
});

describe('a client that does not read', () => {
  it('loses QoS 0 above its buffer, and nobody else does', () => {
    open({ limits: { connectionBufferBytesMax: 16 * 1024 } });
    const [slow, quick] = [broker.connect(), broker.connect()];
    for (const client of [slow, quick]) client.subscribe('t');
    slow.peer.stalled = true;
    const publisher = broker.connect();
    for (let i = 0; i < 100; i++) publisher.publish('t', 'x'.repeat(1000));
    expect(quick.messages()).toHaveLength(100);
    expect(slow.peer.pendingBytes).toBeLessThan(20_000);
    expect(broker.counter(DROPS + DROP.SLOW_CONSUMER)).toBeGreaterThan(80);
    slow.messages();
    slow.peer.drain();
    publisher.publish('t', 'again');
    expect(slow.payloads()).toEqual(['again']);
  });

  it('is not read from either when its own packets fill the way back', () => {
    open({ limits: { connectionBufferBytesMax: 16 * 1024 } });
    const client = broker.connect();
    client.peer.stalled = true;
    const pings = Buffer.alloc(8192);
    for (let i = 0; i < pings.length; i += 2) pings[i] = 0xc0;
    for (let i = 0; i < 100; i++) {
      client.peer.send(pings);
      broker.pump();
    }
    expect(client.peer.paused).toBe(true);
    expect(client.peer.pendingBytes).toBeLessThan(64 * 1024);
    const before = client.peer.packets.length;
    for (let i = 0; i < 200 && client.peer.pendingBytes > 0; i++) {
      client.peer.drain();
      broker.pump();
      client.peer.stalled = true;
    }
    client.peer.stalled = false;
    client.peer.drain();
    broker.pump();
    expect(client.peer.paused).toBe(false);
    expect(client.peer.packets.length).toBeGreaterThan(before);
    expect(client.peer.packets.splice(0)).toHaveLength((100 * 8192) / 2);
  });

  it('and never reads again is ended by its keep-alive', () => {
    open({ limits: { connectionBufferBytesMax: 16 * 1024 } });
    const client = broker.connect({ keepalive: 10 });
    client.peer.stalled = true;
    const pings = Buffer.alloc(64 * 1024);
    for (let i = 0; i < pings.length; i += 2) pings[i] = 0xc0;
    client.peer.send(pings);
    broker.pump();
    expect(client.peer.paused).toBe(true);
    broker.advance(20_000);
    expect(client.closed).toBe(true);
  });
});

describe('a full ring', () => {
  it('stops publishers until it has room, and nothing is lost', () => {
    open({ shards: 2, ringBytes: 4096 });
    const subscriber = broker.connect({ shard: 1, expiry: 100 });
    const live = broker.connect({ shard: 1 });
    subscriber.subscribe('t', { qos: 1 });
    live.subscribe('t', { qos: 0 });
    const publisher = broker.connect({ version: 4 });
    publisher.publish('t', 'warm', { qos: 1 });
    const sent = Array.from({ length: 200 }, (_, i) => `${i}:${'x'.repeat(500)}`);
    for (const [i, payload] of sent.entries()) publisher.sendPublish('t', payload, { qos: 1, id: i + 1 });
    expect(publisher.peer.paused).toBe(true);
    broker.pump();
    expect(publisher.peer.packets.splice(0)).toHaveLength(200);
    expect(subscriber.receive().slice(1)).toEqual(sent);
    expect(live.receive().slice(1)).toEqual(sent);
  });

  it('stops within what was read, and goes on there however much is read meanwhile', () => {
    open({ shards: 2, ringBytes: 4096 });
    const live = broker.connect({ shard: 1 });
    live.subscribe('t', { qos: 0 });
    const publisher = broker.connect({ version: 4 });
    const other = broker.connect();
    publisher.publish('t', 'warm', { qos: 1 });
    const sent = Array.from({ length: 400 }, (_, i) => `${i}:${'x'.repeat(100)}`);
    const packets = sent.map(payload =>
      generate({ cmd: 'publish', topic: 't', payload, qos: 0, dup: false, retain: false }),
    );
    publisher.peer.send(Buffer.concat(packets));
    expect(publisher.peer.paused).toBe(true);
    for (let turn = 0; turn < 5; turn++) {
      broker.turn(1);
      other.sendPublish('elsewhere', 'y'.repeat(20_000), { qos: 0 });
    }
    broker.pump();
    expect(live.receive().slice(1)).toEqual(sent);
  });
});

describe('a client that asks for one thing over and over', () => {
  it('is not read from while the store does not keep up', () => {
    open({ ringBytes: 4096 });
    const client = broker.connect({ clientId: 'c', expiry: 100 });
    client.sendPublish('t', 'x', { qos: 2, id: 1 });
    broker.pump();
    client.take('pubrec');
    const pubrels = Buffer.concat(Array.from({ length: 500 }, () => Buffer.from([0x62, 2, 0, 1])));
    for (let i = 0; i < 20; i++) client.peer.send(pubrels);
    expect(client.peer.paused).toBe(true);
    expect(client.peer.unreadBytes).toBeGreaterThan(0);
    broker.pump();
    expect(client.peer.paused).toBe(false);
    expect(client.peer.packets.splice(0)).toHaveLength(10_000);
  });
});

describe('settings of a session', () => {
  it('limit its subscriptions, and filters in one packet', () => {
    open({ limits: { subscriptionsPerSessionMax: 2, filtersPerSubscribeMax: 3 } });
    const client = broker.connect();
    expect(client.subscribe(['a', 'b', 'c'])).toEqual([0, 0, 0x97]);
    expect(client.subscribe('a')).toEqual([0]);
    client.sendSubscribe(['a', 'b', 'c', 'd']);
    broker.pump();
    client.take('disconnect', { reasonCode: 0x97 });
  });

  it('limit its life, also when DISCONNECT asks for more', () => {
    open({ limits: { sessionExpirySecondsMax: 10 } });
    const client = broker.connect({ clientId: 'c', clean: false, expiry: 1000 });
    expect(client.connack.properties.sessionExpiryInterval).toBe(10);
    client.subscribe('t', { qos: 1 });
    client.disconnect({ properties: { sessionExpiryInterval: 5000 } });
    broker.advance(12_000);
    expect(broker.connect({ clientId: 'c', clean: false, expiry: 1000 }).connack.sessionPresent).toBe(false);
    expect(broker.dist.size).toBe(0);
  });

  it('refuse topics beyond them without closing the connection', () => {
    open({ limits: { topicLevelsMax: 3 } });
    const client = broker.connect();
    expect(client.publish('a/b/c/d', 'x', { qos: 1 }).reasonCode).toBe(0x90);
    expect(client.subscribe('a/b/c/d')).toEqual([0x8f]);
    client.publish('a/b/c', 'x', { qos: 1 });
  });

  it.each([
    ['on one shard', () => 1],
    ['spread over the shards', (index: number) => index],
  ])('let in as many connections a second as said, and no more, %s', (_where, shardOf) => {
    open({ shards: 3, limits: { connectRatePerSecondMax: 2 } });
    for (let second = 0; second < 3; second++) {
      const reasons = [0, 1, 2].map(index => {
        const socket = broker.socket(shardOf(index));
        socket.sendConnect({ clientId: `s${index}` });
        broker.pump();
        return socket.take('connack').reasonCode;
      });
      expect(reasons).toEqual([0, 0, 0x9f]);
      broker.advance(1000);
    }
  });

  it.each([
    [5, { reasonCode: 0x97, properties: { reasonString: expect.stringContaining('connections') } }],
    [4, { returnCode: 3 }],
    [3, { returnCode: 3 }],
  ] as const)('tell a client above limits.connectionsMax so, level %i [MQTT-3.1.4-2]', (version, want) => {
    open();
    const socket = broker.socket();
    socket.peer.admitted = false;
    socket.sendConnect({ clientId: 'one too many', version });
    broker.pump();
    expect(socket.take('connack')).toMatchObject(want);
    expect(socket.closed).toBe(true);
    expect(broker.counter(CONNECT_REFUSALS + CONNECT_REFUSAL.LIMIT)).toBe(1);
  });

  it('close a connection whose SUBACK is larger than it takes [MQTT-3.1.2-24]', () => {
    open();
    const client = broker.connect({ properties: { maximumPacketSize: 60 } });
    expect(client.subscribe(Array.from({ length: 30 }, (_, i) => `${i}`))).toHaveLength(30);
    client.sendSubscribe(Array.from({ length: 80 }, (_, i) => `${i}`));
    broker.pump();
    expect(client.closed).toBe(true);
    const tiny = broker.socket();
    tiny.sendConnect({ clientId: 'tiny', expiry: 5, properties: { maximumPacketSize: 5 } });
    broker.pump();
    expect(tiny.closed).toBe(true);
  });
});

describe('what a client sends before its session is open', () => {
  it('waits for CONNACK, when it comes with CONNECT (3.1.4)', () => {
    open();
    const receiver = broker.connect();
    receiver.subscribe('t');
    const client = broker.socket();
    client.sendConnect({ clientId: 'eager', expiry: 10 });
    client.sendSubscribe('t');
    client.sendPublish('t', 'x');
    broker.pump();
    const [first, ...others] = client.peer.packets.splice(0).map(({ cmd }) => cmd);
    expect(first).toBe('connack');
    expect(others.sort()).toEqual(['publish', 'suback']); // in either order (3.8.4)
    expect(receiver.payloads()).toEqual(['x']);
  });

  it('ends the connection when CONNECT has not come [MQTT-3.1.0-1]', () => {
    open();
    for (const packet of [{ cmd: 'pingreq' }, { cmd: 'publish', topic: 't', payload: '', qos: 0 }]) {
      const socket = broker.socket();
      socket.send(packet);
      broker.pump();
      expect(socket.closed).toBe(true);
      socket.expectNothing();
    }
  });
});
