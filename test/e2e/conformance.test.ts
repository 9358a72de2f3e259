import { describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { connectBytes, field, packet, properties, u8, u16 } from './client/bytes.js';
import { type ConnectOptions, connect, open, unique, VERSION_NAMES, VERSIONS } from './client/client.js';
import { TRANSPORTS } from './client/wire.js';

/**
 * One broad pass through MQTT, the same for every transport and version: what a transport could get wrong (bytes lost,
 * doubled, reordered, held back, an end unnoticed) shows in one of these. The rules in depth have suites of their own.
 */
const broker = useBroker({
  transports: TRANSPORTS,
  set: {
    'threads.mqtt': 2,
    'limits.packetBytesMax': 1_000_000,
    'limits.connectionBufferBytesMax': 65_536,
    'limits.queueMessagesMax': 10_000,
  },
});

const QOS = [0, 1, 2] as const;
const KIB = 1024;

function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let index = 0; index < length; index++) bytes[index] = (index * 31 + (index >>> 8)) & 255;
  return bytes;
}

const combinations = TRANSPORTS.flatMap(transport =>
  VERSIONS.map(version => [VERSION_NAMES[version], transport, version] as const),
);

describe.each(combinations)('%s over %s', (_name, transport, version) => {
  const join = (options: ConnectOptions = {}) => connect(broker, { transport, version, ...options });
  /** With a session that lasts. */
  const joinLasting = (clientId: string) =>
    join({ clientId, clean: false, ...(version === 5 ? { expiry: 300 } : {}) });
  /** Ends a lasting session for good. */
  const leave = async (clientId: string) => {
    const last = await join({ clientId, clean: true, ...(version === 5 ? { expiry: 0 } : {}) });
    await last.disconnect();
  };

  it('CONNECT is answered, a second one ends the connection [MQTT-3.1.0-2]', async () => {
    const client = await join();
    expect(client.connack.sessionPresent).toBe(false);
    await client.ping();
    client.sendBytes(connectBytes({ level: version }));
    await client.expectRefused(0x82);
  });

  it('packets arrive whole, in whatever pieces they were sent', async () => {
    const client = await open(broker, { transport, version });
    client.sendConnect();
    const topic = unique('t');
    const bytes = Buffer.concat([
      client.encode({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic, qos: 1 }] }),
      client.encode({ cmd: 'publish', topic, payload: 'x', qos: 1, messageId: 2, dup: false, retain: false }),
      client.encode({ cmd: 'publish', topic, payload: '', qos: 0, dup: false, retain: false }),
      client.encode({ cmd: 'pingreq' }),
    ]);
    await client.sendPieces(
      Array.from(bytes, byte => u8(byte)),
      0,
    );
    await client.expect('connack');
    await client.expect('suback', { messageId: 1 });
    await client.expect('puback', { messageId: 2 });
    await client.receive({ topic, payload: 'x', qos: 1 });
    await client.receive({ topic, payload: '', qos: 0 });
    await client.expect('pingresp');
  });

  it('messages of every QoS reach subscribers of every QoS, in order, once', async () => {
    const publisher = await join();
    const topic = unique('t');
    for (const granted of QOS) {
      const subscriber = await join();
      expect(await subscriber.subscribe([`${topic}/+`, unique('other')], { qos: granted })).toEqual([
        granted,
        granted,
      ]);
      for (const qos of QOS) {
        for (let index = 0; index < 5; index++)
          await publisher.publish(`${topic}/a`, `${qos} ${index}`, { qos });
        for (let index = 0; index < 5; index++)
          await subscriber.receive({ payload: `${qos} ${index}`, qos: Math.min(qos, granted), dup: false });
      }
      await subscriber.unsubscribe(`${topic}/+`);
      await publisher.publish(`${topic}/a`, 'not for you', { qos: 1 });
      await subscriber.ping();
      await subscriber.disconnect();
      expect(subscriber.unread).toEqual([]);
    }
  });

  it('a retained message is there for who comes later, until it is cleared', async () => {
    const [publisher, topic] = [await join(), unique('r')];
    for (const payload of ['old', 'new']) await publisher.publish(topic, payload, { qos: 1, retain: true });
    const subscriber = await join();
    await subscriber.subscribe(`${topic}/#`, { qos: 1 });
    await subscriber.receive({ topic, payload: 'new', qos: 1, retain: true });
    await publisher.publish(topic, '', { qos: 1, retain: true });
    await subscriber.receive({ topic, payload: '', retain: false });
    const late = await join();
    await late.subscribe(topic, { qos: 1 });
    await late.ping();
    expect(late.unread).toEqual([]);
  });

  it('a will is published when the cable is cut, and not after DISCONNECT', async () => {
    const [watcher, topic] = [await join(), unique('w')];
    await watcher.subscribe(`${topic}/+`, { qos: 1 });
    const will = (name: string) => ({
      topic: `${topic}/${name}`,
      payload: Buffer.from('gone'),
      qos: 1 as const,
      retain: false,
    });
    const polite = await join({ will: will('polite') });
    const cut = await join({ will: will('cut') });
    await polite.disconnect();
    cut.drop();
    await watcher.receive({ topic: `${topic}/cut`, payload: 'gone', qos: 1 });
    await watcher.ping();
    expect(watcher.unread).toEqual([]);
  });

  it('a session goes on where it was cut: what is queued, in flight, half acknowledged', async () => {
    const [publisher, topic, clientId] = [await join(), unique('s'), unique('c')];
    const first = await joinLasting(clientId);
    await first.subscribe(topic, { qos: 2 });
    await publisher.publish(topic, 'one', { qos: 1 });
    await publisher.publish(topic, 'two', { qos: 2 });
    const one = await first.expect('publish', { payload: 'one', qos: 1, dup: false });
    const two = await first.expect('publish', { payload: 'two', qos: 2, dup: false });
    first.send({ cmd: 'pubrec', messageId: two.messageId! });
    await first.expect('pubrel', { messageId: two.messageId! });
    first.drop();
    await publisher.publish(topic, 'three', { qos: 1 });
    const second = await joinLasting(clientId);
    expect(second.connack.sessionPresent).toBe(version !== 3);
    await second.receive({ payload: 'one', qos: 1, dup: true, messageId: one.messageId });
    await second.expect('pubrel', { messageId: two.messageId! });
    second.send({ cmd: 'pubcomp', messageId: two.messageId! });
    await second.receive({ payload: 'three', qos: 1 });
    await second.ping();
    expect(second.unread).toEqual([]);
    await second.disconnect();
    await leave(clientId);
  });

  it('a second client with the same identifier takes the place of the first [MQTT-3.1.4-2]', async () => {
    const clientId = unique('c');
    const first = await joinLasting(clientId);
    const second = await joinLasting(clientId);
    await first.expectRefused(0x8e);
    await second.ping();
    await second.disconnect();
    await leave(clientId);
  });

  it('a packet of nearly the largest size arrives whole; a larger one ends the connection', async () => {
    const [client, topic] = [await join(), unique('l')];
    await client.subscribe(topic, { qos: 1 });
    const payload = noise(990_000);
    client.post(topic, payload, { qos: 1 });
    await client.expect('puback');
    const message = await client.receive({ topic });
    expect(payload.equals(message.payload as Buffer)).toBe(true);
    client.post(topic, noise(1_000_001));
    await client.expectRefused(0x95);
  });

  it('a subscriber that does not read for a while loses nothing of QoS 1, and holds nobody up', async () => {
    const [slow, lively, publisher, topic] = [await join(), await join(), await join(), unique('b')];
    for (const client of [slow, lively]) await client.subscribe(topic, { qos: 1 });
    slow.wire.pause();
    const count = 200;
    const pad = 'x'.repeat(8 * KIB);
    for (let index = 0; index < count; index++) {
      publisher.post(topic, `${index} ${pad}`, { qos: 1 });
      await publisher.expect('puback');
      await lively.receive();
    }
    slow.wire.resume();
    const texts = await slow.receiveTexts(count, 10_000);
    expect(texts.map(text => Number(text.split(' ')[0]))).toEqual([...Array(count).keys()]);
    await slow.ping();
    expect(slow.unread).toEqual([]);
  });

  it('malformed packets end their connection, with the reason in MQTT 5, and disturb nobody', async () => {
    const [other, topic] = [await join(), unique('m')];
    await other.subscribe(topic, { qos: 1 });
    const block = version === 5 ? properties() : Buffer.alloc(0);
    const broken = [
      packet(0x36, field('a'), u16(1), block), // both QoS bits [MQTT-3.3.1-4]
      packet(0x30, u16(9), Buffer.from('abc')), // a topic cut short
      version === 3 ? packet(0x60) : packet(0x60, u16(1)), // PUBREL without its flags [MQTT-3.6.1-1], or its identifier
      packet(0x82, u8(0)), // SUBSCRIBE cut short
      packet(0x00), // no packet type
      Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 1]), // a length of five bytes
    ];
    for (const bytes of broken) {
      const client = await join();
      client.sendBytes(bytes);
      await client.expectRefused([0x81, 0x82, 0x95]);
    }
    await other.publish(topic, 'still here', { qos: 1 });
    await other.receive({ payload: 'still here' });
  });
});
