/** The paper's S: time-outs and intervals grow to nine times their base at most. */
const SCORE_MAX = 8;

/**
 * Local health multiplier: how much a host distrusts itself (Lifeguard, Dadgar et al. 2018, section 4.1). A probe
 * that fails, relays that do not even say nack, and being suspected by others are signs that this host is slow or
 * cut off, so it takes longer before it accuses anybody.
 */
export class LocalHealth {
  private value = 0;

  /** 0: healthy. */
  get score(): number {
    return this.value;
  }

  /** What probe intervals and time-outs are multiplied with. */
  get factor(): number {
    return this.value + 1;
  }

  worse(by: number): void {
    this.value = Math.min(SCORE_MAX, this.value + by);
  }

  better(): void {
    if (this.value > 0) this.value -= 1;
  }
}
