/** One thing that happened; written as text only when somebody reads it. */
interface Entry {
  readonly order: number;
  readonly atMs: number;
  readonly who: string;
  readonly what: string;
  readonly about: unknown;
}

/** `packet`: one of very many; `event`: what people ask about. They are kept apart, so that packets push out no event. */
export type Loudness = 'packet' | 'event';

const PACKETS_KEPT = 400;
const EVENTS_KEPT = 600;

/** The last things that happened in a world, bounded; printed when a checker fails. */
export class Trace {
  /** How what an entry is about reads; the suites set it for their own packets. */
  format: (about: unknown) => string = String;
  /** Given every line as it happens (`--trace`). */
  follow: ((line: string) => void) | undefined;
  readonly #now: () => number;
  readonly #packets: Entry[] = [];
  readonly #events: Entry[] = [];
  #order = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  note(loudness: Loudness, who: string, what: string, about?: unknown): void {
    const entry = { order: this.#order, atMs: this.#now(), who, what, about };
    this.#order += 1;
    const ring = loudness === 'packet' ? this.#packets : this.#events;
    const max = loudness === 'packet' ? PACKETS_KEPT : EVENTS_KEPT;
    // Cutting half off now and then is cheaper than shifting each time.
    if (ring.length >= 2 * max) ring.splice(0, max);
    ring.push(entry);
    this.follow?.(this.#line(entry));
  }

  lines(): string[] {
    const entries = [...this.#packets.slice(-PACKETS_KEPT), ...this.#events.slice(-EVENTS_KEPT)];
    return entries.sort((left, right) => left.order - right.order).map(entry => this.#line(entry));
  }

  #line({ atMs, who, what, about }: Entry): string {
    const detail = about === undefined ? '' : ` ${typeof about === 'string' ? about : this.format(about)}`;
    return `${(atMs / 1000).toFixed(3).padStart(10)} s  ${who.padEnd(8)} ${what}${detail}`;
  }
}
