import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { assert } from '../../base/assert.js';
import { ShoalError } from '../../base/errors.js';
import type { Address, Path } from '../message.js';
import {
  DATAGRAM_BYTES_MAX,
  STREAM_PACKET_BYTES_MAX,
  type Transport,
  type TransportSink,
} from '../transport.js';
import { formatAddress } from './address.js';
import { Datagrams, isDualStack } from './datagrams.js';
import { NameCache } from './name-cache.js';
import { StreamPool } from './stream-pool.js';
import { StreamServer } from './stream-server.js';
import { type StreamTls, streamSecurity } from './stream-tls.js';

/**
 * The transport on sockets: UDP for datagrams, TCP (or TLS) for streams, both on one address and port.
 *
 * A stream between two hosts is two connections, one for each direction, made when there is something to send and
 * closed when there is nothing for a while. A frame is its length (4 bytes, big-endian) and its bytes; the receiver
 * answers with the number of frames taken. The limits stand in the files that enforce them: `stream-server.ts` (what
 * strangers may do), `stream-link.ts` and `stream-pool.ts` (what waits), `datagrams.ts`, `name-cache.ts`.
 */
export interface SocketOptions {
  /** Bound by UDP and TCP. `::` is IPv6 and IPv4; a name is looked up once. */
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  readonly tls?: StreamTls;
}

export interface SocketSink extends TransportSink {
  /** False: nothing of ours; a stream that it came by is closed. */
  packet(bytes: Uint8Array, from: Address, path: Path): boolean;
}

/** Since the start, and gauges of now. */
export interface SocketStats {
  readonly tooLarge: number;
  readonly datagramErrors: number;
  readonly streamPacketsLost: number;
  readonly namesFailed: number;
  readonly inboundAccepted: number;
  readonly inboundCrowdedOut: number;
  readonly inboundDropped: number;
  readonly tlsFailed: number;
  readonly inboundNow: number;
  readonly inboundBytesNow: number;
  readonly outboundNow: number;
  readonly outboundBytesNow: number;
  readonly namesNow: number;
}

const SWEEP_MS = 1_000;
const FLUSH_LOOK_MS = 5;

/** A random port that TCP has may be taken for UDP. */
const PORT_TRIES = 10;

/**
 * Binds both sockets. Throws SHOAL_LISTEN_IN_USE, SHOAL_LISTEN_FAILED, SHOAL_TLS_CERTIFICATE; nothing stays open then.
 */
export async function openSockets(options: SocketOptions, sink: SocketSink): Promise<SocketTransport> {
  const security = options.tls && streamSecurity(options.tls);
  const ip = await bindIp(options);
  const names = new NameCache(isIP(ip) === 4 ? 4 : isDualStack(ip) ? 0 : 6);
  for (let attempt = 1; ; attempt++) {
    const transport = new SocketTransport(ip, names, security, sink);
    try {
      await transport.open(ip, options.port);
      return transport;
    } catch (error) {
      await transport.close();
      if (options.port !== 0 || attempt === PORT_TRIES) throw listenError(options, error);
    }
  }
}

async function bindIp(options: SocketOptions): Promise<string> {
  if (isIP(options.host) !== 0) return options.host;
  try {
    return (await lookup(options.host)).address;
  } catch (error) {
    throw listenError(options, error);
  }
}

function listenError({ host, port }: SocketOptions, cause: unknown): ShoalError {
  const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
  const where = `cluster: ${formatAddress(host, port)}`;
  return code === 'EADDRINUSE'
    ? new ShoalError('SHOAL_LISTEN_IN_USE', `${where} is in use by another program`, { cause })
    : new ShoalError('SHOAL_LISTEN_FAILED', `${where} cannot be bound (${code})`, { cause });
}

/** Made by {@link openSockets}. */
export class SocketTransport implements Transport {
  /** The port that is bound. */
  port = 0;
  private readonly names: NameCache;
  private readonly datagrams: Datagrams;
  private readonly pool: StreamPool;
  private readonly server: StreamServer;
  private readonly sink: SocketSink;
  private sweeper: NodeJS.Timeout | undefined;
  private isClosed = false;
  private tooLarge = 0;

  constructor(
    ip: string,
    names: NameCache,
    security: ReturnType<typeof streamSecurity> | undefined,
    sink: SocketSink,
  ) {
    this.sink = sink;
    this.names = names;
    this.pool = new StreamPool(names, security, to => this.sink.unreachable(to, 'stream'));
    this.server = new StreamServer(security, {
      frame: (bytes, from) => !this.isClosed && this.sink.packet(bytes, from, 'stream'),
    });
    this.datagrams = new Datagrams(ip, names, {
      datagram: (bytes, from) => this.sink.packet(bytes, from, 'datagram'),
      unreachable: to => this.sink.unreachable(to, 'datagram'),
    });
  }

  /** Rejects with the system's error; `close` then closes what was opened. */
  async open(ip: string, port: number): Promise<void> {
    this.port = await this.server.listen(ip, port, !isDualStack(ip));
    await this.datagrams.bind(ip, this.port);
    this.sweeper = setInterval(() => {
      const nowMs = performance.now();
      this.pool.sweep(nowMs);
      this.server.sweep(nowMs);
    }, SWEEP_MS);
  }

  send(to: Address, path: Path, bytes: Uint8Array): void {
    if (this.isClosed) return;
    if (bytes.length > (path === 'datagram' ? DATAGRAM_BYTES_MAX : STREAM_PACKET_BYTES_MAX)) {
      this.tooLarge++;
      process.nextTick(() => {
        if (!this.isClosed) this.sink.unreachable(to, path);
      });
      return;
    }
    if (path === 'datagram') this.datagrams.send(to, bytes);
    else this.pool.send(to, bytes);
  }

  /** For connections from now on; only where there was TLS from the start. Throws SHOAL_TLS_CERTIFICATE. */
  renewTls(tls: StreamTls): void {
    assert(this.pool.security !== undefined, 'TLS is renewed where there is some');
    const security = streamSecurity(tls);
    this.pool.security = security;
    this.server.renew(security);
  }

  /** Resolves when all stream packets are acknowledged, or after `timeoutMs`. */
  async flush(timeoutMs: number): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs;
    while (this.pool.bytes > 0 && performance.now() < deadlineMs) await sleep(FLUSH_LOOK_MS);
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearInterval(this.sweeper);
    this.pool.close();
    await Promise.all([this.server.close(), this.datagrams.close()]);
  }

  stats(): SocketStats {
    const { counters } = this.server;
    return {
      tooLarge: this.tooLarge,
      datagramErrors: this.datagrams.errors,
      streamPacketsLost: this.pool.lost,
      namesFailed: this.names.failures,
      inboundAccepted: counters.accepted,
      inboundCrowdedOut: counters.crowdedOut,
      inboundDropped: counters.dropped,
      tlsFailed: counters.tlsFailed,
      inboundNow: this.server.size,
      inboundBytesNow: this.server.pendingBytes,
      outboundNow: this.pool.size,
      outboundBytesNow: this.pool.bytes,
      namesNow: this.names.size,
    };
  }
}
