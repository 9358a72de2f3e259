/**
 * Plain TCP. Two implementations of one interface, held to it by one contract suite: `tcp-handle.ts` on Node's
 * own handle, chosen when `probeTcpHandle` finds that it works here, and `tcp-net.ts` on `node:net` otherwise.
 *
 * Why the handle: `net.Socket` is an event emitter with two stream machines on top of the same handle. Measured on
 * two shared cores of an unnamed x86-64 virtual machine (Node 20.20, loopback; CPU of the server process, medians
 * of three alternating runs; WS and WSS are `ws.ts`, TLS is `tls.ts`):
 *
 * |                                             | handle | net  | tls    | ws   | wss   |
 * | ------------------------------------------- | ------ | ---- | ------ | ---- | ----- |
 * | accept one connection, µs                   | 13     | 43   | 544    | 33   | 234   |
 * | one idle connection, bytes of memory        | 1933   | 3595 | 26,231 | 2279 | 6554  |
 * | write 66 bytes to each of 500 a turn, µs    | 5.4    | 5.5  | 8.2    | 5.1  | 5.6   |
 * | read 70 bytes and write them back, µs       | 7.4    | 10.4 | 13.5   | 9.1  | 11.6  |
 *
 * A write is nearly all system call. Further findings, by the same means:
 * - A read buffer for all handles of a thread and copies carved from slabs (now the receiver's memory) take 7.3 to
 *   7.5 µs for the echo, Node's own way (64 KiB allocated and shrunk for each read) 7.5 to 7.7; in bulk (64 KiB reads)
 *   they are equal.
 * - Reusing the write request while the kernel takes whole writes saves the 60 ns that making one costs.
 *
 * Out of file descriptors, libuv gives up one that it keeps for this, and with it accepts and closes all that waits in
 * the queue: refused without being counted, and without a spin as long as no other thread snatches that one. TLS and
 * the fallback do the same. `places` run out before, so that clients are told and the log names the remedy.
 *
 * A paused TCP peer does not notice that its client went away: nobody reads. The session's keep-alive does.
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
