import { ByteReader, ByteWriter } from '../../base/bytes.js';
import type { KvReader, KvWriter } from '../engine.js';
import { BOOK_REST_AT, bookKey, copyOf, ordered53, readOrdered53 } from '../keys.js';
import { BOOK, BOOKS_VERSION } from './books.js';
import { readVersion } from './log-records.js';

/** What a range knows of a proposal's number. */
export const KNOWN = {
  /** It was never applied. */
  NEW: 0,
  APPLIED: 1,
  /** It is too far behind the session's others to be known. */
  FORGOTTEN: 2,
} as const;

/**
 * Runs of numbers kept for a session. Half of what a proposer may have under way (CLIENT_LIMITS): so many gaps there are
 * when all of it comes again at a new leader, in any order. Of one that does not tell its lowest number, or whose lowest
 * waits for another range for so long, what is further behind is not applied any more.
 */
export const RUNS_MAX = 8192;
/**
 * Sessions kept; the one that was applied longest ago, by index, goes. There must never be more proposers alive, or one
 * that was slower than so many others could have a command applied twice.
 */
export const SESSIONS_MAX = 1024;

interface Session {
  /** Numbers up to here are forgotten, unless a run has them. */
  floor: number;
  /** Pairs of first and last, rising, with gaps between. */
  runs: number[];
  /** Index of the entry that was last applied. */
  index: number;
}

/**
 * Which proposals of whom are applied: replicated state, by which a proposal that is made again is applied once. A
 * record a session; a turn writes those that it changed.
 *
 * A command tells the lowest number that its proposer has no answer to (Raft thesis, 6.3). What is below is never asked
 * again, so all that is known of it goes, and a copy of it that comes late, whether it was applied or not, is not applied.
 * Without that a proposer whose numbers go to several ranges by turns would leave a gap at every second one in each.
 */
export class Sessions {
  private readonly rangeId: number;
  private readonly byId = new Map<number, Session>();
  private readonly dirty = new Set<number>();
  private readonly key = new ByteWriter(32);
  private readonly value = new ByteWriter(256);
  private lastId = -1;
  private last: Session | undefined;

  constructor(rangeId: number) {
    this.rangeId = rangeId;
  }

  get count(): number {
    return this.byId.size;
  }

  /** Forgets everything and reads what is stored. */
  open(reader: KvReader): void {
    this.byId.clear();
    this.dirty.clear();
    this.lastId = -1;
    const { start, end } = sessionSpan(this.rangeId);
    const record = new ByteReader();
    reader.scan(start, end, (key, value) => {
      readVersion(record.over(value));
      const session: Session = { index: record.u53(), floor: record.u53(), runs: [] };
      while (record.remaining > 0) {
        const first = record.u53();
        session.runs.push(first, first + record.u32());
      }
      this.byId.set(readOrdered53(key, BOOK_REST_AT), session);
      return true;
    });
  }

  /** One of {@link KNOWN}. */
  look(id: number, sequence: number): number {
    const session = this.find(id);
    if (session === undefined) return KNOWN.NEW;
    const { runs } = session;
    if (runs.length === 0 || sequence > runs[runs.length - 1]!)
      return sequence > session.floor ? KNOWN.NEW : KNOWN.FORGOTTEN;
    for (let at = runs.length - 2; at >= 0; at -= 2) {
      if (sequence > runs[at + 1]!) break;
      if (sequence >= runs[at]!) return KNOWN.APPLIED;
    }
    return sequence > session.floor ? KNOWN.NEW : KNOWN.FORGOTTEN;
  }

  /** The proposal, which was {@link KNOWN}.NEW, is applied at `index`; no number below `lowest` will be asked again. */
  mark(id: number, sequence: number, lowest: number, index: number, writer: KvWriter): void {
    let session = this.find(id);
    if (session === undefined) {
      if (this.byId.size >= SESSIONS_MAX) this.forgetOldest(writer);
      session = { floor: 0, runs: [], index };
      this.byId.set(id, session);
      this.lastId = -1;
    }
    session.index = index;
    add(session, sequence, sequence);
    if (lowest - 1 > session.floor) raiseFloor(session, lowest - 1);
    this.dirty.add(id);
  }

  /** Behind the last change of a transaction. */
  finish(writer: KvWriter): void {
    if (this.dirty.size === 0) return;
    for (const id of this.dirty) {
      const session = this.byId.get(id);
      if (session !== undefined) this.put(id, session, writer);
    }
    this.dirty.clear();
  }

  /** Knows what `other` knows as well. */
  merge(other: Sessions, writer: KvWriter): void {
    for (const [id, { floor, runs, index }] of other.byId) {
      const own = this.byId.get(id) ?? { floor: 0, runs: [], index: 0 };
      own.index = Math.max(own.index, index);
      for (let at = 0; at < runs.length; at += 2) add(own, runs[at]!, runs[at + 1]!);
      raiseFloor(own, Math.max(own.floor, floor));
      this.byId.set(id, own);
      this.dirty.add(id);
    }
    this.lastId = -1;
    while (this.byId.size > SESSIONS_MAX) this.forgetOldest(writer);
    this.finish(writer);
  }

  private find(id: number): Session | undefined {
    if (id !== this.lastId) {
      this.last = this.byId.get(id);
      this.lastId = id;
    }
    return this.last;
  }

  private forgetOldest(writer: KvWriter): void {
    let oldest = -1;
    let lowest = Number.POSITIVE_INFINITY;
    for (const [id, { index }] of this.byId)
      if (index < lowest || (index === lowest && id < oldest)) {
        lowest = index;
        oldest = id;
      }
    this.byId.delete(oldest);
    this.dirty.delete(oldest);
    this.lastId = -1;
    writer.remove(this.keyOf(oldest));
  }

  private put(id: number, { floor, runs, index }: Session, writer: KvWriter): void {
    const value = this.value.reset().u8(BOOKS_VERSION).u53(index).u53(floor);
    for (let at = 0; at < runs.length; at += 2) value.u53(runs[at]!).u32(runs[at + 1]! - runs[at]!);
    writer.put(this.keyOf(id), value.view());
  }

  private keyOf(id: number): Uint8Array {
    return ordered53(bookKey(this.key, BOOK.SESSIONS, this.rangeId), id).view();
  }
}

/** Keys of all records of a range. */
export function sessionSpan(rangeId: number): { readonly start: Uint8Array; readonly end: Uint8Array } {
  return {
    start: copyOf(bookKey(new ByteWriter(16), BOOK.SESSIONS, rangeId).view()),
    end: copyOf(bookKey(new ByteWriter(16), BOOK.SESSIONS, rangeId + 1).view()),
  };
}

/** Runs that end at `floor` or below go. */
function raiseFloor(session: Session, floor: number): void {
  const { runs } = session;
  session.floor = floor;
  let below = 0;
  while (below < runs.length && runs[below + 1]! <= floor) below += 2;
  if (below > 0) runs.splice(0, below);
}

/** Adds the numbers of [first, last]; a run is no longer than a u32. */
function add(session: Session, first: number, last: number): void {
  const { runs } = session;
  let at = runs.length;
  while (at > 0 && runs[at - 2]! > first) at -= 2;
  // `at` is where a run that begins at `first` belongs.
  if (at > 0 && runs[at - 1]! + 1 >= first && last - runs[at - 2]! < RUN_LENGTH_MAX) {
    runs[at - 1] = Math.max(runs[at - 1]!, last);
    at -= 2;
  } else runs.splice(at, 0, first, last);
  while (
    at + 2 < runs.length &&
    runs[at + 2]! <= runs[at + 1]! + 1 &&
    runs[at + 3]! - runs[at]! < RUN_LENGTH_MAX
  ) {
    runs[at + 1] = Math.max(runs[at + 1]!, runs[at + 3]!);
    runs.splice(at + 2, 2);
  }
  while (runs.length > RUNS_MAX * 2) {
    session.floor = Math.max(session.floor, runs[1]!);
    runs.splice(0, 2);
  }
}

const RUN_LENGTH_MAX = 0xffff_ffff;
