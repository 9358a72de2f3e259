/** Plain TCP on `node:net`: the fallback of `tcp.ts`. */
import type { Accept, Listener } from '../transport.js';
import { NetListener } from './net-listener.js';
import { NetPeer } from './net-peer.js';
import type { TcpListenOptions } from './tcp.js';

/** Listens with `node:net`. Throws SHOAL_LISTEN_IN_USE or SHOAL_LISTEN_FAILED. */
export async function listenTcpNet(options: TcpListenOptions, accept: Accept): Promise<Listener> {
  const listener = new NetListener('tcp', options, (socket, origin, owner) => {
    const peer = new NetPeer(socket, owner, 'tcp', origin, undefined);
    peer.start(accept(peer));
  });
  await listener.listen();
  return listener;
}
