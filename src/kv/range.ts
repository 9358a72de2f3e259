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
   * The range was split, or has absorbed its neighbour: what is stored about it as a whole (`localKey`) is settled for
   * `boundary`, before `reset`. A split's new range begins with a copy of what its parent had there; what the
   * `absorbed` range had is still stored, and goes after this.
   */
  rebound?(boundary: Boundary, writer: KvWriter, absorbed: number | undefined): void;
}

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
