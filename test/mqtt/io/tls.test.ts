import { writeFileSync } from 'node:fs';
import { connect as connectNet } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { listenTls, type TlsListenOptions } from '../../../src/mqtt/io/tls.js';
import { listenWs } from '../../../src/mqtt/io/ws.js';
import type { Listener } from '../../../src/mqtt/transport.js';
import { Recorder, transportContract, until } from '../../contract/transport.contract.js';
import { makeCertificates, removeCertificates } from '../../e2e/certificates.js';
import { type ByteClient, connectBytes } from './byte-client.js';
import { tcpOptions, wsOptions } from './options.js';

const certificates = makeCertificates();
afterAll(() => removeCertificates(certificates));
const files = { keyFile: certificates.keyFile, certificateFile: certificates.certFile };
const { ca } = certificates;

transportContract('tls', {
  transport: 'tls',
  halfClose: true,
  sharesDescriptor: true,
  resetCode: 'ECONNRESET',
  heldBytesMax: Number.POSITIVE_INFINITY,
  listen: (settings, accept) =>
    listenTls({ ...tcpOptions(settings), tls: files, requestClientCertificate: 'off' }, accept),
  connect: port => connectBytes({ port, tls: { ca } }),
});

describe('tls', () => {
  let listener: Listener | undefined;
  let recorders: Recorder[] = [];
  const clients: ByteClient[] = [];
  const open = async (options: Partial<TlsListenOptions>) => {
    recorders = [];
    listener = await listenTls(
      { ...tcpOptions(), tls: files, requestClientCertificate: 'off', ...options },
      peer => {
        const recorder = new Recorder(peer);
        recorders.push(recorder);
        return recorder;
      },
    );
    return listener;
  };
  const connect = async (tls: object = {}, prologue?: Buffer) => {
    const options = { port: listener!.port, tls: { ca, ...tls } };
    const client = await connectBytes(prologue === undefined ? options : { ...options, prologue });
    clients.push(client);
    return client;
  };

  afterEach(async () => {
    for (const client of clients.splice(0)) client.socket.destroy();
    await listener?.destroy();
    listener = undefined;
    for (const recorder of recorders) expect(recorder.closes).toBe(1);
  });

  for (const mode of ['optional', 'required'] as const) {
    it(`${mode} client certificates show who it is, and strangers stay outside`, async () => {
      const authority = { ...files, authorityFile: certificates.caFile };
      const { counters } = await open({ requestClientCertificate: mode, tls: authority });
      await connect(certificates.client);
      await until(() => recorders.length === 1, 'the peer');
      const certificate = recorders[0]!.peer.certificate!;
      expect(certificate.commonName).toBe('device-7');
      expect(certificate.fingerprint256).toMatch(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
      expect(certificate.serialNumber).toMatch(/^[0-9A-F]+$/);

      // TLS 1.3 lets a client believe for a moment that it is in.
      const stranger = await connect(certificates.stranger).catch(() => undefined);
      await stranger?.until(() => stranger.ended || stranger.socket.destroyed, 'the refusal');
      await until(() => counters.handshakeFailed === 1, 'the count');
      const nobody = await connect().catch(() => undefined);
      if (mode === 'optional') {
        await until(() => recorders.length === 2, 'the second peer');
        expect(recorders[1]!.peer.certificate).toBeUndefined();
      } else {
        await nobody?.until(() => nobody.ended || nobody.socket.destroyed, 'the refusal');
        await until(() => counters.handshakeFailed === 2, 'the count');
        expect(recorders.length).toBe(1);
      }
    });
  }

  it('does not ask for certificates when off', async () => {
    await open({ requestClientCertificate: 'off' });
    await connect(certificates.client);
    await until(() => recorders.length === 1, 'the peer');
    expect(recorders[0]!.peer.certificate).toBeUndefined();
  });

  it('ends handshakes that fail, dawdle, or are too old', async () => {
    const { counters, port } = await open({ handshakeTimeoutMs: 150 });
    const plain = connectNet(port, '127.0.0.1');
    plain.on('error', () => {});
    plain.write('\x10\x0c\0\x04MQTT');
    await until(() => counters.handshakeFailed === 1, 'plain text to be refused');
    const silent = connectNet(port, '127.0.0.1');
    silent.on('error', () => {});
    await until(() => counters.handshakeFailed === 2, 'silence to be refused');
    const old = connectTls({
      port,
      host: '127.0.0.1',
      ca,
      minVersion: 'TLSv1',
      maxVersion: 'TLSv1.1',
      ciphers: 'ALL:@SECLEVEL=0',
    });
    old.on('error', () => {});
    await until(() => counters.handshakeFailed === 3, 'TLS 1.1 to be refused');
    for (const socket of [plain, silent, old]) socket.destroy();
    await until(() => listener!.connections === 0, 'all to go');
    expect(recorders.length).toBe(0);
  });

  it('reads the PROXY header before the handshake', async () => {
    const { counters } = await open({ proxyProtocol: true });
    const header = Buffer.from('PROXY TCP6 2001:db8::7 ::1 4711 8883\r\n');
    const client = await connect({}, header);
    await until(() => recorders.length === 1, 'the peer');
    const { peer } = recorders[0]!;
    expect([peer.remoteAddress, peer.remotePort]).toEqual(['2001:db8::7', 4711]);
    client.send(Buffer.from('abc'));
    await until(() => recorders[0]!.receivedBytes === 3, 'bytes');
    await expect(connect()).rejects.toThrow();
    await until(() => counters.handshakeFailed === 1, 'the count');
  });

  it('says what is wrong with key and certificate, before it listens', async () => {
    const { directory } = certificates;
    const junk = join(directory, 'junk.pem');
    writeFileSync(junk, 'not a certificate');
    const bad = [
      [{ ...files, keyFile: join(directory, 'missing.key') }, /missing\.key \(ENOENT\)/],
      [{ ...files, certificateFile: junk }, /junk\.pem holds no PEM certificate/],
      [{ ...files, keyFile: junk }, /cannot be used/],
      [{ ...files, keyFile: join(directory, 'client.key') }, /cannot be used/],
      [{ ...files, authorityFile: junk }, /junk\.pem holds no PEM certificate/],
    ] as const;
    for (const [tls, message] of bad) {
      const expected = { code: 'SHOAL_TLS_CERTIFICATE', message: expect.stringMatching(message) };
      await expect(open({ tls })).rejects.toMatchObject(expected);
      await expect(
        listenWs({ ...wsOptions(), tls }, () => new Recorder(undefined as never)),
      ).rejects.toMatchObject(expected);
    }
  });
});
