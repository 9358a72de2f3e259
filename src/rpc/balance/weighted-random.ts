import type { Random } from '../../base/env.js';

/**
 * Picks in proportion to weights in O(1) whatever their number: the alias method (Walker 1977, tables as built by Vose
 * 1991). Each column of equal width is shared by at most two candidates.
 */
export class WeightedRandom {
  /** Share of a column that is its own candidate's, in units of 2^-32. */
  private readonly own: Float64Array;
  private readonly other: Int32Array;

  /** @param weights more than 0, at least one. */
  constructor(weights: readonly number[]) {
    const count = weights.length;
    this.own = new Float64Array(count).fill(0x1_0000_0000);
    this.other = new Int32Array(count);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const shares = weights.map(weight => (weight * count) / total);
    const small: number[] = [];
    const large: number[] = [];
    for (let i = 0; i < count; i++) (shares[i]! < 1 ? small : large).push(i);
    while (small.length > 0 && large.length > 0) {
      const [less, more] = [small.pop()!, large.pop()!];
      this.own[less] = shares[less]! * 0x1_0000_0000;
      this.other[less] = more;
      shares[more]! -= 1 - shares[less]!;
      (shares[more]! < 1 ? small : large).push(more);
    }
  }

  /** Index of a candidate. */
  pick(random: Random): number {
    const column = Math.floor((random.u32() / 0x1_0000_0000) * this.own.length);
    return random.u32() < this.own[column]! ? column : this.other[column]!;
  }
}
