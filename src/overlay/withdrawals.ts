/** So long after it a withdrawal is told, milliseconds: by then it is known to all who could have missed it. */
const TOLD_MS = 120_000;

/** Withdrawals told at once; of those beyond, others learn late. */
const TOLD_MAX = 1_024;

const NUMBER_BYTES = 8;

/** What a host says it has withdrawn, so that what is missing for another reason can be told from it. */
export interface Withdrawn {
  /** Everything up to this stamp. */
  readonly floor: number;
  readonly stamps: ReadonlySet<number>;
}

export function isWithdrawn(withdrawn: Withdrawn | undefined, stamp: number): boolean {
  return withdrawn !== undefined && (stamp <= withdrawn.floor || withdrawn.stamps.has(stamp));
}

/** What this host has withdrawn lately. */
export class Withdrawals {
  private floor = 0;
  private recent: { readonly stamp: number; readonly atMs: number }[] = [];

  add(stamp: number, nowMs: number): void {
    this.recent = this.recent.filter(({ atMs }) => nowMs - atMs < TOLD_MS);
    if (this.recent.length >= TOLD_MAX) this.recent.shift();
    this.recent.push({ stamp, atMs: nowMs });
  }

  /** All there was: nothing is registered with a stamp up to this one. */
  addAll(floor: number): void {
    this.floor = floor;
    this.recent = [];
  }

  encode(): Uint8Array {
    const bytes = new Uint8Array((this.recent.length + 1) * NUMBER_BYTES);
    const view = new DataView(bytes.buffer);
    view.setFloat64(0, this.floor, true);
    for (const [at, { stamp }] of this.recent.entries())
      view.setFloat64((at + 1) * NUMBER_BYTES, stamp, true);
    return bytes;
  }
}

/** Never throws; what is no number of ours is never looked for. */
export function decodeWithdrawn(bytes: Uint8Array): Withdrawn {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stamps = new Set<number>();
  const count = Math.min(Math.floor(bytes.length / NUMBER_BYTES), TOLD_MAX + 1);
  for (let at = 1; at < count; at++) stamps.add(view.getFloat64(at * NUMBER_BYTES, true));
  return { floor: count > 0 ? view.getFloat64(0, true) : 0, stamps };
}
