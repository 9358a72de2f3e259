/**
 * MQTT over TLS, by `node:tls` over the same listener as `tcp-net.ts`: each accepted connection gives its PROXY
 * header, if it has one, before the TLS handshake, then passes into a `tls.Server` that never listens itself.
 *
 * Client certificates: `off` does not ask; `optional` takes clients without one, but not those with one that
 * does not verify; `required` refuses both. TLS 1.2 is the oldest version spoken.
 *
 * Node completes a TLS write in the loop's next turn, so `write` returns what it was given and `onDrain` follows
 * even when the kernel took everything at once.
 */
import type { Socket } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import type { Accept, Listener, PeerCertificate } from '../transport.js';
import { NetListener, type Origin } from './net-listener.js';
import { NetPeer } from './net-peer.js';
import type { TcpListenOptions } from './tcp.js';
import { checkTlsFiles, type TlsFiles } from './tls-files.js';

export interface TlsListenOptions extends TcpListenOptions {
  readonly tls: TlsFiles;
  readonly requestClientCertificate: 'off' | 'optional' | 'required';
}

/** Accepts TLS connections in this thread. Throws SHOAL_TLS_CERTIFICATE, SHOAL_LISTEN_IN_USE or SHOAL_LISTEN_FAILED. */
export async function listenTls(options: TlsListenOptions, accept: Accept): Promise<Listener> {
  const identity = await checkTlsFiles(options.tls);
  const mode = options.requestClientCertificate;
  const server = createServer({
    ...identity,
    requestCert: mode !== 'off',
    rejectUnauthorized: mode === 'required',
    handshakeTimeout: options.handshakeTimeoutMs,
  });
  /** What is special about clients, by the socket that their connection came on: a TLSSocket shows the same one. */
  const origins = new Map<string, Origin>();
  const listener = new NetListener('tls', options, (socket, origin) => {
    if (origin.source !== undefined || !origin.admitted) {
      const key = socketKey(socket);
      origins.set(key, origin);
      socket.once('close', () => origins.delete(key));
    }
    server.emit('connection', socket);
  });
  // Also told when the client leaves, or the time is up, before the handshake is done.
  server.on('tlsClientError', (_error, socket) => {
    listener.counters.handshakeFailed++;
    socket.destroy();
  });
  server.on('secureConnection', socket => {
    const certificate = mode === 'off' ? undefined : peerCertificate(socket);
    if (certificate !== undefined && !socket.authorized) {
      listener.counters.handshakeFailed++;
      socket.on('error', () => {});
      socket.destroy();
      return;
    }
    const origin = origins.get(socketKey(socket)) ?? ORDINARY;
    const peer = new NetPeer(socket, listener, 'tls', origin, certificate);
    peer.start(accept(peer));
  });
  await listener.listen();
  return listener;
}

const ORDINARY: Origin = { source: undefined, admitted: true };

function socketKey(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`;
}

function peerCertificate(socket: TLSSocket): PeerCertificate | undefined {
  // Null when the socket closed meanwhile, and empty when the client sent none; the types know neither.
  const certificate = socket.getPeerCertificate() as Partial<
    ReturnType<TLSSocket['getPeerCertificate']>
  > | null;
  if (certificate?.fingerprint256 === undefined) return undefined;
  const name: string | string[] | undefined = certificate.subject?.CN;
  return {
    commonName: (Array.isArray(name) ? name[0] : name) ?? '',
    fingerprint256: certificate.fingerprint256,
    serialNumber: certificate.serialNumber ?? '',
  };
}
