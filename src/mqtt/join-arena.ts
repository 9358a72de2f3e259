/** Room for the joins of one turn; what does not fit gets memory of its own. */
const ARENA_BYTES = 1024 * 1024;
/** Arenas that unfinished writes keep alive; above this there is none until some are free. */
const PINNED_MAX = 8;

/**
 * Memory for bytes that are joined and written in one turn, used again in the next.
 *
 * A fan-in of 4 million messages a second joins 300 MB a second. As buffers of their own these are garbage outside
 * of the heap, which the collector answers with full collections: 0.25 µs a message fell to 0.20 with this arena
 * (200 publishers to one subscriber, 2-core AMD EPYC, Node.js 20.20). When the kernel has not taken all of a write,
 * its bytes must stay: that arena is left to the collector, and another takes its place.
 */
export class JoinArena {
  private arena: Buffer | null = null;
  private used = 0;
  private isPinned = false;
  private pinned: WeakRef<ArrayBufferLike>[] = [];

  /** `length` bytes that are good until `endTurn`, or for as long as they are held after `pin`. */
  take(length: number): Buffer {
    const { arena } = this;
    if (arena === null || this.used + length > ARENA_BYTES) return Buffer.allocUnsafeSlow(length);
    const start = this.used;
    this.used += length;
    return arena.subarray(start, this.used);
  }

  /** These bytes are still needed after the turn; they may be from elsewhere. */
  pin(bytes: Buffer): void {
    if (bytes.buffer === this.arena?.buffer) this.isPinned = true;
  }

  /** Nothing that was taken is needed any more, but for what was pinned. */
  endTurn(): void {
    this.used = 0;
    if (this.arena !== null && !this.isPinned) return;
    if (this.arena !== null) this.pinned.push(new WeakRef(this.arena.buffer));
    this.isPinned = false;
    if (this.pinned.length >= PINNED_MAX) this.pinned = this.pinned.filter(ref => ref.deref() !== undefined);
    this.arena = this.pinned.length < PINNED_MAX ? Buffer.allocUnsafeSlow(ARENA_BYTES) : null;
  }
}
