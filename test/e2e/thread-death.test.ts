import { describe, expect, it } from 'vitest';
import { BREAKING_TOPIC, breakingPlugin, threadBreaker, until } from './breakage.js';
import { get, useBroker } from './broker.js';
import { connect, sleep, type TestClient, unique } from './client/client.js';

async function alive(client: TestClient): Promise<boolean> {
  try {
    client.send({ cmd: 'pingreq' });
    await client.expect('pingresp');
    return true;
  } catch {
    return false;
  }
}

describe('a shard dies', () => {
  const broker = useBroker({
    set: { 'threads.mqtt': 3, 'auth.plugin': breakingPlugin(), 'auth.anonymous': true },
  });

  async function shardsInUse(): Promise<number> {
    await sleep(50);
    const { body } = await get(broker.metricsPort, '/metrics');
    return body.match(/^shoalmq_connections\{transport="tcp",thread="mqtt-\d"\} [1-9]/gm)?.length ?? 0;
  }

  it('takes its own clients with it and nobody else; it is back soon, and nothing acknowledged is lost', async () => {
    const topic = unique('t');
    const keeper = { version: 4, clean: false, clientId: unique('keeper') } as const;
    const first = await connect(broker, keeper);
    await first.subscribe(topic, { qos: 1 });
    first.send({ cmd: 'disconnect' });
    await first.expectClosed();
    const clients: TestClient[] = [];
    // Which shard accepts a client is for the kernel to say.
    for (let round = 0; round < 20 && (await shardsInUse()) < 2; round++)
      clients.push(...(await Promise.all(Array.from({ length: 12 }, () => connect(broker, { version: 5 })))));
    for (const client of clients) await client.subscribe(`all/${topic}`, { qos: 0 });
    const publisher = await connect(broker, { version: 5 });
    for (let i = 0; i < 50; i++) await publisher.publish(topic, `${i}`, { qos: 1 });

    const [victim] = clients.splice(0, 1) as [TestClient];
    await victim.publish(BREAKING_TOPIC, 'now', { qos: 0 });
    await victim.expectClosed();
    await until('all threads run', async () => (await get(broker.metricsPort, '/readyz')).status === 200);

    const survivors: TestClient[] = [];
    for (const client of clients) if (await alive(client)) survivors.push(client);
    expect(survivors.length).toBeGreaterThan(0);

    // The successor serves: enough new clients that some are on it, and all hear each other and the survivors.
    const newcomers = await Promise.all(Array.from({ length: 12 }, () => connect(broker, { version: 5 })));
    for (const client of newcomers) await client.subscribe(`all/${topic}`, { qos: 0 });
    for (const client of newcomers) await client.publish(`all/${topic}`, 'hello', { qos: 1 });
    for (const client of [...survivors, ...newcomers])
      for (let i = 0; i < newcomers.length; i++) await client.expect('publish', { topic: `all/${topic}` });

    const again = await connect(broker, keeper);
    for (let i = 0; i < 50; i++) {
      const message = await again.expect('publish', { topic });
      again.send({ cmd: 'puback', messageId: (message as { messageId: number }).messageId });
      expect(String((message as { payload: Buffer }).payload)).toBe(`${i}`);
    }
    const { body } = await get(broker.metricsPort, '/metrics');
    expect(body).toMatch(/shoalmq_thread_restarts_total\{thread="main"\} 1/);
  });
});

describe.each([1, 2, 3])('thread %i of mqtt, match and apply dies', thread => {
  const breaker = threadBreaker();
  const broker = useBroker({ env: breaker.env, set: { 'threads.mqtt': 1 } });

  it('under load: it is back soon, and nothing acknowledged is lost', async () => {
    const [topic, clientId] = [unique('t'), unique('keeper')];
    const keeper = { version: 5, clean: false, clientId, expiry: 600 } as const;
    const first = await connect(broker, keeper);
    await first.subscribe(topic, { qos: 1 });
    await first.publish(`${topic}/kept`, 'retained', { qos: 1, retain: true });
    await first.disconnect();

    const publisher = await connect(broker, { version: 5 });
    let [sent, acknowledged] = [0, 0];
    publisher.handler = packet => {
      if (packet.cmd === 'puback' && (packet.reasonCode ?? 0) < 0x80) acknowledged++;
    };
    const pump = setInterval(() => {
      for (let index = 0; index < 5 && publisher.closed === undefined && sent < 900; index++)
        publisher.post(topic, `${sent++}`, { qos: 1 });
    }, 2);
    await sleep(100);
    breaker.break(thread);
    await until('it died', async () => (await broker.metric('shoalmq_thread_restarts_total')) === 1);
    await until('all threads run', async () => (await get(broker.metricsPort, '/readyz')).status === 200);
    await sleep(100);
    clearInterval(pump);
    expect((await get(broker.metricsPort, '/healthz')).status).toBe(200);
    expect(acknowledged).toBeGreaterThan(0);
    publisher.drop();

    const back = await connect(broker, keeper);
    expect(back.connack.sessionPresent).toBe(true);
    const texts = await back.receiveTexts(acknowledged);
    expect(texts).toEqual(Array.from({ length: acknowledged }, (_, index) => `${index}`));
    const reader = await connect(broker, { version: 5 });
    await reader.subscribe(`${topic}/kept`, { qos: 1 });
    await reader.receive({ payload: 'retained', retain: true });
    await reader.publish(`${topic}/kept`, 'live', { qos: 1 });
    await reader.receive({ payload: 'live' });
  });
});
