import { createSocket, type Socket } from 'node:dgram';
import { isIP } from 'node:net';
import type { Address } from '../message.js';
import { formatAddress, parseAddress, plainIp } from './address.js';
import type { NameCache } from './name-cache.js';

/** What the kernel does not take at once; above that, datagrams are dropped. */
const SEND_QUEUE_BYTES_MAX = 4_194_304;

/** Asked of the kernel, which may give less: a thousand hosts may join through one seed at once. */
const RECEIVE_BUFFER_BYTES = 4_194_304;

export interface DatagramSink {
  datagram(bytes: Buffer, from: Address): void;
  unreachable(to: Address): void;
}

/** Whether a socket bound to this IP is one of both families. */
export function isDualStack(bindIp: string): boolean {
  return bindIp === '::';
}

/** UDP: bytes to addresses, names included. */
export class Datagrams {
  private readonly socket: Socket;
  private readonly names: NameCache;
  private readonly sink: DatagramSink;
  private readonly isDual: boolean;
  private isClosed = false;
  /** Errors of the socket itself. */
  errors = 0;

  constructor(bindIp: string, names: NameCache, sink: DatagramSink) {
    this.names = names;
    this.sink = sink;
    this.isDual = isDualStack(bindIp);
    this.socket = createSocket({
      type: isIP(bindIp) === 6 ? 'udp6' : 'udp4',
      ipv6Only: false,
      // The IP is known already; without this, each datagram would ask the resolver for it.
      lookup: (ip, _options, done) => done(null, ip, isIP(ip)),
    });
    this.socket.on('message', (bytes, { address, port }) => {
      if (!this.isClosed) this.sink.datagram(bytes, formatAddress(plainIp(address), port));
    });
  }

  /** Rejects with the system's error. */
  bind(ip: string, port: number): Promise<void> {
    const { socket } = this;
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ address: ip, port, exclusive: true }, () => {
        socket.off('error', reject);
        socket.on('error', () => {
          this.errors++;
        });
        try {
          socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
        } catch {
          // The kernel's default will do.
        }
        resolve();
      });
    });
  }

  send(to: Address, bytes: Uint8Array): void {
    const target = parseAddress(to);
    if (target === undefined) return this.fail(to);
    if (isIP(target.host) !== 0) return this.sendTo(to, target.host, target.port, bytes);
    this.names.find(target.host, performance.now(), ip => {
      if (ip === undefined) this.fail(to);
      else this.sendTo(to, ip, target.port, bytes);
    });
  }

  close(): Promise<void> {
    if (this.isClosed) return Promise.resolve();
    this.isClosed = true;
    return new Promise(resolve => {
      this.socket.close(() => resolve());
    });
  }

  private sendTo(to: Address, ip: string, port: number, bytes: Uint8Array): void {
    if (this.isClosed) return;
    const { socket } = this;
    if (socket.getSendQueueSize() + bytes.length > SEND_QUEUE_BYTES_MAX) return this.fail(to);
    const isMapped = this.isDual && isIP(ip) === 4;
    socket.send(bytes, port, isMapped ? `::ffff:${ip}` : ip, error => {
      if (error !== null) this.fail(to);
    });
  }

  /** Later, so that nobody is told of a failure from within a call of its own. */
  private fail(to: Address): void {
    process.nextTick(() => {
      if (!this.isClosed) this.sink.unreachable(to);
    });
  }
}
