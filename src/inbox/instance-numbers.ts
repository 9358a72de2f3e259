import { assert } from '../base/assert.js';
import type { ByteReader, ByteWriter } from '../base/bytes.js';

/** Numbers from `from` on and below `to`. */
export interface NumberSpan {
  readonly from: number;
  readonly to: number;
}

/** The first range of all begins here, whatever its id. */
const FIRST_BASE = 2 ** 36;
const END = Number.MAX_SAFE_INTEGER;
/** Spans kept by a range that has absorbed many; of more the smallest are given up for ever. */
const SPANS_MAX = 16;
/** A half that has fewer than this for the sessions of all its life is too poor to be made without being told to. */
const HALF_MIN = 2 ** 28;

/**
 * The instance numbers that a range may still give out, of which no two ranges ever have the same: one that is divided
 * gives half of them away, and a union has both parts. So a number names one session of all ranges and all times, a
 * session keeps it whichever range it is in, and nobody has to be asked for one.
 *
 * There are 2^53 in all. After 25 divisions one of another, without a union in between, a range has 2^28 left: enough
 * for its life, but not to be halved again (`canDivide`).
 *
 * Stored: u53 how many were given out, by a range that never was divided; otherwise u53 0, u8 n, n × (u53 from, u53 to).
 */
export class InstanceNumbers {
  /** Rising, with gaps between. */
  private spans: NumberSpan[] = [];
  /** It has never been divided, nor taken over another. */
  private isFirst = false;

  get left(): number {
    return this.spans.reduce((sum, { from, to }) => sum + (to - from), 0);
  }

  get canDivide(): boolean {
    return this.left >= 2 * HALF_MIN;
  }

  take(): number {
    const span = this.spans[0];
    assert(span !== undefined, 'a range has numbers for all sessions of its life');
    const { from, to } = span;
    if (from + 1 < to) this.spans[0] = { from: from + 1, to };
    else this.spans.shift();
    return from;
  }

  /** Gives the upper half away. */
  divide(): InstanceNumbers {
    const other = new InstanceNumbers();
    this.isFirst = false;
    for (let wanted = Math.floor(this.left / 2); wanted > 0; ) {
      const { from, to } = this.spans.pop()!;
      const cut = Math.max(from, to - wanted);
      if (cut > from) this.spans.push({ from, to: cut });
      other.spans.unshift({ from: cut, to });
      wanted -= to - cut;
    }
    return other;
  }

  absorb(other: InstanceNumbers): void {
    this.isFirst = false;
    const all = [...this.spans, ...other.spans].sort((a, b) => a.from - b.from);
    const joined: NumberSpan[] = [];
    for (const span of all) {
      const last = joined.at(-1);
      assert(last === undefined || last.to <= span.from, 'no two ranges have the same numbers');
      if (last?.to === span.from) joined[joined.length - 1] = { from: last.from, to: span.to };
      else joined.push(span);
    }
    const kept = [...joined].sort((a, b) => b.to - b.from - (a.to - a.from) || a.from - b.from);
    const least = new Set(kept.slice(SPANS_MAX));
    this.spans = joined.filter(span => !least.has(span));
  }

  write(writer: ByteWriter): ByteWriter {
    if (this.isFirst) return writer.u53((this.spans[0]?.from ?? END) - FIRST_BASE - 1);
    writer.u53(0).u8(this.spans.length);
    for (const { from, to } of this.spans) writer.u53(from).u53(to);
    return writer;
  }

  /** `record`: undefined where none is stored. */
  static read(record: ByteReader | undefined): InstanceNumbers {
    const numbers = new InstanceNumbers();
    const given = record?.u53() ?? 0;
    numbers.isFirst = record === undefined || record.remaining === 0;
    if (numbers.isFirst) numbers.spans.push({ from: FIRST_BASE + given + 1, to: END });
    else
      for (let left = record!.u8(); left > 0; left--)
        numbers.spans.push({ from: record!.u53(), to: record!.u53() });
    return numbers;
  }
}
