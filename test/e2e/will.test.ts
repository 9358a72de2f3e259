import { describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { attempt, connackCode, connect, sleep, type TestClient, unique, VERSIONS } from './client/client.js';

const broker = useBroker({ set: { 'threads.mqtt': 2 } });

async function watcher(topic: string): Promise<TestClient> {
  const client = await connect(broker, { version: 5 });
  await client.subscribe(topic, { qos: 2, rap: true });
  return client;
}

describe('a will is published', () => {
  it.each(VERSIONS)('when the cable is cut, level %i [MQTT-3.1.2-8]', async version => {
    const topic = unique('w');
    const watching = await watcher(topic);
    for (const qos of [0, 1, 2] as const) {
      const client = await connect(broker, {
        version,
        will: { topic, payload: `bye ${qos}`, qos, retain: false },
      });
      client.drop();
      await watching.receive({ topic, payload: `bye ${qos}`, qos, retain: false });
    }
    await watching.expectNothing(50);
  });

  it('when the keep-alive passes', async () => {
    const topic = unique('w');
    const watching = await watcher(topic);
    await connect(broker, { keepalive: 1, will: { topic, payload: 'late', qos: 1 } });
    await watching.receive({ payload: 'late' }, 4000);
  });

  it('when the client breaks the protocol', async () => {
    const topic = unique('w');
    const watching = await watcher(topic);
    const client = await connect(broker, { version: 5, will: { topic, payload: 'broke', qos: 1 } });
    client.sendBytes(Buffer.from([0x00, 0x00]));
    await watching.receive({ payload: 'broke' });
  });

  it('when another connection takes the session over (3.1.4)', async () => {
    const topic = unique('w');
    const clientId = unique('c');
    const watching = await watcher(topic);
    await connect(broker, { clientId, will: { topic, payload: 'taken', qos: 1 } });
    const newer = await connect(broker, { clientId });
    await watching.receive({ payload: 'taken' });
    await newer.disconnect();
    await watching.expectNothing();
  });

  it('when DISCONNECT says 0x04 or an error (3.14.2.1)', async () => {
    const topic = unique('w');
    const watching = await watcher(topic);
    for (const code of [0x04, 0x80]) {
      const client = await connect(broker, { version: 5, will: { topic, payload: `code ${code}`, qos: 1 } });
      await client.disconnect(code);
      await watching.receive({ payload: `code ${code}` });
    }
  });

  it('as a retained message when it says so, else not [MQTT-3.1.2-15] [MQTT-3.1.2-14]', async () => {
    for (const retain of [true, false]) {
      const topic = unique('w');
      const watching = await watcher(topic);
      const client = await connect(broker, { version: 5, will: { topic, payload: 'x', qos: 1, retain } });
      client.drop();
      await watching.receive({ payload: 'x', retain });
      const later = await connect(broker);
      await later.subscribe(topic);
      if (retain) await later.receive({ payload: 'x', retain: true });
      else await later.expectNothing();
    }
  });

  it('with all its properties (3.1.3.2)', async () => {
    const topic = unique('w');
    const watching = await watcher(topic);
    const properties = {
      payloadFormatIndicator: true,
      messageExpiryInterval: 600,
      contentType: 'text/plain',
      responseTopic: 'answer',
      correlationData: Buffer.from([1, 2, 3]),
      userProperties: { k: ['1', '2'] },
    };
    const client = await connect(broker, { version: 5, will: { topic, payload: 'x', qos: 2, properties } });
    client.drop();
    const message = await watching.receive({ payload: 'x', qos: 2 });
    const { messageExpiryInterval, ...rest } = properties;
    expect(message.properties).toMatchObject(rest);
    expect(message.properties!.messageExpiryInterval).toBeGreaterThanOrEqual(messageExpiryInterval - 2);
  });

  it('with an empty payload, which as a retained one clears', async () => {
    const topic = unique('w');
    const watching = await watcher(topic);
    await watching.publish(topic, 'old', { retain: true, qos: 1 });
    await watching.receive({ payload: 'old' });
    const client = await connect(broker, { will: { topic, payload: '', qos: 1, retain: true } });
    client.drop();
    await watching.receive({ payload: '' });
    const later = await connect(broker);
    await later.subscribe(topic);
    await later.expectNothing();
  });
});

describe('a will is not published', () => {
  it.each(VERSIONS)('after DISCONNECT, level %i [MQTT-3.14.4-3]', async version => {
    const topic = unique('w');
    const watching = await watcher(topic);
    const client = await connect(broker, { version, will: { topic, payload: 'x', qos: 1 } });
    await client.disconnect();
    await watching.expectNothing(300);
  });

  it('of a session whose later connection had none', async () => {
    const topic = unique('w');
    const clientId = unique('c');
    const watching = await watcher(topic);
    const will = { topic, payload: 'x', qos: 1 as const };
    const first = await connect(broker, { version: 5, clientId, clean: false, expiry: 30, will });
    await first.disconnect();
    const second = await connect(broker, { version: 5, clientId, clean: false, expiry: 30 });
    second.drop();
    await watching.expectNothing(400);
  });

  it('when the CONNECT was refused', async () => {
    const topic = unique('w');
    const watching = await watcher(topic);
    const will = { topic, payload: 'x', qos: 1 as const };
    const client = await attempt(broker, { version: 5, will, properties: { authenticationMethod: 'NOPE' } });
    expect(connackCode(client)).toBe(0x8c);
    await watching.expectNothing(300);
  });
});

describe('Will Delay Interval', () => {
  const delayed = (topic: string, seconds: number) => ({
    topic,
    payload: 'late',
    qos: 1 as const,
    properties: { willDelayInterval: seconds },
  });

  it('holds it back for that time [MQTT-3.1.2-8]', async () => {
    const topic = unique('w');
    const watching = await watcher(topic);
    const client = await connect(broker, { version: 5, expiry: 60, will: delayed(topic, 2) });
    const start = Date.now();
    client.drop();
    await watching.receive({ payload: 'late' }, 6000);
    expect(Date.now() - start).toBeGreaterThanOrEqual(1800);
  });

  it('ends with the session when that ends first (3.1.3.2.2)', async () => {
    const topic = unique('w');
    const watching = await watcher(topic);
    const client = await connect(broker, { version: 5, expiry: 1, will: delayed(topic, 60) });
    client.drop();
    await watching.receive({ payload: 'late' }, 6000);
  });

  it('a session without expiry ends at once, and the will comes at once', async () => {
    const topic = unique('w');
    const watching = await watcher(topic);
    const client = await connect(broker, { version: 5, will: delayed(topic, 60) });
    client.drop();
    await watching.receive({ payload: 'late' });
  });

  it('a reconnect in time cancels it [MQTT-3.1.3-9]', async () => {
    const topic = unique('w');
    const clientId = unique('c');
    const watching = await watcher(topic);
    const client = await connect(broker, { version: 5, clientId, expiry: 60, will: delayed(topic, 1) });
    client.drop();
    await sleep(300);
    const back = await connect(broker, { version: 5, clientId, clean: false, expiry: 60 });
    expect(back.connack.sessionPresent).toBe(true);
    await watching.expectNothing(2500);
  });

  it('a takeover of the session in time cancels it as well', async () => {
    const topic = unique('w');
    const clientId = unique('c');
    const watching = await watcher(topic);
    await connect(broker, { version: 5, clientId, expiry: 60, will: delayed(topic, 1) });
    await connect(broker, { version: 5, clientId, clean: false, expiry: 60 });
    await watching.expectNothing(2500);
  });

  it('a clean start ends the session, and so the will comes at once (3.1.4)', async () => {
    const topic = unique('w');
    const clientId = unique('c');
    const watching = await watcher(topic);
    const client = await connect(broker, { version: 5, clientId, expiry: 60, will: delayed(topic, 50) });
    client.drop();
    await sleep(100);
    await connect(broker, { version: 5, clientId });
    await watching.receive({ payload: 'late' });
  });

  it('goes on over a restart of the broker', async () => {
    const topic = unique('w');
    const clientId = unique('c');
    const subscriberId = unique('s');
    const subscriber = await connect(broker, { version: 5, clientId: subscriberId, expiry: 600 });
    await subscriber.subscribe(topic, { qos: 1 });
    await subscriber.disconnect();
    const client = await connect(broker, { version: 5, clientId, expiry: 60, will: delayed(topic, 4) });
    client.drop();
    await sleep(300);
    await broker.restart();
    const back = await connect(broker, { version: 5, clientId: subscriberId, clean: false, expiry: 0 });
    await back.receive({ payload: 'late' }, 8000);
  });

  it('of a client connected at kill -9 comes when its time has passed after the restart', async () => {
    const topic = unique('w');
    const subscriberId = unique('s');
    const subscriber = await connect(broker, { version: 5, clientId: subscriberId, expiry: 600 });
    await subscriber.subscribe(topic, { qos: 1 });
    await subscriber.disconnect();
    await connect(broker, { version: 5, expiry: 60, will: delayed(topic, 2) });
    await broker.kill9();
    await broker.launch();
    const back = await connect(broker, { version: 5, clientId: subscriberId, clean: false, expiry: 0 });
    await back.receive({ payload: 'late' }, 8000);
  });
});
