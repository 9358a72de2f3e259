import { BELL_STRIDE, type Bell, type MeshPart, SLEEPING } from '../shard.js';

/**
 * The bell between real threads: `Atomics.waitAsync` on the sleeper's own word, `Atomics.notify` by the ringer.
 *
 * Measured against an unref'd MessagePort per pair, two event loops in ping-pong, both asleep between frames, on 2
 * shared cores of an x86-64 virtual machine, Node 20.20, five runs each, alternating:
 *
 *                          round trip p50     p99          CPU per round trip
 *   waitAsync, tight       55 µs (54..72)     84 µs        56 µs (52..68)
 *   MessagePort, tight     53 µs (52..66)     88 µs        50 µs (46..58)
 *   waitAsync, 1 kHz       36 µs              181..254 µs  119..125 µs
 *   MessagePort, 1 kHz     37 µs              174..223 µs  118 µs
 *
 * Nearly equal: the kernel's wake-up is the cost. Kept is waitAsync, since it needs nothing but the shared word: no
 * port to transfer for each pair, none to renew when a shard restarts. An armed wait costs no CPU (341 µs a second
 * for a whole idle process), does not keep the process or a worker alive (a thread that should stay needs another
 * reference, such as a socket or its parentPort), and survives 150 threads terminated while armed and being rung.
 */
export class AsyncBell implements Bell {
  private readonly words: Int32Array;
  private readonly self: number;
  private armed = false;
  private closed = false;
  private onRing: (() => void) | undefined;

  constructor(part: MeshPart) {
    this.words = new Int32Array(part.bells);
    this.self = part.self * BELL_STRIDE;
  }

  arm(onRing: () => void): boolean {
    this.onRing = onRing;
    // A waiter left from an earlier sleep still waits: a notify reaches it whatever the word was meanwhile.
    if (this.armed) return true;
    const wait = Atomics.waitAsync(this.words, this.self, SLEEPING);
    if (!wait.async) return false;
    this.armed = true;
    wait.value.then(this.rung);
    return true;
  }

  ring(peer: number): void {
    Atomics.notify(this.words, peer * BELL_STRIDE, 1);
  }

  close(): void {
    this.closed = true;
    if (this.armed) Atomics.notify(this.words, this.self, 1);
  }

  private readonly rung = (): void => {
    this.armed = false;
    if (!this.closed) this.onRing?.();
  };
}
