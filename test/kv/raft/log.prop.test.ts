import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeConfiguration } from '../../../src/kv/raft/configuration-codec.js';
import { RaftLog } from '../../../src/kv/raft/log.js';
import { ENTRY, type Entry } from '../../../src/kv/raft/ready.js';
import { MemoryLog } from './stored-log.js';

const FIRST = { voters: [1, 2, 3], outgoing: [], learners: [] };

function entry(index: number, term: number, voters?: number[]): Entry {
  const data = voters
    ? encodeConfiguration({ voters, outgoing: [], learners: [] })
    : Buffer.from(`${index}/${term}`);
  return { index, term, kind: voters ? ENTRY.CONFIGURATION : ENTRY.COMMAND, session: 0, sequence: 0, data };
}

/** One leader a term extends the log that it was elected with; what it sends is some of its log. */
type Step =
  | { readonly kind: 'lead'; readonly keep: number; readonly add: number; readonly changes: boolean }
  | { readonly kind: 'send'; readonly from: number; readonly count: number }
  | { readonly kind: 'write' }
  | { readonly kind: 'commit'; readonly upTo: number }
  | { readonly kind: 'trim' }
  | { readonly kind: 'compact'; readonly upTo: number }
  | { readonly kind: 'restart' };

const part = fc.double({ min: 0, max: 1, noNaN: true });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant('lead' as const),
    keep: part,
    add: fc.integer({ min: 1, max: 6 }),
    changes: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('send' as const), from: part, count: fc.integer({ min: 0, max: 6 }) }),
  fc.constant({ kind: 'write' as const }),
  fc.record({ kind: fc.constant('commit' as const), upTo: part }),
  fc.constant({ kind: 'trim' as const }),
  fc.record({ kind: fc.constant('compact' as const), upTo: part }),
  fc.constant({ kind: 'restart' as const }),
);

/** The log of a follower, beside a plain list that does what the paper says (5.3). */
class Pair {
  stored = new MemoryLog(FIRST);
  log = new RaftLog(this.stored);
  list: Entry[] = [];
  written: Entry[] = [];
  leader: Entry[] = [];
  term = 0;
  commit = 0;

  run(step: Step): void {
    if (step.kind === 'lead') this.lead(step.keep, step.add, step.changes);
    else if (step.kind === 'send') this.send(step.from, step.count);
    else if (step.kind === 'write') this.write();
    else if (step.kind === 'commit') this.commitTo(step.upTo);
    else if (step.kind === 'trim') this.log.trim(this.log.lastIndex, 0);
    else if (step.kind === 'compact') this.compact(step.upTo);
    else this.restart();
  }

  /** A leader has all that is committed (paper, 5.4). */
  private lead(keep: number, add: number, changes: boolean): void {
    const kept = this.commit + Math.floor(keep * (this.leader.length - this.commit));
    this.term++;
    this.leader = this.leader.slice(0, kept);
    for (let i = 0; i < add; i++) {
      const voters = changes && i === 0 ? [1, 2, 3, this.term + 3] : undefined;
      this.leader.push(entry(kept + i + 1, this.term, voters));
    }
  }

  private send(from: number, count: number): void {
    const previous = this.commit + Math.floor(from * (this.leader.length - this.commit));
    const entries = this.leader.slice(previous, previous + count);
    const previousTerm = previous === 0 ? 0 : this.leader[previous - 1]!.term;
    const fits =
      previous <= this.list.length && (previous === 0 || this.list[previous - 1]!.term === previousTerm);
    expect(this.log.accept(previous, previousTerm, entries)).toBe(fits);
    if (!fits) return;
    for (const sent of entries) {
      if (this.list[sent.index - 1]?.term === sent.term) continue;
      this.list = this.list.slice(0, sent.index - 1);
      this.list.push(sent);
    }
  }

  private write(): void {
    const entries = this.log.handOut();
    this.stored.write(entries);
    this.log.durableIndex = this.log.lastIndex;
    this.written = [...this.list];
    expect(this.stored.lastIndex).toBe(this.list.length);
  }

  /** Only what agrees with the leader can be committed. */
  private commitTo(upTo: number): void {
    let agreed = 0;
    while (agreed < this.list.length && this.list[agreed]!.term === this.leader[agreed]?.term) agreed++;
    const index = this.commit + Math.floor(upTo * (Math.max(agreed, this.commit) - this.commit));
    this.commit = this.log.commitIndex = index;
    this.write();
    const from = this.log.applyingIndex;
    const applied = this.log.handOutApplicable(index, 1e9);
    expect(applied).toEqual(this.list.slice(from, from + applied.length));
    this.log.appliedIndex = this.stored.applied = this.log.applyingIndex;
  }

  private compact(upTo: number): void {
    const { snapshotIndex } = this.log;
    const index = snapshotIndex + Math.floor(upTo * (this.stored.applied - snapshotIndex));
    if (index === snapshotIndex) return;
    this.stored.compact(index, this.log.configurations.at(index));
    this.log.compact(index);
  }

  private restart(): void {
    this.log = new RaftLog(this.stored);
    this.list = [...this.written];
    this.log.commitIndex = this.commit;
  }

  check(): void {
    const { log, list } = this;
    expect(log.lastIndex).toBe(list.length);
    expect(log.lastTerm).toBe(list.at(-1)?.term ?? 0);
    expect(log.term(list.length + 1)).toBeUndefined();
    expect(log.term(log.snapshotIndex - 1)).toBeUndefined();
    for (let index = Math.max(1, log.snapshotIndex); index <= list.length; index++)
      expect(log.term(index)).toBe(list[index - 1]!.term);
    for (let from = log.snapshotIndex + 1; from <= list.length; from++) {
      expect(log.entries(from, list.length, 1e9)).toEqual(list.slice(from - 1));
      expect(log.entries(from, list.length, 1)).toEqual([list[from - 1]]);
    }
    const configured = list.findLast(({ kind }) => kind === ENTRY.CONFIGURATION);
    const current = configured ? [1, 2, 3, configured.term + 3] : FIRST.voters;
    expect(log.configurations.current.voters).toEqual(current);
  }
}

describe('RaftLog', () => {
  it('is what a plain list would be, through truncation, trimming, compaction and restarts', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), steps => {
        const pair = new Pair();
        for (const one of steps) {
          pair.run(one);
          pair.check();
        }
      }),
      { numRuns: 300 },
    );
  });

  it('finds in its hint the last entry that can agree', () => {
    // Each term's leader goes on from the beginning of some log.
    const histories = fc.array(fc.record({ of: fc.nat(), keep: part, add: fc.integer({ min: 1, max: 4 }) }), {
      minLength: 2,
      maxLength: 8,
    });
    fc.assert(
      fc.property(histories, part, part, (leaders, cut, cutOther) => {
        const logs: number[][] = [[0]];
        for (const [i, { of, keep, add }] of leaders.entries()) {
          const parent = logs[of % logs.length]!;
          logs.push([...parent.slice(0, 1 + Math.floor(keep * parent.length)), ...Array(add).fill(i + 1)]);
        }
        const [mine, other] = [cut, cutOther].map((share, i) => {
          const terms = logs.at(-1 - i)!.slice(1);
          const stored = new MemoryLog(FIRST);
          const kept = terms.slice(0, 1 + Math.floor(share * terms.length));
          stored.write(kept.map((term, at) => entry(at + 1, term)));
          return new RaftLog(stored);
        }) as [RaftLog, RaftLog];
        // The longest common beginning is never above what the hints lead to, and they lead there in a step a term.
        let common = 0;
        while (common < mine.lastIndex && mine.term(common + 1) === other.term(common + 1)) common++;
        let asked = mine.lastIndex;
        for (let round = 0; other.term(asked) !== mine.term(asked); round++) {
          const hint = other.lastNotAbove(asked, mine.term(asked)!);
          asked = mine.lastNotAbove(Math.min(hint, asked - 1), other.term(hint)!);
          expect(asked).toBeGreaterThanOrEqual(common);
          expect(round).toBeLessThanOrEqual(leaders.length);
        }
        expect(asked).toBe(common);
      }),
      { numRuns: 1_000 },
    );
  });
});
