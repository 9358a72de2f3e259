import { cpSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { connect, unique } from './client/client.js';

describe('a data directory of which one store is not of one age with the other', () => {
  const broker = useBroker({ set: { 'threads.mqtt': 2 } });
  const store = (name: string) => join(broker.dataDir, 'data', name);

  /** Sessions of which each has subscriptions, one of them by a shared filter. */
  async function makeSessions(topic: string, count: number): Promise<string[]> {
    const clientIds = Array.from({ length: count }, () => unique('keeper'));
    for (const clientId of clientIds) {
      const client = await connect(broker, { version: 5, clientId, clean: false, expiry: 600 });
      await client.subscribe(`${topic}/+`, { qos: 1 });
      await client.subscribe(`$share/${clientId}/${topic}/#`, { qos: 2 });
      await client.disconnect();
    }
    return clientIds;
  }

  /** All sessions get what is published from the first moment on. */
  async function expectAllServed(topic: string, clientIds: readonly string[]): Promise<void> {
    const publisher = await connect(broker, { version: 5 });
    await publisher.publish(`${topic}/a`, 'for all', { qos: 1 });
    for (const clientId of clientIds) {
      const client = await connect(broker, { version: 5, clientId, clean: false, expiry: 600 });
      expect(client.connack.sessionPresent).toBe(true);
      for (let i = 0; i < 2; i++) expect(`${(await client.receive()).payload}`).toBe('for all');
      await client.disconnect();
    }
    await publisher.disconnect();
  }

  it('without match-0: the routes are made again before clients come', async () => {
    const topic = unique('t');
    const clientIds = await makeSessions(topic, 20);
    await broker.stop();
    renameSync(store('match-0'), store('put-away'));
    await broker.launch();
    await expectAllServed(topic, clientIds);
    rmSync(store('put-away'), { recursive: true });
  });

  it('with an older match-0: routes of since then are there, those that ended since then are not', async () => {
    const topic = unique('t');
    const [early] = await makeSessions(topic, 1);
    await broker.stop();
    cpSync(store('match-0'), join(broker.dataDir, 'older'), { recursive: true });
    await broker.launch();
    const former = await connect(broker, { version: 5, clientId: early!, clean: false, expiry: 600 });
    await former.unsubscribe(`${topic}/+`);
    await former.subscribe(`${topic}/b`, { qos: 1 });
    await former.disconnect();
    const clientIds = await makeSessions(topic, 3);
    await broker.kill9();
    rmSync(store('match-0'), { recursive: true });
    cpSync(join(broker.dataDir, 'older'), store('match-0'), { recursive: true });
    await broker.launch();
    await expectAllServed(topic, clientIds);
    const again = await connect(broker, { version: 5, clientId: early!, clean: false, expiry: 600 });
    expect(`${(await again.receive()).payload}`).toBe('for all');
    await again.expectNothing();
    await again.disconnect();
  });

  it('without apply-0: refuses in one line, and serves when it is put back', async () => {
    const topic = unique('t');
    const clientIds = await makeSessions(topic, 1);
    await broker.stop();
    renameSync(store('apply-0'), store('put-away'));
    await expect(broker.launch()).rejects.toThrow(
      /SHOAL_STORAGE_CORRUPT: .*apply-0 is missing, .*match-0 is there/,
    );
    renameSync(store('put-away'), store('apply-0'));
    await broker.launch();
    await expectAllServed(topic, clientIds);
  });
});
