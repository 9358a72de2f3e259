import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Address } from '../message.js';

export interface HostPort {
  /** A name, an IPv4 address, or an IPv6 address without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Longest name of DNS (RFC 1035, section 2.3.4), with room for an address with a zone. */
const HOST_CHARS_MAX = 255;

/** `name:port`, `10.0.0.1:4800` or `[fd00::1]:4800`; undefined for anything else. */
export function parseAddress(address: Address): HostPort | undefined {
  const match = /^(?:\[([^[\]]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(address);
  if (match === null) return undefined;
  const host = match[1] ?? match[2]!;
  const port = Number(match[3]);
  if (port === 0 || port > 65_535 || host.length > HOST_CHARS_MAX) return undefined;
  if (match[1] !== undefined && isIP(host) !== 6) return undefined;
  return { host, port };
}

export function formatAddress(host: string, port: number): Address {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** An IPv4 address that a socket of both families shows as IPv6 (`::ffff:10.0.0.1`), as the IPv4 address it is. */
export function plainIp(ip: string): string {
  return ip.startsWith('::ffff:') && ip.includes('.') ? ip.slice(7) : ip;
}

/**
 * The address that other hosts use for a host bound to `bind`. `advertised` (a name or an IP, with a port or not) wins;
 * a host bound to all addresses advertises the first that is not a loopback's, IPv4 before IPv6. Undefined when
 * `advertised` is no address.
 */
export function advertisedAddress(bind: HostPort, advertised?: string): Address | undefined {
  if (advertised !== undefined) {
    const isHost = isIP(advertised) !== 0 || !advertised.includes(':');
    const address = isHost ? formatAddress(advertised, bind.port) : advertised;
    return parseAddress(address) && address;
  }
  if (bind.host !== '0.0.0.0' && bind.host !== '::') return formatAddress(bind.host, bind.port);
  const reachable = Object.values(networkInterfaces())
    .flatMap(list => list ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80:'));
  const first =
    reachable.find(({ family }) => family === 'IPv4') ?? (bind.host === '::' ? reachable[0] : undefined);
  return formatAddress(first?.address ?? '127.0.0.1', bind.port);
}
