import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls';
import { STREAM_PACKET_BYTES_MAX } from '../transport.js';
import { formatAddress, plainIp } from './address.js';
import { FrameReader } from './frame-reader.js';
import { ACK_BYTES } from './stream-link.js';
import type { StreamSecurity } from './stream-tls.js';

/** Incoming connections at a time; above that, the oldest one without a packet makes room, else none does. */
export const INBOUND_MAX = 2_048;

/** TLS agreed and a first packet complete within, and every later packet from its first byte on. */
export const FRAME_TIMEOUT_MS = 10_000;

/** Closed after so long without a packet; longer than senders keep an idle connection. */
export const INBOUND_IDLE_MS = 60_000;

/** Incomplete packets of all connections; above that, the connection with the largest one is closed. */
export const PARTIAL_BYTES_MAX = 67_108_864;

/** Acknowledgements that a peer does not read. */
const UNREAD_ACKS_BYTES_MAX = 65_536;

/** Listens with so long a queue of the kernel: a whole cluster may connect at once. */
const BACKLOG = 1_024;

export interface StreamServerSink {
  /** False: nothing of ours; the connection is closed. */
  frame(bytes: Buffer, from: string): boolean;
}

export interface StreamServerCounters {
  accepted: number;
  /** Turned away or closed to make room. */
  crowdedOut: number;
  /** Too slow, or too long a frame, or no packet of ours. */
  dropped: number;
  tlsFailed: number;
}

/** One incoming connection. */
interface Inbound {
  readonly socket: Socket;
  readonly reader: FrameReader;
  readonly from: string;
  frames: number;
  /** When it came, when its last packet was complete, or when the incomplete one began. */
  sinceMs: number;
  hasPartial: boolean;
}

/** Takes frames from other hosts. Everything that a stranger can make it hold is bounded. */
export class StreamServer {
  readonly counters: StreamServerCounters = { accepted: 0, crowdedOut: 0, dropped: 0, tlsFailed: 0 };
  private readonly server: Server;
  private readonly sink: StreamServerSink;
  /** By remote address and port, oldest first: TLS shows a connection twice, raw and agreed. */
  private readonly inbound = new Map<string, Inbound>();
  private partialBytes = 0;

  constructor(security: StreamSecurity | undefined, sink: StreamServerSink) {
    this.sink = sink;
    this.server =
      security === undefined
        ? createServer()
        : createTlsServer({
            ...security.files,
            requestCert: security.isMutual,
            rejectUnauthorized: security.isMutual,
            handshakeTimeout: FRAME_TIMEOUT_MS,
          });
    this.server.on('connection', socket => this.accept(socket, security === undefined));
    if (security === undefined) return;
    this.server.on('secureConnection', (socket: Socket) => this.secured(socket));
    this.server.on('tlsClientError', () => {
      this.counters.tlsFailed++;
    });
  }

  get size(): number {
    return this.inbound.size;
  }

  get pendingBytes(): number {
    return this.partialBytes;
  }

  /** Resolves with the port; rejects with the system's error. */
  listen(host: string, port: number, ipv6Only: boolean): Promise<number> {
    const { server } = this;
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port, ipv6Only, backlog: BACKLOG }, () => {
        server.off('error', reject);
        // Out of descriptors: the kernel keeps the connection, and it is accepted later.
        server.on('error', () => {});
        resolve((server.address() as { port: number }).port);
      });
    });
  }

  /** For connections from now on. */
  renew({ files }: StreamSecurity): void {
    (this.server as TlsServer).setSecureContext(files);
  }

  sweep(nowMs: number): void {
    for (const inbound of this.inbound.values()) {
      const isBusy = inbound.frames === 0 || inbound.hasPartial;
      if (nowMs - inbound.sinceMs <= (isBusy ? FRAME_TIMEOUT_MS : INBOUND_IDLE_MS)) continue;
      if (isBusy) this.drop(inbound);
      else inbound.socket.destroy();
    }
  }

  close(): Promise<void> {
    for (const { socket } of this.inbound.values()) socket.destroy();
    return new Promise(resolve => {
      if (!this.server.listening) return resolve();
      this.server.close(() => resolve());
    });
  }

  private accept(socket: Socket, isReady: boolean): void {
    const { remoteAddress, remotePort } = socket;
    if (remoteAddress === undefined || (this.inbound.size >= INBOUND_MAX && !this.makeRoom())) {
      this.counters.crowdedOut++;
      socket.destroy();
      return;
    }
    this.counters.accepted++;
    const key = `${remoteAddress} ${remotePort}`;
    const inbound: Inbound = {
      socket,
      reader: new FrameReader(STREAM_PACKET_BYTES_MAX),
      from: formatAddress(plainIp(remoteAddress), remotePort!),
      frames: 0,
      sinceMs: performance.now(),
      hasPartial: false,
    };
    this.inbound.set(key, inbound);
    socket.on('error', () => {});
    socket.on('close', () => {
      this.release(inbound);
      if (this.inbound.get(key) === inbound) this.inbound.delete(key);
    });
    if (isReady) this.attach(inbound, socket);
  }

  private secured(socket: Socket): void {
    const inbound = this.inbound.get(`${socket.remoteAddress} ${socket.remotePort}`);
    if (inbound === undefined) {
      socket.destroy();
      return;
    }
    socket.on('error', () => {});
    this.attach(inbound, socket);
  }

  private attach(inbound: Inbound, socket: Socket): void {
    socket.setNoDelay(true);
    socket.on('data', chunk => this.receive(inbound, socket, chunk));
  }

  private receive(inbound: Inbound, socket: Socket, chunk: Buffer): void {
    if (inbound.socket.destroyed) return;
    const { reader } = inbound;
    const before = reader.pendingBytes;
    const framesBefore = inbound.frames;
    const isReadable = reader.push(chunk, frame => {
      inbound.frames++;
      return this.sink.frame(frame, inbound.from);
    });
    this.partialBytes += reader.pendingBytes - before;
    if (!isReadable || socket.writableLength > UNREAD_ACKS_BYTES_MAX) return this.drop(inbound);
    const hasFrames = inbound.frames > framesBefore;
    const hasPartial = reader.pendingBytes > 0;
    if (hasFrames || (hasPartial && !inbound.hasPartial && inbound.frames > 0)) {
      inbound.sinceMs = performance.now();
    }
    inbound.hasPartial = hasPartial;
    if (hasFrames) acknowledge(socket, inbound.frames);
    if (this.partialBytes > PARTIAL_BYTES_MAX) this.dropLargest();
  }

  private drop(inbound: Inbound): void {
    this.counters.dropped++;
    this.release(inbound);
    inbound.socket.destroy();
  }

  private release({ reader }: Inbound): void {
    this.partialBytes -= reader.pendingBytes;
    reader.pendingBytes = 0;
  }

  private makeRoom(): boolean {
    for (const [key, inbound] of this.inbound) {
      if (inbound.frames > 0) continue;
      this.counters.crowdedOut++;
      this.release(inbound);
      inbound.socket.destroy();
      // Its 'close' comes later.
      this.inbound.delete(key);
      return true;
    }
    return false;
  }

  private dropLargest(): void {
    let largest: Inbound | undefined;
    for (const inbound of this.inbound.values()) {
      if (inbound.socket.destroyed) continue;
      if (largest === undefined || inbound.reader.pendingBytes > largest.reader.pendingBytes)
        largest = inbound;
    }
    if (largest !== undefined) this.drop(largest);
  }
}

function acknowledge(socket: Socket, frames: number): void {
  const bytes = Buffer.allocUnsafe(ACK_BYTES);
  bytes.writeUInt32BE(frames >>> 0, 0);
  socket.write(bytes);
}
