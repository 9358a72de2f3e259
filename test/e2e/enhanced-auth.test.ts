import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { open, type TestClient, unique } from './client/client.js';

/** Two steps of question and answer: the client has to turn round what it is asked. */
const PLUGIN = `
export const hooks = {
  authenticator: {
    authenticate(request) {
      if (request.authMethod !== 'mirror') return { kind: 'refuse', reasonCode: 0x8c, reason: 'unknown method' };
      return { kind: 'continue', data: Buffer.from('abc'), exchange: { want: 'cba', left: 1 } };
    },
    async continue(exchange, data) {
      if (Buffer.from(data ?? []).toString() !== exchange.want) return { kind: 'refuse', reasonCode: 0x87, reason: 'wrong' };
      if (exchange.left > 0) return { kind: 'continue', data: Buffer.from('xyz'), exchange: { want: 'zyx', left: 0 } };
      return { kind: 'accept', tenant: 'default', user: 'mirror', data: Buffer.from('welcome') };
    },
  },
};
`;

const folder = mkdtempSync(join(tmpdir(), 'shoal-auth-'));
const plugin = join(folder, 'mirror.mjs');
writeFileSync(plugin, PLUGIN);
afterAll(() => rmSync(folder, { recursive: true }));

const AUTH_CONTINUE = 0x18;
const AUTH_AGAIN = 0x19;

function answer(client: TestClient, data: string, reasonCode = AUTH_CONTINUE, method = 'mirror'): void {
  const properties = { authenticationMethod: method, authenticationData: Buffer.from(data) };
  client.send({ cmd: 'auth', reasonCode, properties } as never);
}

describe('enhanced authentication (4.12)', () => {
  const broker = useBroker({ set: { 'auth.plugin': plugin, 'threads.mqtt': 2 } });

  async function begin(method = 'mirror'): Promise<TestClient> {
    const client = await open(broker, { version: 5 });
    client.sendConnect({
      clientId: unique('auth'),
      properties: { authenticationMethod: method, authenticationData: Buffer.from('hello') },
    } as never);
    return client;
  }

  async function finish(client: TestClient): Promise<void> {
    await client.expect('auth', { reasonCode: AUTH_CONTINUE });
    answer(client, 'cba');
    await client.expect('auth', { reasonCode: AUTH_CONTINUE });
    answer(client, 'zyx');
  }

  it('goes question by question to CONNACK, which names method and data [MQTT-4.12.0-6]', async () => {
    const client = await begin();
    await finish(client);
    const connack = await client.expect('connack', { reasonCode: 0 });
    const { properties } = connack as {
      properties?: { authenticationMethod?: string; authenticationData?: Buffer };
    };
    expect(properties?.authenticationMethod).toBe('mirror');
    expect(String(properties?.authenticationData)).toBe('welcome');
    expect(await client.subscribe('after/auth', { qos: 1 })).toEqual([1]);
  });

  it('refuses a wrong answer in CONNACK [MQTT-4.12.0-4]', async () => {
    const client = await begin();
    await client.expect('auth', { reasonCode: AUTH_CONTINUE });
    answer(client, 'nonsense');
    await client.expect('connack', { reasonCode: 0x87 });
    await client.expectClosed();
  });

  it('refuses an unknown method with 0x8C [MQTT-4.12.0-1]', async () => {
    const client = await begin('other');
    await client.expect('connack', { reasonCode: 0x8c });
    await client.expectClosed();
  });

  it('re-authenticates while messages flow, and says success (4.12.1)', async () => {
    const client = await begin();
    await finish(client);
    await client.expect('connack', { reasonCode: 0 });
    await client.subscribe('flow', { qos: 0 });
    answer(client, 'again', AUTH_AGAIN);
    await client.publish('flow', 'on', { qos: 1 });
    await finish(client);
    await client.expect('auth', { reasonCode: 0 });
    await client.expect('publish', { topic: 'flow' });
  });

  it('ends the connection when re-authentication fails, or asks for another method [MQTT-4.12.1-1]', async () => {
    const wrong = await begin();
    await finish(wrong);
    await wrong.expect('connack', { reasonCode: 0 });
    answer(wrong, 'again', AUTH_AGAIN);
    await wrong.expect('auth', { reasonCode: AUTH_CONTINUE });
    answer(wrong, 'nonsense');
    await wrong.expectRefused(0x87);

    const other = await begin();
    await finish(other);
    await other.expect('connack', { reasonCode: 0 });
    answer(other, 'again', AUTH_AGAIN, 'other');
    await other.expectRefused(0x82);
  });
});
