import { generate, type Packet, parser } from 'mqtt-packet';
import type { Peer, PeerHandler } from '../../src/mqtt/transport.js';

/** As much as a socket is read at once. */
const READ_BYTES = 64 * 1024;

export type Version = 3 | 4 | 5;
// biome-ignore lint/suspicious/noExplicitAny: packets are compared field by field, whatever their kind.
export type AnyPacket = any;

/**
 * A socket without a network, which keeps to what transport.ts promises. What the broker writes is parsed at once;
 * `stall` makes it a socket whose other side does not read.
 */
export class FakePeer implements Peer {
  readonly transport = 'tcp';
  readonly remoteAddress = '192.0.2.1';
  readonly remotePort = 1;
  readonly certificate = undefined;
  admitted = true;
  pendingBytes = 0;
  handler: PeerHandler | null = null;
  version: Version = 5;
  paused = false;
  /** The broker has ended or destroyed it. */
  ended = false;
  /** `onClose` has been called. */
  closed = false;
  /** Nothing that is written is taken. */
  stalled = false;
  /** Everything that was written, in order. */
  readonly packets: AnyPacket[] = [];
  readonly writes: Buffer[] = [];
  /** What was not taken, and how it was when it was written. */
  private untaken: { readonly bytes: Buffer; readonly copy: Buffer }[] = [];
  private readonly later: (call: () => void) => void;
  private arrived: Buffer[] = [];
  private readonly parsers = new Map<Version, ReturnType<typeof parser>>();

  constructor(later: (call: () => void) => void) {
    this.later = later;
  }

  write(bytes: Buffer): number {
    if (this.ended) return 0;

    if (this.stalled) this.pendingBytes += bytes.length;
    const copy = Buffer.from(bytes);
    if (this.pendingBytes > 0) this.untaken.push({ bytes, copy });
    this.writes.push(copy);
    this.parserOf(this.version).parse(copy);
    return this.pendingBytes;
  }

  private parserOf(version: Version): ReturnType<typeof parser> {
    let made = this.parsers.get(version);
    if (made === undefined) {
      made = parser({ protocolVersion: version });
      made.on('packet', (packet: Packet) => this.packets.push(packet));
      made.on('error', error => {
        throw error;
      });
      this.parsers.set(version, made);
    }
    return made;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.later(() => this.hand());
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.later(() => this.close());
  }

  destroy(): void {
    this.end();
  }

  /** Bytes from the client; they wait while reading is paused. */
  send(bytes: Buffer): void {
    this.arrived.push(Buffer.from(bytes));
    this.hand();
  }

  sendPacket(packet: AnyPacket): void {
    this.send(generate(packet, { protocolVersion: this.version }));
  }

  /** Bytes that the broker has not read yet. */
  get unreadBytes(): number {
    return this.arrived.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  private hand(): void {
    while (this.arrived.length > 0 && !this.paused && !this.closed) {
      const chunk = this.arrived.shift()!;
      for (let at = 0; at < chunk.length; at += READ_BYTES) {
        const read = chunk.subarray(at, at + READ_BYTES);
        const { memory } = this.handler!;
        const start = memory.take(read, read.length);
        this.handler!.onData(memory.bytes, start, start + read.length);
      }
    }
  }

  /** The other side reads again: all that was pending leaves. */
  drain(): void {
    this.stalled = false;
    const had = this.pendingBytes;
    for (const { bytes, copy } of this.untaken.splice(0))
      if (!bytes.equals(copy)) throw new Error('bytes changed before they were written');
    this.pendingBytes = 0;
    if (had > 0 && !this.ended) this.handler?.onDrain();
  }

  /** The connection is cut. */
  cut(): void {
    this.ended = true;
    this.close();
  }

  private close(): void {
    if (this.closed) return;
    this.closed = true;
    this.handler?.onClose(undefined);
  }
}
