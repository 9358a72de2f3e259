/**
 * A keyed hash over bytes, the only one of this room: multilinear hashing (sum of secret key × byte, modulo
 * 2^32). For keys that an attacker does not know, two different byte strings without a zero byte collide with
 * probability 2^-25 (Dietzfelbinger 1996; the top 25 bits of the sum are strongly universal for 8-bit
 * characters), so nobody can prepare topics that flood one bucket. Its products do not depend on each other, which
 * makes it faster in JavaScript than byte-serial hashes. Use {@link mix} before taking low bits.
 */

/** The secret of a process: 256 words. Make it once, from a random seed, and give it to every structure. */
export type HashKeys = Int32Array;

const KEY_COUNT = 256;

/** Expands a random 32-bit seed into the keys of this process. */
export function hashKeys(seed: number): HashKeys {
  const keys = new Int32Array(KEY_COUNT);
  let state = seed | 0;
  for (let i = 0; i < KEY_COUNT; i++) {
    state = (state + 0x9e3779b9) | 0;
    keys[i] = mix(mix(state) ^ seed);
  }
  return keys;
}

/** Bijective: spreads a difference in any bit over all bits. */
export function mix(value: number): number {
  let x = value ^ (value >>> 16);
  x = Math.imul(x, 0x7feb352d);
  x ^= x >>> 15;
  x = Math.imul(x, 0x846ca68b);
  return x ^ (x >>> 16);
}

/** Hash of `bytes[start, end)`, an int32. Blocks of 256 bytes are chained, so keys need not be as long as a topic. */
export function hashBytes(keys: HashKeys, bytes: Uint8Array, start: number, end: number): number {
  let hash = 0;
  let blockStart = start;
  while (end - blockStart > KEY_COUNT) {
    hash = mix((hash + hashBlock(keys, bytes, blockStart, blockStart + KEY_COUNT)) | 0);
    blockStart += KEY_COUNT;
  }
  return (hash + hashBlock(keys, bytes, blockStart, end)) | 0;
}

/** Four bytes a round into two sums that do not wait for each other (perf/micro/topic-cache.bench.ts). */
function hashBlock(keys: HashKeys, bytes: Uint8Array, start: number, end: number): number {
  let even = 0;
  let odd = 0;
  let at = start;
  let i = 0;
  for (; at + 4 <= end; at += 4, i += 4) {
    even = (even + Math.imul(bytes[at]!, keys[i]!) + Math.imul(bytes[at + 2]!, keys[i + 2]!)) | 0;
    odd = (odd + Math.imul(bytes[at + 1]!, keys[i + 1]!) + Math.imul(bytes[at + 3]!, keys[i + 3]!)) | 0;
  }
  for (; at < end; at++, i++) even = (even + Math.imul(bytes[at]!, keys[i]!)) | 0;
  return (even + odd) | 0;
}
