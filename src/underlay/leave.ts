/** How long a host waits until its goodbye is told, milliseconds. */
const LEAVE_TIMEOUT_MS = 3_000;

/**
 * The goodbye of this host: a rumour that is told as often as any other. It cannot be acknowledged by all, so "enough
 * have heard it" means that it was told that often; then, or after three seconds, the host may stop.
 */
export class Departure {
  private deadlineMs = Number.POSITIVE_INFINITY;
  private isOver = false;

  get isLeaving(): boolean {
    return this.deadlineMs < Number.POSITIVE_INFINITY;
  }

  get hasLeft(): boolean {
    return this.isOver;
  }

  get nextMs(): number {
    return this.isOver ? Number.POSITIVE_INFINITY : this.deadlineMs;
  }

  begin(nowMs: number): void {
    this.deadlineMs = Math.min(this.deadlineMs, nowMs + LEAVE_TIMEOUT_MS);
  }

  /** `isTold`: nobody is left to tell, or all have been told that are meant to be. */
  tick(nowMs: number, isTold: boolean): void {
    if (this.isLeaving && (isTold || nowMs >= this.deadlineMs)) this.isOver = true;
  }
}
