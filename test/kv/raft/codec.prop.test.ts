import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeMessage,
  decodeSnapshotMeta,
  encodeMessage,
  encodeSnapshotMeta,
} from '../../../src/kv/raft/codec.js';
import { type Configuration, sortedIds } from '../../../src/kv/raft/configuration.js';
import { decodeConfiguration, encodeConfiguration } from '../../../src/kv/raft/configuration-codec.js';
import { MESSAGE, type Message } from '../../../src/kv/raft/message.js';
import { ENTRY, type Entry, REFUSAL_REASONS } from '../../../src/kv/raft/ready.js';
import { VarintReader, VarintWriter } from '../../../src/kv/raft/varint.js';

const u53 = fc.oneof(
  fc.nat(300),
  fc.maxSafeNat(),
  fc.constantFrom(127, 128, 16_383, 16_384, 2 ** 31 - 1, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER),
);
const id = u53.filter(value => value > 0);
const flag = fc.boolean();
const data = fc.uint8Array({ maxLength: 300 });
const ids = fc.uniqueArray(id, { maxLength: 5 }).map(sortedIds);
const configuration: fc.Arbitrary<Configuration> = fc
  .record({
    voters: fc.uniqueArray(id, { minLength: 1, maxLength: 5 }).map(sortedIds),
    outgoing: ids,
    learners: ids,
  })
  .map(made => ({ ...made, learners: made.learners.filter(one => !made.voters.includes(one)) }));

const envelope = { from: id, to: id, term: u53 };
const rest = fc.record({ session: u53, sequence: u53, data });

const append: fc.Arbitrary<Message> = fc
  .record({
    ...envelope,
    previousIndex: fc.nat(2 ** 40),
    commit: u53,
    steps: fc.array(fc.record({ step: fc.nat(3), kind: fc.nat(2), rest, configuration }), { maxLength: 8 }),
    previousTerm: fc.nat(2 ** 30),
  })
  .map(({ steps, term: more, ...message }) => {
    let term = message.previousTerm;
    const entries = steps.map(({ step, kind, rest: fields, configuration: one }, i): Entry => {
      const bytes = kind === ENTRY.CONFIGURATION ? encodeConfiguration(one) : fields.data;
      return { ...fields, data: bytes, kind, term: (term += step), index: message.previousIndex + 1 + i };
    });
    return { kind: MESSAGE.APPEND, ...message, term: Math.max(term, more), entries };
  });

const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ kind: fc.constant(MESSAGE.PRE_VOTE), ...envelope, lastIndex: u53, lastTerm: u53 }),
  fc.record({ kind: fc.constant(MESSAGE.PRE_VOTE_ANSWER), ...envelope, granted: flag }),
  fc.record({ kind: fc.constant(MESSAGE.VOTE), ...envelope, lastIndex: u53, lastTerm: u53, force: flag }),
  fc.record({ kind: fc.constant(MESSAGE.VOTE_ANSWER), ...envelope, granted: flag }),
  append,
  fc.record({
    kind: fc.constant(MESSAGE.APPEND_ANSWER),
    ...envelope,
    match: u53,
    rejected: u53,
    hintIndex: u53,
    hintTerm: u53,
  }),
  fc.record({ kind: fc.constant(MESSAGE.HEARTBEAT), ...envelope, round: u53, commit: u53, quiesce: flag }),
  fc.record({ kind: fc.constant(MESSAGE.HEARTBEAT_ANSWER), ...envelope, round: u53 }),
  fc.record({ kind: fc.constant(MESSAGE.TIMEOUT_NOW), ...envelope }),
  fc.record({ kind: fc.constant(MESSAGE.PROPOSE), ...envelope, proposals: fc.array(rest, { maxLength: 5 }) }),
  fc.record({ kind: fc.constant(MESSAGE.READ), ...envelope, context: u53, lease: flag }),
  fc.record({ kind: fc.constant(MESSAGE.READ_ANSWER), ...envelope, context: u53, index: u53 }),
  fc.record({
    kind: fc.constant(MESSAGE.REFUSE),
    ...envelope,
    what: fc.constantFrom('proposal' as const, 'read' as const),
    session: u53,
    sequence: u53,
    reason: fc.constantFrom(...REFUSAL_REASONS),
    leader: u53,
  }),
);

function bytesOf(one: Message): Uint8Array {
  const writer = new VarintWriter(4);
  encodeMessage(writer, one);
  return writer.copy();
}

describe('messages as bytes', () => {
  it('come back as they were, also from the middle of a frame', () => {
    fc.assert(
      fc.property(message, fc.uint8Array({ maxLength: 5 }), (one, around) => {
        const bytes = bytesOf(one);
        expect(decodeMessage(bytes)).toEqual(one);
        const frame = new Uint8Array([...around, ...bytes, ...around]);
        expect(decodeMessage(frame, around.length, around.length + bytes.length)).toEqual(one);
      }),
      { numRuns: 2_000 },
    );
  });

  it('are all or nothing', () => {
    fc.assert(
      fc.property(message, fc.nat(), (one, at) => {
        const bytes = bytesOf(one);
        expect(decodeMessage(bytes.subarray(0, at % bytes.length))).toBeUndefined();
        expect(decodeMessage(new Uint8Array([...bytes, 0]))).toBeUndefined();
      }),
      { numRuns: 1_000 },
    );
  });

  it('that are hostile give nothing, or something that could have been sent', () => {
    const mangled = fc
      .tuple(message, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }))
      .map(([one, changes]) => {
        const bytes = bytesOf(one);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        return bytes;
      });
    fc.assert(
      fc.property(fc.oneof(mangled, fc.uint8Array({ maxLength: 200 })), bytes => {
        const read = decodeMessage(bytes);
        if (read === undefined) return;
        expect(decodeMessage(bytesOf(read))).toEqual(read);
        if (read.kind !== MESSAGE.APPEND) return;
        const terms = [read.previousTerm, ...read.entries.map(({ term }) => term), read.term];
        expect(terms).toEqual([...terms].sort((a, b) => a - b));
        expect(read.entries.every(({ index }, i) => index === read.previousIndex + 1 + i)).toBe(true);
        for (const { kind, data: held } of read.entries)
          if (kind === ENTRY.CONFIGURATION) expect(decodeConfiguration(held)).toBeDefined();
      }),
      { numRuns: 5_000 },
    );
  });

  it('do not promise more entries than there are bytes', () => {
    const writer = new VarintWriter();
    writer.byte(MESSAGE.APPEND).number(1).number(2).number(3).number(0).number(0).number(0);
    writer.number(Number.MAX_SAFE_INTEGER);
    expect(decodeMessage(writer.copy())).toBeUndefined();
  });
});

describe('configurations and the meta of a state', () => {
  it('come back as they were', () => {
    fc.assert(
      fc.property(configuration, u53, u53, (one, index, term) => {
        expect(decodeConfiguration(encodeConfiguration(one))).toEqual(one);
        const meta = { index, term, configuration: one };
        expect(decodeSnapshotMeta(encodeSnapshotMeta(meta))).toEqual(meta);
      }),
    );
    const nobody = { voters: [], outgoing: [], learners: [] };
    expect(decodeConfiguration(encodeConfiguration(nobody))).toEqual(nobody);
  });

  it('of nonsense are none', () => {
    const refused = [
      [[1, 1], [], []],
      [[1, 2], [], [2]],
      [[], [1], []],
      [[], [], [3]],
    ].map(([voters, outgoing, learners]) => ({ voters, outgoing, learners }) as unknown as Configuration);
    for (const one of refused) expect(decodeConfiguration(encodeConfiguration(one))).toBeUndefined();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), bytes => {
        const read = decodeConfiguration(bytes);
        if (read) expect(decodeConfiguration(encodeConfiguration(read))).toEqual(read);
        const meta = decodeSnapshotMeta(bytes);
        if (meta) expect(decodeSnapshotMeta(encodeSnapshotMeta(meta))).toEqual(meta);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('VarintReader', () => {
  it('refuses what is above 2^53 - 1, and reads nothing any more', () => {
    const reader = new VarintReader(new Uint8Array([255, 255, 255, 255, 255, 255, 255, 127, 1]));
    expect([reader.number(), reader.broken, reader.isDone]).toEqual([0, true, false]);
    expect(new VarintReader(new VarintWriter(1).number(Number.MAX_SAFE_INTEGER).copy()).number()).toBe(
      Number.MAX_SAFE_INTEGER,
    );
  });

  it('knows two flags only', () => {
    const reader = new VarintReader(new Uint8Array([0, 1, 2]));
    expect([reader.flag(), reader.flag(), reader.broken]).toEqual([false, true, false]);
    expect([reader.flag(), reader.broken]).toEqual([false, true]);
  });
});
