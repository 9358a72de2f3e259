import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { get, useBroker } from './broker.js';
import { connect, sleep, type TestClient, unique } from './client/client.js';

/** A plugin with a bug: asked whether anybody may publish to `break/thread`, it throws later, in nobody's call. */
const BROKEN_PLUGIN = `
export const hooks = {
  authorizer: {
    version: 1,
    mayPublish(identity, topic) {
      if (topic === 'break/thread') setTimeout(() => { throw new Error('a bug in a plugin'); }, 0);
      return true;
    },
    maySubscribe: () => true,
  },
};
`;

const folder = mkdtempSync(join(tmpdir(), 'shoal-plugin-'));
const plugin = join(folder, 'broken.mjs');
writeFileSync(plugin, BROKEN_PLUGIN);
afterAll(() => rmSync(folder, { recursive: true }));

async function alive(client: TestClient): Promise<boolean> {
  try {
    client.send({ cmd: 'pingreq' });
    await client.expect('pingresp');
    return true;
  } catch {
    return false;
  }
}

async function until(check: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 100; i++) {
    if (await check()) return;
    await sleep(50);
  }
  throw new Error('it did not come to pass within five seconds');
}

describe('a shard dies', () => {
  const broker = useBroker({ set: { 'threads.mqtt': 3, 'auth.plugin': plugin, 'auth.anonymous': true } });

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
    await victim.publish('break/thread', 'now', { qos: 0 });
    await victim.expectClosed();
    await until(async () => (await get(broker.metricsPort, '/readyz')).status === 200);

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
