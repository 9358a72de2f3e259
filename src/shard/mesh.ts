import { assert } from '../base/assert.js';
import { type Discarded, Port } from './port.js';
import { createRing } from './ring.js';
import {
  AWAKE,
  BACKLOG_BYTES_MAX,
  BELL_STRIDE,
  type Bell,
  FRAME_BYTES_MAX,
  type LinkMemory,
  type MeshPart,
  type PeerFrameHandler,
  POLL_BYTES_MAX,
  POLL_FRAMES_MAX,
  RING_BYTES,
  type RingMemory,
  RUNG,
  SLEEPING,
} from './shard.js';

/**
 * All ports of one thread, and its bell. A turn of the thread is `poll`, its own work, `flush`; a thread that has
 * nothing to do calls `sleep` and goes back to its event loop, and is called by `onWake`.
 *
 * Memory of `createMesh(n, ringBytes)`: n·(n-1)·(ringBytes + 384) + 64·n bytes of address space, with the default
 * of 1 MiB: 2 MiB for 2 threads, 12 for 4, 56 for 8, 240 for 16.
 */

export interface MeshOptions {
  /** Most frames that one poll handles, over all ports. */
  readonly pollFramesMax?: number;
  /** Most ring bytes that one poll takes in, over all ports; the last frame of a port's share may go over. */
  readonly pollBytesMax?: number;
  /** Bound of each port's backlog in bytes. */
  readonly backlogBytesMax?: number;
  /** Leave a peer's frames in its ring while the port to it is congested: for threads whose answers would pile up. */
  readonly holdCongested?: boolean;
}

const NOTHING: Discarded = { outgoing: 0, incoming: 0 };

export class Mesh {
  readonly self: number;
  readonly shardCount: number;
  /** After a poll: it stopped at its budget, and more is to be read. */
  more = false;
  /** Whether any port is congested: the thread should not read more from its sources. Asked for each message. */
  congested = false;
  /** Called from the event loop when a peer's ring ended a sleep; poll soon. */
  onWake: (() => void) | undefined;
  /** Called when the port to `peer` is congested no longer, also because it was removed. */
  onDrained: ((peer: number) => void) | undefined;
  /** Times that this thread was rung, and that it rang others. */
  wakes = 0;
  rings = 0;
  private readonly bells: Int32Array;
  private readonly bell: Bell;
  private readonly onFrame: PeerFrameHandler;
  private readonly pollFramesMax: number;
  private readonly pollBytesMax: number;
  private readonly backlogBytesMax: number;
  private readonly holdCongested: boolean;
  private readonly byPeer: (Port | undefined)[];
  /** The ports that exist; replaced rather than changed, so that a handler may remove one. */
  private ports: readonly Port[] = [];
  private turn = 0;
  private asleep = false;
  private closed = false;

  constructor(part: MeshPart, bell: Bell, onFrame: PeerFrameHandler, options: MeshOptions = {}) {
    this.self = part.self;
    this.shardCount = part.shardCount;
    this.bells = new Int32Array(part.bells);
    this.bell = bell;
    this.onFrame = onFrame;
    this.pollFramesMax = options.pollFramesMax ?? POLL_FRAMES_MAX;
    this.pollBytesMax = options.pollBytesMax ?? POLL_BYTES_MAX;
    this.backlogBytesMax = options.backlogBytesMax ?? BACKLOG_BYTES_MAX;
    this.holdCongested = options.holdCongested ?? false;
    assert(this.pollFramesMax >= 1 && this.pollBytesMax >= 1, 'a poll has a budget');
    this.byPeer = part.links.map((link, peer) => (link === null ? undefined : this.open(peer, link)));
    this.listPorts();
    Atomics.store(this.bells, this.self * BELL_STRIDE, AWAKE);
  }

  /** The port to `peer`, for its counters; undefined when there is none now. Do not keep it over a removal. */
  port(peer: number): Port | undefined {
    return this.byPeer[peer];
  }

  /** Sends one frame, copied. False: no such peer now, nothing was taken. */
  send(peer: number, bytes: Uint8Array, start: number, end: number): boolean {
    const port = this.byPeer[peer];
    if (port === undefined) return false;
    port.send(bytes, start, end);
    if (port.congested) this.congested = true;
    return true;
  }

  /**
   * Handles what peers sent, up to the budget, in fair shares: each port gets an equal part, and what some
   * leave is given to the others. The number of frames; `more` says whether the budget ended it.
   */
  poll(): number {
    this.wake();
    const { ports } = this;
    const count = ports.length;
    if (count === 0) return 0;
    const framesShare = Math.ceil(this.pollFramesMax / count);
    const bytesShare = Math.ceil(this.pollBytesMax / count);
    const first = this.turn++ % count;
    let framesLeft = this.pollFramesMax;
    let bytesLeft = this.pollBytesMax;
    let bytesBefore = -1;
    // Ends: each pass takes at least 8 bytes off the budget or is the last.
    while (bytesLeft !== bytesBefore && framesLeft > 0 && bytesLeft > 0) {
      bytesBefore = bytesLeft;
      for (let i = 0; i < count && framesLeft > 0 && bytesLeft > 0; i++) {
        const port = ports[(first + i) % count]!;
        const position = port.position;
        framesLeft -= port.drain(Math.min(framesShare, framesLeft), Math.min(bytesShare, bytesLeft));
        bytesLeft -= (port.position - position) | 0;
      }
    }
    this.more = false;
    for (let i = 0; i < this.ports.length; i++) if (this.ports[i]!.waits) this.more = true;
    return this.pollFramesMax - framesLeft;
  }

  /** Publishes all that was sent since the last flush, continues backlogs, and wakes the peers that sleep. */
  flush(): void {
    const { ports } = this;
    for (let i = 0; i < ports.length; i++) ports[i]!.flush();
  }

  /**
   * Says that the thread goes back to its event loop with nothing to do; flushes first. True: `onWake` will be
   * called when a peer sends, or makes room for a backlog. False: there is something to do now, poll again.
   */
  sleep(): boolean {
    if (this.closed) return true;
    this.flush();
    this.asleep = true;
    Atomics.store(this.bells, this.self * BELL_STRIDE, SLEEPING);
    // Only after the word is set: who published before saw AWAKE and did not ring.
    const { ports } = this;
    for (let i = 0; i < ports.length; i++) {
      if (ports[i]!.waits) {
        this.wake();
        return false;
      }
    }
    if (this.bell.arm(this.rung)) return true;
    this.wake();
    return false;
  }

  /** Spares peers the bell while the thread is busy with other things; `poll` does it too. */
  wake(): void {
    if (!this.asleep) return;
    this.asleep = false;
    Atomics.store(this.bells, this.self * BELL_STRIDE, AWAKE);
  }

  /** Takes the link of a restarted peer; what the old port still held is discarded and counted. */
  replace(peer: number, link: LinkMemory): Discarded {
    assert(peer !== this.self && peer >= 0 && peer < this.shardCount, 'no such peer in this mesh');
    const old = this.byPeer[peer];
    this.byPeer[peer] = this.open(peer, link);
    this.listPorts();
    return old?.close() ?? NOTHING;
  }

  /** Drops the port of a dead peer; sends to it return false until `replace`. */
  remove(peer: number): Discarded {
    const old = this.byPeer[peer];
    this.byPeer[peer] = undefined;
    this.listPorts();
    return old?.close() ?? NOTHING;
  }

  /** Ends the mesh in this thread: nothing is handled or woken any more. Flush before, if it matters. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (let peer = 0; peer < this.shardCount; peer++) this.remove(peer);
    this.wake();
    this.bell.close();
  }

  private readonly rung = (): void => {
    if (this.closed) return;
    this.wakes++;
    this.wake();
    this.onWake?.();
  };

  private readonly ring = (peer: number): void => {
    const { bells } = this;
    const at = peer * BELL_STRIDE;
    if (Atomics.load(bells, at) !== SLEEPING) return;
    if (Atomics.compareExchange(bells, at, SLEEPING, RUNG) !== SLEEPING) return;
    this.rings++;
    this.bell.ring(peer);
  };

  private open(peer: number, link: LinkMemory): Port {
    const { onFrame } = this;
    const port = new Port(peer, link, {
      backlogBytesMax: this.backlogBytesMax,
      holdCongested: this.holdCongested,
      ring: this.ring,
      onFrame: (bytes, start, end) => onFrame(peer, bytes, start, end),
    });
    port.onDrained = () => {
      this.congested = this.ports.some(({ congested }) => congested);
      this.onDrained?.(peer);
    };
    return port;
  }

  private listPorts(): void {
    this.ports = this.byPeer.filter(port => port !== undefined);
  }
}

/** The memory of a whole mesh, kept by main, which hands each thread its part. */
export class MeshMemory {
  readonly shardCount: number;
  private readonly ringBytes: (from: number, to: number) => number;
  private readonly frameBytesMax: number;
  private readonly bells: SharedArrayBuffer;
  /** By writer, then reader. */
  private readonly rings: (RingMemory | null)[][];

  constructor(shardCount: number, ringBytes: (from: number, to: number) => number, frameBytesMax: number) {
    assert(shardCount >= 1 && shardCount <= 1024, 'a mesh has 1 to 1024 threads');
    this.shardCount = shardCount;
    this.ringBytes = ringBytes;
    this.frameBytesMax = frameBytesMax;
    this.bells = new SharedArrayBuffer(shardCount * BELL_STRIDE * 4);
    this.rings = Array.from({ length: shardCount }, (_, from) =>
      Array.from({ length: shardCount }, (_, to) => (from === to ? null : this.ringFor(from, to))),
    );
  }

  /** What thread `self` needs: give it by workerData. */
  part(self: number): MeshPart {
    const links = Array.from({ length: this.shardCount }, (_, peer) =>
      peer === self ? null : this.link(self, peer),
    );
    return { self, shardCount: this.shardCount, bells: this.bells, links };
  }

  /** What thread `self` needs to reach `peer`: for `replace`, after `renew(peer)`. */
  link(self: number, peer: number): LinkMemory {
    const incoming = this.rings[peer]?.[self];
    const outgoing = this.rings[self]?.[peer];
    assert(incoming && outgoing, 'no such pair in this mesh');
    return { incoming, outgoing };
  }

  /** Makes fresh rings from and to `shard`, whose thread has ended. */
  renew(shard: number): void {
    for (let peer = 0; peer < this.shardCount; peer++) {
      if (peer === shard) continue;
      this.rings[shard]![peer] = this.ringFor(shard, peer);
      this.rings[peer]![shard] = this.ringFor(peer, shard);
    }
    // A word left SLEEPING by the dead thread would be rung in vain.
    Atomics.store(new Int32Array(this.bells), shard * BELL_STRIDE, AWAKE);
  }

  private ringFor(from: number, to: number): RingMemory {
    return createRing(this.ringBytes(from, to), this.frameBytesMax);
  }
}

/**
 * Makes the rings and bells of `shardCount` threads. `ringBytes` is the capacity of each ring in bytes (a power
 * of two), or a function that gives it for a writer and a reader.
 */
export function createMesh(
  shardCount: number,
  ringBytes: number | ((from: number, to: number) => number) = RING_BYTES,
  frameBytesMax = FRAME_BYTES_MAX,
): MeshMemory {
  const sizeOf = typeof ringBytes === 'number' ? () => ringBytes : ringBytes;
  return new MeshMemory(shardCount, sizeOf, frameBytesMax);
}
