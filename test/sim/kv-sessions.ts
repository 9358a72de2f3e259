import type { Entry } from '../../src/kv/raft/ready.js';
import { mix } from './kv-registers.js';

const KEPT = 64;

interface Session {
  /** Up to here nothing is applied any more: what comes that late may have been. */
  floor: number;
  /** Applied ones above, in their order. */
  readonly applied: number[];
}

/** Which operations of which session are applied. */
export class Sessions {
  hash = 0;
  readonly #sessions = new Map<number, Session>();

  constructor(from?: Sessions) {
    if (from === undefined) return;
    this.hash = from.hash;
    for (const [id, { floor, applied }] of from.#sessions)
      this.#sessions.set(id, { floor, applied: [...applied] });
  }

  has(id: number, sequence: number): boolean {
    const session = this.#sessions.get(id);
    return session !== undefined && (sequence <= session.floor || session.applied.includes(sequence));
  }

  /** False when it was applied before, or is too old to know. */
  apply({ session: id, sequence }: Entry): boolean {
    if (id === 0) return true;
    if (this.has(id, sequence)) return false;
    const session = this.#sessions.get(id) ?? { floor: 0, applied: [] };
    session.applied.push(sequence);
    if (session.applied.length > KEPT) session.floor = Math.max(session.floor, session.applied.shift()!);
    this.#sessions.set(id, session);
    this.hash ^= mix(id, sequence);
    return true;
  }
}
