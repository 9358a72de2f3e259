/**
 * Room `shard`: how the threads of one process pass bytes to each other.
 *
 * Threads share no objects. Each ordered pair of threads has one ring: a SharedArrayBuffer with one writer and
 * one reader, which carries frames (opaque bytes, 0 to `frameBytesMax`). From the inside out:
 *
 *   ring.ts     `RingWriter`, `RingReader`: bounded, never blocks, never grows, says "full".
 *   backlog.ts  `Backlog`: frames that did not fit, in order.
 *   port.ts     `Port`: both rings to one peer, the backlog, congestion, counters.
 *   mesh.ts     `Mesh`: all ports of one thread, and its bell. `createMesh` makes the memory of all threads.
 *   inline.ts   `InlineMesh`: all the meshes of a process in one thread, stepped by hand, for tests and sim.
 *   io/         the real bell, the turn loop on Node's event loop, and pinning.
 *
 * Invariants
 * - Order: frames from A to B arrive in the order of their `send`, each exactly once, whole. Nothing is promised
 *   between different pairs.
 * - Nothing is dropped silently: what does not fit in a ring waits in the sender's backlog, and the port is
 *   `congested` until the backlog is empty. The owner then stops reading its sources. Only `remove` and
 *   `replace` discard frames (the peer is dead), and they return how many.
 * - A frame is visible to the peer at the next `flush` at the latest, one flush per turn of the event loop.
 *   A turn that fills a quarter of a ring shows that part earlier, so that the peer can work alongside.
 * - The bytes that a handler gets are a view of the ring, valid until it returns: the writer may overwrite
 *   them afterwards. Keep a copy. Shared memory works with `Buffer` (`copy`, `toString`, `latin1Slice`,
 *   `compare`, `indexOf`, `Buffer.from(view)`, hashing); `TextDecoder` refuses it, and a socket must never be
 *   handed such a view, because its write may run after the return.
 * - No wake-up is lost. Each thread has one word in shared memory: AWAKE, SLEEPING or RUNG. The sleeper writes
 *   SLEEPING and then looks at its rings once more; the sender publishes and then looks at the word. All four
 *   are sequentially consistent Atomics, so at least one of the two sees the other (Dekker's argument). The same
 *   argument covers the way back: a writer that found a ring full sets STARVING and looks at the tail once more;
 *   the reader publishes its tail and then looks at STARVING, and rings the writer's bell.
 * - Ringing costs a system call, so it is done only by the one sender that turns SLEEPING into RUNG.
 *
 * A dead shard: main ends it, calls `remove(peer)` in every other thread (sends to it are then refused by value),
 * makes fresh rings with `MeshMemory.renew(peer)`, starts the new thread with `part(peer)` and hands the others
 * their `link`, which they put in place by `replace(peer, link)`.
 *
 * Memory: a mesh of n threads holds n·(n-1) rings, so 1 MiB rings take 2 MiB for 2 threads, 12 for 4, 56 for 8
 * and 240 for 16. It is address space: pages never written stay unallocated, and a ring that is drained each
 * turn still touches all of its pages in time. Each ring adds a header of 384 bytes, each thread a bell of 64.
 *
 * Limits: `RING_BYTES` per direction and pair, `FRAME_BYTES_MAX`, `BACKLOG_BYTES_MAX`, and per turn
 * `POLL_FRAMES_MAX` and `POLL_BYTES_MAX`; each can be set per mesh.
 *
 * Speed: 8 to 12 million 64-byte frames a second from one thread to another on 2 shared cores, both ends together
 * 84 ns of CPU a frame (perf/micro/ring-threads.ts).
 *
 * Difference from BifroMQ: there the hops inside a process are method calls on shared heap objects guarded by
 * locks and executors; here they are copies through rings, since JavaScript threads share no heap. One copy of a
 * small frame each way costs less than a contended lock, and the bound comes for free.
 */

/** Default capacity of a ring in bytes, each way, a power of two. */
export const RING_BYTES = 1 << 20;
/** Default largest frame in bytes: an MQTT packet may have 256 MiB, and its envelope comes on top. */
export const FRAME_BYTES_MAX = 300 * 1024 * 1024;
/** Default bound of a port's backlog in bytes: one frame may go over it, the next send asserts. */
export const BACKLOG_BYTES_MAX = 256 * 1024 * 1024;
/** Default number of frames that one poll handles at most. */
export const POLL_FRAMES_MAX = 4096;
/** Default number of ring bytes that one poll takes in at most. */
export const POLL_BYTES_MAX = 1 << 20;

/** Takes one frame: `bytes` from `start` to `end`, valid only during the call. */
export type FrameHandler = (bytes: Buffer, start: number, end: number) => void;

/** Takes one frame from thread `peer`; the bytes are valid only during the call. */
export type PeerFrameHandler = (peer: number, bytes: Buffer, start: number, end: number) => void;

/** The memory of one ring. A plain object that survives structured cloning: it goes through workerData. */
export interface RingMemory {
  readonly memory: SharedArrayBuffer;
  /** Power of two, 64 to 2^30 bytes. */
  readonly capacityBytes: number;
  readonly frameBytesMax: number;
}

/** What a thread needs to reach one peer. */
export interface LinkMemory {
  readonly incoming: RingMemory;
  readonly outgoing: RingMemory;
}

/** What a thread needs to join the mesh; plain and cloneable. `links[self]` is null. */
export interface MeshPart {
  readonly self: number;
  readonly shardCount: number;
  /** One word per thread, `BELL_STRIDE` words apart. */
  readonly bells: SharedArrayBuffer;
  readonly links: readonly (LinkMemory | null)[];
}

/** Distance of two bell words in 32-bit words: a cache line each. */
export const BELL_STRIDE = 16;
/** States of a bell word. */
export const AWAKE = 0;
export const SLEEPING = 1;
export const RUNG = 2;

/** How a thread that waits in its event loop is woken. The mesh owns the bell words; a bell only wakes. */
export interface Bell {
  /**
   * Has `onRing` called once, from the event loop, after a peer's ring. Does nothing more while armed already.
   * Returns false when this thread's word is no longer SLEEPING: it was rung meanwhile, and must not wait.
   */
  arm(onRing: () => void): boolean;
  /** Wakes the thread `peer`; called only by the one who turned its word from SLEEPING to RUNG. */
  ring(peer: number): void;
  /** Releases what is armed; `onRing` is not called any more. */
  close(): void;
}
