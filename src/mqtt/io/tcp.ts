/**
 * Plain TCP. Two implementations of one interface, held to it by one contract suite: `tcp-handle.ts` on Node's
 * own handle, chosen when `probeTcpHandle` finds that it works here, and `tcp-net.ts` on `node:net` otherwise.
 */
import type { Accept, Listener, ListenerOptions } from '../transport.js';
import { listenTcpHandle } from './tcp-handle.js';
import { listenTcpNet } from './tcp-net.js';
import { probeTcpHandle } from './tcp-probe.js';

export interface TcpListenOptions extends ListenerOptions {
  /** Accept on this listening (or bound) socket of this process instead of opening one; see `shared-port.ts`. */
  readonly fd?: number | undefined;
  /** Each connection begins with a PROXY protocol header, version 1 or 2; without one it is closed. */
  readonly proxyProtocol: boolean;
  /** Time for the PROXY header. */
  readonly handshakeTimeoutMs: number;
  /** Seconds of silence before the kernel probes the client; 0 leaves TCP keep-alive off. */
  readonly tcpKeepAliveSeconds: number;
}

/** `auto` decides by probe, once a thread. */
export type TcpImplementation = 'auto' | 'handle' | 'net';

let probed: Promise<boolean> | undefined;

/** Accepts TCP connections in this thread. Throws SHOAL_LISTEN_IN_USE or SHOAL_LISTEN_FAILED. */
export async function listenTcp(
  options: TcpListenOptions,
  accept: Accept,
  implementation: TcpImplementation = 'auto',
): Promise<Listener> {
  probed ??= implementation === 'auto' ? probeTcpHandle() : undefined;
  const useHandle = implementation === 'auto' ? await probed : implementation === 'handle';
  return useHandle ? listenTcpHandle(options, accept) : listenTcpNet(options, accept);
}
