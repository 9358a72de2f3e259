/** Hosts in one virtual time: whatever comes first happens next, and nothing in between. */
export abstract class VirtualTime<Host> {
  nowMs = 0;
  readonly hosts: Host[] = [];
  private readonly flights: { readonly atMs: number; readonly run: () => void }[] = [];

  /** When the host wants its next tick; Infinity for one that does not run. */
  protected abstract dueMs(host: Host): number;

  protected abstract tick(host: Host): void;

  /** Of what happens at one time, the earlier given comes first. */
  after(ms: number, run: () => void): void {
    const flight = { atMs: this.nowMs + ms, run };
    let at = this.flights.length;
    while (at > 0 && this.flights[at - 1]!.atMs > flight.atMs) at -= 1;
    this.flights.splice(at, 0, flight);
  }

  runFor(ms: number): void {
    this.runUntil(() => false, ms);
  }

  /** Runs until the condition holds, for `maxMs` at most. Returns the time that it took. */
  runUntil(isDone: () => boolean, maxMs: number): number {
    const startMs = this.nowMs;
    const endMs = startMs + maxMs;
    while (!isDone()) {
      let nextMs = this.flights[0]?.atMs ?? Number.POSITIVE_INFINITY;
      let next: Host | undefined;
      for (const host of this.hosts) {
        const dueMs = this.dueMs(host);
        if (dueMs >= nextMs) continue;
        nextMs = dueMs;
        next = host;
      }
      if (nextMs > endMs) {
        this.nowMs = endMs;
        break;
      }
      this.nowMs = Math.max(this.nowMs, nextMs);
      if (next === undefined) this.flights.shift()!.run();
      else this.tick(next);
    }
    return this.nowMs - startMs;
  }
}
