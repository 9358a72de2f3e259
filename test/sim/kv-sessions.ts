import type { Entry } from '../../src/kv/raft/ready.js';
import { mix } from './kv-registers.js';

const KEPT = 64;

/** Which operations of which session are applied. */
export class Sessions {
  hash = 0;
  readonly #applied: Map<number, number[]>;

  constructor(from?: Sessions) {
    const known = from === undefined ? [] : [...from.#applied];
    this.#applied = new Map(known.map(([session, list]) => [session, [...list]]));
    this.hash = from?.hash ?? 0;
  }

  has(session: number, sequence: number): boolean {
    return this.#applied.get(session)?.includes(sequence) === true;
  }

  /** False when it was applied before. */
  apply({ session, sequence }: Entry): boolean {
    if (session === 0) return true;
    if (this.has(session, sequence)) return false;
    const list = this.#applied.get(session) ?? [];
    list.push(sequence);
    if (list.length > KEPT) list.shift();
    this.#applied.set(session, list);
    this.hash ^= mix(session, sequence);
    return true;
  }
}
