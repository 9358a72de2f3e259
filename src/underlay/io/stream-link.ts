import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Address } from '../message.js';
import { FRAME_HEADER_BYTES } from './frame-reader.js';
import type { StreamSecurity } from './stream-tls.js';

/** What waits or is under way to one address; above that, packets are dropped and told. */
export const LINK_BYTES_MAX = 4_194_304;

/** Name looked up, connected, and TLS agreed within. */
export const CONNECT_TIMEOUT_MS = 5_000;

/** No progress for so long with packets under way: the path is cut, or the peer is stopped. */
export const ACK_TIMEOUT_MS = 10_000;

/** Closed after so long without a packet. */
export const LINK_IDLE_MS = 15_000;

/** How far a peer has taken what it got: the number of frames, modulo 2^32, big-endian. */
export const ACK_BYTES = 4;

/** Told of what happens to a link. */
export interface LinkOwner {
  readonly security: StreamSecurity | undefined;
  /** The link is closed; `lost` packets were not acknowledged. */
  closed(link: StreamLink, lost: number): void;
  acknowledged(bytes: number): void;
}

/**
 * One outgoing connection: frames one way, acknowledgements the other. TCP alone tells a sender neither what arrived
 * nor, for a quarter of an hour, that the path is cut, so the receiver says how many frames it has taken.
 */
export class StreamLink {
  readonly to: Address;
  /** Frames that are not acknowledged, with their headers. */
  pendingBytes = 0;
  usedMs: number;
  private readonly owner: LinkOwner;
  private readonly sizes: number[] = [];
  private sizesStart = 0;
  private socket: Socket | undefined;
  /** Frames given before the name was known. */
  private waiting: Uint8Array[] | undefined = [];
  private isOpen = false;
  private isClosed = false;
  private isCorked = false;
  private acks = 0;
  private partial = Buffer.alloc(0);
  private progressMs: number;

  constructor(to: Address, owner: LinkOwner, nowMs: number) {
    this.to = to;
    this.owner = owner;
    this.usedMs = nowMs;
    this.progressMs = nowMs;
  }

  get isIdle(): boolean {
    return this.pendingBytes === 0;
  }

  /** False: no room. */
  send(bytes: Uint8Array, nowMs: number): boolean {
    const size = FRAME_HEADER_BYTES + bytes.length;
    if (this.isClosed || this.pendingBytes + size > LINK_BYTES_MAX) return false;
    if (this.isIdle) this.progressMs = nowMs;
    this.usedMs = nowMs;
    this.pendingBytes += size;
    this.sizes.push(size);
    if (this.waiting === undefined) this.write(bytes);
    else this.waiting.push(bytes);
    return true;
  }

  /** The name is looked up. */
  open(ip: string | undefined, port: number): void {
    if (this.isClosed) return;
    if (ip === undefined) return this.close();
    const { security } = this.owner;
    const socket =
      security === undefined
        ? connect({ host: ip, port })
        : connectTls({
            host: ip,
            port,
            secureContext: security.context,
            rejectUnauthorized: security.isMutual,
            checkServerIdentity: () => undefined,
          });
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on(security === undefined ? 'connect' : 'secureConnect', () => {
      this.isOpen = true;
      this.progressMs = performance.now();
    });
    socket.on('data', chunk => this.read(chunk));
    // 'close' follows each error.
    socket.on('error', () => {});
    socket.on('end', () => this.close());
    socket.on('close', () => this.close());
    const frames = this.waiting!;
    this.waiting = undefined;
    for (const bytes of frames) this.write(bytes);
  }

  /** Closes what is stuck or idle. */
  sweep(nowMs: number): void {
    const patienceMs = this.isOpen ? ACK_TIMEOUT_MS : CONNECT_TIMEOUT_MS;
    if (!this.isIdle && nowMs - this.progressMs > patienceMs) this.close();
    else if (this.isIdle && nowMs - this.usedMs > LINK_IDLE_MS) this.close();
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (this.isIdle) this.socket?.destroySoon();
    else this.socket?.destroy();
    const lost = this.sizes.length - this.sizesStart;
    this.owner.acknowledged(this.pendingBytes);
    this.pendingBytes = 0;
    this.waiting = undefined;
    this.owner.closed(this, lost);
  }

  private write(bytes: Uint8Array): void {
    const socket = this.socket!;
    if (!this.isCorked) {
      this.isCorked = true;
      socket.cork();
      process.nextTick(() => {
        this.isCorked = false;
        socket.uncork();
      });
    }
    const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
    header.writeUInt32BE(bytes.length, 0);
    socket.write(header);
    socket.write(bytes);
  }

  private read(chunk: Buffer): void {
    const bytes = this.partial.length === 0 ? chunk : Buffer.concat([this.partial, chunk]);
    const end = bytes.length - (bytes.length % ACK_BYTES);
    // Acknowledgements are cumulative, so the last one says it all.
    if (end > 0 && !this.acknowledge(bytes.readUInt32BE(end - ACK_BYTES))) return this.close();
    this.partial = Buffer.from(bytes.subarray(end));
  }

  /** False: more than was sent. */
  private acknowledge(count: number): boolean {
    const more = (count - this.acks) >>> 0;
    if (more > this.sizes.length - this.sizesStart) return false;
    this.acks = count;
    let bytes = 0;
    for (let step = 0; step < more; step++) bytes += this.sizes[this.sizesStart++]!;
    if (this.sizesStart * 2 > this.sizes.length) {
      this.sizes.splice(0, this.sizesStart);
      this.sizesStart = 0;
    }
    this.pendingBytes -= bytes;
    this.progressMs = performance.now();
    this.owner.acknowledged(bytes);
    return true;
  }
}
