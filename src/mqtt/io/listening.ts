import { lookup } from 'node:dns/promises';
import { createServer, isIP } from 'node:net';
import { ShoalError } from '../../base/errors.js';
import type { ListenerCounters } from '../transport.js';

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
 * Throws SHOAL_LISTEN_IN_USE when anything listens there, SHOAL_LISTEN_FAILED when the address cannot be bound.
 * Sockets that share a port by SO_REUSEPORT are not refused by the kernel when another program of the same user
 * does so too, so whoever opens a shared port looks first.
 */
export async function assertPortFree(
  what: string,
  host: string,
  address: string,
  port: number,
): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(listenError(what, host, port, error.code ?? 'EUNKNOWN', error));
    });
    server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve()));
  });
}
