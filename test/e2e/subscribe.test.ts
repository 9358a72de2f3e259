import { describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { field, packet, properties, u8, u16 } from './client/bytes.js';
import { connect, sleep, type TestClient, unique, VERSIONS } from './client/client.js';
import { TRANSPORTS } from './client/wire.js';

const broker = useBroker({ transports: TRANSPORTS });

/** Publishes to each topic and says which of them reached the client, in order. */
async function reaching(client: TestClient, topics: string[]): Promise<string[]> {
  const end = unique('end');
  await client.subscribe(end);
  for (const topic of [...topics, end]) await client.publish(topic, topic, { qos: 1 });
  const seen: string[] = [];
  for (;;) {
    const message = await client.receive();
    if (message.topic === end) break;
    seen.push(message.topic);
  }
  await client.unsubscribe(end);
  return seen;
}

describe.each(TRANSPORTS)('SUBSCRIBE over %s', transport => {
  it.each(VERSIONS)('codes come in the order of the filters, level %i [MQTT-3.9.3-1]', async version => {
    const client = await connect(broker, { transport, version });
    const topic = unique('t');
    client.send({
      cmd: 'subscribe',
      messageId: 300,
      subscriptions: [
        { topic: `${topic}/a`, qos: 2 },
        { topic: `${topic}/b`, qos: 0 },
        { topic: `${topic}/c`, qos: 1 },
      ],
    });
    await client.expect('suback', { messageId: 300, granted: [2, 0, 1] });
  });

  it('a message published right behind the SUBACK arrives, from any connection', async () => {
    const [subscriber, publisher] = [await connect(broker, { transport }), await connect(broker)];
    for (let round = 0; round < 50; round++) {
      const topic = unique('race');
      await subscriber.subscribe(topic);
      publisher.post(topic, 'x');
      await subscriber.receive({ topic });
    }
  });
});

describe('wildcards', () => {
  const cases: [string, string[], string[]][] = [
    ['a/b', ['a/b'], ['a', 'a/b/c', 'A/b', '/a/b', 'a/b/']],
    ['a/+', ['a/b', 'a/'], ['a', 'a/b/c', 'b/b']],
    ['+', ['a', 'b'], ['/a', 'a/', 'a/b']],
    ['+/+', ['a/b', '/b', 'a/', '/'], ['a', 'a/b/c']],
    ['/+', ['/a', '/'], ['a', 'a/b', '/a/b']],
    ['a/#', ['a', 'a/b', 'a/b/c', 'a/', 'a//'], ['ab', '/a', 'b/a']],
    ['a/+/c', ['a/b/c', 'a//c'], ['a/c', 'a/b/b/c', 'a/b/c/']],
    ['a/+/#', ['a/b', 'a/b/c', 'a/', 'a//b'], ['a']],
    ['+/b/#', ['a/b', 'a/b/c', '/b'], ['b', 'a/c/b']],
    ['#', ['a', 'a/b', '/', '/a'], []],
  ];
  it.each(cases)(
    '%s matches as section 4.7.1 says [MQTT-4.7.1-1] [MQTT-4.7.1-2]',
    async (filter, yes, no) => {
      const client = await connect(broker);
      const root = unique('w');
      await client.subscribe(`${root}/${filter}`, { qos: 1 });
      const [hit, miss] = [yes.map(topic => `${root}/${topic}`), no.map(topic => `${root}/${topic}`)];
      expect((await reaching(client, [...hit, ...miss])).sort()).toEqual(hit.sort());
    },
  );

  it('a leading wildcard does not match names that begin with $ [MQTT-4.7.2-1]', async () => {
    const client = await connect(broker);
    const name = unique('$x');
    const rest = name.slice(1);
    expect(await client.subscribe(['#', '+/leaf', `+/${rest}`])).toEqual([0, 0, 0]);
    const talker = await connect(broker);
    await talker.publish(`${name}/leaf`, 'hidden', { qos: 1 });
    await talker.publish(`${rest}/leaf`, 'seen', { qos: 1 });
    const message = await client.receive();
    expect(message.payload.toString()).toBe('seen');
  });

  it('a filter that names the $ level does match (4.7.2)', async () => {
    const client = await connect(broker);
    const name = unique('$y');
    await client.subscribe([`${name}/#`, `${name}/+`]);
    await client.publish(`${name}/leaf`, 'x', { qos: 1 });
    await client.receive({ topic: `${name}/leaf` });
  });
});

describe('filters that are not', () => {
  const invalid = ['a#', 'a/#/b', '#/a', 'a+', '+a', 'a/b+', 'a/+b/c', '##', 'a/##', '++'];
  it.each(invalid)(
    '%s is refused with 0x8F, the rest of the packet is served [MQTT-4.7.1-1]',
    async filter => {
      const client = await connect(broker, { version: 5 });
      const topic = unique('t');
      expect(await client.subscribe([topic, filter, `${topic}/x`])).toEqual([0, 0x8f, 0]);
    },
  );

  it.each(invalid)('3.1.1: %s fails with 0x80 or the connection closes (3.9.3)', async filter => {
    const client = await connect(broker);
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: filter, qos: 0 }] });
    await Promise.race([client.expect('suback', { granted: [0x80] }), client.expectClosed()]);
  });

  it('an empty filter is refused [MQTT-4.7.3-1]', async () => {
    const client = await connect(broker, { version: 5 });
    client.sendBytes(packet(0x82, u16(1), properties(), field(''), u8(0)));
    await Promise.race([
      client.expect('suback', { granted: [0x8f] }),
      client.expectRefused([0x81, 0x82, 0x8f]).then(() => undefined),
    ]).catch(async error => {
      if (client.closed === undefined) throw error;
    });
  });
});

describe('SUBSCRIBE that is malformed', () => {
  it.each([
    ['flags 0000 [MQTT-3.8.1-1]', 0x80, [u16(1), field('a'), u8(0)]],
    ['flags 0011', 0x83, [u16(1), field('a'), u8(0)]],
    ['packet identifier 0 [MQTT-2.3.1-1]', 0x82, [u16(0), field('a'), u8(0)]],
    ['no filter [MQTT-3.8.3-3]', 0x82, [u16(1)]],
    ['QoS 3 [MQTT-3.8.3-4]', 0x82, [u16(1), field('a'), u8(3)]],
    ['reserved option bits [MQTT-3.8.3-4]', 0x82, [u16(1), field('a'), u8(4)]],
    ['options missing', 0x82, [u16(1), field('a')]],
    ['a filter longer than the packet', 0x82, [u16(1), u16(50), Buffer.from('abc')]],
    ['U+0000 in the filter [MQTT-4.7.3-2]', 0x82, [u16(1), field('a\0'), u8(0)]],
  ] as [string, number, Buffer[]][])('3.1.1: %s closes the connection', async (_name, first, parts) => {
    const client = await connect(broker);
    client.sendBytes(packet(first, ...parts));
    await client.expectClosed();
  });

  it.each([
    ['no filter [MQTT-3.8.3-2]', [], [0x81, 0x82]],
    ['QoS 3 (3.8.3.1)', [field('a'), u8(3)], [0x81, 0x82]],
    ['retain handling 3 (3.8.3.1)', [field('a'), u8(0x30)], [0x81, 0x82]],
    ['reserved option bits [MQTT-3.8.3-5]', [field('a'), u8(0x40)], [0x81]],
    ['options missing', [field('a')], [0x81]],
  ] as [string, Buffer[], number[]][])('5: %s is refused', async (_name, parts, codes) => {
    const client = await connect(broker, { version: 5 });
    client.sendBytes(packet(0x82, u16(1), properties(), ...parts));
    await client.expectRefused(codes);
  });

  it.each([
    ['subscription identifier 0 (3.8.2.1.2)', [0x0b, 0], [0x82, 0x81]],
    ['subscription identifier twice (3.8.2.1.2)', [0x0b, 1, 0x0b, 2], [0x82, 0x81]],
    ['a property of PUBLISH', [0x01, 1], [0x81, 0x82]],
  ] as [string, number[], number[]][])('5: %s is refused', async (_name, bytes, codes) => {
    const client = await connect(broker, { version: 5 });
    client.sendBytes(packet(0x82, u16(1), properties(Buffer.from(bytes)), field('a'), u8(0)));
    await client.expectRefused(codes);
  });
});

describe('subscription options of MQTT 5', () => {
  it('no-local keeps what the client itself published, and only that [MQTT-3.8.3-3]', async () => {
    const [client, other] = [await connect(broker, { version: 5 }), await connect(broker, { version: 5 })];
    const topic = unique('t');
    await client.subscribe(topic, { qos: 1, nl: true });
    await client.publish(topic, 'mine', { qos: 1 });
    await other.publish(topic, 'theirs', { qos: 1 });
    await client.receive({ payload: 'theirs' });
    await client.expectNothing();
  });

  it('no-local on one of two overlapping subscriptions leaves the other', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(topic, { nl: true, id: 1 });
    await client.subscribe(`${topic}/#`, { id: 2 });
    await client.publish(topic, 'x');
    await client.receive({ properties: { subscriptionIdentifier: 2 } });
    await client.expectNothing();
  });

  it.each([false, true])('retain as published %s [MQTT-3.3.1-12] [MQTT-3.3.1-13]', async rap => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(topic, { rap });
    await client.publish(topic, 'kept', { retain: true });
    await client.receive({ payload: 'kept', retain: rap });
    await client.publish(topic, 'passing');
    await client.receive({ payload: 'passing', retain: false });
    await client.publish(topic, '', { retain: true });
    await client.receive({ payload: '', retain: rap });
  });

  it('retain handling 0 sends the retained message at every SUBSCRIBE [MQTT-3.3.1-9]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.publish(topic, 'kept', { retain: true, qos: 1 });
    for (let round = 0; round < 2; round++) {
      await client.subscribe(topic, { rh: 0 });
      await client.receive({ payload: 'kept', retain: true });
    }
  });

  it('retain handling 1 sends it for a new subscription only [MQTT-3.3.1-10]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.publish(topic, 'kept', { retain: true, qos: 1 });
    await client.subscribe(topic, { rh: 1 });
    await client.receive({ payload: 'kept', retain: true });
    await client.subscribe(topic, { rh: 1, qos: 1 });
    await client.expectNothing();
    await client.unsubscribe(topic);
    await client.subscribe(topic, { rh: 1 });
    await client.receive({ payload: 'kept', retain: true });
  });

  it('retain handling 2 never sends it [MQTT-3.3.1-11]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.publish(topic, 'kept', { retain: true, qos: 1 });
    await client.subscribe(topic, { rh: 2 });
    await client.expectNothing();
    await client.publish(topic, 'live');
    await client.receive({ payload: 'live', retain: false });
  });
});

describe('overlapping and repeated subscriptions', () => {
  it('the highest QoS of all that match counts [MQTT-3.3.4-2]', async () => {
    const client = await connect(broker);
    const topic = unique('t');
    await client.subscribe(`${topic}/#`, { qos: 0 });
    await client.subscribe(`${topic}/+`, { qos: 2 });
    await client.subscribe(`${topic}/a`, { qos: 1 });
    await client.publish(`${topic}/a`, 'x', { qos: 2 });
    await sleep(100);
    const copies = client.unread.filter(item => item.cmd === 'publish');
    expect(Math.max(...copies.map(item => item.qos as number))).toBe(2);
  });

  it('all subscription identifiers come, together or one by one [MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.3.4-5]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(`${topic}/#`, { id: 1 });
    await client.subscribe(`${topic}/+`, { id: 268_435_455 });
    await client.subscribe(`${topic}/a`);
    await client.publish(`${topic}/a`, 'x');
    await sleep(100);
    const seen: number[] = [];
    for (const item of client.unread) {
      if (item.cmd === 'publish') seen.push(...[item.properties?.subscriptionIdentifier ?? []].flat());
    }
    expect(seen.sort((left, right) => left - right)).toEqual([1, 268_435_455]);
  });

  it('a subscription without identifier brings none', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(topic);
    await client.publish(topic, 'x');
    expect((await client.receive()).properties?.subscriptionIdentifier).toBeUndefined();
  });

  it('subscribing again replaces: QoS, options and identifier [MQTT-3.8.4-3]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(topic, { qos: 2, id: 5, nl: true });
    await client.subscribe(topic, { qos: 0, id: 6 });
    await client.publish(topic, 'x', { qos: 2 });
    await client.receive({ qos: 0, properties: { subscriptionIdentifier: 6 } });
    await client.subscribe(topic, { qos: 1 });
    await client.publish(topic, 'y', { qos: 2 });
    expect((await client.receive({ qos: 1 })).properties?.subscriptionIdentifier).toBeUndefined();
    await client.expectNothing();
  });

  it('the retained message of several filters carries the identifier of its own (3.8.4)', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.publish(topic, 'kept', { retain: true, qos: 1 });
    await client.subscribe(topic, { id: 9 });
    await client.receive({ retain: true, properties: { subscriptionIdentifier: 9 } });
  });

  it('one SUBSCRIBE with the same filter twice ends with the last (3.8.4)', async () => {
    const client = await connect(broker);
    const topic = unique('t');
    client.send({
      cmd: 'subscribe',
      messageId: 1,
      subscriptions: [
        { topic, qos: 2 },
        { topic, qos: 1 },
      ],
    });
    await client.expect('suback', { granted: [2, 1] });
    await client.publish(topic, 'x', { qos: 2 });
    await client.receive({ qos: 1 });
    await client.expectNothing();
  });
});

describe('UNSUBSCRIBE', () => {
  it.each(VERSIONS)(
    'is answered and ends delivery, level %i [MQTT-3.10.4-4] [MQTT-3.10.4-2]',
    async version => {
      const client = await connect(broker, { version });
      const topic = unique('t');
      await client.subscribe([topic, `${topic}/+`], { qos: 1 });
      await client.unsubscribe(topic);
      await client.publish(topic, 'gone', { qos: 1 });
      await client.publish(`${topic}/a`, 'stays', { qos: 1 });
      await client.receive({ payload: 'stays' });
    },
  );

  it('codes: 0 for what was there, 0x11 for what was not, in order [MQTT-3.11.3-1]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe([`${topic}/a`, `${topic}/#`]);
    const answer = await client.unsubscribe([`${topic}/b`, `${topic}/#`, `${topic}/a`, `${topic}/a`]);
    expect(answer).toEqual([0x11, 0, 0, 0x11]);
  });

  it('filters are compared by character, not by meaning [MQTT-3.10.4-1]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('t');
    await client.subscribe(`${topic}/+`);
    expect(await client.unsubscribe([`${topic}/#`, `${topic}/a`])).toEqual([0x11, 0x11]);
    await client.publish(`${topic}/a`, 'x');
    await client.receive();
  });

  it('a delivery that has begun is completed [MQTT-3.10.4-3]', async () => {
    const client = await connect(broker);
    const topic = unique('t');
    await client.subscribe(topic, { qos: 2 });
    await client.publish(topic, 'x', { qos: 2 });
    const { messageId } = await client.expect('publish');
    await client.unsubscribe(topic);
    client.send({ cmd: 'pubrec', messageId: messageId! });
    await client.expect('pubrel', { messageId });
  });

  it.each([
    ['flags 0000 [MQTT-3.10.1-1]', 0xa0, [u16(1), field('a')]],
    ['no filter [MQTT-3.10.3-2]', 0xa2, [u16(1)]],
    ['packet identifier 0', 0xa2, [u16(0), field('a')]],
    ['a filter cut short', 0xa2, [u16(1), u16(5), Buffer.from('ab')]],
  ] as [string, number, Buffer[]][])('%s is refused', async (_name, first, parts) => {
    const client = await connect(broker);
    client.sendBytes(packet(first, ...parts));
    await client.expectClosed();
    const young = await connect(broker, { version: 5 });
    young.sendBytes(packet(first, parts[0]!, properties(), ...parts.slice(1)));
    await young.expectRefused([0x81, 0x82]);
  });
});

describe('limits', () => {
  const tight = useBroker({
    set: {
      'limits.subscriptionsPerSessionMax': 5,
      'limits.topicLevelsMax': 4,
      'limits.topicBytesMax': 100,
      'limits.qosMax': 1,
    },
  });

  it('a subscription beyond the number allowed gets 0x97, the others stay', async () => {
    const client = await connect(tight, { version: 5 });
    const topic = unique('t');
    const codes = await client.subscribe(Array.from({ length: 7 }, (_, index) => `${topic}/${index}`));
    expect(codes).toEqual([0, 0, 0, 0, 0, 0x97, 0x97]);
    expect(await client.subscribe(`${topic}/0`)).toEqual([0]);
    await client.unsubscribe(`${topic}/1`);
    expect(await client.subscribe(`${topic}/5`)).toEqual([0]);
  });

  it('a filter with too many levels or bytes is refused with 0x8F', async () => {
    const client = await connect(tight, { version: 5 });
    expect(await client.subscribe(['a/b/c/d', 'a/b/c/d/e', 'x'.repeat(101)])).toEqual([0, 0x8f, 0x8f]);
  });

  it('a topic with too many levels is refused with 0x90', async () => {
    const client = await connect(tight, { version: 5 });
    client.post('a/b/c/d/e', 'x', { qos: 1 });
    const answer = await Promise.race([
      client.expect('puback').then(packet => packet.reasonCode),
      client.expectRefused(0x90).then(() => 0x90),
    ]);
    expect(answer).toBe(0x90);
  });

  it('Maximum QoS is told, grants are lowered, more is refused with 0x9B [MQTT-3.2.2-9] [MQTT-3.2.2-11]', async () => {
    const client = await connect(tight, { version: 5 });
    expect(client.connack.properties?.maximumQoS).toBe(1);
    expect(await client.subscribe(unique('t'), { qos: 2 })).toEqual([1]);
    client.post('a', 'x', { qos: 2 });
    await client.expectRefused(0x9b);
  });
});
