import { describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { connect, sleep, unique } from './client/client.js';
import { TRANSPORTS } from './client/wire.js';

const broker = useBroker({
  transports: TRANSPORTS,
  set: {
    'limits.inflightInboundMax': 10,
    'limits.connectionBufferBytesMax': 65_536,
    'limits.queueMessagesMax': 100_000,
  },
});

describe('Receive Maximum of the client', () => {
  it.each([1, 3, 20])(
    '%i: never more than that in flight, and the next when one is done [MQTT-3.3.4-9]',
    async most => {
      const subscriber = await connect(broker, { version: 5, properties: { receiveMaximum: most } });
      const publisher = await connect(broker);
      const topic = unique('t');
      await subscriber.subscribe(topic, { qos: 2 });
      for (let index = 0; index < 60; index++) {
        await publisher.publish(topic, `${index}`, { qos: index % 2 === 0 ? 1 : 2 });
      }
      await sleep(100);
      expect(subscriber.unread.length).toBe(most);
      const texts: string[] = [];
      for (let index = 0; index < 60; index++) {
        const message = await subscriber.receive();
        texts.push(message.payload.toString());
        expect(subscriber.unread.filter(item => item.cmd === 'publish').length).toBeLessThanOrEqual(most);
      }
      expect(texts.map(Number).sort((left, right) => left - right)).toEqual(
        Array.from({ length: 60 }, (_, index) => index),
      );
    },
  );

  it('QoS 0 and all other packets pass a full window [MQTT-3.3.4-10]', async () => {
    const client = await connect(broker, { version: 5, properties: { receiveMaximum: 1 } });
    const publisher = await connect(broker);
    const topic = unique('t');
    await client.subscribe(`${topic}/#`, { qos: 1 });
    await publisher.publish(`${topic}/1`, 'a', { qos: 1 });
    await publisher.publish(`${topic}/1`, 'b', { qos: 1 });
    await client.expect('publish', { payload: 'a' });
    await publisher.publish(`${topic}/0`, 'c');
    await client.expect('publish', { payload: 'c', qos: 0 });
    await client.ping();
    await client.subscribe(unique('t'));
    await client.expectNothing();
  });

  it('a PUBREC with an error frees its place (4.9)', async () => {
    const client = await connect(broker, { version: 5, properties: { receiveMaximum: 1 } });
    const publisher = await connect(broker);
    const topic = unique('t');
    await client.subscribe(topic, { qos: 2 });
    for (const payload of ['a', 'b']) await publisher.publish(topic, payload, { qos: 2 });
    const { messageId } = await client.expect('publish', { payload: 'a' });
    await client.expectNothing();
    client.send({ cmd: 'pubrec', messageId: messageId!, reasonCode: 0x83 });
    await client.receive({ payload: 'b' });
  });

  it('QoS 2 holds its place until PUBCOMP (4.9)', async () => {
    const client = await connect(broker, { version: 5, properties: { receiveMaximum: 1 } });
    const publisher = await connect(broker);
    const topic = unique('t');
    await client.subscribe(topic, { qos: 2 });
    for (const payload of ['a', 'b']) await publisher.publish(topic, payload, { qos: 2 });
    const { messageId } = await client.expect('publish', { payload: 'a' });
    client.send({ cmd: 'pubrec', messageId: messageId! });
    await client.expect('pubrel');
    await client.expectNothing();
    client.send({ cmd: 'pubcomp', messageId: messageId! });
    await client.receive({ payload: 'b' });
  });
});

describe('Receive Maximum of the broker', () => {
  it('as many QoS 2 in flight as told are served; one more is refused with 0x93 (3.3.4)', async () => {
    const client = await connect(broker, { version: 5 });
    const most = client.connack.properties!.receiveMaximum!;
    expect(most).toBe(10);
    const topic = unique('t');
    for (let messageId = 1; messageId <= most; messageId++) client.post(topic, 'x', { qos: 2, messageId });
    for (let messageId = 1; messageId <= most; messageId++) await client.expect('pubrec', { messageId });
    client.post(topic, 'x', { qos: 2, messageId: 4, dup: true });
    await client.expect('pubrec', { messageId: 4 });
    client.post(topic, 'x', { qos: 2, messageId: most + 1 });
    await client.expectRefused(0x93);
  });

  it('places are free again after PUBCOMP', async () => {
    const client = await connect(broker, { version: 5 });
    for (let round = 0; round < 30; round++)
      expect(await client.publish(unique('t'), 'x', { qos: 2 })).toBeLessThan(0x80);
  });

  it('3.1.1 knows no such limit and is served', async () => {
    const client = await connect(broker);
    const topic = unique('t');
    for (let messageId = 1; messageId <= 50; messageId++) client.post(topic, 'x', { qos: 2, messageId });
    await client.release(50);
  });
});

describe('Maximum Packet Size of the client', () => {
  it('a message beyond it is left out, those after it come, a QoS 1 one counts as done [MQTT-3.1.2-24] [MQTT-3.1.2-25]', async () => {
    const client = await connect(broker, {
      version: 5,
      properties: { maximumPacketSize: 200, receiveMaximum: 1 },
    });
    const publisher = await connect(broker);
    const topic = unique('t');
    await client.subscribe(topic, { qos: 1 });
    for (const qos of [0, 1] as const) {
      await publisher.publish(topic, 'x'.repeat(500), { qos });
      await publisher.publish(topic, `fits ${qos}`, { qos });
      await client.receive({ payload: `fits ${qos}`, qos });
    }
    await client.expectNothing();
  });

  it('others with the same subscription get it', async () => {
    const small = await connect(broker, { version: 5, properties: { maximumPacketSize: 100 } });
    const large = await connect(broker, { version: 5 });
    const topic = unique('t');
    await small.subscribe(topic);
    await large.subscribe(topic);
    await large.publish(topic, 'x'.repeat(500));
    await large.receive({ payload: 'x'.repeat(500) });
    await small.expectNothing();
  });

  it('a retained or waiting message beyond it is left out as well', async () => {
    const publisher = await connect(broker);
    const [topic, clientId] = [unique('t'), unique('c')];
    const first = await connect(broker, { version: 5, clientId, expiry: 60 });
    await first.subscribe(`${topic}/q`, { qos: 1 });
    await first.disconnect();
    await publisher.publish(`${topic}/q`, 'x'.repeat(500), { qos: 1 });
    await publisher.publish(`${topic}/q`, 'fits', { qos: 1 });
    await publisher.publish(`${topic}/r`, 'x'.repeat(500), { qos: 1, retain: true });
    const back = await connect(broker, {
      version: 5,
      clientId,
      clean: false,
      expiry: 0,
      properties: { maximumPacketSize: 200 },
    });
    await back.receive({ payload: 'fits' });
    await back.subscribe(`${topic}/r`, { qos: 1 });
    await back.expectNothing();
    await back.disconnect();
    const again = await connect(broker, { version: 5, clientId, clean: false, expiry: 0 });
    await again.expectNothing();
  });
});

describe.each(TRANSPORTS)('a consumer that does not read, over %s', transport => {
  it('loses QoS 0 beyond its buffer, and nobody else notices', { timeout: 60_000 }, async () => {
    const slow = await connect(broker, { transport });
    const lively = await connect(broker, { transport });
    const publisher = await connect(broker);
    const topic = unique('t');
    for (const client of [slow, lively]) await client.subscribe(topic);
    slow.wire.pause();
    const payload = Buffer.alloc(4096, 'x');
    const count = 8000;
    for (let batch = 0; batch < count; batch += 8) {
      for (let index = 0; index < 8; index++) publisher.post(topic, payload);
      for (let index = 0; index < 8; index++) await lively.receive({ topic });
    }
    await publisher.publish(topic, 'last', { qos: 1 });
    slow.wire.resume();
    let got = 0;
    await slow.ping();
    await sleep(200);
    for (const item of slow.unread) if (item.cmd === 'publish') got++;
    expect(got).toBeLessThan(count);
    slow.unread.length = 0;
    await publisher.publish(topic, 'after', { qos: 1 });
    await slow.receive({ payload: 'after' });
  });

  it('keeps QoS 1 in order and whole', { timeout: 60_000 }, async () => {
    const slow = await connect(broker, { transport });
    const publisher = await connect(broker);
    const topic = unique('t');
    await slow.subscribe(topic, { qos: 1 });
    slow.wire.pause();
    const pad = 'x'.repeat(4096);
    for (let index = 0; index < 1000; index++) await publisher.publish(topic, `${index} ${pad}`, { qos: 1 });
    slow.wire.resume();
    const texts = await slow.receiveTexts(1000, 20_000);
    expect(texts.map(text => Number(text.split(' ')[0]))).toEqual(
      Array.from({ length: 1000 }, (_, index) => index),
    );
    await slow.expectNothing(50);
  });
});

describe('a publisher that outruns everything', () => {
  it('is slowed down, and no QoS 1 message is lost', { timeout: 60_000 }, async () => {
    const subscriber = await connect(broker);
    const publisher = await connect(broker);
    const topic = unique('t');
    await subscriber.subscribe(topic, { qos: 1 });
    const count = 20_000;
    const receiving = (async () => {
      for (let index = 0; index < count; index++) await subscriber.receive({ payload: `${index}` }, 30_000);
    })();
    for (let index = 0; index < count; index++) publisher.post(topic, `${index}`, { qos: 1 });
    for (let index = 0; index < count; index++) await publisher.expect('puback', {}, 30_000);
    await receiving;
  });
});
