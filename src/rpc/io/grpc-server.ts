import { type AddressInfo, createServer, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls';
import { type Metadata, Server, ServerCredentials } from '@grpc/grpc-js';
import { ShoalError } from '../../base/errors.js';
import type { StreamTls } from '../../underlay/io/stream-tls.js';
import { streamSecurity } from '../../underlay/io/stream-tls.js';
import type { RpcEndpoint } from '../transport.js';
import { type IncomingCall, type IncomingOwner, IncomingStream, IncomingUnary } from './grpc-incoming.js';
import {
  type Destination,
  DestinationReader,
  END_MARK,
  GRPC_LIMITS,
  type GrpcLimits,
  IDENTITY,
  pingTimeoutMs,
  STREAM_PATH,
  UNARY_PATH,
} from './grpc-wire.js';
import { HELD_LOOK_MS, heaviestConnection } from './held-bytes.js';

export interface GrpcServerOptions {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** Absent: in the clear. With `ca`, only callers with a certificate of it (mutual TLS). */
  readonly tls?: StreamTls | undefined;
  readonly limits?: Partial<GrpcLimits> | undefined;
  /** Connections at a time; further ones are closed at once. Default 1,024. */
  readonly connectionsMax?: number | undefined;
  /** Of them, those that come from one IP address; default 256, since several nodes may share one. */
  readonly connectionsPerAddressMax?: number | undefined;
  /** Bytes of requests that are not complete, and of answers that are not taken, of all connections (default 256 MiB). */
  readonly heldBytesMax?: number | undefined;
}

export interface GrpcServerCounters {
  accepted: number;
  /** Of connections, in all or of one address. */
  refusedAtLimit: number;
  tlsFailed: number;
  /** Closed since too much was held on their account. */
  crowdedOut: number;
  calls: number;
}

const CONNECTIONS_MAX = 1_024;
const CONNECTIONS_PER_ADDRESS_MAX = 256;

/** The kernel's queue: a whole cluster may connect at once. */
const BACKLOG = 1_024;

/** TLS agreed within; in the clear an unanswered keep-alive ping ends a connection that says nothing. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/**
 * Takes calls from other processes. gRPC gets its connections from here (its connection injector), so that their number
 * and their handshakes are bounded, and certificates are renewed without it.
 */
export class GrpcServer implements IncomingOwner {
  readonly limits: GrpcLimits;
  readonly endpoint: RpcEndpoint;
  readonly counters: GrpcServerCounters = {
    accepted: 0,
    refusedAtLimit: 0,
    tlsFailed: 0,
    crowdedOut: 0,
    calls: 0,
  };
  /** Once it listens. */
  port = 0;
  private readonly listener: NetServer;
  private readonly tls: TlsServer | undefined;
  private readonly connectionsPerAddressMax: number;
  private readonly server: Server;
  private readonly destinations = new DestinationReader();
  /** By remote address and port, as gRPC names the peers of calls. */
  private readonly sockets = new Map<string, Socket>();
  /** How many of them, by remote address. */
  private readonly byAddress = new Map<string, number>();
  private readonly running = new Set<IncomingCall>();
  private readonly looking: NodeJS.Timeout;
  private ending: Promise<void> | undefined;

  private constructor(endpoint: RpcEndpoint, options: GrpcServerOptions) {
    this.endpoint = endpoint;
    this.limits = { ...GRPC_LIMITS, ...options.limits };
    this.server = new Server(this.serverOptions());
    // What is registered never runs: the interceptor takes each call.
    for (const path of [UNARY_PATH, STREAM_PATH])
      this.server.register(path, nothing, IDENTITY, IDENTITY, 'bidi');
    const { injectConnection } = this.server.createConnectionInjector(ServerCredentials.createInsecure());
    this.connectionsPerAddressMax = options.connectionsPerAddressMax ?? CONNECTIONS_PER_ADDRESS_MAX;
    this.tls = options.tls && this.makeTls(options.tls, injectConnection);
    this.listener = createServer(socket => {
      if (!this.accept(socket)) socket.destroy();
      else if (this.tls === undefined) injectConnection(socket);
      else this.tls.emit('connection', socket);
    });
    this.listener.maxConnections = options.connectionsMax ?? CONNECTIONS_MAX;
    this.looking = setInterval(() => this.look(options.heldBytesMax), HELD_LOOK_MS).unref();
    this.listener.on('drop', () => {
      this.counters.refusedAtLimit++;
    });
  }

  /** Throws SHOAL_LISTEN_IN_USE, SHOAL_LISTEN_FAILED, SHOAL_TLS_CERTIFICATE. */
  static async listen(endpoint: RpcEndpoint, options: GrpcServerOptions): Promise<GrpcServer> {
    const server = new GrpcServer(endpoint, options);
    await server.bind(options.host, options.port);
    return server;
  }

  get connections(): number {
    return this.sockets.size;
  }

  get callsRunning(): number {
    return this.running.size;
  }

  /** For connections from now on. Throws SHOAL_TLS_CERTIFICATE, and goes on with what it had. */
  renewTls(tls: StreamTls): void {
    this.tls!.setSecureContext(streamSecurity(tls).files);
  }

  /**
   * Takes no new connections and calls (callers are told that they were not carried out), finishes what runs, and breaks
   * off what is left after `graceMs`.
   */
  drain(graceMs: number): Promise<void> {
    this.ending ??= this.end(graceMs);
    return this.ending;
  }

  /** Breaks off what runs. */
  close(): Promise<void> {
    this.breakOff();
    return this.drain(0);
  }

  get isDraining(): boolean {
    return this.ending !== undefined;
  }

  destination(headers: Metadata): Destination | undefined {
    return this.destinations.read(headers);
  }

  begun(call: IncomingCall): void {
    this.counters.calls++;
    this.running.add(call);
  }

  ended(call: IncomingCall): void {
    this.running.delete(call);
  }

  private serverOptions(): ConstructorParameters<typeof Server>[0] {
    const { messageBytesMax, streamsMax, keepAliveMs } = this.limits;
    return {
      'grpc.max_send_message_length': -1,
      'grpc.max_receive_message_length': messageBytesMax + END_MARK.length,
      'grpc.max_concurrent_streams': streamsMax,
      'grpc.keepalive_time_ms': keepAliveMs,
      'grpc.keepalive_timeout_ms': pingTimeoutMs(this.limits),
      'grpc.enable_channelz': 0,
      interceptors: [
        ({ path }, call) =>
          path === UNARY_PATH ? new IncomingUnary(call, this) : new IncomingStream(call, this),
      ],
    };
  }

  /** False: no room for it. */
  private accept(socket: Socket): boolean {
    const { remoteAddress, remotePort } = socket;
    // Gone already.
    if (remoteAddress === undefined) return false;
    const count = this.byAddress.get(remoteAddress) ?? 0;
    if (count >= this.connectionsPerAddressMax) {
      this.counters.refusedAtLimit++;
      return false;
    }
    this.counters.accepted++;
    const peer = `${remoteAddress}:${remotePort}`;
    this.byAddress.set(remoteAddress, count + 1);
    this.sockets.set(peer, socket);
    socket.setNoDelay(true);
    socket.on('error', nothing);
    socket.once('close', () => this.forget(peer, remoteAddress));
    return true;
  }

  private forget(peer: string, address: string): void {
    this.sockets.delete(peer);
    const left = this.byAddress.get(address)! - 1;
    if (left === 0) this.byAddress.delete(address);
    else this.byAddress.set(address, left);
  }

  /** It listens nowhere: it is handed what the listener has let in. */
  private makeTls(tls: StreamTls, inject: (socket: Socket) => void): TlsServer {
    const { files, isMutual } = streamSecurity(tls);
    const server = createTlsServer({
      ...files,
      requestCert: isMutual,
      rejectUnauthorized: isMutual,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      ALPNProtocols: ['h2'],
    });
    server.on('secureConnection', inject);
    server.on('tlsClientError', () => {
      this.counters.tlsFailed++;
    });
    return server;
  }

  private bind(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.listener.once('error', (error: NodeJS.ErrnoException) => {
        const code = error.code === 'EADDRINUSE' ? 'SHOAL_LISTEN_IN_USE' : 'SHOAL_LISTEN_FAILED';
        const message = `rpc: cannot listen on ${host}:${port} (${error.code})`;
        clearInterval(this.looking);
        reject(new ShoalError(code, message, { cause: error }));
      });
      this.listener.listen({ host, port, backlog: BACKLOG }, () => {
        this.port = (this.listener.address() as AddressInfo).port;
        resolve();
      });
    });
  }

  private async end(graceMs: number): Promise<void> {
    // The listener is closed when the last connection is; gRPC may wait for sessions that are no more.
    const closed = new Promise(resolve => this.listener.close(resolve));
    const timer = setTimeout(() => this.breakOff(), graceMs);
    this.server.tryShutdown(nothing);
    await closed;
    clearTimeout(timer);
    this.breakOff();
  }

  private look(heldBytesMax: number | undefined): void {
    const peer = heaviestConnection(this.running, heldBytesMax);
    if (peer === undefined) return;
    this.counters.crowdedOut++;
    this.sockets.get(peer)?.destroy();
  }

  private breakOff(): void {
    clearInterval(this.looking);
    this.server.forceShutdown();
    for (const socket of this.sockets.values()) socket.destroy();
  }
}

function nothing(): void {}
