import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Broker, useBroker } from './broker.js';
import { protectKey } from './certificates.js';
import { connect, cutAllClients, open, unique } from './client/client.js';

const SECURE = ['tls', 'wss'] as const;

describe('TLS without client certificates', () => {
  const broker = useBroker({ transports: ['tcp', ...SECURE] });

  it.each(SECURE)('%s presents a certificate that the authority vouches for', async transport => {
    const client = await connect(broker, { transport });
    await client.ping();
    await expect(
      open({ ...pick(broker), ca: broker.certificates.stranger.cert }, { transport }),
    ).rejects.toThrow();
  });

  it.each(SECURE)('plain MQTT on the %s port disturbs nobody', async transport => {
    const port = broker.ports[transport]!;
    const plain = await open({ host: broker.host, ports: { tcp: port } }, { transport: 'tcp' });
    plain.sendConnect();
    await plain.ended();
    await (await connect(broker, { transport })).ping();
  });

  it('TLS 1.1 is not spoken', async () => {
    const { connect: dial } = await import('node:tls');
    const outcome = await new Promise<string>(done => {
      const socket = dial({
        host: broker.host,
        port: broker.ports.tls!,
        ca: broker.ca,
        maxVersion: 'TLSv1.1',
        minVersion: 'TLSv1',
        ciphers: 'ALL:@SECLEVEL=0',
        servername: 'localhost',
      });
      socket.once('secureConnect', () => done('connected'));
      socket.once('error', error => done(error.message));
    });
    expect(outcome).not.toBe('connected');
  });
});

describe('a private key that a passphrase protects', () => {
  it.each(SECURE)('%s is served with the right one, from a file', async transport => {
    const directory = mkdtempSync(join(tmpdir(), 'shoalmq-key-'));
    const passphraseFile = join(directory, 'passphrase');
    const broker = new Broker({
      transports: ['tcp', transport],
      set: { [`listeners.${transport}.passphraseFile`]: passphraseFile },
    });
    try {
      writeFileSync(passphraseFile, 'two words\n');
      await broker.start();
      await broker.stop();
      protectKey(broker.certificates, passphraseFile);
      await broker.launch();
      const client = await connect(broker, { transport });
      await client.ping();
      await client.disconnect();
      expect((await broker.stop()).code).toBe(0);

      writeFileSync(passphraseFile, 'two words more\n');
      await expect(broker.launch()).rejects.toThrow(/SHOAL_TLS_CERTIFICATE/);
    } finally {
      cutAllClients();
      await broker.kill9();
      broker.removeFiles();
      rmSync(directory, { recursive: true });
    }
  });
});

describe('client certificates over TLS', () => {
  const transport = 'tls';
  const required = useBroker({
    transports: ['tcp', transport],
    set: { 'listeners.tls.clientCertificate': 'required' },
  });
  const optional = useBroker({
    transports: ['tcp', transport],
    set: { 'listeners.tls.clientCertificate': 'optional' },
  });

  it('required: one from the authority is let in', async () => {
    const client = await connect(required, { transport, ...required.certificates.client });
    const topic = unique('t');
    await client.subscribe(topic, { qos: 1 });
    await client.publish(topic, 'x', { qos: 1 });
    await client.receive({ payload: 'x' });
  });

  it.each(['none', 'stranger'] as const)('required: %s is refused before any MQTT', async which => {
    const identity = which === 'none' ? {} : required.certificates.stranger;
    const outcome = await connect(required, { transport, ...identity }).then(
      () => 'connected',
      () => 'refused',
    );
    expect(outcome).toBe('refused');
  });

  it('optional: with, and without', async () => {
    await (await connect(optional, { transport })).ping();
    await (await connect(optional, { transport, ...optional.certificates.client })).ping();
  });

  it('optional: one from another authority is refused', async () => {
    const outcome = await connect(optional, { transport, ...optional.certificates.stranger }).then(
      () => 'connected',
      () => 'refused',
    );
    expect(outcome).toBe('refused');
  });
});

describe('client certificates over WSS', () => {
  it.each(['optional', 'required'])(
    '%s is enforced, or refused outright: never silently left out',
    async mode => {
      const broker = new Broker({
        transports: ['tcp', 'wss'],
        set: { 'listeners.wss.clientCertificate': mode },
      });
      const started = await broker.start().then(
        () => true,
        () => false,
      );
      try {
        if (!started) {
          expect(broker.log()).toContain('listeners.wss.clientCertificate');
          return;
        }
        const enter = (identity: object) =>
          connect(broker, { transport: 'wss', ...identity }).then(
            () => 'connected',
            () => 'refused',
          );
        expect(await enter(broker.certificates.client)).toBe('connected');
        expect(await enter(broker.certificates.stranger)).toBe('refused');
        expect(await enter({})).toBe(mode === 'required' ? 'refused' : 'connected');
      } finally {
        cutAllClients();
        await broker.kill9();
        broker.removeFiles();
      }
    },
  );
});

function pick({ host, ports }: { host: string; ports: Record<string, number> | object }): {
  host: string;
  ports: Record<string, number>;
} {
  return { host, ports: ports as Record<string, number> };
}
