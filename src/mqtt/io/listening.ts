import { lookup } from 'node:dns/promises';
import { connect, createServer, isIP } from 'node:net';
import { ShoalError } from '../../base/errors.js';
import type { ListenerCounters } from '../transport.js';

const LOOK_TIMEOUT_MS = 1_000;

/** A failed bind or listen as a coded error that names what was asked for. `code` is the system's (EADDRINUSE …). */
export function listenError(
  what: string,
  host: string,
  port: number,
  code: string,
  cause?: unknown,
): ShoalError {
  const where = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const options = cause === undefined ? undefined : { cause };
  if (code === 'EADDRINUSE') {
    return new ShoalError('SHOAL_LISTEN_IN_USE', `${what}: ${where} is in use by another program`, options);
  }
  return new ShoalError('SHOAL_LISTEN_FAILED', `${what}: cannot listen on ${where} (${code})`, options);
}

/** The numeric address of a host name; addresses pass through. Throws SHOAL_LISTEN_FAILED for unknown names. */
export async function resolveHost(what: string, host: string, port: number): Promise<string> {
  if (isIP(host) !== 0) return host;
  try {
    return (await lookup(host)).address;
  } catch (error) {
    throw listenError(what, host, port, (error as NodeJS.ErrnoException).code ?? 'ENOTFOUND', error);
  }
}

export function newCounters(): ListenerCounters {
  return { accepted: 0, refusedAtLimit: 0, handshakeFailed: 0, acceptErrors: 0 };
}

/** Shows an IPv4 address inside IPv6 (`::ffff:10.0.0.1`) as the IPv4 address that it is. */
export function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address;
}

/**
 * Whether anybody accepts connections there. Sockets that share a port by SO_REUSEPORT are not refused by the
 * kernel when another program of the same user has it too, so whoever opens a shared port looks first. Asked by
 * connecting: a trial bind is also refused by what earlier connections left in the kernel for a minute.
 */
export function somebodyListens(address: string, port: number): Promise<boolean> {
  const target = address === '0.0.0.0' ? '127.0.0.1' : address === '::' ? '::1' : address;
  return new Promise(resolve => {
    const socket = connect({ host: target, port });
    const finish = (listens: boolean): void => {
      socket.destroy();
      resolve(listens);
    };
    socket.setTimeout(LOOK_TIMEOUT_MS, () => finish(false));
    socket.once('connect', () => finish(true));
    socket.on('error', () => finish(false));
  });
}

/** A port that is free now. */
export async function freePort(what: string, host: string, address: string): Promise<number> {
  const trial = await tryListening(address, 0);
  if (typeof trial === 'string') throw listenError(what, host, 0, trial);
  return trial;
}

/** The system's code for why a listener cannot be opened, for a library that keeps it to itself. */
export async function listenFailure(address: string, port: number): Promise<string> {
  if (await somebodyListens(address, port)) return 'EADDRINUSE';
  const trial = await tryListening(address, port);
  return typeof trial === 'string' ? trial : 'EUNKNOWN';
}

/** Opens and closes a listener: its port, or the code of the failure. */
function tryListening(address: string, port: number): Promise<number | string> {
  const server = createServer();
  return new Promise(resolve => {
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'EUNKNOWN'));
    server.listen({ host: address, port, exclusive: true }, () => {
      const bound = server.address();
      server.close(() => resolve(bound !== null && typeof bound === 'object' ? bound.port : port));
    });
  });
}
