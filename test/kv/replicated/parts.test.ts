import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from '../../../src/base/bytes.js';
import { ShoalError } from '../../../src/base/errors.js';
import { bookKey, localKey } from '../../../src/kv/keys.js';
import { MemoryEngine } from '../../../src/kv/memory-engine.js';
import { union } from '../../../src/kv/range.js';
import { BOOK, BOOKS_VERSION } from '../../../src/kv/replicated/books.js';
import {
  beginCommand,
  COMMAND,
  isCommand,
  readCommandHead,
  serviceCommand,
} from '../../../src/kv/replicated/commands.js';
import {
  type Descriptor,
  descriptorFault,
  readDescriptor,
  writeDescriptor,
} from '../../../src/kv/replicated/descriptor.js';
import { openIdentity } from '../../../src/kv/replicated/identity.js';
import { KNOWN, RUNS_MAX, SESSIONS_MAX, Sessions } from '../../../src/kv/replicated/sessions.js';

function write(engine: MemoryEngine, work: () => void): void {
  engine.write(work, () => undefined);
}

describe('the numbers of what was applied', () => {
  it('are known exactly, in whatever order they come, also when they are read again or put together', () => {
    const step = fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 60 }), fc.boolean());
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), steps => {
        const engine = new MemoryEngine();
        const halves = [new Sessions(4), new Sessions(5)];
        const model = new Set<string>();
        write(engine, () => {
          for (const [at, [session, sequence, which]] of steps.entries()) {
            const half = halves[which ? 1 : 0]!;
            if (half.look(session, sequence) === KNOWN.NEW) half.mark(session, sequence, 0, at, engine);
            model.add(`${which}${session}:${sequence}`);
          }
          for (const half of halves) half.finish(engine);
        });
        for (const [at, half] of halves.entries()) {
          const read = new Sessions(4 + at);
          read.open(engine);
          for (let session = 1; session <= 3; session++)
            for (let sequence = 1; sequence <= 61; sequence++)
              for (const sessions of [half, read])
                expect(sessions.look(session, sequence) === KNOWN.APPLIED).toBe(
                  model.has(`${at === 1}${session}:${sequence}`),
                );
        }
        write(engine, () => halves[0]!.merge(halves[1]!, engine));
        const both = new Sessions(4);
        both.open(engine);
        for (let session = 1; session <= 3; session++)
          for (let sequence = 1; sequence <= 61; sequence++) {
            const isApplied = [true, false].some(half => model.has(`${half}${session}:${sequence}`));
            expect(both.look(session, sequence)).toBe(isApplied ? KNOWN.APPLIED : KNOWN.NEW);
          }
      }),
      { numRuns: 100 },
    );
  });

  it('that are far behind are forgotten, which is not to say new', () => {
    const engine = new MemoryEngine();
    const sessions = new Sessions(4);
    write(engine, () => {
      for (let sequence = 2; sequence <= 4 * RUNS_MAX; sequence += 2)
        sessions.mark(1, sequence, 0, sequence, engine);
    });
    expect(sessions.look(1, 2)).toBe(KNOWN.FORGOTTEN);
    expect(sessions.look(1, 3)).toBe(KNOWN.FORGOTTEN);
    expect(sessions.look(1, 4 * RUNS_MAX)).toBe(KNOWN.APPLIED);
    expect(sessions.look(1, 4 * RUNS_MAX - 1)).toBe(KNOWN.NEW);
    expect(sessions.look(1, 4 * RUNS_MAX + 1)).toBe(KNOWN.NEW);
  });

  it('below the lowest that has no answer go, and are not new', () => {
    const engine = new MemoryEngine();
    const sessions = new Sessions(4);
    const key = bookKey(new ByteWriter(32), BOOK.SESSIONS, 4).copy();
    let bytesMax = 0;
    // Every second number goes elsewhere, and ten are under way.
    for (let sequence = 2; sequence <= 4 * RUNS_MAX; sequence += 2)
      write(engine, () => {
        sessions.mark(1, sequence, Math.max(1, sequence - 10), sequence, engine);
        sessions.finish(engine);
        engine.scan(key, Uint8Array.of(...key, 0xff), (_, value) => {
          bytesMax = Math.max(bytesMax, value.length);
          return true;
        });
      });
    expect(bytesMax).toBeLessThan(120);
    const last = 4 * RUNS_MAX;
    const read = new Sessions(4);
    read.open(engine);
    for (const known of [sessions, read]) {
      for (const gone of [1, 2, last - 12, last - 11]) expect(known.look(1, gone)).toBe(KNOWN.FORGOTTEN);
      for (const kept of [last - 10, last - 2, last]) expect(known.look(1, kept)).toBe(KNOWN.APPLIED);
      for (const open of [last - 9, last - 1, last + 1]) expect(known.look(1, open)).toBe(KNOWN.NEW);
    }
  });

  it('are told apart by whoever asks in any order and tells the lowest without answer', () => {
    const call = fc.record({
      wait: fc.nat(20),
      tries: fc.array(fc.nat(30), { maxLength: 3 }),
      half: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(call, { maxLength: 100 }), calls => {
        const engine = new MemoryEngine();
        const halves = [new Sessions(4), new Sessions(5)];
        const copies = calls.flatMap(({ wait, tries, half }, at) =>
          [0, ...tries].map(late => ({
            sequence: at + 1,
            half,
            sentMs: at,
            atMs: at + late,
            endMs: at + wait,
          })),
        );
        copies.sort((a, b) => a.atMs - b.atMs);
        const applied = new Set<number>();
        for (const { sequence, half, sentMs, atMs, endMs } of copies) {
          // What has not ended when a copy is sent: the lowest of it.
          const lowest = calls.findIndex(({ wait }, at) => at + wait >= sentMs) + 1;
          const sessions = halves[half ? 1 : 0]!;
          const known = sessions.look(1, sequence);
          if (known === KNOWN.APPLIED) expect(applied.has(sequence)).toBe(true);
          // A call that has not ended is new to its range until it is applied, and then known.
          if (atMs <= endMs) expect(known).toBe(applied.has(sequence) ? KNOWN.APPLIED : KNOWN.NEW);
          if (known !== KNOWN.NEW) continue;
          expect(applied.has(sequence)).toBe(false);
          applied.add(sequence);
          write(engine, () => sessions.mark(1, sequence, lowest, atMs + 1, engine));
        }
      }),
    );
  });

  it('are kept for so many sessions, and those of the one that was applied longest ago go', () => {
    const engine = new MemoryEngine();
    const sessions = new Sessions(4);
    write(engine, () => {
      for (let id = 1; id <= SESSIONS_MAX; id++) sessions.mark(id, 1, 0, id, engine);
      sessions.mark(1, 2, 0, SESSIONS_MAX + 1, engine);
      sessions.mark(SESSIONS_MAX + 1, 1, 0, SESSIONS_MAX + 2, engine);
      sessions.finish(engine);
    });
    const read = new Sessions(4);
    read.open(engine);
    for (const known of [sessions, read]) {
      expect(known.count).toBe(SESSIONS_MAX);
      expect([known.look(1, 1), known.look(2, 1), known.look(3, 1)]).toEqual([
        KNOWN.APPLIED,
        KNOWN.NEW,
        KNOWN.APPLIED,
      ]);
    }
  });
});

const DESCRIPTOR: Descriptor = {
  id: 2 ** 50 + 3,
  genesis: 9,
  service: 0x72,
  epoch: 2 ** 40,
  boundary: { start: Uint8Array.of(0x72), end: Uint8Array.of(0x72, 0xff) },
  members: [
    { replica: 1, store: 2 ** 52, role: 0 },
    { replica: 7, store: 5, role: 1 },
  ],
  membersAt: 12,
  changing: true,
  nextReplica: 8,
  merging: { target: 4, targetEpoch: 5, targetMembersAt: 3, at: 6 },
  absorbed: [{ range: 3, epoch: 2 }],
  pristine: true,
};

describe('a descriptor', () => {
  it('is read as it was written', () => {
    const plain = { ...DESCRIPTOR, merging: undefined, changing: false, pristine: false };
    for (const descriptor of [DESCRIPTOR, plain]) {
      const bytes = writeDescriptor(new ByteWriter(), descriptor).copy();
      const read = readDescriptor(new ByteReader(bytes));
      const plainBytes = ({ start, end }: { start: Uint8Array; end: Uint8Array }) => [[...start], [...end]];
      expect({ ...read, boundary: plainBytes(read.boundary) }).toEqual({
        ...descriptor,
        boundary: plainBytes(descriptor.boundary),
      });
      expect(descriptorFault(read)).toBeUndefined();
    }
  });

  it('is refused when it breaks a rule', () => {
    const [first, second] = DESCRIPTOR.members as [Descriptor['members'][0], Descriptor['members'][0]];
    const broken: Partial<Descriptor>[] = [
      { id: 0 },
      { epoch: 0 },
      { boundary: { start: Uint8Array.of(5), end: Uint8Array.of(5) } },
      { boundary: { start: new Uint8Array(0), end: Uint8Array.of(5) } },
      { boundary: { start: Uint8Array.of(4), end: new Uint8Array(5000).fill(9) } },
      { members: [second, first] },
      { members: [first, { ...second, replica: 8 }] },
      { members: [first, { ...second, store: first.store }] },
      { members: [first, { ...second, role: 3 }] },
      { absorbed: Array.from({ length: 65 }, () => ({ range: 1, epoch: 1 })) },
    ];
    for (const change of broken) expect(descriptorFault({ ...DESCRIPTOR, ...change })).toBeDefined();
  });

  it('has neighbours on both sides', () => {
    const of = (start: number, end: number) => ({ start: Uint8Array.of(start), end: Uint8Array.of(end) });
    expect(union(of(1, 2), of(2, 3))).toEqual(of(1, 3));
    expect(union(of(2, 3), of(1, 2))).toEqual(of(1, 3));
    expect(union(of(1, 2), of(3, 4))).toBeUndefined();
    expect(union(of(1, 3), of(2, 4))).toBeUndefined();
  });
});

describe('a command', () => {
  it('says how far behind its proposer is with its answers, or does not, as those of version 1', () => {
    const head = { command: 0, epoch: 0, lowest: 0 };
    const body = Uint8Array.of(1, 2, 3);
    const former = beginCommand(new ByteWriter(), COMMAND.SERVICE, 9).raw(body).copy();
    for (const [data, lowest] of [
      [former, 0],
      [serviceCommand(9, body), 0],
      [serviceCommand(9, body, 0), 1000],
      [serviceCommand(9, body, 7), 993],
      [serviceCommand(9, body, 2000), 0],
      [serviceCommand(9, body, 2 ** 32), 0],
    ] as const) {
      const reader = new ByteReader(data);
      readCommandHead(reader, 1000, head);
      expect(head).toEqual({ command: COMMAND.SERVICE, epoch: 9, lowest });
      expect(Buffer.from(reader.raw(reader.remaining))).toEqual(Buffer.from(body));
      expect(isCommand(data)).toBe(true);
      for (let length = 0; length < data.length - 3; length++)
        expect(isCommand(data.subarray(0, length))).toBe(false);
    }
  });
});

describe('the identity of a store', () => {
  const random = { u32: () => 0x9abc_def0 };

  it('lasts as long as its data, and counts its starts', () => {
    const engine = new MemoryEngine();
    const first = openIdentity(engine, random);
    const second = openIdentity(engine, { u32: () => 1 });
    expect(second).toEqual({ store: first.store, starts: 2 });
    expect(Number.isSafeInteger(first.store)).toBe(true);
  });

  it('of a newer version is not opened', () => {
    const engine = new MemoryEngine();
    openIdentity(engine, random);
    const key = bookKey(new ByteWriter(), BOOK.IDENTITY, 0).copy();
    const newer = new ByteWriter().u32(BOOKS_VERSION + 1).copy();
    write(engine, () => engine.put(key, newer));
    const code = (() => {
      try {
        openIdentity(engine, random);
        return 'none';
      } catch (error) {
        return (error as ShoalError).code;
      }
    })();
    expect(code).toBe('SHOAL_STORAGE_VERSION');
    expect(Buffer.from(engine.get(key)!)).toEqual(newer);
    expect(ShoalError.name).toBe('ShoalError');
  });
});

describe('keys of ranges', () => {
  it('are as they were for small ids, and keep large ones apart', () => {
    const hex = (range: number) => localKey(new ByteWriter(), 0x72, range, 0x63).view().toString('hex');
    expect(hex(1)).toBe('4c720000000163');
    const ids = [1, 2 ** 32 - 2, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 2];
    const all = ids.map(hex);
    expect(new Set(all).size).toBe(ids.length);
    for (const one of all)
      for (const other of all) if (one !== other) expect(other.startsWith(one.slice(0, -2))).toBe(false);
  });
});
