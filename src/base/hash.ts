/**
 * Hashes of 32 bits for placing and comparing, not for secrets and not against an attacker who chooses the input
 * (rooms whose input comes from clients key theirs, see topic/hash.ts). They are part of what nodes must agree
 * about (who removes a record, whose digests are equal), so a change here is a change of protocol.
 */

/** Bijective on 32 bits: a difference in any bit of `value` reaches every bit of the result. Returns an int32. */
export function mix32(value: number): number {
  let x = value ^ (value >>> 16);
  x = Math.imul(x, 0x21f0aaad);
  x ^= x >>> 15;
  x = Math.imul(x, 0x735a2d97);
  return x ^ (x >>> 15);
}

/** Hash of a non-negative integer below 2^53 under `seed`, an int32. */
export function hashNumber(value: number, seed: number): number {
  const high = Math.floor(value / 0x1_0000_0000);
  return mix32((mix32((value | 0) ^ seed) + Math.imul(high, 0x9e3779b1)) | 0);
}

/** Hash of a string's UTF-16 code units under `seed`, an int32. Each step is invertible, so no state is lost. */
export function hashText(text: string, seed: number): number {
  let hash = mix32(seed ^ text.length);
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x85ebca6b);
    hash = (hash << 15) | (hash >>> 17);
  }
  return mix32(hash);
}
