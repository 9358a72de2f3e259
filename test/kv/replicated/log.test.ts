import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryEngine } from '../../../src/kv/memory-engine.js';
import type { Configuration } from '../../../src/kv/raft/configuration.js';
import { encodeConfiguration } from '../../../src/kv/raft/configuration-codec.js';
import { ENTRY, type Entry } from '../../../src/kv/raft/ready.js';
import { LOG_LIMITS, RangeLog } from '../../../src/kv/replicated/log.js';

const RANGE = 7;
const ALONE: Configuration = { voters: [1], outgoing: [], learners: [] };
const PAIR: Configuration = { ...ALONE, voters: [1, 2] };

function entry(index: number, term: number, text = `${term}:${index}`): Entry {
  return {
    term,
    index,
    kind: ENTRY.COMMAND,
    session: index % 3,
    sequence: 2 ** 40 + index,
    data: Buffer.from(text),
  };
}

function entries(from: number, count: number, term: number): Entry[] {
  return Array.from({ length: count }, (_, at) => entry(from + at, term));
}

class CountingEngine extends MemoryEngine {
  reads = 0;

  override get(key: Uint8Array): Uint8Array | undefined {
    this.reads++;
    return super.get(key);
  }

  get count(): number {
    let count = 0;
    this.scan(Uint8Array.of(0), Uint8Array.of(255), () => ++count > 0);
    return count;
  }
}

function create(engine: MemoryEngine, limits = LOG_LIMITS): RangeLog {
  const state = {
    replica: 1,
    hardState: { term: 1, vote: 0, commit: 1 },
    snapshot: { index: 1, term: 1, configuration: ALONE },
    applied: 1,
  };
  return RangeLog.create(RANGE, engine, state, limits);
}

function open(engine: MemoryEngine, limits = LOG_LIMITS): RangeLog {
  return RangeLog.open(RANGE, engine, limits)!;
}

function turn(engine: MemoryEngine, log: RangeLog, work: (log: RangeLog, writer: MemoryEngine) => void) {
  engine.write(
    () => {
      work(log, engine);
      log.finish(engine);
    },
    () => undefined,
  );
}

function all(log: RangeLog): string[] {
  if (log.lastIndex === log.snapshot.index) return [];
  return log
    .entries(log.snapshot.index + 1, log.lastIndex, 1e9)
    .map(({ term, index, kind, session, sequence, data }) =>
      [term, index, kind, session, sequence, Buffer.from(data)].join(),
    );
}

function texts(list: readonly Entry[]): string[] {
  return list.map(({ data }) => Buffer.from(data).toString());
}

describe('a log', () => {
  it('is nothing where none was made, and after that what was made', () => {
    const engine = new MemoryEngine();
    expect(RangeLog.open(RANGE, engine)).toBeUndefined();
    turn(engine, create(engine), () => undefined);
    const log = open(engine);
    expect(log.hardState).toEqual({ term: 1, vote: 0, commit: 1 });
    expect([log.snapshot.index, log.snapshot.term, log.applied, log.lastIndex]).toEqual([1, 1, 1, 1]);
    expect([log.term(0), log.term(1), log.term(2)]).toEqual([undefined, 1, undefined]);
    expect(RangeLog.open(RANGE + 1, engine)).toBeUndefined();
  });

  it('gives entries up to a number of bytes, and one in any case', () => {
    const engine = new MemoryEngine();
    const log = create(engine);
    turn(engine, log, (_, writer) => log.append(writer, entries(2, 9, 1)));
    expect(texts(log.entries(3, 10, 1e6))).toHaveLength(8);
    expect(texts(log.entries(3, 10, 1))).toEqual(['1:3']);
    expect(texts(log.entries(3, 10, 3 * 35))).toEqual(['1:3', '1:4', '1:5']);
    expect(texts(open(engine).entries(3, 10, 3 * 35))).toEqual(['1:3', '1:4', '1:5']);
  });

  it('reads what is recent from memory alone', () => {
    const engine = new CountingEngine();
    const log = create(engine, { ...LOG_LIMITS, tailBytesMax: 35 * 100 });
    turn(engine, log, (_, writer) => log.append(writer, entries(2, 50, 1)));
    turn(engine, log, (_, writer) => log.append(writer, entries(52, 60, 2)));
    engine.reads = 0;
    expect(texts(log.entries(60, 111, 1e6))).toHaveLength(52);
    expect([log.term(60), log.term(50), log.term(1)]).toEqual([2, 1, 1]);
    expect(engine.reads).toBe(0);
    expect(texts(log.entries(2, 111, 1e6))).toHaveLength(110);
    expect(engine.reads).toBe(1);
  });

  it('reverts a configuration with the entries that are replaced', () => {
    const engine = new MemoryEngine();
    const log = create(engine);
    const change = { ...entry(3, 1), kind: ENTRY.CONFIGURATION, data: encodeConfiguration(PAIR) };
    turn(engine, log, (_, writer) => log.append(writer, [entry(2, 1), change, entry(4, 1)]));
    for (const read of [log, open(engine)]) {
      expect(read.configurationAt(4).voters).toEqual([1, 2]);
      expect(read.configurationAt(2).voters).toEqual([1]);
    }
    turn(engine, log, (_, writer) => log.append(writer, [entry(3, 2)]));
    for (const read of [log, open(engine)]) {
      expect(read.lastIndex).toBe(3);
      expect(read.configurationAt(3).voters).toEqual([1]);
    }
  });

  it('keeps a configuration that compaction takes the entry of', () => {
    const engine = new MemoryEngine();
    const log = create(engine);
    const change = { ...entry(3, 1), kind: ENTRY.CONFIGURATION, data: encodeConfiguration(PAIR) };
    turn(engine, log, (_, writer) => {
      log.append(writer, [entry(2, 1), change, entry(4, 1)]);
      log.setApplied(4);
      log.compact(4);
    });
    expect(open(engine).snapshot).toEqual({
      index: 4,
      term: 1,
      configuration: { ...ALONE, voters: [1, 2] },
    });
  });

  it('compacts in steps, and finds what a crash left of them', () => {
    const engine = new CountingEngine();
    const log = create(engine, { ...LOG_LIMITS, batchEntriesMax: 2 });
    turn(engine, log, (_, writer) => {
      log.append(writer, entries(2, 21, 1));
      log.setApplied(22);
    });
    expect(engine.count).toBe(12);
    turn(engine, log, () => log.compact(20));
    expect(log.term(19)).toBeUndefined();
    expect(log.hasTrimmable).toBe(true);
    turn(engine, log, (_, writer) => expect(log.trim(writer, 4)).toBe(true));
    expect(engine.count).toBe(8);
    const reopened = open(engine);
    expect(all(reopened)).toEqual(all(log));
    turn(engine, reopened, (_, writer) => expect(reopened.trim(writer, 100)).toBe(false));
    expect(engine.count).toBe(3);
    expect(texts(open(engine).entries(21, 22, 1e6))).toEqual(['1:21', '1:22']);
  });

  it('stores nothing of entries that are applied at once', () => {
    const engine = new CountingEngine();
    const log = create(engine);
    const change = { ...entry(3, 2), kind: ENTRY.CONFIGURATION, data: encodeConfiguration(PAIR) };
    turn(engine, log, () => log.pass([entry(2, 2), change]));
    expect(engine.count).toBe(1);
    expect(open(engine)).toMatchObject({ applied: 3, lastIndex: 3 });
    expect(open(engine).configurationAt(3).voters).toEqual([1, 2]);
    turn(engine, log, (_, writer) => log.append(writer, [entry(4, 2)]));
    expect(all(open(engine))).toEqual(all(log));
    expect(open(engine).term(4)).toBe(2);
  });

  it('gives way to a received state, whatever it held', () => {
    const engine = new CountingEngine();
    const log = create(engine, { ...LOG_LIMITS, batchEntriesMax: 4 });
    turn(engine, log, (_, writer) => log.append(writer, entries(2, 20, 1)));
    const configuration = { ...ALONE, voters: [1, 2, 3] };
    turn(engine, log, (_, writer) => log.restore(writer, { index: 10, term: 3, configuration }));
    for (const read of [log, open(engine)]) {
      expect([read.lastIndex, read.applied, read.term(10), read.term(11)]).toEqual([10, 10, 3, undefined]);
      expect(read.configurationAt(10)).toEqual(configuration);
    }
    turn(engine, log, (_, writer) => log.append(writer, entries(11, 2, 4)));
    expect(texts(open(engine).entries(11, 12, 1e6))).toEqual(['4:11', '4:12']);
    turn(engine, log, (_, writer) => expect(log.trim(writer, 100)).toBe(false));
    expect(engine.count).toBe(2);
  });

  it('does as a list does, and is opened as it was closed', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('append'), back: fc.nat(6), count: fc.integer({ min: 1, max: 9 }) }),
      fc.record({ kind: fc.constant('apply'), back: fc.nat(6), count: fc.nat(9) }),
      fc.record({ kind: fc.constant('compact'), back: fc.nat(6), count: fc.nat(4) }),
      fc.record({ kind: fc.constant('reopen'), back: fc.nat(0), count: fc.nat(0) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), steps => {
        const engine = new MemoryEngine();
        const limits = { tailBytesMax: 150, batchBytesMax: 150, batchEntriesMax: 4 };
        let log = create(engine, limits);
        turn(engine, log, () => undefined);
        let model = [entry(1, 1)];
        let term = 1;
        for (const { kind, back, count } of steps)
          turn(engine, log, (_, writer) => {
            if (kind === 'append') {
              const from = Math.max(log.applied + 1, log.lastIndex + 1 - back);
              if (from <= log.lastIndex) term++;
              const added = entries(from, count, term);
              log.append(writer, added);
              model = [...model.filter(({ index }) => index < from), ...added];
            } else if (kind === 'apply') log.setApplied(Math.min(log.lastIndex, log.applied + count));
            else if (kind === 'compact') {
              log.compact(Math.max(log.snapshot.index, log.applied - back));
              log.trim(writer, count);
            } else {
              log.finish(writer);
              log = open(engine, limits);
            }
          });
        const kept = model.filter(({ index }) => index > log.snapshot.index);
        for (const read of [log, open(engine, limits)]) {
          expect(read.applied).toBe(log.applied);
          expect(all(read)).toEqual(
            kept.map(e => [e.term, e.index, e.kind, e.session, e.sequence, Buffer.from(e.data)].join()),
          );
          for (const { index, term: wanted } of model)
            expect(read.term(index)).toBe(index < log.snapshot.index ? undefined : wanted);
        }
      }),
      { numRuns: 300 },
    );
  });
});
