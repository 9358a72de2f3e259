/** Candidates of one weight, served in turn. */
interface Ring {
  readonly members: readonly number[];
  /** Weight of all of them together. */
  readonly weight: number;
  next: number;
  /** What it is owed, in the terms of smooth weighted round robin. */
  current: number;
}

/**
 * Smooth weighted round robin, as nginx has it: each turn everybody gains its weight, the richest is served and pays
 * the sum of all. So every cycle serves each in proportion to its weight, spread evenly over the cycle.
 *
 * That costs O(n) a pick. Weights are few and small numbers, so candidates of equal weight share an account and are
 * served in turn within it: a pick is O(number of different weights).
 */
export class WeightedRoundRobin {
  private readonly rings: Ring[];
  private readonly total: number;

  /**
   * @param weights more than 0, at least one.
   * @param start spreads callers that begin at the same time: any integer of at least 0.
   */
  constructor(weights: readonly number[], start: number) {
    const byWeight = new Map<number, number[]>();
    weights.forEach((weight, index) => {
      const members = byWeight.get(weight);
      if (members === undefined) byWeight.set(weight, [index]);
      else members.push(index);
    });
    this.rings = [...byWeight].map(([weight, members]) => ({
      members,
      weight: weight * members.length,
      next: start % members.length,
      current: 0,
    }));
    this.total = this.rings.reduce((sum, ring) => sum + ring.weight, 0);
  }

  /** Index of a candidate. */
  pick(): number {
    const { rings } = this;
    let best = rings[0]!;
    for (const ring of rings) {
      ring.current += ring.weight;
      if (ring.current > best.current) best = ring;
    }
    best.current -= this.total;
    const index = best.members[best.next]!;
    best.next = (best.next + 1) % best.members.length;
    return index;
  }
}
