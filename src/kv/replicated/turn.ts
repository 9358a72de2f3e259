import { ByteWriter } from '../../base/bytes.js';
import type { KvWriter } from '../engine.js';
import type { Coprocessor } from '../range.js';
import type { Replica } from './replica.js';
import type { Doomed, Founding } from './replica-table.js';

/** Beside OUTCOME: the entry cannot be applied yet, and nothing was done. */
export const WAITS = -1;
/** Nobody proposed it. */
export const NO_OUTCOME = -2;

/** Who is told how what was asked on this store has ended. Called between turns, with nothing held. */
export interface OutcomeSink {
  /** `outcome`: one of OUTCOME. The bytes are a view that is valid during the call. */
  outcome(
    range: number,
    session: number,
    sequence: number,
    outcome: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void;
}

/** Outcomes of a turn, held back until they are durable. */
export class Outcomes {
  private ranges: number[] = [];
  private sessions: number[] = [];
  private sequences: number[] = [];
  private kinds: number[] = [];
  private ends: number[] = [];
  /** What the next outcome says is appended here. */
  readonly output = new ByteWriter(4096);

  get count(): number {
    return this.kinds.length;
  }

  /** All of `output` behind the last one belongs to it. */
  add(range: number, session: number, sequence: number, outcome: number): void {
    this.ranges.push(range);
    this.sessions.push(session);
    this.sequences.push(sequence);
    this.kinds.push(outcome);
    this.ends.push(this.output.length);
  }

  /** Nobody here asked: what was written behind the last one is dropped. */
  drop(): void {
    this.output.length = this.ends.at(-1) ?? 0;
  }

  /** Tells all, and is empty again before the first is told: who is told may ask anew. */
  deliver(sink: OutcomeSink): void {
    const { ranges, sessions, sequences, kinds, ends } = this;
    if (kinds.length === 0) return;
    const bytes = this.output.bytes;
    this.clear();
    for (let at = 0, start = 0; at < kinds.length; at++) {
      const end = ends[at]!;
      sink.outcome(ranges[at]!, sessions[at]!, sequences[at]!, kinds[at]!, bytes, start, end);
      start = end;
    }
  }

  /** The transaction came to nothing: all are told the same instead. */
  fail(sink: OutcomeSink, outcome: number): void {
    const { ranges, sessions, sequences, output } = this;
    this.clear();
    for (let at = 0; at < ranges.length; at++)
      sink.outcome(ranges[at]!, sessions[at]!, sequences[at]!, outcome, output.bytes, 0, 0);
  }

  private clear(): void {
    this.ranges = [];
    this.sessions = [];
    this.sequences = [];
    this.kinds = [];
    this.ends = [];
    this.output.reset();
  }
}

/** One transaction of a store, while it is made. */
export class Turn {
  readonly outcomes = new Outcomes();
  /** Set for the time of the transaction. */
  writer!: KvWriter;
  private readonly touched = new Set<Coprocessor>();

  begin(writer: KvWriter): void {
    this.writer = writer;
    this.touched.clear();
  }

  /** The coprocessor holds back what it writes at the end. */
  touch(coprocessor: Coprocessor): void {
    this.touched.add(coprocessor);
  }

  /** Has it written now: its keys are about to be read by others. */
  settle(coprocessor: Coprocessor): void {
    if (this.touched.delete(coprocessor)) coprocessor.finish(this.writer);
  }

  end(): void {
    for (const coprocessor of this.touched) coprocessor.finish(this.writer);
    this.touched.clear();
  }
}

/** Whether there is anything to be stored. */
export function mustWrite({ active, doomed, founding }: Share): boolean {
  return doomed.length + founding.length > 0 || active.some(replica => replica.mustWrite);
}

/** Who takes part in a turn's transaction. */
export interface Share {
  readonly active: readonly Replica[];
  readonly doomed: readonly Doomed[];
  readonly founding: readonly Founding[];
}
