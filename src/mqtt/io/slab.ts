/**
 * Owned copies of received bytes, carved from slabs.
 *
 * A socket's read buffer is reused by the next read, but `PeerHandler.onData` gives its chunk away. Allocating
 * a Buffer for each read costs a backing store of its own (a malloc, a free and garbage-collector bookkeeping
 * for what is often 70 bytes), so chunks are views into slabs of 64 KiB, filled one after another. A slab is
 * freed when the last chunk of it is: a receiver that keeps bytes for long copies them out. Slabs are small so that
 * a client which makes many connections keep a few bytes each cannot hold much more memory than it has sent.
 */

const SLAB_BYTES = 64 * 1024;
/** Larger chunks get memory of their own: copying is bounded, and one chunk never wastes most of a slab. */
const SHARED_BYTES_MAX = 8 * 1024;
/** Below this a loop beats the call into the engine's copy. */
const LOOP_BYTES_MAX = 32;

let slab: Buffer = Buffer.allocUnsafeSlow(SLAB_BYTES);
let used = 0;

/** The first `length` bytes of `source` as a Buffer that nobody else writes to. */
export function ownedCopy(source: Uint8Array, length: number): Buffer {
  if (length > SHARED_BYTES_MAX) {
    const own = Buffer.allocUnsafeSlow(length);
    own.set(length === source.length ? source : source.subarray(0, length), 0);
    return own;
  }
  if (used + length > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    used = 0;
  }
  const start = used;
  used = start + length;
  if (length <= LOOP_BYTES_MAX) {
    for (let i = 0; i < length; i++) slab[start + i] = source[i]!;
  } else {
    slab.set(length === source.length ? source : source.subarray(0, length), start);
  }
  return slab.subarray(start, used);
}
