import { ShoalError } from '../base/errors.js';
import type { Config } from './config.js';

/**
 * Safe by default: a broker that lets everybody in is reachable from its own machine only, unless somebody
 * said outright that it shall be open.
 */

export type ListenerKind = keyof Config['listeners'];

export const LISTENER_KINDS: readonly ListenerKind[] = ['tcp', 'tls', 'ws', 'wss'];

/** True when clients have to prove who they are on every listener. */
function isAuthenticated(config: Config): boolean {
  const { passwordFile, plugin } = config.auth;
  return passwordFile !== undefined || plugin !== undefined;
}

/** Replaces the host `auto` of each listener, in place. */
export function resolveHosts(config: Config): void {
  const host = isAuthenticated(config) ? '0.0.0.0' : '127.0.0.1';
  for (const kind of LISTENER_KINDS) {
    const listener = config.listeners[kind];
    if (listener.host === 'auto') listener.host = host;
  }
}

/**
 * Refuses to open a broker to other machines by accident. A listener that requires client certificates counts
 * as authenticated.
 *
 * @throws ShoalError SHOAL_INSECURE_LISTENER naming the first such listener.
 */
export function assertSecure(config: Config): void {
  if (isAuthenticated(config) || config.auth.anonymous === true) return;
  for (const kind of LISTENER_KINDS) {
    const listener = config.listeners[kind];
    if (!listener.enabled || isLoopback(listener.host)) continue;
    if ('clientCertificate' in listener && listener.clientCertificate === 'required') continue;
    throw new ShoalError(
      'SHOAL_INSECURE_LISTENER',
      `listeners.${kind} would serve other machines on ${listener.host}:${listener.port} without any authentication`,
    );
  }
}

/** True for addresses that only this machine can reach. A name other than localhost may be anything: false. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  if (bare === 'localhost' || bare === '::1') return true;
  const ipv4 = bare.startsWith('::ffff:') ? bare.slice(7) : bare;
  return /^127(\.\d{1,3}){3}$/.test(ipv4);
}
