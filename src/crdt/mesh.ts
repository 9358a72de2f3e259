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
 * Measured over random sets of ids (test/crdt/mesh.test.ts holds the bounds):
 *
 * | hosts | neighbours, mean | most | longest path in hops | mean path |
 * | ---: | ---: | ---: | ---: | ---: |
 * | 7 | 6 | 6 | 1 | 1 |
 * | 10 | 4.7 | 6 | 3 | 1.5 |
 * | 100 | 7.3 | 10 | 5 | 2.7 |
 * | 1,000 | 9.5 | 12 | 6 | 3.7 |
 * | 10,000 | 12.2 | 16 | 6 | 4.4 |
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
  const ownHash = hashNumber(ownId, SEED);
  const levels = levelCount(others + 1);
  for (const step of [1, -1]) {
    // From where `ownId` is, or would be, over all others, once around.
    let at = step === 1 && !isListed ? own - 1 : own;
    let level = 0;
    let near = 2;
    for (let walked = 0; walked < others && (near > 0 || level < levels); walked++) {
      at = (at + step + count) % count;
      const id = sortedIds[at]!;
      const shared = Math.clz32(hashNumber(id, SEED) ^ ownHash) >>> (DIGIT_BITS - 1);
      if (near > 0 || (level < levels && shared >= level)) neighbours.add(id);
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
