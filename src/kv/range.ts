import type { ByteReader, ByteWriter } from '../base/bytes.js';
import type { KvReader, KvWriter } from './engine.js';

/**
 * An interval of the key space with the machine that gives it meaning. A command is bytes, and what it does
 * depends on nothing but those bytes and the range's own entries: time comes in the command, numbers that must
 * be unique come from a counter that is stored. So the same commands in the same order leave the same bytes in
 * every replica.
 */
export interface Range {
  readonly id: number;
  /** One of SERVICE in keys.ts. */
  readonly service: number;
  readonly boundary: Boundary;
  readonly coprocessor: Coprocessor;
  /**
   * Has the coprocessor do a command in the turn's transaction. The next ones see it, and nobody else may before that is
   * durable.
   */
  decide(input: ByteReader, writer: KvWriter, output: ByteWriter): void;
  /** The turn's transaction changes the range otherwise, by what was held back until now. */
  enter(writer: KvWriter): void;
}

/** Keys from `start` on and below `end`. */
export interface Boundary {
  readonly start: Uint8Array;
  readonly end: Uint8Array;
}

export interface Coprocessor {
  /** Answers from what is committed or in this turn's transaction; changes nothing. */
  query(input: ByteReader, reader: KvReader, output: ByteWriter): void;
  /** Applies one command and appends its outcome to `output`. */
  mutate(input: ByteReader, writer: KvWriter, output: ByteWriter): void;
  /** Called behind the last command of a transaction: writes what was held back to be written once. */
  finish(writer: KvWriter): void;
  /** Forgets everything in memory and builds it again from `reader`: at start, and when a transaction failed. */
  reset(boundary: Boundary, reader: KvReader): void;
  /**
   * The range is divided: settles what is stored about it as a whole (`localKey`) for its lower part, and what is stored
   * under the id of the new range for the upper one, which begins with a copy. All keys are still there. The
   * coprocessors of both are reset behind it; asked of the parent's alone, by which all replicas do alike.
   */
  divide?(division: Division, writer: KvWriter): void;
  /**
   * The range has taken over its neighbour, `absorbed`, and covers `boundary` now: settles what is stored about it as a
   * whole. What the neighbour had there is still stored, and goes after this; `reset` follows.
   */
  absorb?(boundary: Boundary, absorbed: number, writer: KvWriter): void;
  /**
   * What it is like now, for those who place and divide ranges. Asked about once a second for each range: a call works for
   * about 2 ms at the most and for next to nothing when nothing has changed (then it gives the same object again). Figures
   * are of this replica and may differ from another's.
   */
  hints?(reader: KvReader): RangeHints;
}

export interface Division {
  readonly lower: Boundary;
  readonly upper: Boundary;
  /** The id of the range that begins with `upper`. */
  readonly child: number;
}

export interface RangeHints {
  /** Keys and values. */
  readonly bytes: number;
  /** Receivers of the busiest topic; 0 where there are no topics. */
  readonly fanOut: number;
  /** At which it would best be divided, with what belongs together on one side; empty if it cannot be. */
  readonly splitKey: Uint8Array;
}

export const NO_HINTS: RangeHints = { bytes: 0, fanOut: 0, splitKey: new Uint8Array(0) };

/** All keys of a service. */
export function wholeService(service: number): Boundary {
  return { start: Uint8Array.of(service), end: Uint8Array.of(service + 1) };
}

export function covers(outer: Boundary, inner: Boundary): boolean {
  return Buffer.compare(outer.start, inner.start) <= 0 && Buffer.compare(inner.end, outer.end) <= 0;
}

export function overlap(one: Boundary, other: Boundary): boolean {
  return Buffer.compare(one.start, other.end) < 0 && Buffer.compare(other.start, one.end) < 0;
}

/** The boundary of two that touch; undefined if they do not. */
export function union(one: Boundary, other: Boundary): Boundary | undefined {
  if (Buffer.compare(one.end, other.start) === 0) return { start: one.start, end: other.end };
  if (Buffer.compare(other.end, one.start) === 0) return { start: other.start, end: one.end };
  return undefined;
}
