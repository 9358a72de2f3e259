import { isIP } from 'node:net';
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
