/** Proposals that were made on this store and have no outcome yet. */
export class Pending {
  private readonly bySession = new Map<number, Map<number, number>>();
  count = 0;

  /** Remembers when it was made, in milliseconds; a repeated one counts from now. */
  add(session: number, sequence: number, nowMs: number): void {
    let sequences = this.bySession.get(session);
    if (sequences === undefined) {
      sequences = new Map();
      this.bySession.set(session, sequences);
    }
    if (!sequences.has(sequence)) this.count++;
    sequences.set(sequence, nowMs);
  }

  /** Whether it waited; it does not any more. */
  take(session: number, sequence: number): boolean {
    if (this.count === 0) return false;
    const sequences = this.bySession.get(session);
    if (sequences === undefined || !sequences.delete(sequence)) return false;
    this.count--;
    if (sequences.size === 0) this.bySession.delete(session);
    return true;
  }

  /** Takes out all that were made before `beforeMs`. */
  takeBefore(beforeMs: number, taken: (session: number, sequence: number) => void): void {
    for (const [session, sequences] of this.bySession) {
      for (const [sequence, madeMs] of sequences) {
        if (madeMs >= beforeMs) continue;
        sequences.delete(sequence);
        this.count--;
        taken(session, sequence);
      }
      if (sequences.size === 0) this.bySession.delete(session);
    }
  }
}
