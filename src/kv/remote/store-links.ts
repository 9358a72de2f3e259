import type { BidiStream } from '../../rpc/bidi-stream.js';
import type { Client } from '../../rpc/client.js';
import { type kvService, serverIdOf } from './service.js';

type KvRpc = Client<typeof kvService.methods>;

interface Link {
  readonly stream: BidiStream<Uint8Array, Uint8Array>;
  isFull: boolean;
  /** Frames for which the stream has had no room yet, oldest first. */
  waiting: Uint8Array[];
  waitingBytes: number;
}

/** Of one link: the windows of what stores send ahead fit, chunks of states as well as appends. */
const WAITING_BYTES_MAX = 8 * 1024 * 1024;

/**
 * Takes frames to other stores: a stream to each, opened by the first frame and again by the first one after it broke.
 * A frame that finds the stream full waits, as one part of a state fills it already; what is more than
 * `WAITING_BYTES_MAX` is dropped and counted: the machines send again what matters, and what waits is older. Whoever cannot
 * be reached is told once for each stream that breaks.
 */
export class StoreLinks {
  private readonly rpc: KvRpc;
  private readonly onUnreachable: (store: number) => void;
  private readonly links = new Map<number, Link>();
  /** Frames dropped since the start. */
  dropped = 0;

  /** `onUnreachable` is never called from within `send`. */
  constructor(rpc: KvRpc, onUnreachable: (store: number) => void) {
    this.rpc = rpc;
    this.onUnreachable = onUnreachable;
  }

  /** The frame is taken, not copied. */
  send(store: number, frame: Uint8Array): void {
    const link = this.links.get(store) ?? this.open(store);
    if (!link.isFull) link.isFull = !link.stream.send(frame);
    else if (link.waitingBytes + frame.length > WAITING_BYTES_MAX) this.dropped++;
    else {
      link.waiting.push(frame);
      link.waitingBytes += frame.length;
    }
  }

  private open(store: number): Link {
    const over = () => {
      if (this.links.get(store) !== link) return;
      this.links.delete(store);
      this.onUnreachable(store);
    };
    const stream = this.rpc.frames.open(
      { key: serverIdOf(store) },
      {
        message: () => undefined,
        room: () => sendWaiting(link),
        ended: over,
        failed: over,
      },
    );
    const link: Link = { stream, isFull: false, waiting: [], waitingBytes: 0 };
    this.links.set(store, link);
    return link;
  }

  close(): void {
    for (const { stream } of this.links.values()) stream.cancel();
    this.links.clear();
  }
}

function sendWaiting(link: Link): void {
  link.isFull = false;
  let count = 0;
  while (count < link.waiting.length && !link.isFull) {
    const frame = link.waiting[count++]!;
    link.waitingBytes -= frame.length;
    link.isFull = !link.stream.send(frame);
  }
  link.waiting.splice(0, count);
}
