import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { runCli, useBroker } from './broker.js';
import { attempt, connackCode, connect, sleep, unique, VERSIONS } from './client/client.js';

const directory = mkdtempSync(join(tmpdir(), 'shoalmq-auth-'));
const passwordFile = join(directory, 'passwords');
const aclFile = join(directory, 'acl');

async function setPassword(user: string, password: string): Promise<void> {
  const { code, stderr } = await runCli(['passwd', '--stdin', passwordFile, user], password);
  expect(code, stderr).toBe(0);
}

await setPassword('alice', 'wonderland');
await setPassword('bob', 'builder');
await setPassword('acme/carol', 'tenancy');
writeFileSync(
  aclFile,
  [
    'topic read public/#',
    'user alice',
    'topic readwrite home/alice/#',
    'topic deny home/alice/secret/#',
    'topic write log/alice',
    'user bob',
    'topic read home/#',
    'topic read log/#',
    'user acme/carol',
    'topic #',
    'pattern readwrite device/%c/#',
    '',
  ].join('\n'),
);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const alice = { username: 'alice', password: 'wonderland' };
const bob = { username: 'bob', password: 'builder' };

describe('passwords', () => {
  const broker = useBroker({ transports: ['tcp', 'ws'], set: { 'auth.passwordFile': passwordFile } });

  it.each(VERSIONS)('level %i: the right one is let in, others hear why not (3.2.2)', async version => {
    await (await connect(broker, { version, ...alice })).ping();
    const refused = version === 5 ? [0x86, 0x87] : [4, 5];
    for (const wrong of [
      { username: 'alice', password: 'Wonderland' },
      { username: 'alice', password: '' },
      { username: 'mallory', password: 'wonderland' },
      { username: 'alice' },
      {},
    ]) {
      const client = await attempt(broker, { version, ...wrong });
      expect(refused).toContain(connackCode(client));
      expect(client.connack.sessionPresent).toBe(false);
      await client.expectClosed();
    }
  });

  it('what follows a refused CONNECT is not processed [MQTT-3.1.4-6]', async () => {
    const watching = await connect(broker, alice);
    const topic = unique('t');
    await watching.subscribe(topic);
    const { open } = await import('./client/client.js');
    const client = await open(broker);
    client.sendConnect({ username: 'alice', password: 'wrong' });
    client.post(topic, 'smuggled');
    await client.expect('connack', { returnCode: 4 }).catch(() => undefined);
    await client.ended();
    await watching.expectNothing();
  });

  it('a refused CONNECT does not take the session of another over', async () => {
    const clientId = unique('c');
    const client = await connect(broker, { clientId, ...alice });
    await attempt(broker, { clientId, username: 'alice', password: 'wrong' });
    await client.ping();
  });

  it('over WebSocket too', async () => {
    await connect(broker, { transport: 'ws', ...alice });
    expect(connackCode(await attempt(broker, { transport: 'ws' }))).not.toBe(0);
  });

  it('a hundred clients at once are verified in the end', async () => {
    const clients = await Promise.all(Array.from({ length: 100 }, () => connect(broker, bob)));
    await Promise.all(clients.map(client => client.ping()));
  });

  it('tenants do not see each other, though topics and client identifiers are the same', async () => {
    const clientId = unique('same');
    const topic = unique('t');
    const carol = await connect(broker, { clientId, username: 'acme/carol', password: 'tenancy' });
    const plain = await connect(broker, { clientId, ...alice });
    await carol.ping();
    await carol.subscribe('#', { qos: 1 });
    await plain.subscribe('#', { qos: 1 });
    await plain.publish(topic, 'from default', { qos: 1, retain: true });
    await plain.receive({ payload: 'from default' });
    await carol.expectNothing();
    await carol.publish(topic, 'from acme', { qos: 1 });
    await carol.receive({ payload: 'from acme' });
    await plain.expectNothing();
  });

  it('a password that is changed counts within seconds', async () => {
    await setPassword('dave', 'first');
    let code = -1;
    for (let wait = 0; wait < 100 && code !== 0; wait++) {
      code = connackCode(await attempt(broker, { username: 'dave', password: 'first' }));
      if (code !== 0) await sleep(100);
    }
    expect(code).toBe(0);
  });
});

describe('access control', () => {
  const broker = useBroker({ set: { 'auth.passwordFile': passwordFile, 'auth.aclFile': aclFile } });

  it('a subscription that is not allowed gets 0x87, in 3.1.1 0x80, the rest of the packet is served', async () => {
    const young = await connect(broker, { version: 5, ...alice });
    expect(await young.subscribe(['home/alice/x', 'home/bob/x', 'public/#', '#'])).toEqual(
      [0, 0x87, 0, 0x87].map((code, index) => (index === 2 ? expect.any(Number) : code)),
    );
    const old = await connect(broker, alice);
    expect(await old.subscribe(['home/bob/x', 'home/alice/x'])).toEqual([0x80, 0]);
  });

  it('deny wins: a filter that reaches into it is refused', async () => {
    const client = await connect(broker, { version: 5, ...alice });
    expect(await client.subscribe(['home/alice/secret/x', 'home/alice/#'])).toEqual([0x87, 0x87]);
  });

  it.each([1, 2] as const)(
    'a publish that is not allowed at QoS %i is answered 0x87 and goes nowhere',
    async qos => {
      const watching = await connect(broker, { version: 5, ...bob });
      await watching.subscribe('home/#', { qos: 2 });
      const client = await connect(broker, { version: 5, ...alice });
      expect(await client.publish('home/bob/x', 'x', { qos })).toBe(0x87);
      expect(await client.publish('home/alice/secret/y', 'x', { qos })).toBe(0x87);
      expect(await client.publish('home/alice/x', 'fine', { qos })).toBeLessThan(0x80);
      await watching.receive({ payload: 'fine' });
      await watching.expectNothing();
    },
  );

  it('at QoS 0, and in 3.1.1, it goes nowhere, and the client is not told more than the protocol can', async () => {
    const watching = await connect(broker, { version: 5, ...bob });
    await watching.subscribe(['home/#', 'log/#'], { qos: 2 });
    for (const version of VERSIONS) {
      const client = await connect(broker, { version, ...alice });
      client.post('home/bob/x', 'x');
      client.post('log/alice', 'fine');
      await sleep(50);
      if (client.closed === undefined) await watching.receive({ payload: 'fine' });
    }
    await watching.expectNothing();
  });

  it('write without read: alice may log but not listen', async () => {
    const client = await connect(broker, { version: 5, ...alice });
    expect(await client.subscribe('log/alice')).toEqual([0x87]);
    expect(await client.publish('log/alice', 'x', { qos: 1 })).toBeLessThan(0x80);
  });

  it('a pattern names the client', async () => {
    const clientId = unique('dev');
    const client = await connect(broker, { version: 5, clientId, ...bob });
    expect(await client.publish(`device/${clientId}/state`, 'x', { qos: 1 })).toBeLessThan(0x80);
    expect(await client.publish('device/other/state', 'x', { qos: 1 })).toBe(0x87);
  });

  it('a will where the client may not publish goes nowhere', async () => {
    const watching = await connect(broker, { version: 5, ...bob });
    await watching.subscribe('home/#', { qos: 1 });
    const client = await attempt(broker, {
      ...alice,
      will: { topic: 'home/bob/will', payload: 'x', qos: 1 },
    });
    client.drop();
    await watching.expectNothing(300);
  });

  it('a shared subscription is judged by its filter', async () => {
    const client = await connect(broker, { version: 5, ...alice });
    expect(await client.subscribe(['$share/g/home/alice/x', '$share/g/home/bob/x'])).toEqual([0, 0x87]);
  });
});
