import { assert } from '../base/assert.js';
import { Backlog } from './backlog.js';
import { RingReader, RingWriter } from './ring.js';
import { BACKLOG_BYTES_MAX, type FrameHandler, type LinkMemory } from './shard.js';

export interface PortOptions {
  /** Bound of the backlog in bytes; a send that finds it exceeded asserts. */
  readonly backlogBytesMax?: number;
  /** Leave the peer's frames in its ring while the port to it is congested: for threads whose answers would pile up. */
  readonly holdCongested?: boolean;
  /** Wakes the peer if it sleeps. Called when there is something to read, or room to write, for it. */
  readonly ring: (peer: number) => void;
  /** Takes the frames that the peer sent. */
  readonly onFrame: FrameHandler;
}

/** What was thrown away when a port was closed. */
export interface Discarded {
  /** Frames sent and not yet in the ring. Those in the ring and unread by the dead peer cannot be told apart. */
  readonly outgoing: number;
  /** Frames that the peer published, or had begun, and that were not handled here. */
  readonly incoming: number;
}

/** The duplex link of this thread to one peer. See the head of shard.ts for what it promises. */
export class Port {
  readonly peer: number;
  /** Called when the backlog has become empty again; it may send. */
  onDrained: (() => void) | undefined;
  /** True while frames wait that the ring had no room for: stop reading what feeds this port. */
  congested = false;
  /** Counters since the port was made. Bytes are those of the frames, without record headers. */
  framesOut = 0;
  bytesOut = 0;
  framesIn = 0;
  bytesIn = 0;
  /** How often the ring was found full. */
  fullStalls = 0;
  private readonly writer: RingWriter;
  private readonly reader: RingReader;
  private readonly backlog = new Backlog();
  private readonly backlogBytesMax: number;
  private readonly holdCongested: boolean;
  /** Wakes the peer if it sleeps. */
  private readonly ring: (peer: number) => void;
  private readonly onFrame: FrameHandler;
  private closed = false;

  constructor(peer: number, link: LinkMemory, options: PortOptions) {
    this.peer = peer;
    this.backlogBytesMax = options.backlogBytesMax ?? BACKLOG_BYTES_MAX;
    this.holdCongested = options.holdCongested ?? false;
    this.ring = options.ring;
    this.writer = new RingWriter(link.outgoing);
    this.reader = new RingReader(link.incoming, () => options.ring(peer));
    this.onFrame = (bytes, start, end) => {
      this.framesIn++;
      this.bytesIn += end - start;
      options.onFrame(bytes, start, end);
    };
  }

  /**
   * Sends one frame; visible to the peer at the next flush at the latest. The bytes are copied. Never fails to
   * the caller: what finds the ring full joins the backlog, and `congested` says so. A frame over the ring's
   * `frameBytesMax`, and a send onto a backlog beyond its bound, assert.
   */
  send(bytes: Uint8Array, start: number, end: number): void {
    assert(!this.closed, 'send on a closed port: send through the mesh, which refuses by value');
    this.framesOut++;
    this.bytesOut += end - start;
    if (!this.congested) {
      if (this.writer.push(bytes, start, end)) return;
      this.fullStalls++;
      this.congested = true;
      // The reader is to begin at once, not at the end of a turn that may be long.
      if (this.writer.commit()) this.ring(this.peer);
    }
    assert(
      this.backlog.depthBytes <= this.backlogBytesMax,
      'backlog beyond its bound: a source was not stopped',
    );
    this.backlog.append(bytes, start, end);
  }

  /** Moves what fits from the backlog to the ring, publishes, and wakes the peer if it sleeps. */
  flush(): void {
    if (this.congested) this.moveBacklog();
    if (this.writer.commit()) this.ring(this.peer);
  }

  /** Handles at most `framesMax` frames and about `bytesMax` ring bytes; the number of frames. */
  drain(framesMax: number, bytesMax: number): number {
    if (this.held) return 0;
    return this.reader.drain(this.onFrame, framesMax, bytesMax);
  }

  /** Something is to be read, or the backlog can go on: the thread must not sleep. */
  get waits(): boolean {
    return (this.reader.waits && !this.held) || (this.congested && !this.writer.starving);
  }

  private get held(): boolean {
    return this.holdCongested && this.congested;
  }

  /** Ring bytes taken in so far, mod 2^32. */
  get position(): number {
    return this.reader.position;
  }

  /** Bytes on their way to the peer: in the ring and in the backlog. */
  get depthBytes(): number {
    return this.writer.depthBytes + this.backlog.depthBytes;
  }

  /** Bytes that the peer published and that were not handled yet. */
  get incomingBytes(): number {
    return this.reader.depthBytes;
  }

  /** Ends the port: nothing is handled or published any more. A congestion ends too, so `onDrained` is called. */
  close(): Discarded {
    this.closed = true;
    const incoming = this.reader.close();
    const outgoing = this.backlog.frames;
    if (this.congested) {
      this.congested = false;
      this.onDrained?.();
    }
    return { outgoing, incoming };
  }

  private moveBacklog(): void {
    const { backlog, writer } = this;
    while (backlog.frames > 0) {
      if (!writer.push(backlog.bytes, backlog.start, backlog.end)) {
        this.fullStalls++;
        return;
      }
      backlog.shift();
    }
    this.congested = false;
    this.onDrained?.();
  }
}
