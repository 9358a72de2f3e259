import { hashNumber } from '../base/hash.js';

/**
 * Whom to have as neighbours: a skip graph without its search (Aspnes and Shah 2003). All hosts stand on a ring in
 * the order of their ids. Each id's hash is read as digits of base 4; on level L stand those that share the first L
 * digits, again as a ring, so a neighbour there is some 4^L places away. One is linked to the host before and after
 * it on each level, and on level 0 to two of each, so that a single death leaves no gap.
 *
 * Both ends find the same link on their own as long as they know the same hosts; a host that joins or leaves
 * changes its neighbours' links only (hops of fixed length over the ring would shift one or two links of every host
 * each time). A cluster of up to seven is linked each to each.
 *
 * Degree and hops of the longest shortest path, over 100 random sets of ids (test/crdt/mesh.test.ts):
 * MEASURED
 */

const DIGIT_BITS = 2;
const FULL_MESH_MAX = 7;
const SEED = 0x6a09e667;

/**
 * The neighbours of `ownId`, without it, each once, in no meaningful order.
 *
 * `sortedIds`: replica ids of all live hosts, ascending, distinct; whether `ownId` is among them does not matter.
 * Costs a hash for some hundred ids (O(N^0.8) at most).
 */
export function meshNeighbours(sortedIds: readonly number[], ownId: number): number[] {
  const count = sortedIds.length;
  const own = lowerBound(sortedIds, ownId);
  const isListed = sortedIds[own] === ownId;
  const others = isListed ? count - 1 : count;
  if (others < FULL_MESH_MAX) return sortedIds.filter(id => id !== ownId);
  const neighbours = new Set<number>();
  for (const step of [1, -1]) {
    // From where `ownId` is, or would be, over all others, once around.
    let at = step === 1 && !isListed ? own - 1 : own;
    let level = 0;
    let near = 2;
    const levels = levelCount(others + 1);
    for (let walked = 0; walked < others && level < levels; walked++) {
      at = (at + step + count) % count;
      const id = sortedIds[at]!;
      const shared = sharedDigits(id, ownId);
      if (near > 0 || shared >= level) neighbours.add(id);
      if (near > 0) near--;
      while (level <= shared && level < levels) level++;
    }
  }
  return [...neighbours];
}

/** Levels on which a host can expect company: 4^level stays below the number of hosts. */
function levelCount(hosts: number): number {
  return Math.ceil(Math.log2(hosts) / DIGIT_BITS);
}

function sharedDigits(a: number, b: number): number {
  return Math.clz32(hashNumber(a, SEED) ^ hashNumber(b, SEED)) >>> (DIGIT_BITS - 1);
}

/** Index of the first id that is not below `id`. */
function lowerBound(sortedIds: readonly number[], id: number): number {
  let low = 0;
  let high = sortedIds.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sortedIds[middle]! < id) low = middle + 1;
    else high = middle;
  }
  return low;
}
