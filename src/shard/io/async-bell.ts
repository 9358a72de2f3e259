import { BELL_STRIDE, type Bell, type MeshPart, SLEEPING } from '../shard.js';

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
