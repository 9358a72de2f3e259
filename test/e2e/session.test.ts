import { describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import {
  type ConnectOptions,
  connect,
  sleep,
  type TestClient,
  unique,
  VERSIONS,
  type Version,
} from './client/client.js';

const QOS = [1, 2] as const;

/** Connects to a session that outlives the connection, in the way of each version. */
function resume(
  target: Parameters<typeof connect>[0],
  clientId: string,
  options: ConnectOptions = {},
): Promise<TestClient> {
  const version = options.version ?? 5;
  const lasting: ConnectOptions = { version, clientId, clean: false, ...options };
  return connect(target, version === 5 ? { expiry: 600, ...lasting } : lasting);
}

describe.each([
  ['one mqtt thread', 1],
  ['three mqtt threads', 3],
])('sessions with %s', (_name, threads) => {
  const broker = useBroker({ set: { 'threads.mqtt': threads, 'limits.queueMessagesMax': 200 } });

  /** A session with one subscription, offline. */
  async function offline(
    clientId: string,
    topic: string,
    version: Version = 5,
    qos: 0 | 1 | 2 = 2,
  ): Promise<void> {
    const client = await resume(broker, clientId, { version });
    await client.subscribe(topic, { qos });
    await client.disconnect();
  }

  describe.each(VERSIONS)('level %i', version => {
    it('session present tells the truth [MQTT-3.2.2-2] [MQTT-3.2.2-3]', async () => {
      const clientId = unique('c');
      const first = await resume(broker, clientId, { version });
      expect(first.connack.sessionPresent).toBe(false);
      await first.disconnect();
      const second = await resume(broker, clientId, { version });
      expect(second.connack.sessionPresent).toBe(version !== 3);
      await second.disconnect();
      const wiped = await connect(broker, { version, clientId });
      expect(wiped.connack.sessionPresent).toBe(false);
      await wiped.disconnect();
      const fresh = await resume(broker, clientId, { version });
      expect(fresh.connack.sessionPresent).toBe(false);
      await fresh.disconnect();
    });

    it('QoS 1 and 2 wait for the client in order, subscriptions stay [MQTT-3.1.2-5] [MQTT-4.5.0-1]', async () => {
      const [clientId, topic] = [unique('c'), unique('t')];
      await offline(clientId, `${topic}/#`, version);
      const publisher = await connect(broker, { version });
      const sent: string[] = [];
      for (let index = 0; index < 30; index++) {
        sent.push(`${index}`);
        await publisher.publish(`${topic}/a`, `${index}`, { qos: QOS[index % 2]! });
      }
      const back = await resume(broker, clientId, { version });
      const seen: string[] = [];
      for (let index = 0; index < 30; index++) {
        const message = await back.receive({ topic: `${topic}/a`, dup: false });
        expect(message.qos).toBe(QOS[Number(message.payload) % 2]);
        seen.push(message.payload.toString());
      }
      expect(seen.filter(text => Number(text) % 2 === 0)).toEqual(
        sent.filter(text => Number(text) % 2 === 0),
      );
      expect(seen.filter(text => Number(text) % 2 === 1)).toEqual(
        sent.filter(text => Number(text) % 2 === 1),
      );
      await publisher.publish(`${topic}/b`, 'live', { qos: 1 });
      await back.receive({ payload: 'live' });
      await back.expectNothing(50);
      await back.disconnect();
    });

    it('an unacknowledged PUBLISH comes again with DUP and its packet identifier, in order [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.6.0-1]', async () => {
      const [clientId, topic] = [unique('c'), unique('t')];
      const first = await resume(broker, clientId, { version });
      await first.subscribe(topic, { qos: 2 });
      const publisher = await connect(broker);
      for (let index = 0; index < 10; index++)
        await publisher.publish(topic, `${index}`, { qos: QOS[index % 2]! });
      const ids: number[] = [];
      for (let index = 0; index < 10; index++) {
        const message = await first.expect('publish', { dup: false });
        ids[Number(message.payload)] = message.messageId!;
      }
      first.drop();
      await sleep(100);
      const second = await resume(broker, clientId, { version });
      let last = -1;
      for (let index = 0; index < 10; index++) {
        const message = await second.expect('publish', { dup: true });
        expect(Number(message.payload)).toBeGreaterThan(last);
        last = Number(message.payload);
        expect(message.messageId).toBe(ids[last]);
        await second.acknowledge(message);
      }
      await second.disconnect();
      const third = await resume(broker, clientId, { version });
      await third.expectNothing();
      await third.disconnect();
    });

    it('an owed PUBREL comes again, and the message does not [MQTT-4.4.0-1] [MQTT-4.3.3-6]', async () => {
      const [clientId, topic] = [unique('c'), unique('t')];
      const first = await resume(broker, clientId, { version });
      await first.subscribe(topic, { qos: 2 });
      await first.publish(topic, 'x', { qos: 2 });
      const { messageId } = await first.expect('publish');
      first.send({ cmd: 'pubrec', messageId: messageId! });
      await first.expect('pubrel', { messageId });
      first.drop();
      await sleep(100);
      const second = await resume(broker, clientId, { version });
      await second.expect('pubrel', { messageId });
      second.drop();
      await sleep(100);
      const third = await resume(broker, clientId, { version });
      await third.expect('pubrel', { messageId });
      third.send({ cmd: 'pubcomp', messageId: messageId! });
      await third.expectNothing();
      await third.disconnect();
      const fourth = await resume(broker, clientId, { version });
      await fourth.expectNothing();
      await fourth.disconnect();
    });

    it('a QoS 2 packet identifier is remembered over connections [MQTT-4.3.3-10]', async () => {
      const [clientId, topic] = [unique('c'), unique('t')];
      const watching = await connect(broker);
      await watching.subscribe(topic, { qos: 2 });
      const first = await resume(broker, clientId, { version });
      first.post(topic, 'once', { qos: 2, messageId: 42 });
      await first.expect('pubrec', { messageId: 42 });
      first.drop();
      await sleep(100);
      const second = await resume(broker, clientId, { version });
      second.post(topic, 'once', { qos: 2, messageId: 42, dup: true });
      const again = await second.expect('pubrec', { messageId: 42 });
      expect(again.reasonCode ?? 0).toBeLessThan(0x80);
      second.send({ cmd: 'pubrel', messageId: 42 });
      const done = await second.expect('pubcomp', { messageId: 42 });
      expect(done.reasonCode ?? 0).toBe(0);
      await watching.receive({ payload: 'once' });
      await watching.expectNothing();
      await second.disconnect();
    });

    it('a resent PUBREL of a resumed session is completed, not refused', async () => {
      const [clientId, topic] = [unique('c'), unique('t')];
      const first = await resume(broker, clientId, { version });
      first.post(topic, 'once', { qos: 2, messageId: 43 });
      await first.expect('pubrec', { messageId: 43 });
      first.send({ cmd: 'pubrel', messageId: 43 });
      first.drop();
      await sleep(100);
      const second = await resume(broker, clientId, { version });
      second.send({ cmd: 'pubrel', messageId: 43 });
      const done = await second.expect('pubcomp', { messageId: 43 });
      expect([0, 0x92]).toContain(done.reasonCode ?? 0);
      await second.disconnect();
    });

    it('clean start throws all of it away [MQTT-3.1.2-4] [MQTT-3.1.2-6]', async () => {
      const [clientId, topic] = [unique('c'), unique('t')];
      await offline(clientId, topic, version);
      const publisher = await connect(broker);
      await publisher.publish(topic, 'lost', { qos: 1 });
      const clean = await connect(broker, { version, clientId });
      await clean.expectNothing();
      await publisher.publish(topic, 'not subscribed', { qos: 1 });
      await clean.expectNothing();
    });

    it('a session can be taken over while it delivers, and nothing is lost', async () => {
      const [clientId, topic] = [unique('c'), unique('t')];
      await offline(clientId, topic, version);
      const publisher = await connect(broker);
      for (let index = 0; index < 100; index++) await publisher.publish(topic, `${index}`, { qos: 1 });
      const seen = new Set<string>();
      for (let round = 0; round < 5; round++) {
        const client = await resume(broker, clientId, { version });
        for (const text of await client.receiveTexts(15)) seen.add(text);
      }
      const last = await resume(broker, clientId, { version });
      while (seen.size < 100) seen.add((await last.receive()).payload.toString());
      await last.disconnect();
    });
  });

  it('the session of a transient client ends with it', async () => {
    const [clientId, topic] = [unique('c'), unique('t')];
    const first = await connect(broker, { version: 5, clientId, clean: false });
    await first.subscribe(topic, { qos: 1 });
    await first.disconnect();
    const second = await connect(broker, { version: 5, clientId, clean: false });
    expect(second.connack.sessionPresent).toBe(false);
    await second.publish(topic, 'x', { qos: 1 });
    await second.expectNothing();
  });

  it('a session goes from one version to another', async () => {
    const [clientId, topic] = [unique('c'), unique('t')];
    await offline(clientId, topic, 4);
    const publisher = await connect(broker, { version: 5 });
    await publisher.publish(topic, 'one', { qos: 2, properties: { contentType: 'x' } });
    const young = await resume(broker, clientId, { version: 5 });
    expect(young.connack.sessionPresent).toBe(true);
    await young.receive({ payload: 'one', qos: 2, properties: { contentType: 'x' } });
    await young.disconnect();
    await publisher.publish(topic, 'two', { qos: 1 });
    const old = await resume(broker, clientId, { version: 4 });
    expect(old.connack.sessionPresent).toBe(true);
    await old.receive({ payload: 'two' });
    await old.disconnect();
  });

  it('what was subscribed with QoS 0 does not wait', async () => {
    const [clientId, topic] = [unique('c'), unique('t')];
    await offline(clientId, topic, 5, 0);
    const publisher = await connect(broker);
    await publisher.publish(topic, 'x', { qos: 1 });
    const back = await resume(broker, clientId);
    const arrived = back.expect('publish', {}, 200).catch(() => undefined);
    const message = await arrived;
    if (message !== undefined) expect(message.qos).toBe(0);
    await publisher.publish(topic, 'y');
    await back.receive({ payload: 'y', qos: 0 });
    await back.disconnect();
  });

  it('subscription identifiers and options are kept with the session', async () => {
    const [clientId, topic] = [unique('c'), unique('t')];
    const first = await resume(broker, clientId);
    await first.subscribe(topic, { qos: 1, id: 77, rap: true, nl: true });
    await first.disconnect();
    const publisher = await connect(broker);
    await publisher.publish(topic, 'x', { qos: 1, retain: true });
    const back = await resume(broker, clientId);
    await back.receive({ payload: 'x', retain: true, properties: { subscriptionIdentifier: 77 } });
    await back.publish(topic, 'own', { qos: 1 });
    await back.expectNothing();
    await back.disconnect();
  });

  it('all properties of a waiting message are kept, its expiry counts down [MQTT-3.3.2-6]', async () => {
    const [clientId, topic] = [unique('c'), unique('t')];
    await offline(clientId, topic);
    const publisher = await connect(broker, { version: 5 });
    const properties = {
      messageExpiryInterval: 50,
      contentType: 'a/b',
      responseTopic: 'r',
      correlationData: Buffer.from([9]),
      userProperties: { k: 'v' },
      payloadFormatIndicator: true,
    };
    await publisher.publish(topic, 'x', { qos: 2, properties });
    await publisher.publish(topic, 'short', { qos: 1, properties: { messageExpiryInterval: 1 } });
    await publisher.publish(topic, 'long', { qos: 1 });
    await sleep(2100);
    const back = await resume(broker, clientId);
    const message = await back.receive({ payload: 'x' });
    const { messageExpiryInterval, ...rest } = properties;
    expect(message.properties).toMatchObject(rest);
    expect(message.properties!.messageExpiryInterval).toBeLessThanOrEqual(messageExpiryInterval - 2);
    expect(message.properties!.messageExpiryInterval).toBeGreaterThanOrEqual(messageExpiryInterval - 6);
    await back.receive({ payload: 'long' });
    await back.expectNothing();
    await back.disconnect();
  });

  it('a message once sent is completed though its expiry has passed [MQTT-4.3.3-7]', async () => {
    const [clientId, topic] = [unique('c'), unique('t')];
    const first = await resume(broker, clientId);
    await first.subscribe(topic, { qos: 2 });
    await first.publish(topic, 'x', { qos: 2, properties: { messageExpiryInterval: 1 } });
    const { messageId } = await first.expect('publish');
    first.drop();
    await sleep(2100);
    const second = await resume(broker, clientId);
    await second.receive({ payload: 'x', messageId, dup: true });
    await second.disconnect();
  });

  describe('expiry', () => {
    it('a session ends when its time has passed, not before [MQTT-3.1.2-23] [MQTT-4.1.0-2]', async () => {
      const clientId = unique('c');
      const first = await resume(broker, clientId, { expiry: 2 });
      await first.disconnect();
      await sleep(700);
      const second = await resume(broker, clientId, { expiry: 2 });
      expect(second.connack.sessionPresent).toBe(true);
      await second.disconnect();
      await sleep(3500);
      const third = await resume(broker, clientId, { expiry: 0 });
      expect(third.connack.sessionPresent).toBe(false);
    });

    it('DISCONNECT may shorten it to nothing (3.14.2.2.2)', async () => {
      const clientId = unique('c');
      const first = await resume(broker, clientId);
      await first.disconnect(0, { sessionExpiryInterval: 0 });
      const second = await resume(broker, clientId, { expiry: 0 });
      expect(second.connack.sessionPresent).toBe(false);
    });

    it('DISCONNECT may lengthen it', async () => {
      const clientId = unique('c');
      const first = await resume(broker, clientId, { expiry: 1 });
      await first.disconnect(0, { sessionExpiryInterval: 60 });
      await sleep(2500);
      const second = await resume(broker, clientId, { expiry: 0 });
      expect(second.connack.sessionPresent).toBe(true);
    });

    it('DISCONNECT must not make one out of none: 0x82 (3.14.2.2.2)', async () => {
      const client = await connect(broker, { version: 5, expiry: 0 });
      client.send({ cmd: 'disconnect', reasonCode: 0, properties: { sessionExpiryInterval: 10 } });
      await client.expectRefused(0x82);
    });

    it('0 at the last connection ends the session with it', async () => {
      const clientId = unique('c');
      await (await resume(broker, clientId)).disconnect();
      const second = await resume(broker, clientId, { expiry: 0 });
      expect(second.connack.sessionPresent).toBe(true);
      await second.disconnect();
      const third = await resume(broker, clientId, { expiry: 0 });
      expect(third.connack.sessionPresent).toBe(false);
    });
  });

  it('a full queue drops the newest, and the rest stays in order', async () => {
    const [clientId, topic] = [unique('c'), unique('t')];
    await offline(clientId, topic);
    const publisher = await connect(broker, { version: 5 });
    for (let index = 0; index < 300; index++) await publisher.publish(topic, `${index}`, { qos: 1 });
    const back = await resume(broker, clientId);
    const texts = await back.receiveTexts(200);
    await back.expectNothing();
    expect(texts).toEqual(Array.from({ length: 200 }, (_, index) => `${index}`));
    await publisher.publish(topic, 'next', { qos: 1 });
    await back.receive({ payload: 'next' });
    await back.disconnect();
  });

  it('a restart keeps subscriptions, queue, in-flight messages and packet identifiers', async () => {
    const [clientId, topic, senderId] = [unique('c'), unique('t'), unique('p')];
    const first = await resume(broker, clientId);
    await first.subscribe(topic, { qos: 2, id: 3 });
    const sender = await resume(broker, senderId);
    await sender.publish(topic, 'seen', { qos: 2 });
    const seen = await first.expect('publish', { payload: 'seen' });
    await sender.publish(topic, 'begun', { qos: 2 });
    const begun = await first.expect('publish', { payload: 'begun' });
    first.send({ cmd: 'pubrec', messageId: begun.messageId! });
    await first.expect('pubrel');
    await first.ping();
    first.drop();
    await sleep(100);
    await sender.publish(topic, 'waiting', { qos: 1 });
    sender.post(topic, 'half', { qos: 2, messageId: 99 });
    await sender.expect('pubrec', { messageId: 99 });
    await broker.restart();
    const back = await resume(broker, clientId);
    expect(back.connack.sessionPresent).toBe(true);
    await back.expect('pubrel', { messageId: begun.messageId });
    back.send({ cmd: 'pubcomp', messageId: begun.messageId! });
    await back.receive({ payload: 'seen', messageId: seen.messageId, dup: true });
    await back.receive({ payload: 'waiting', dup: false });
    const again = await resume(broker, senderId);
    again.post(topic, 'half', { qos: 2, messageId: 99, dup: true });
    await again.expect('pubrec', { messageId: 99 });
    again.send({ cmd: 'pubrel', messageId: 99 });
    await again.expect('pubcomp', { messageId: 99 });
    await back.receive({ payload: 'half', properties: { subscriptionIdentifier: 3 } });
    await back.expectNothing();
    await back.disconnect();
    await again.disconnect();
  });
});

describe('queue policy', () => {
  const broker = useBroker({ set: { 'limits.queueMessagesMax': 20, 'limits.queueDropPolicy': 'oldest' } });

  it('oldest: a full queue drops from the front', async () => {
    const [clientId, topic] = [unique('c'), unique('t')];
    const client = await resume(broker, clientId);
    await client.subscribe(topic, { qos: 1 });
    await client.disconnect();
    const publisher = await connect(broker);
    for (let index = 0; index < 50; index++) await publisher.publish(topic, `${index}`, { qos: 1 });
    const back = await resume(broker, clientId);
    expect(await back.receiveTexts(20)).toEqual(Array.from({ length: 20 }, (_, index) => `${index + 30}`));
    await back.expectNothing();
    await back.disconnect();
  });
});
