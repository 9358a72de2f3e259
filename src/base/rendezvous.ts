import { hashNumber, hashText } from './hash.js';

/**
 * Rendezvous hashing (Thaler and Ravishankar 1998): every id draws a number for the key, the best draw wins. All who
 * know the same ids pick the same one without talking; taking an id away moves only the keys that it had. With
 * weights the draw is u^(1/weight), compared as ln(u)/weight, so an id wins in proportion to its weight; equal
 * weights give what no weights give.
 *
 * Costs one hash an id. Ids are numbers below 2^53 or strings, all distinct, in any order; 1 and '1' are two ids.
 * Draws have 32 bits; of two equal draws the smaller id wins (numbers before strings), so a pick is never open.
 */

export type RendezvousId = number | string;

/** A draw is compared first, the id after it. */
interface Draw<Id> {
  readonly id: Id;
  readonly score: number;
}

/** Keeps a string's draws apart from those of a number. */
const TEXT_SEED = 0x5bd1e995;

/** The winner for `key`; undefined when there is no id with a positive weight. */
export function rendezvousPick<Id extends RendezvousId>(
  key: RendezvousId,
  ids: Iterable<Id>,
  weightOf?: (id: Id) => number,
): Id | undefined {
  const seed = hashId(key, 0);
  let best: Id | undefined;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const id of ids) {
    const score = draw(seed, id, weightOf);
    if (score === Number.NEGATIVE_INFINITY) continue;
    if (score > bestScore || best === undefined || (score === bestScore && precedes(id, best))) {
      best = id;
      bestScore = score;
    }
  }
  return best;
}

/** The best `count` ids for `key`, best first; fewer when there are not as many with a positive weight. */
export function rendezvousTop<Id extends RendezvousId>(
  key: RendezvousId,
  ids: Iterable<Id>,
  count: number,
  weightOf?: (id: Id) => number,
): Id[] {
  const seed = hashId(key, 0);
  const draws: Draw<Id>[] = [];
  for (const id of ids) {
    const score = draw(seed, id, weightOf);
    if (score > Number.NEGATIVE_INFINITY) draws.push({ id, score });
  }
  draws.sort((a, b) => b.score - a.score || (precedes(a.id, b.id) ? -1 : 1));
  return draws.slice(0, Math.max(0, count)).map(({ id }) => id);
}

function draw<Id extends RendezvousId>(seed: number, id: Id, weightOf?: (id: Id) => number): number {
  const weight = weightOf === undefined ? 1 : weightOf(id);
  if (!(weight > 0)) return Number.NEGATIVE_INFINITY;
  // Half a step keeps 0 and 1 out, where the logarithm says nothing.
  const uniform = ((hashId(id, seed) >>> 0) + 0.5) / 0x1_0000_0000;
  return weightOf === undefined ? Math.log(uniform) : Math.log(uniform) / weight;
}

function hashId(id: RendezvousId, seed: number): number {
  return typeof id === 'number' ? hashNumber(id, seed) : hashText(id, seed ^ TEXT_SEED);
}

function precedes(a: RendezvousId, b: RendezvousId): boolean {
  if (typeof a === typeof b) return a < b;
  return typeof a === 'number';
}
