import { describe, expect, it } from 'vitest';
import { PEER, useBroker } from './broker.js';
import { field, packet, properties, u16, userProperty } from './client/bytes.js';
import { connect, sleep, unique, VERSIONS } from './client/client.js';
import { TRANSPORTS } from './client/wire.js';

const broker = useBroker({ transports: TRANSPORTS });

const QOS = [0, 1, 2] as const;

describe.each(TRANSPORTS)('PUBLISH over %s', transport => {
  it.each(VERSIONS)(
    'every QoS published and subscribed gives the lower of both, level %i [MQTT-3.8.4-8]',
    async version => {
      const publisher = await connect(broker, { transport, version });
      for (const granted of QOS) {
        const subscriber = await connect(broker, { transport, version });
        const topic = unique('t');
        expect(await subscriber.subscribe(topic, { qos: granted })).toEqual([granted]);
        for (const qos of QOS) {
          expect(await publisher.publish(topic, `q${qos}`, { qos })).toBe(0);
          const want = { topic, payload: `q${qos}`, qos: Math.min(qos, granted), dup: false, retain: false };
          await subscriber.receive(want);
        }
        await subscriber.expectNothing(30);
      }
    },
  );

  it('a payload of half a megabyte arrives whole, split by the sender as by the receiver', async () => {
    const client = await connect(broker, { transport });
    const topic = unique('t');
    await client.subscribe(topic, { qos: 1 });
    const payload = Buffer.alloc(512 * 1024);
    for (let index = 0; index < payload.length; index++) payload[index] = (index * 31) >>> 3;
    const bytes = client.encode({
      cmd: 'publish',
      topic,
      payload,
      qos: 1,
      messageId: 9,
      dup: false,
      retain: false,
    });
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += 99_991) pieces.push(bytes.subarray(at, at + 99_991));
    await client.sendPieces(pieces);
    await client.expect('puback', { messageId: 9 });
    const message = await client.receive({ topic });
    expect(payload.equals(message.payload as Buffer)).toBe(true);
  });

  it('a stream of mixed QoS keeps its order per QoS [MQTT-4.6.0-5]', async () => {
    const subscriber = await connect(broker, { transport });
    const publisher = await connect(broker, { transport });
    const topic = unique('t');
    await subscriber.subscribe(topic, { qos: 2 });
    for (let index = 0; index < 60; index++) publisher.post(topic, `${index}`, { qos: QOS[index % 3]! });
    const released = publisher.release(20);
    const seen: number[][] = [[], [], []];
    for (let index = 0; index < 60; index++) {
      const message = await subscriber.receive();
      seen[message.qos]!.push(Number(message.payload));
    }
    await released;
    for (const qos of QOS) {
      expect(seen[qos]).toEqual(Array.from({ length: 20 }, (_, index) => index * 3 + qos));
    }
  });
});

describe('QoS 1 from the client', () => {
  it('a packet identifier of 0 is refused [MQTT-2.2.1-3]', async () => {
    for (const version of VERSIONS) {
      const client = await connect(broker, { version });
      const body = version === 5 ? properties() : Buffer.alloc(0);
      client.sendBytes(packet(0x32, field('a'), u16(0), body, Buffer.from('x')));
      await client.expectRefused([0x81, 0x82]);
    }
  });

  it('PUBACK carries the packet identifier, in the order received [MQTT-4.3.2-4]', async () => {
    const client = await connect(broker);
    for (const messageId of [1, 65_535, 3, 2]) client.post(unique('t'), 'x', { qos: 1, messageId });
    for (const messageId of [1, 65_535, 3, 2]) await client.expect('puback', { messageId });
  });

  it('a resent PUBLISH after its PUBACK is a new message; DUP is not passed on [MQTT-4.3.2-5] [MQTT-3.3.1-3]', async () => {
    const client = await connect(broker);
    const topic = unique('t');
    await client.subscribe(topic, { qos: 1 });
    await client.publish(topic, 'x', { qos: 1, messageId: 5 });
    await client.publish(topic, 'x', { qos: 1, messageId: 5, dup: true });
    await client.receive({ dup: false });
    await client.receive({ dup: false });
  });

  it('without any subscriber MQTT 5 hears 0x00 or 0x10 (3.4.2.1)', async () => {
    const client = await connect(broker, { version: 5 });
    expect([0, 0x10]).toContain(await client.publish(unique('nobody'), 'x', { qos: 1 }));
    expect([0, 0x10]).toContain(await client.publish(unique('nobody'), 'x', { qos: 2 }));
  });
});

describe('QoS 2 from the client', () => {
  it('PUBLISH repeated before PUBREL is answered and not delivered again [MQTT-4.3.3-10]', async () => {
    const client = await connect(broker);
    const topic = unique('t');
    await client.subscribe(topic, { qos: 2 });
    client.post(topic, 'once', { qos: 2, messageId: 11 });
    await client.expect('pubrec', { messageId: 11 });
    client.post(topic, 'once', { qos: 2, messageId: 11, dup: true });
    await client.expect('pubrec', { messageId: 11 });
    client.send({ cmd: 'pubrel', messageId: 11 });
    await client.expect('pubcomp', { messageId: 11 });
    await client.receive({ payload: 'once', qos: 2 });
    await client.expectNothing();
  });

  it('the same holds when both arrive together, whether one PUBREC answers both or each has its own', async () => {
    const client = await connect(broker);
    const topic = unique('t');
    await client.subscribe(topic, { qos: 2 });
    const first = client.encode({
      cmd: 'publish',
      topic,
      payload: 'once',
      qos: 2,
      messageId: 12,
      dup: false,
      retain: false,
    });
    const again = Buffer.from(first);
    again[0] = again[0]! | 0x08;
    client.sendBytes(Buffer.concat([first, again]));
    await client.expect('pubrec', { messageId: 12 });
    await client.receive({ payload: 'once' });
    for (const item of client.unread.splice(0)) expect(item).toMatchObject({ cmd: 'pubrec', messageId: 12 });
    client.send({ cmd: 'pubrel', messageId: 12 });
    await client.expect('pubcomp', { messageId: 12 });
    await client.expectNothing();
  });

  it('after PUBCOMP the packet identifier is free again [MQTT-4.3.3-12]', async () => {
    const client = await connect(broker);
    const topic = unique('t');
    await client.subscribe(topic, { qos: 2 });
    for (const payload of ['a', 'b']) await client.publish(topic, payload, { qos: 2, messageId: 13 });
    await client.receive({ payload: 'a' });
    await client.receive({ payload: 'b' });
  });

  it('PUBREL for an unknown packet identifier is answered 0x92 (3.7.2.1)', async () => {
    const client = await connect(broker, { version: 5 });
    client.send({ cmd: 'pubrel', messageId: 777 });
    await client.expect('pubcomp', { messageId: 777, reasonCode: 0x92 });
  });

  it('PUBREL for an unknown packet identifier is completed in 3.1.1 [MQTT-4.3.3-2]', async () => {
    const client = await connect(broker);
    client.send({ cmd: 'pubrel', messageId: 777 });
    await client.expect('pubcomp', { messageId: 777 });
  });

  it('PUBCOMP comes for many exchanges interleaved at will', async () => {
    const client = await connect(broker);
    const topic = unique('t');
    await client.subscribe(topic);
    for (let messageId = 1; messageId <= 20; messageId++)
      client.post(topic, `${messageId}`, { qos: 2, messageId });
    for (let messageId = 1; messageId <= 20; messageId++) await client.expect('pubrec', { messageId });
    for (let messageId = 20; messageId >= 1; messageId--) client.send({ cmd: 'pubrel', messageId });
    for (let messageId = 20; messageId >= 1; messageId--) await client.expect('pubcomp', { messageId });
    const texts = await client.receiveTexts(20);
    expect(texts.map(Number).sort((left, right) => left - right)).toEqual(
      Array.from({ length: 20 }, (_, index) => index + 1),
    );
    await client.expectNothing(50);
  });
});

describe('QoS 1 and 2 to the client', () => {
  it('packet identifiers are non-zero and unused while in flight [MQTT-2.2.1-4]', async () => {
    const subscriber = await connect(broker);
    const publisher = await connect(broker);
    const topic = unique('t');
    await subscriber.subscribe(topic, { qos: 1 });
    for (let index = 0; index < 50; index++) await publisher.publish(topic, `${index}`, { qos: 1 });
    const used = new Set<number>();
    for (let index = 0; index < 50; index++) used.add((await subscriber.expect('publish')).messageId!);
    expect(used.size).toBe(50);
    expect(used.has(0)).toBe(false);
  });

  it('nothing is resent on an open connection, however long the acknowledgement takes [MQTT-4.4.0-1]', async () => {
    const client = await connect(broker);
    const topic = unique('t');
    await client.subscribe(topic, { qos: 2 });
    await client.publish(topic, 'x', { qos: 2 });
    const { messageId } = await client.expect('publish');
    await client.expectNothing(1500);
    client.send({ cmd: 'pubrec', messageId: messageId! });
    await client.expect('pubrel', { messageId });
    await client.expectNothing(1500);
  });

  it('PUBREC with an error ends the exchange: no PUBREL follows [MQTT-4.3.3-4]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(topic, { qos: 2 });
    await client.publish(topic, 'x', { qos: 2 });
    const { messageId } = await client.expect('publish');
    client.send({ cmd: 'pubrec', messageId: messageId!, reasonCode: 0x97 });
    await client.expectNothing();
  });

  it('PUBREC for an unknown packet identifier is answered PUBREL 0x92 (3.6.2.1)', async () => {
    const client = await connect(broker, { version: 5 });
    client.send({ cmd: 'pubrec', messageId: 4321 });
    await client.expect('pubrel', { messageId: 4321, reasonCode: 0x92 });
  });

  it('acknowledgements for what was never sent do no harm', async () => {
    const client = await connect(broker, { version: 5 });
    client.send({ cmd: 'puback', messageId: 4321 });
    client.send({ cmd: 'pubcomp', messageId: 4322 });
    await client.ping();
  });
});

describe('topic names', () => {
  it.each([
    ['a wildcard +', 'a/+'],
    ['a wildcard #', '#'],
    ['a wildcard inside a level', 'a#b'],
    ['an empty topic', ''],
    ['U+0000', 'a\0b'],
  ])('%s is refused [MQTT-3.3.2-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2]', async (_name, topic) => {
    for (const version of VERSIONS) {
      const client = await connect(broker, { version });
      client.post(topic, 'x');
      await client.expectRefused([0x90, 0x82, 0x81]);
    }
  });

  it.each([
    ['a byte that is never UTF-8', [0xff, 0x41]],
    ['an overlong encoding', [0xc0, 0xaf]],
    ['a surrogate', [0xed, 0xa0, 0x80]],
    ['a sequence cut short', [0x41, 0xe2, 0x82]],
    ['a code point above U+10FFFF', [0xf4, 0x90, 0x80, 0x80]],
  ])('%s is malformed [MQTT-1.5.4-1]', async (_name, bytes) => {
    for (const version of VERSIONS) {
      const client = await connect(broker, { version });
      const body = version === 5 ? properties() : Buffer.alloc(0);
      client.sendBytes(packet(0x30, field(Buffer.from(bytes)), body, Buffer.from('x')));
      await client.expectRefused([0x81, 0x90, 0x99]);
    }
  });

  it('spaces, U+FEFF and all else are kept as they are [MQTT-4.7.3-4] [MQTT-1.5.4-3]', async () => {
    const client = await connect(broker);
    const root = unique('t');
    await client.subscribe(`${root}/#`);
    for (const name of ['/', '//', '/ /', '\ufeff', 'ACCOUNTS', 'Accounts', 'é', 'e\u0301', '🐟', '$SYS']) {
      await client.publish(`${root}/${name}`, 'x');
      await client.receive({ topic: `${root}/${name}` });
    }
  });

  it('an empty payload is a message', async () => {
    const client = await connect(broker);
    const topic = unique('t');
    await client.subscribe(topic);
    await client.publish(topic, '');
    expect((await client.receive({ topic })).payload.length).toBe(0);
  });
});

describe('properties passed on', () => {
  it('payload format, content type, response topic, correlation data are unaltered [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-20]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(topic, { qos: 2 });
    const carried = {
      payloadFormatIndicator: true,
      contentType: 'application/json',
      responseTopic: 'answers/here',
      correlationData: Buffer.from([0, 255, 1, 254]),
    };
    for (const qos of QOS) {
      await client.publish(topic, '{}', { qos, properties: carried });
      const message = await client.receive({ topic, qos });
      expect(message.properties).toMatchObject(carried);
    }
  });

  it('user properties keep their order, repetitions too [MQTT-3.3.2-17] [MQTT-3.3.2-18]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(topic);
    const pairs = Buffer.concat([
      userProperty('b', '1'),
      userProperty('a', '2'),
      userProperty('b', '3'),
      userProperty('', ''),
      userProperty('a', '2'),
    ]);
    client.sendBytes(packet(0x30, field(topic), properties(pairs), Buffer.from('x')));
    const message = await client.receive();
    expect(message.raw.includes(pairs)).toBe(true);
  });

  it('an MQTT 3.1.1 subscriber gets the same message without them, and the reverse', async () => {
    const [old, young] = [await connect(broker), await connect(broker, { version: 5 })];
    const topic = unique('t');
    await old.subscribe(topic);
    await young.subscribe(topic);
    await young.publish(topic, 'new', { properties: { contentType: 'x' } });
    await old.receive({ topic, payload: 'new' });
    await young.receive({ payload: 'new', properties: { contentType: 'x' } });
    await old.publish(topic, 'old');
    await old.receive({ payload: 'old' });
    expect((await young.receive({ payload: 'old' })).properties).toBeUndefined();
  });

  it('Message Expiry Interval reaches those online as it was sent [MQTT-3.3.2-6]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(topic);
    await client.publish(topic, 'x', { properties: { messageExpiryInterval: 100 } });
    const left = (await client.receive()).properties!.messageExpiryInterval!;
    expect(left).toBeGreaterThanOrEqual(99);
    expect(left).toBeLessThanOrEqual(100);
  });

  it('a payload that is not the UTF-8 it claims to be is refused with 0x99 or passed on unaltered (3.3.2.3.2)', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(topic);
    client.post(topic, Buffer.from([0xff, 0xfe]), { qos: 1, properties: { payloadFormatIndicator: true } });
    const puback = await client.expect('puback');
    if (puback.reasonCode === 0) await client.receive({ topic });
    else expect(puback.reasonCode).toBe(0x99);
  });

  it.each([
    ['a wildcard in the response topic [MQTT-3.3.2-14]', Buffer.concat([Buffer.from([0x08]), field('a/#')])],
    ['a subscription identifier from a client [MQTT-3.3.4-6]', Buffer.from([0x0b, 1])],
    [
      'content type twice (3.3.2.3.9)',
      Buffer.concat([Buffer.from([0x03]), field('a'), Buffer.from([0x03]), field('b')]),
    ],
    ['payload format 2 (3.3.2.3.2)', Buffer.from([0x01, 2])],
    ['a property of CONNECT', Buffer.from([0x21, 0, 1])],
  ])('%s is refused', async (_name, bytes) => {
    const client = await connect(broker, { version: 5 });
    client.sendBytes(packet(0x30, field('a'), properties(bytes), Buffer.from('x')));
    await client.expectRefused([0x81, 0x82, 0x90]);
  });
});

describe('topic alias', () => {
  it('from the client: set, used, replaced [MQTT-3.3.2-12]', async () => {
    const client = await connect(broker, { version: 5 });
    expect(client.connack.properties?.topicAliasMaximum).toBeGreaterThanOrEqual(2);
    const [first, second] = [unique('a'), unique('b')];
    await client.subscribe([first, second]);
    const properties = { topicAlias: 1 };
    for (const [topic, expected] of [
      [first, first],
      ['', first],
      [second, second],
      ['', second],
    ] as const) {
      client.post(topic, 'x', { properties });
      await client.receive({ topic: expected });
    }
  });

  it('the highest allowed works, one more is refused with 0x94 [MQTT-3.3.2-9]', async () => {
    const client = await connect(broker, { version: 5 });
    const most = client.connack.properties!.topicAliasMaximum!;
    const topic = unique('t');
    await client.subscribe(topic);
    client.post(topic, 'x', { properties: { topicAlias: most } });
    await client.receive({ topic });
    client.post(topic, 'x', { properties: { topicAlias: most + 1 } });
    await client.expectRefused(0x94);
  });

  it('0 is refused with 0x94 [MQTT-3.3.2-8]', async () => {
    const client = await connect(broker, { version: 5 });
    client.sendBytes(packet(0x30, field('a'), properties(Buffer.from([0x23, 0, 0])), Buffer.from('x')));
    await client.expectRefused(0x94);
  });

  it('an empty topic with an alias never set is a protocol error (3.3.2.3.4)', async () => {
    const client = await connect(broker, { version: 5 });
    client.post('', 'x', { properties: { topicAlias: 1 } });
    await client.expectRefused(0x82);
  });

  it('an alias ends with its connection, even when the session goes on [MQTT-3.3.2-7]', async () => {
    const clientId = unique('c');
    const first = await connect(broker, { version: 5, clientId, expiry: 30 });
    await first.publish(unique('t'), 'x', { qos: 1, properties: { topicAlias: 1 } });
    await first.disconnect();
    const second = await connect(broker, { version: 5, clientId, clean: false, expiry: 0 });
    expect(second.connack.sessionPresent).toBe(true);
    second.post('', 'x', { properties: { topicAlias: 1 } });
    await second.expectRefused(0x82);
  });

  it('none is sent to a client that allows none [MQTT-3.1.2-27]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(topic);
    for (let index = 0; index < 5; index++) {
      await client.publish(topic, 'x');
      expect((await client.receive({ topic })).properties?.topicAlias).toBeUndefined();
    }
  });

  it('none above the maximum of the client is sent, and each resolves [MQTT-3.1.2-26]', async () => {
    const client = await connect(broker, { version: 5, properties: { topicAliasMaximum: 2 } });
    const root = unique('t');
    await client.subscribe(`${root}/#`);
    const names = new Map<number, string>();
    for (let index = 0; index < 30; index++) {
      const topic = `${root}/${index % 5}`;
      await client.publish(topic, `${index}`);
      const message = await client.receive({ payload: `${index}` });
      const alias = message.properties?.topicAlias;
      if (alias !== undefined) {
        expect(alias).toBeGreaterThan(0);
        expect(alias).toBeLessThanOrEqual(2);
        if (message.topic !== '') names.set(alias, message.topic);
      }
      expect(message.topic === '' ? names.get(alias!) : message.topic).toBe(topic);
    }
    if (PEER === 'shoalmq') expect([...names.keys()].sort()).toEqual([1, 2]);
  });
});

describe.each([1, 3])('order with %i mqtt threads', threads => {
  const broker = useBroker({ set: { 'threads.mqtt': threads } });

  it.each(QOS)('one publisher, one topic, QoS %i: a thousand in the order sent [MQTT-4.6.0-6]', async qos => {
    const subscriber = await connect(broker);
    const publisher = await connect(broker);
    const topic = unique('t');
    await subscriber.subscribe(topic, { qos });
    const receiving = subscriber.receiveTexts(1000, 15_000);
    for (let batch = 0; batch < 20; batch++) {
      for (let index = batch * 50; index < batch * 50 + 50; index++)
        publisher.post(topic, `${index}`, { qos });
      for (let back = 0; back < 50 && qos === 1; back++) await publisher.expect('puback');
      if (qos === 2) await publisher.release(50);
    }
    expect(await receiving).toEqual(Array.from({ length: 1000 }, (_, index) => `${index}`));
  });

  it('a subscriber that falls silent does not hold up another', async () => {
    const [silent, lively] = [await connect(broker), await connect(broker)];
    const publisher = await connect(broker);
    const topic = unique('t');
    await silent.subscribe(topic, { qos: 2 });
    await lively.subscribe(topic, { qos: 2 });
    for (let index = 0; index < 20; index++) {
      await publisher.publish(topic, `${index}`, { qos: 1 });
      await lively.receive({ payload: `${index}` });
    }
    await sleep(20);
    expect(silent.unread.length).toBe(20);
  });

  it('many publishers to many subscribers: each in its order, and all of it', async () => {
    const topic = unique('t');
    const subscribers = await Promise.all(Array.from({ length: 6 }, () => connect(broker)));
    const publishers = await Promise.all(Array.from({ length: 6 }, () => connect(broker)));
    for (const subscriber of subscribers) await subscriber.subscribe(`${topic}/+`, { qos: 1 });
    const receiving = subscribers.map(subscriber => subscriber.receiveTexts(600, 15_000));
    for (let index = 0; index < 100; index++) {
      for (const [which, publisher] of publishers.entries()) {
        publisher.post(`${topic}/${which}`, `${which}:${index}`, { qos: 1 });
      }
    }
    for (const texts of await Promise.all(receiving)) {
      for (let which = 0; which < 6; which++) {
        const own = texts.filter(text => text.startsWith(`${which}:`));
        expect(own).toEqual(Array.from({ length: 100 }, (_, index) => `${which}:${index}`));
      }
    }
  });
});
