import { describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { connect, sleep, unique, VERSIONS } from './client/client.js';

const broker = useBroker();

describe('retained messages', () => {
  it.each(VERSIONS)(
    'the last one is sent to a new subscription, marked as retained, level %i [MQTT-3.3.1-6] [MQTT-3.3.1-8]',
    async version => {
      const publisher = await connect(broker, { version });
      const topic = unique('r');
      for (const payload of ['1', '2', '3'])
        await publisher.publish(topic, payload, { retain: true, qos: 1 });
      const subscriber = await connect(broker, { version });
      await subscriber.subscribe(topic, { qos: 2 });
      await subscriber.receive({ topic, payload: '3', retain: true, qos: 1, dup: false });
      await subscriber.expectNothing(50);
    },
  );

  it('those subscribed already get it without the mark [MQTT-3.3.1-9]', async () => {
    const client = await connect(broker);
    const topic = unique('r');
    await client.subscribe(topic, { qos: 1 });
    await client.publish(topic, 'x', { retain: true, qos: 1 });
    await client.receive({ payload: 'x', retain: false });
  });

  it('it outlives the connection and session of its publisher [MQTT-3.1.2.7]', async () => {
    const publisher = await connect(broker);
    const topic = unique('r');
    await publisher.publish(topic, 'x', { retain: true, qos: 1 });
    await publisher.disconnect();
    const subscriber = await connect(broker);
    await subscriber.subscribe(topic);
    await subscriber.receive({ payload: 'x', retain: true });
  });

  it.each([0, 1, 2] as const)(
    'it is kept with its QoS %i, delivered with the lower one [MQTT-3.3.1-5]',
    async qos => {
      const client = await connect(broker);
      const topic = unique('r');
      await client.publish(topic, 'x', { retain: true, qos });
      // The next message is acknowledged when this one has gone its way, which at QoS 0 nothing else tells.
      await client.publish(unique('next'), 'x', { qos: 1 });
      for (const granted of [0, 1, 2] as const) {
        await client.subscribe(topic, { qos: granted });
        await client.receive({ payload: 'x', qos: Math.min(qos, granted), retain: true });
      }
    },
  );

  it('an empty payload removes it and is passed on [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-10]', async () => {
    const client = await connect(broker);
    const topic = unique('r');
    await client.publish(topic, 'x', { retain: true, qos: 1 });
    await client.subscribe(topic, { qos: 1 });
    await client.receive({ payload: 'x', retain: true });
    await client.publish(topic, '', { retain: true, qos: 1 });
    await client.receive({ payload: '', retain: false });
    const other = await connect(broker);
    await other.subscribe(topic);
    await other.expectNothing();
  });

  it('a message without the flag changes nothing [MQTT-3.3.1-8] [MQTT-3.3.1-12]', async () => {
    const client = await connect(broker);
    const topic = unique('r');
    await client.publish(topic, 'kept', { retain: true, qos: 1 });
    await client.publish(topic, 'passing', { qos: 1 });
    await client.publish(topic, '', { qos: 1 });
    await client.subscribe(topic);
    await client.receive({ payload: 'kept', retain: true });
  });

  it('a wildcard finds all that match and no others', async () => {
    const client = await connect(broker);
    const root = unique('r');
    const names = ['a', 'a/b', 'a/b/c', 'b', 'b/b', '$hidden', 'a/$seen'].map(name => `${root}/${name}`);
    for (const topic of names) await client.publish(topic, topic, { retain: true, qos: 1 });
    const found = async (filter: string, count: number) => {
      const subscriber = await connect(broker);
      await subscriber.subscribe(`${root}/${filter}`, { qos: 1 });
      const texts = await subscriber.receiveTexts(count);
      await subscriber.expectNothing(50);
      return texts.map(text => text.slice(root.length + 1)).sort();
    };
    expect(await found('#', 7)).toEqual(['$hidden', 'a', 'a/$seen', 'a/b', 'a/b/c', 'b', 'b/b']);
    expect(await found('+', 3)).toEqual(['$hidden', 'a', 'b']);
    expect(await found('+/b', 2)).toEqual(['a/b', 'b/b']);
    expect(await found('a/#', 4)).toEqual(['a', 'a/$seen', 'a/b', 'a/b/c']);
    expect(await found('+/+/c', 1)).toEqual(['a/b/c']);
  });

  it('a leading wildcard does not find names that begin with $ [MQTT-4.7.2-1]', async () => {
    const client = await connect(broker);
    const name = unique('$r');
    await client.publish(`${name}/x`, 'hidden', { retain: true, qos: 1 });
    await client.subscribe('+/x');
    await client.expectNothing();
    await client.subscribe(`${name}/+`);
    await client.receive({ payload: 'hidden' });
    await client.publish(`${name}/x`, '', { retain: true, qos: 1 });
  });

  it('several filters in one SUBSCRIBE are served each', async () => {
    const client = await connect(broker);
    const root = unique('r');
    for (const name of ['a', 'b']) await client.publish(`${root}/${name}`, name, { retain: true, qos: 1 });
    await client.subscribe([`${root}/a`, `${root}/b`]);
    expect((await client.receiveTexts(2)).sort()).toEqual(['a', 'b']);
  });

  it('its properties are kept, and its expiry counts down (3.3.2.3.3)', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('r');
    const properties = {
      messageExpiryInterval: 100,
      contentType: 'text/plain',
      responseTopic: 'back',
      correlationData: Buffer.from('77'),
      userProperties: { a: '1' },
      payloadFormatIndicator: true,
    };
    await client.publish(topic, 'x', { retain: true, qos: 1, properties });
    await sleep(2200);
    await client.subscribe(topic);
    const message = await client.receive({ payload: 'x' });
    const { messageExpiryInterval, ...rest } = message.properties!;
    const { messageExpiryInterval: _, ...kept } = properties;
    expect(rest).toMatchObject(kept);
    expect(messageExpiryInterval).toBeLessThanOrEqual(98);
    expect(messageExpiryInterval).toBeGreaterThanOrEqual(95);
  });

  it('it is gone when its time has passed [MQTT-3.3.2-5]', async () => {
    const client = await connect(broker, { version: 5 });
    const topic = unique('r');
    await client.publish(topic, 'x', { retain: true, qos: 1, properties: { messageExpiryInterval: 1 } });
    await sleep(2100);
    await client.subscribe([topic, `${topic}/#`]);
    await client.expectNothing();
  });

  it('three thousand on a wildcard come all, once each, to a subscriber that takes its time', async () => {
    const publisher = await connect(broker);
    const root = unique('many');
    const count = 3000;
    for (let batch = 0; batch < count; batch += 100) {
      for (let index = batch; index < batch + 100; index++) {
        publisher.post(`${root}/${index % 50}/${index}`, `${index}`, { retain: true, qos: 1 });
      }
      for (let index = 0; index < 100; index++) await publisher.expect('puback');
    }
    const subscriber = await connect(broker, { version: 5, properties: { receiveMaximum: 20 } });
    await subscriber.subscribe(`${root}/#`, { qos: 1 });
    const texts = await subscriber.receiveTexts(count, 15_000);
    expect(new Set(texts).size).toBe(count);
    await subscriber.expectNothing(50);
  });

  it('it survives a restart', async () => {
    const topic = unique('r');
    const before = await connect(broker);
    await before.publish(`${topic}/gone`, 'x', { retain: true, qos: 1 });
    await before.publish(`${topic}/gone`, '', { retain: true, qos: 1 });
    await before.publish(`${topic}/kept`, 'old', { retain: true, qos: 1 });
    await before.publish(`${topic}/kept`, 'new', { retain: true, qos: 2 });
    await broker.restart();
    const after = await connect(broker);
    await after.subscribe(`${topic}/+`, { qos: 2 });
    await after.receive({ topic: `${topic}/kept`, payload: 'new', retain: true, qos: 2 });
    await after.expectNothing();
  });
});

describe('without retained messages', () => {
  const without = useBroker({ set: { 'features.retain': false } });

  it('CONNACK says so, and one sent all the same is refused with 0x9A [MQTT-3.2.2-14]', async () => {
    const client = await connect(without, { version: 5 });
    expect(client.connack.properties?.retainAvailable).toBe(false);
    client.post('a', 'x', { retain: true });
    await client.expectRefused(0x9a);
  });
});
