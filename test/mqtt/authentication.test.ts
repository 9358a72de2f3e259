import { afterEach, describe, expect, it } from 'vitest';
import type { AuthDecision, Authenticator } from '../../src/plugin/plugin.js';
import { Broker } from './harness.js';
import type { TestClient } from './test-client.js';

let broker: Broker;
afterEach(() => broker.close());

/** Asks `steps` times before it lets a client in; a refusal when the data is "no". */
function exchanging(steps: number): Authenticator {
  const decide = (left: number, data: Uint8Array | undefined): AuthDecision => {
    if (Buffer.from(data ?? []).toString() === 'no')
      return { kind: 'refuse', reasonCode: 0x86, reason: 'no' };
    if (left === 0) return { kind: 'accept', tenant: 'default', user: 'u', data: Buffer.from('welcome') };
    return { kind: 'continue', data: Buffer.from(`${left}`), exchange: { left } };
  };
  return {
    authenticate: request => Promise.resolve(decide(steps, request.authData)),
    continue: (exchange, data) => Promise.resolve(decide((exchange as { left: number }).left - 1, data)),
  };
}

const method = { authenticationMethod: 'm' };
const auth = (reasonCode: number, data = 'yes', by = 'm') => ({
  cmd: 'auth',
  reasonCode,
  properties: { authenticationMethod: by, authenticationData: Buffer.from(data) },
});

async function begin(steps: number): Promise<TestClient> {
  broker = new Broker({ authenticator: exchanging(steps) });
  const socket = broker.socket();
  socket.sendConnect({ clientId: 'c', properties: { ...method, authenticationData: Buffer.from('yes') } });
  await broker.settle();
  return socket;
}

describe('an exchange before CONNACK', () => {
  it('goes step by step, and CONNACK carries the last word [MQTT-4.12.0-5]', async () => {
    const client = await begin(2);
    for (const left of ['2', '1']) {
      const asked = client.take('auth', { reasonCode: 0x18 });
      expect(asked.properties.authenticationMethod).toBe('m');
      expect(String(asked.properties.authenticationData)).toBe(left);
      client.send(auth(0x18));
      await broker.settle();
    }
    expect(String(client.take('connack', { reasonCode: 0 }).properties.authenticationData)).toBe('welcome');
  });

  it('is refused when it goes on with another method, or with something else', async () => {
    for (const packet of [
      auth(0x18, 'yes', 'other'),
      auth(0x19),
      { cmd: 'pingreq' },
      { cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 't', qos: 0 }] },
    ]) {
      const client = await begin(1);
      client.take('auth');
      client.send(packet);
      await broker.settle();
      client.take('connack', { reasonCode: 0x82 });
      expect(client.closed).toBe(true);
      broker.close();
    }
  });

  it('ends with the steps that an exchange may have', async () => {
    const client = await begin(1000);
    for (let i = 0; i < 8; i++) {
      client.take('auth');
      client.send(auth(0x18));
      await broker.settle();
    }
    client.take('connack', { reasonCode: 0x87 });
  });

  it('leaves nothing when the client goes while the authenticator thinks', async () => {
    broker = new Broker({ authenticator: exchanging(0) });
    const socket = broker.socket();
    socket.sendConnect({ clientId: 'c', properties: method });
    socket.peer.cut();
    await broker.settle();
    expect(broker.dict.size).toBe(0);
  });

  it('refuses a client whose authenticator breaks, and serves the next', async () => {
    let breaks = true;
    const accept = exchanging(0);
    broker = new Broker({
      authenticator: {
        ...accept,
        authenticate: request => {
          if (breaks) throw new Error('out of order');
          return accept.authenticate(request);
        },
      },
    });
    for (const reasonCode of [0x83, 0]) {
      const socket = broker.socket();
      socket.sendConnect({ clientId: 'c' });
      await broker.settle();
      socket.take('connack', { reasonCode });
      breaks = false;
    }
    expect(broker.errors.splice(0)).toHaveLength(1);
  });
});

describe('re-authentication', () => {
  it('lets messages flow meanwhile, and ends with AUTH 0 (4.12.1)', async () => {
    const client = await begin(0);
    client.take('connack');
    client.subscribe('t');
    client.send(auth(0x19));
    client.publish('t', 'meanwhile');
    expect(client.payloads()).toEqual(['meanwhile']);
    await broker.settle();
    client.take('auth', { reasonCode: 0 });
  });

  it('closes the connection when it is refused, with a reason for DISCONNECT [MQTT-4.12.1-2]', async () => {
    const client = await begin(0);
    client.take('connack');
    client.send(auth(0x19, 'no'));
    await broker.settle();
    client.take('disconnect', { reasonCode: 0x87 });
  });

  it('is a protocol error without a method in CONNECT, or with another [MQTT-4.12.1-1]', async () => {
    const client = await begin(0);
    client.take('connack');
    client.send(auth(0x19, 'yes', 'other'));
    await broker.settle();
    client.take('disconnect', { reasonCode: 0x82 });
  });

  it('is a protocol error where AUTH goes on with what was not begun [MQTT-4.12.0-3]', async () => {
    const client = await begin(0);
    client.take('connack');
    client.send(auth(0x18));
    await broker.settle();
    client.take('disconnect', { reasonCode: 0x82 });
  });

  const accepted = { kind: 'accept', tenant: 'default', user: 'u' } as const;
  it.each([
    ['another user', () => ({ ...accepted, user: 'v' }), 0x87],
    ['another tenant', () => ({ ...accepted, tenant: 'other' }), 0x87],
    ['a hook that breaks', () => Promise.reject(new Error('out of order')), 0x83],
    ['a question without end', () => ({ kind: 'continue', data: Buffer.from('?'), exchange: {} }), 0x87],
  ] as [string, () => AuthDecision, number][])(
    'closes the connection for %s, and whoever else there is goes on',
    async (_name, again, reasonCode) => {
      const authenticator: Authenticator = {
        authenticate: request => (request.established === undefined ? accepted : again()),
        continue: again,
      };
      broker = new Broker({ authenticator });
      const client = broker.socket();
      client.sendConnect({ clientId: 'c', properties: method });
      const other = broker.socket();
      other.sendConnect({ clientId: 'other' });
      await broker.settle();
      client.take('connack', { reasonCode: 0 });
      client.send(auth(0x19));
      await broker.settle();
      for (let step = 0; step < 20 && !client.closed; step++) {
        client.take('auth', { reasonCode: 0x18 });
        client.send(auth(0x18));
        await broker.settle();
      }
      client.take('disconnect', { reasonCode });
      expect(client.closed).toBe(true);
      expect(other.closed).toBe(false);
      expect(broker.errors.splice(0)).toHaveLength(reasonCode === 0x83 ? 1 : 0);
    },
  );
});
