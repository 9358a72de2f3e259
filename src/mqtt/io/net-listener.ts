/** The part that `tcp-net.ts` and `tls.ts` share: a `net.Server`, its connections, and their bounds. */
import { createServer, type Server, type Socket } from 'node:net';
import { type Listener, type ListenerCounters, PLACE } from '../transport.js';
import { listenError, newCounters, resolveHost } from './listening.js';
import { ProxyHeaderParser, type ProxySource } from './proxy-protocol.js';
import type { TcpListenOptions } from './tcp.js';

/** What is known of a raw connection. */
export interface Origin {
  /** From a PROXY header. */
  readonly source: ProxySource | undefined;
  /** As in `Peer`. */
  readonly admitted: boolean;
}

/** Takes a raw connection from here on; must listen to its errors. */
export type TakeSocket = (socket: Socket, origin: Origin, listener: NetListener) => void;

export class NetListener implements Listener {
  readonly transport: 'tcp' | 'tls';
  readonly host: string;
  readonly counters: ListenerCounters = newCounters();
  readonly endTimeoutMs: number;
  readonly #options: TcpListenOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #port: number;
  #closed: Promise<void> | undefined = undefined;
  #destroyed: Promise<void> | undefined = undefined;
  #whenEmpty: (() => void) | undefined = undefined;

  constructor(transport: 'tcp' | 'tls', options: TcpListenOptions, take: TakeSocket) {
    this.transport = transport;
    this.host = options.host;
    this.endTimeoutMs = options.endTimeoutMs;
    this.#options = options;
    this.#port = options.port;
    this.#server = createServer({ pauseOnConnect: true, noDelay: true });
    this.#server.on('connection', socket => this.#connection(socket, take));
  }

  get port(): number {
    return this.#port;
  }

  get fd(): number {
    const handle = (this.#server as unknown as { _handle?: { fd?: number } | null })._handle;
    return handle?.fd ?? -1;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  async listen(): Promise<void> {
    const { host, port, backlog, fd } = this.#options;
    const address = await resolveHost(this.transport, host, port);
    await new Promise<void>((resolve, reject) => {
      const failed = (error: NodeJS.ErrnoException): void => {
        reject(listenError(this.transport, host, port, error.code ?? 'EUNKNOWN', error));
      };
      this.#server.once('error', failed);
      const listening = (): void => {
        this.#server.off('error', failed);
        resolve();
      };
      if (fd === undefined) this.#server.listen({ host: address, port, backlog, exclusive: true }, listening);
      else this.#server.listen({ fd, backlog, exclusive: true }, listening);
    });
    // Later errors are failed accepts; libuv goes on accepting after them.
    this.#server.on('error', () => this.counters.acceptErrors++);
    const bound = this.#server.address();
    if (bound !== null && typeof bound === 'object') this.#port = bound.port;
  }

  close(): Promise<void> {
    // The callback of net's close waits for all connections, so it is not what is awaited here.
    this.#closed ??= new Promise(resolve => {
      this.#server.close();
      setImmediate(resolve);
    });
    return this.#closed;
  }

  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroyAll();
    return this.#destroyed;
  }

  async #destroyAll(): Promise<void> {
    await this.close();
    for (const socket of this.#sockets) socket.destroy();
    if (this.#sockets.size === 0) return;
    await new Promise<void>(resolve => {
      this.#whenEmpty = resolve;
    });
  }

  #connection(socket: Socket, take: TakeSocket): void {
    const { places } = this.#options;
    const place = this.#closed === undefined ? places.take() : PLACE.NONE;
    if (place === PLACE.NONE) {
      this.counters.refusedAtLimit++;
      socket.destroy();
      return;
    }
    this.counters.accepted++;
    this.#sockets.add(socket);
    socket.on('error', ignoreError);
    socket.on('close', () => {
      this.#sockets.delete(socket);
      places.giveBack(place);
      // After this turn's other 'close' listeners, which tell the handlers.
      if (this.#sockets.size === 0) setImmediate(() => this.#whenEmpty?.());
    });
    if (this.#options.tcpKeepAliveSeconds > 0)
      socket.setKeepAlive(true, this.#options.tcpKeepAliveSeconds * 1000);
    const admitted = place === PLACE.SEAT;
    if (this.#options.proxyProtocol) this.#readProxyHeader(socket, admitted, take);
    else take(socket, { source: undefined, admitted }, this);
  }

  #readProxyHeader(socket: Socket, admitted: boolean, take: TakeSocket): void {
    const parser = new ProxyHeaderParser();
    const fail = (): void => {
      stop();
      this.counters.handshakeFailed++;
      socket.destroy();
    };
    const timer = setTimeout(fail, this.#options.handshakeTimeoutMs);
    const stop = (): void => {
      clearTimeout(timer);
      socket.off('data', received);
      socket.off('close', fail);
      socket.pause();
    };
    const received = (chunk: Buffer): void => {
      const result = parser.push(chunk);
      if (result.kind === 'more') return;
      if (result.kind === 'malformed') {
        fail();
        return;
      }
      stop();
      if (result.rest.length > 0) socket.unshift(result.rest);
      take(socket, { source: result.source, admitted }, this);
    };
    socket.on('data', received);
    socket.on('close', fail);
    socket.resume();
  }
}

/** Whoever takes a socket hears its errors too; this one stands for the time before, and for a TLS socket's carrier. */
function ignoreError(): void {}
