import { describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { connectBytes, field, packet, properties, u8, u16 } from './client/bytes.js';
import {
  attempt,
  type ConnectOptions,
  connackCode,
  connect,
  open,
  sleep,
  unique,
  VERSION_NAMES,
  VERSIONS,
} from './client/client.js';
import { TRANSPORTS } from './client/wire.js';

const broker = useBroker({ transports: TRANSPORTS });

describe.each(TRANSPORTS)('CONNECT over %s', transport => {
  it.each(VERSIONS)(
    'MQTT level %i is accepted with a CONNACK of 0 and no session present [MQTT-3.1.4-5]',
    async version => {
      const client = await connect(broker, { transport, version });
      expect(client.connack.sessionPresent).toBe(false);
      await client.ping();
    },
  );

  it('a CONNECT split at every byte is put together again', async () => {
    const client = await open(broker, { transport });
    const bytes = connectBytes();
    await client.sendPieces(
      Array.from(bytes, byte => u8(byte)),
      0,
    );
    await client.expect('connack', { returnCode: 0 });
  });

  it('packets sent in one piece right behind CONNECT are handled in order', async () => {
    const client = await open(broker, { transport });
    const topic = unique('t');
    client.sendBytes(
      Buffer.concat([
        connectBytes(),
        client.encode({ cmd: 'subscribe', messageId: 7, subscriptions: [{ topic, qos: 1 }] }),
        client.encode({
          cmd: 'publish',
          topic,
          payload: 'x',
          qos: 1,
          messageId: 8,
          dup: false,
          retain: false,
        }),
        client.encode({ cmd: 'pingreq' }),
      ]),
    );
    await client.expect('connack', { returnCode: 0 });
    await client.expect('suback', { messageId: 7, granted: [1] });
    await client.expect('puback', { messageId: 8 });
    await client.receive({ topic, payload: 'x', qos: 1 });
    await client.expect('pingresp');
  });

  it('a DISCONNECT from the client ends the connection without an answer', async () => {
    const client = await connect(broker, { transport, version: 5 });
    client.send({ cmd: 'disconnect', reasonCode: 0 });
    await client.expectClosed();
  });
});

describe('protocol name and level', () => {
  it.each([0, 1, 2, 6, 127])('level %i of MQTT is answered 0x01 and closed [MQTT-3.1.2-2]', async level => {
    const client = await open(broker, { version: 4 });
    client.sendBytes(connectBytes({ level }));
    if (level < 5) await client.expect('connack', { returnCode: 1, sessionPresent: false });
    else client.unread.length = 0;
    await client.ended();
  });

  it.each(['MQTX', 'mqtt', 'MQIsd', 'HTTP', ''])(
    'the name %j is not served [MQTT-3.1.2-1]',
    async protocol => {
      const client = await open(broker);
      client.sendBytes(connectBytes({ protocol }));
      await client.ended();
      expect(client.unread.filter(item => item.cmd === 'connack' && item.returnCode === 0)).toEqual([]);
    },
  );

  it('MQIsdp goes with level 3 only, MQTT not with level 3 [MQTT-3.1.2-1]', async () => {
    for (const [protocol, level] of [
      ['MQIsdp', 4],
      ['MQTT', 3],
    ] as const) {
      const client = await open(broker, { version: 4 });
      client.sendBytes(connectBytes({ protocol, level }));
      await client.ended();
      expect(client.unread.filter(item => item.cmd === 'connack' && item.returnCode === 0)).toEqual([]);
    }
  });
});

describe('what comes first, and twice', () => {
  const early: [string, Buffer][] = [
    ['PINGREQ', packet(0xc0)],
    ['PUBLISH', packet(0x30, field('a'), u8(1))],
    ['SUBSCRIBE', packet(0x82, u16(1), field('a'), u8(0))],
    ['DISCONNECT', packet(0xe0)],
    ['AUTH', packet(0xf0)],
    ['CONNACK', packet(0x20, u16(0))],
  ];
  it.each(early)(
    '%s before CONNECT closes the connection wordlessly [MQTT-3.1.0-1]',
    async (_name, bytes) => {
      const client = await open(broker);
      client.sendBytes(bytes);
      await client.expectClosed();
    },
  );

  it.each(VERSIONS)('a second CONNECT is a protocol error, level %i [MQTT-3.1.0-2]', async version => {
    const client = await connect(broker, { version });
    client.sendConnect({ clientId: client.clientId });
    await client.expectRefused(0x82);
  });

  it('bytes that are no MQTT at all close the connection', async () => {
    const client = await open(broker);
    client.sendBytes(Buffer.from('GET / HTTP/1.1\r\nHost: example.com\r\n\r\n'));
    await client.expectClosed();
  });
});

describe('CONNECT flags', () => {
  it.each([
    ['reserved bit set [MQTT-3.1.2-3]', 0x03, [field('x')]],
    ['will QoS 3 [MQTT-3.1.2-14]', 0x1e, [field('x'), field('t'), field('m')]],
    ['will QoS without will flag [MQTT-3.1.2-13]', 0x0a, [field('x')]],
    ['will retain without will flag [MQTT-3.1.2-15]', 0x22, [field('x')]],
    ['password without user name [MQTT-3.1.2-22]', 0x42, [field('x'), field('p')]],
    ['user name announced and missing [MQTT-3.1.2-19]', 0x82, [field('x')]],
    ['password announced and missing [MQTT-3.1.2-21]', 0xc2, [field('x'), field('u')]],
    ['will announced and missing [MQTT-3.1.2-9]', 0x06, [field('x')]],
    ['bytes behind the last field [MQTT-3.1.4-1]', 0x02, [field('x'), u8(0)]],
    ['no client identifier at all [MQTT-3.1.3-3]', 0x02, []],
  ] as [string, number, Buffer[]][])(
    '3.1.1: %s is refused without a CONNACK of 0',
    async (_name, flags, payload) => {
      const client = await open(broker);
      client.sendBytes(connectBytes({ flags, payload }));
      await client.ended();
      expect(client.unread.filter(item => item.cmd === 'connack' && item.returnCode === 0)).toEqual([]);
    },
  );

  it.each([
    ['reserved bit set [MQTT-3.1.2-3]', 0x03, [field('x')]],
    ['will QoS 3 [MQTT-3.1.2-12]', 0x1e, [field('x'), properties(), field('t'), field('m')]],
    ['will QoS without will flag [MQTT-3.1.2-11]', 0x0a, [field('x')]],
    ['will retain without will flag [MQTT-3.1.2-13]', 0x22, [field('x')]],
    ['user name announced and missing [MQTT-3.1.2-17]', 0x82, [field('x')]],
  ] as [string, number, Buffer[]][])('5: %s is malformed (0x81)', async (_name, flags, payload) => {
    const client = await open(broker, { version: 5 });
    client.sendBytes(connectBytes({ level: 5, flags, payload }));
    await client.ended();
    for (const item of client.unread) expect(item).toMatchObject({ cmd: 'connack', reasonCode: 0x81 });
  });

  it('5: a password without a user name is allowed (3.1.2.9)', async () => {
    const client = await open(broker, { version: 5 });
    client.sendBytes(connectBytes({ level: 5, flags: 0x42, payload: [field(unique('c')), field('secret')] }));
    await client.expect('connack', { reasonCode: 0 });
  });
});

describe('client identifier', () => {
  it('an empty one with clean session is given a name of its own (3.1.1) [MQTT-3.1.3-6]', async () => {
    const [first, second] = [
      await connect(broker, { clientId: '' }),
      await connect(broker, { clientId: '' }),
    ];
    await first.ping();
    await second.ping();
  });

  it('an empty one without clean session is answered 0x02 (3.1.1) [MQTT-3.1.3-8]', async () => {
    const client = await open(broker);
    client.sendBytes(connectBytes({ flags: 0, payload: [field('')] }));
    await client.expect('connack', { returnCode: 2, sessionPresent: false });
    await client.expectClosed();
  });

  it('an empty one is answered 0x02 in MQTT 3.1, which has no empty identifiers', async () => {
    const client = await open(broker, { version: 3 });
    client.sendBytes(connectBytes({ level: 3, payload: [field('')] }));
    await client.expect('connack', { returnCode: 2 });
    await client.expectClosed();
  });

  it('an assigned one is told, unique, and can be used to come back (5) [MQTT-3.2.2-16]', async () => {
    const first = await attempt(broker, { version: 5, clientId: '', expiry: 60 });
    const assigned = first.connack.properties?.assignedClientIdentifier;
    expect(assigned).toMatch(/.+/);
    const second = await attempt(broker, { version: 5, clientId: '' });
    expect(second.connack.properties?.assignedClientIdentifier).not.toBe(assigned);
    await first.disconnect();
    const again = await connect(broker, { version: 5, clientId: assigned!, clean: false, expiry: 0 });
    expect(again.connack.sessionPresent).toBe(true);
  });

  it('an empty one without clean start is assigned as well (5) [MQTT-3.1.3-7]', async () => {
    const client = await open(broker, { version: 5 });
    client.sendBytes(connectBytes({ level: 5, flags: 0, payload: [field('')] }));
    const connack = await client.expect('connack', { reasonCode: 0, sessionPresent: false });
    expect(connack.properties?.assignedClientIdentifier).toMatch(/.+/);
  });

  it('none is assigned when the client brought its own (5)', async () => {
    const client = await connect(broker, { version: 5 });
    expect(client.connack.properties?.assignedClientIdentifier).toBeUndefined();
  });

  it.each(['0123456789abcdefghijklm', 'nopqrstuvwxyzABCDEFGHIJ', 'KLMNOPQRSTUVWXYZ', 'käse/#+ 🐟'])(
    '%j is allowed [MQTT-3.1.3-5]',
    async clientId => {
      for (const version of VERSIONS) await (await connect(broker, { version, clientId })).disconnect();
    },
  );

  it.each(VERSIONS)('one of 200 bytes is allowed, in MQTT 3.1 by leniency: level %i', async version => {
    await connect(broker, { version, clientId: `${version}`.repeat(200) });
  });

  it('one beyond the limit is refused: 0x02, in MQTT 5 0x85 [MQTT-3.1.3-8]', async () => {
    const codeOf = async (version: (typeof VERSIONS)[number]) =>
      connackCode(await attempt(broker, { version, clientId: 'k'.repeat(5000) }));
    expect(await Promise.all(VERSIONS.map(codeOf))).toEqual(VERSIONS.map(level => (level === 5 ? 0x85 : 2)));
  });

  it('one that is not UTF-8, or has U+0000, is refused [MQTT-3.1.3-4] [MQTT-1.5.4-2]', async () => {
    for (const bytes of [Buffer.from([0xff]), Buffer.from('a\0b'), Buffer.from([0xed, 0xa0, 0x80])]) {
      const client = await open(broker);
      client.sendBytes(connectBytes({ payload: [field(bytes)] }));
      await client.ended();
      expect(client.unread.filter(item => item.cmd === 'connack' && item.returnCode === 0)).toEqual([]);
    }
  });
});

describe.each([1, 3])('takeover with %i mqtt threads', threads => {
  const broker = useBroker({ set: { 'threads.mqtt': threads } });

  it.each(VERSIONS)(
    'the same client identifier closes the older connection, level %i [MQTT-3.1.4-3]',
    async version => {
      const clientId = unique('over');
      const older = await connect(broker, { version, clientId });
      const newer = await connect(broker, { version, clientId });
      await older.expectRefused(0x8e);
      await newer.ping();
    },
  );

  it('works from any version to any other', async () => {
    const clientId = unique('mixed');
    let older = await connect(broker, { version: 3, clientId });
    for (const version of [4, 5, 4, 3, 5] as const) {
      const newer = await connect(broker, { version, clientId });
      await older.expectRefused(0x8e);
      older = newer;
    }
  });

  it('a hundred takeovers in quick succession leave exactly one connection', async () => {
    const clientId = unique('storm');
    const clients = await Promise.all(Array.from({ length: 100 }, () => open(broker, { version: 5 })));
    for (const client of clients) client.sendConnect({ clientId, clean: false, expiry: 30 });
    for (let wait = 0; wait < 100 && clients.filter(client => !client.closed).length > 1; wait++)
      await sleep(50);
    const left = clients.filter(client => !client.closed);
    expect(left.length).toBe(1);
    await left[0]!.expect('connack', { reasonCode: 0 });
    await left[0]!.ping();
  });
});

describe('keep-alive', () => {
  it.each(VERSIONS)(
    'silence for one and a half times ends level %i, not sooner [MQTT-3.1.2-24]',
    async version => {
      const client = await connect(broker, { version, keepalive: 1 });
      const start = Date.now();
      await client.expectRefused(0x8d, 4000);
      const elapsedMs = Date.now() - start;
      expect(elapsedMs).toBeGreaterThanOrEqual(1400);
      expect(elapsedMs).toBeLessThan(3500);
    },
  );

  it('any packet keeps the connection', async () => {
    const client = await connect(broker, { keepalive: 1 });
    for (let round = 0; round < 5; round++) {
      await sleep(600);
      if (round % 2 === 0) await client.ping();
      else await client.publish(unique('t'), 'x', { qos: 1 });
    }
    expect(client.closed).toBeUndefined();
  });

  it('what the broker sends does not keep it', async () => {
    const client = await connect(broker, { keepalive: 1 });
    const topic = unique('t');
    await client.subscribe(topic);
    const talker = await connect(broker);
    const start = Date.now();
    while (client.closed === undefined && Date.now() - start < 4000) {
      await talker.publish(topic, 'x', { qos: 1 });
      await sleep(200);
    }
    expect(client.closed).toBeDefined();
  });

  it('0 turns it off', async () => {
    const client = await connect(broker, { keepalive: 0 });
    await client.expectNothing(2500);
  });
});

describe('properties of MQTT 5', () => {
  const connectWith = (bytes: Buffer) =>
    connectBytes({ level: 5, properties: bytes, payload: [field(unique('c'))] });

  it.each([
    ['Session Expiry Interval', [0x11, 0, 0, 0, 1]],
    ['Receive Maximum', [0x21, 0, 1]],
    ['Maximum Packet Size', [0x27, 0, 1, 0, 0]],
    ['Topic Alias Maximum', [0x22, 0, 1]],
    ['Request Response Information', [0x19, 1]],
    ['Request Problem Information', [0x17, 1]],
  ] as [string, number[]][])('%s twice is a protocol error (3.1.2.11)', async (_name, bytes) => {
    const client = await open(broker, { version: 5 });
    client.sendBytes(connectWith(properties(Buffer.from([...bytes, ...bytes]))));
    await client.ended();
    for (const item of client.unread) expect(item).toMatchObject({ cmd: 'connack', reasonCode: 0x82 });
  });

  it.each([
    ['Receive Maximum 0 (3.1.2.11.3)', [0x21, 0, 0], 0x82],
    ['Maximum Packet Size 0 (3.1.2.11.4)', [0x27, 0, 0, 0, 0], 0x82],
    ['Request Response Information 2 (3.1.2.11.6)', [0x19, 2], 0x82],
    ['Request Problem Information 2 (3.1.2.11.7)', [0x17, 2], 0x82],
    ['authentication data without a method (3.1.2.11.10)', [0x16, 0, 1, 65], 0x82],
    ['a property of PUBLISH (Topic Alias)', [0x23, 0, 1], 0x81],
    ['an unknown property', [0x7f, 1], 0x81],
    ['a property cut short', [0x11, 0, 0], 0x81],
  ] as [string, number[], number][])('%s is refused', async (_name, bytes, code) => {
    const client = await open(broker, { version: 5 });
    client.sendBytes(connectWith(properties(Buffer.from(bytes))));
    await client.ended();
    for (const item of client.unread) {
      expect(item.cmd).toBe('connack');
      expect([0x81, 0x82]).toContain((item as { reasonCode: number }).reasonCode);
      if (code === 0x82) expect((item as { reasonCode: number }).reasonCode).toBe(0x82);
    }
  });

  it('user properties, repeated, are accepted', async () => {
    const userProperties = { a: ['1', '2'], b: '3' };
    await connect(broker, { version: 5, properties: { userProperties } });
  });

  it('response information is not returned when not asked for [MQTT-3.1.2-28]', async () => {
    const client = await connect(broker, { version: 5 });
    expect(client.connack.properties?.responseInformation).toBeUndefined();
  });

  it('the CONNACK carries no limit that would forbid the ordinary', async () => {
    const { connack } = await connect(broker, { version: 5, keepalive: 30, expiry: 100 });
    const told: Record<string, unknown> = { ...connack.properties };
    expect(told.retainAvailable).not.toBe(false);
    expect(told.wildcardSubscriptionAvailable).not.toBe(false);
    expect(told.sharedSubscriptionAvailable).not.toBe(false);
    expect(told.subscriptionIdentifiersAvailable).not.toBe(false);
    expect(told.maximumQoS).toBeUndefined();
    expect(told.serverKeepAlive).toBeUndefined();
    expect([undefined, 100]).toContain(told.sessionExpiryInterval);
  });

  it('an authentication method that nobody serves is refused with 0x8C [MQTT-4.12.0-1]', async () => {
    const client = await attempt(broker, { version: 5, properties: { authenticationMethod: 'NOPE' } });
    expect(connackCode(client)).toBe(0x8c);
    await client.expectClosed();
  });

  it('AUTH without an authentication method in CONNECT is a protocol error [MQTT-4.12.0-7]', async () => {
    const client = await connect(broker, { version: 5 });
    client.sendBytes(packet(0xf0, u8(0x19), properties(Buffer.concat([u8(0x15), field('X')]))));
    await client.expectRefused(0x82);
  });

  it('with request problem information 0 an error ack has no reason string [MQTT-3.1.2-29]', async () => {
    const options: ConnectOptions = { version: 5, properties: { requestProblemInformation: false } };
    const client = await connect(broker, options);
    client.send({ cmd: 'pubrel', messageId: 99 });
    const pubcomp = await client.expect('pubcomp', { messageId: 99, reasonCode: 0x92 });
    expect(pubcomp.properties?.reasonString).toBeUndefined();
    expect(pubcomp.properties?.userProperties).toBeUndefined();
  });
});

describe('limits of the broker', () => {
  const tight = useBroker({
    transports: ['tcp', 'ws'],
    set: {
      'limits.connectTimeoutMs': 500,
      'limits.keepAliveSecondsMax': 2,
      'limits.inflightInboundMax': 7,
      'limits.packetBytesMax': 4096,
      'limits.topicAliasMax': 3,
      'limits.sessionExpirySecondsMax': 50,
    },
  });

  it.each(['tcp', 'ws'] as const)(
    'a %s connection without CONNECT is closed in time (3.1.0)',
    async transport => {
      const silent = await open(tight, { transport });
      const partial = await open(tight, { transport });
      partial.sendBytes(connectBytes().subarray(0, 5));
      await silent.expectClosed(3000);
      await partial.expectClosed(3000);
    },
  );

  it('a CONNECT in time is not touched by that', async () => {
    const client = await connect(tight);
    await client.expectNothing(1000);
  });

  it('a longer keep-alive is cut to the maximum, and MQTT 5 is told [MQTT-3.2.2-21]', async () => {
    const client = await connect(tight, { version: 5, keepalive: 600 });
    expect(client.connack.properties?.serverKeepAlive).toBe(2);
    const start = Date.now();
    await client.expectRefused(0x8d, 6000);
    expect(Date.now() - start).toBeGreaterThanOrEqual(2800);
  });

  it('the limits are told in CONNACK', async () => {
    const { connack } = await connect(tight, { version: 5, expiry: 1000 });
    expect(connack.properties).toMatchObject({
      receiveMaximum: 7,
      maximumPacketSize: 4096,
      topicAliasMaximum: 3,
      sessionExpiryInterval: 50,
    });
  });

  it('a packet beyond the maximum is refused with 0x95 [MQTT-3.2.2-15]', async () => {
    const client = await connect(tight, { version: 5 });
    client.sendBytes(packet(0x30, field('a'), properties(), Buffer.alloc(5000)));
    await client.expectRefused(0x95);
  });

  it('it is refused by its header, before its body comes', async () => {
    const client = await connect(tight);
    client.sendBytes(Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f]));
    await client.expectClosed();
  });

  it('a packet of just the maximum passes', async () => {
    const client = await connect(tight);
    const topic = unique('t');
    await client.subscribe(topic);
    const payload = 'x'.repeat(4096 - 3 - 2 - topic.length);
    await client.publish(topic, payload);
    await client.receive({ topic, payload });
  });
});

describe('names', () => {
  it.each(VERSIONS)(
    'user name and password are taken from anyone where nobody checks, level %i',
    async version => {
      const client = await connect(broker, { version, username: 'ann', password: 'secret' });
      expect(VERSION_NAMES[client.version]).toBeDefined();
      await client.ping();
    },
  );
});
