import type { BidiStream } from '../../rpc/bidi-stream.js';
import type { Client } from '../../rpc/client.js';
import { type kvService, serverIdOf } from './service.js';

type KvRpc = Client<typeof kvService.methods>;

interface Link {
  readonly stream: BidiStream<Uint8Array, Uint8Array>;
  isFull: boolean;
}

/**
 * Takes frames to other stores: a stream to each, opened by the first frame and again by the first one after it broke.
 * A frame that finds the stream full is dropped and counted: the machines send again what matters, and what waits in a
 * full stream is older. Whoever cannot be reached is told once for each stream that breaks.
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
    if (link.isFull) this.dropped++;
    else link.isFull = !link.stream.send(frame);
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
        room: () => {
          link.isFull = false;
        },
        ended: over,
        failed: over,
      },
    );
    const link: Link = { stream, isFull: false };
    this.links.set(store, link);
    return link;
  }

  close(): void {
    for (const { stream } of this.links.values()) stream.cancel();
    this.links.clear();
  }
}
