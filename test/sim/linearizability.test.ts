import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkByKey, checkRegister, OPERATION, type Operation, verdictWords } from './linearizability.js';
import { SeededRandom } from './random.js';

const NEVER = Number.POSITIVE_INFINITY;

function read(seen: number, startedAt: number, endedAt: number): Operation {
  return { kind: OPERATION.READ, value: 0, expected: 0, seen, startedAt, endedAt };
}

function write(value: number, startedAt: number, endedAt: number): Operation {
  return { kind: OPERATION.WRITE, value, expected: 0, seen: undefined, startedAt, endedAt };
}

function swap(
  expected: number,
  value: number,
  seen: number | undefined,
  startedAt: number,
  endedAt: number,
): Operation {
  return { kind: OPERATION.SWAP, value, expected, seen, startedAt, endedAt };
}

function add(value: number, seen: number | undefined, startedAt: number, endedAt: number): Operation {
  return { kind: OPERATION.ADD, value, expected: 0, seen, startedAt, endedAt };
}

const LINEARIZABLE: Readonly<Record<string, readonly Operation[]>> = {
  'nothing at all': [],
  'one after the other': [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)],
  'a read beside a write sees the old value': [write(1, 0, 10), read(0, 1, 2)],
  'a read beside a write sees the new value': [write(1, 0, 10), read(1, 1, 2)],
  'reads beside a write see the old, then the new value': [write(1, 0, 10), read(0, 1, 2), read(1, 3, 4)],
  'two writes in the order that the reads tell': [
    write(1, 0, 10),
    write(2, 0, 10),
    read(2, 1, 2),
    read(1, 3, 4),
  ],
  'a write without an answer is seen late': [write(1, 0, NEVER), read(0, 1, 50), read(1, 60, 61)],
  'a write without an answer is never seen': [write(1, 0, NEVER), read(0, 10, 11), read(0, 20, 21)],
  'a swap that found another value changes nothing': [write(1, 0, 1), swap(2, 3, 1, 2, 3), read(1, 4, 5)],
  'a swap that succeeded': [write(1, 0, 1), swap(1, 3, 1, 2, 3), read(3, 4, 5)],
  'a swap answered without what it saw': [write(1, 0, 1), swap(1, 3, undefined, 2, 3), read(3, 4, 5)],
  'a swap without an answer that happened, after one that did': [
    write(1, 0, NEVER),
    swap(1, 2, undefined, 1, NEVER),
    read(2, 5, 6),
  ],
  'an unknown write between that explains why a swap failed': [
    write(1, 0, 1),
    write(9, 2, NEVER),
    swap(1, 3, 9, 3, 4),
  ],
  'sums in their order': [add(2, 0, 0, 10), add(3, 2, 0, 10), read(5, 11, 12)],
  'an unknown addition counts or not': [add(2, undefined, 0, NEVER), read(0, 1, 2), read(2, 3, 4)],
  'operations that touch are concurrent': [write(1, 0, 1), read(0, 1, 2)],
  'a value written twice': [write(1, 0, 1), write(2, 2, 3), write(1, 4, 5), read(1, 6, 7)],
};

const WRONG: Readonly<Record<string, readonly Operation[]>> = {
  'a value nobody wrote': [write(1, 0, 1), read(7, 2, 3)],
  'a stale read': [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
  'a write that is forgotten': [write(1, 0, 1), read(0, 2, 3)],
  'new, then old again': [write(1, 0, 10), read(1, 1, 2), read(0, 3, 4)],
  'two readers disagree on the order of two writes': [
    write(1, 0, 1),
    write(2, 0, 1),
    read(1, 2, 3),
    read(2, 4, 5),
    read(1, 6, 7),
  ],
  'an unknown write is seen before it began': [read(1, 0, 1), write(1, 2, NEVER)],
  'an unknown write is seen, and then not': [write(1, 0, NEVER), read(1, 1, 2), read(0, 3, 4)],
  'two swaps of one value succeed': [write(1, 0, 1), swap(1, 2, 1, 2, 9), swap(1, 3, 1, 2, 9)],
  'a swap without an answer is seen whose value was never there': [
    swap(7, 2, undefined, 0, NEVER),
    read(2, 1, 2),
  ],
  'an addition counted twice': [add(2, 0, 0, 1), read(4, 2, 3)],
  'an unknown addition counted twice': [add(2, undefined, 0, NEVER), read(4, 2, 3)],
  'an addition lost': [add(2, 0, 0, 1), add(3, 0, 2, 3)],
};

describe('a history of one register', () => {
  for (const [name, history] of Object.entries(LINEARIZABLE)) {
    it(`linearizable: ${name}`, () => {
      expect(checkRegister(history, 0).kind).toBe('linearizable');
      expect(isLinearizable(history)).toBe(true);
    });
  }

  for (const [name, history] of Object.entries(WRONG)) {
    it(`not linearizable: ${name}`, () => {
      expect(checkRegister(history, 0).kind).toBe('violation');
      expect(isLinearizable(history)).toBe(false);
    });
  }

  it('says what fits nowhere', () => {
    const words = verdictWords(checkRegister([write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)], 0));
    expect(words).toContain('[2.0, 3.0] write 2');
    expect(words).toContain('which leaves 2');
    expect(words).toContain('[4.0, 5.0] read saw 1');
  });

  it('is cut by key', () => {
    const keyed = [write(1, 0, 1), read(1, 2, 3)].map(operation => ({ ...operation, key: 5 }));
    const stale = [write(2, 0, 1), read(0, 2, 3)].map(operation => ({ ...operation, key: 6 }));
    expect(checkByKey(keyed, 0)).toBeUndefined();
    expect(checkByKey([...keyed, ...stale], 0)).toMatchObject({ key: 6, verdict: { kind: 'violation' } });
  });
});

/** The definition, spelled out: every order of every choice of the unknown ones. */
function isLinearizable(history: readonly Operation[], held = 0): boolean {
  if (history.every(({ endedAt }) => endedAt === NEVER)) return true;
  return history.some((operation, at) => {
    const { kind, value, expected, seen, startedAt } = operation;
    const isFirst = history.every(other => other === operation || other.endedAt >= startedAt);
    if (!isFirst || (seen !== undefined && seen !== held)) return false;
    const after = [held, value, held === expected ? value : held, held + value][kind]!;
    return isLinearizable(history.toSpliced(at, 1), after);
  });
}

interface Setting {
  readonly kinds: readonly number[];
  /** Each value is written once. */
  readonly isUnique: boolean;
}

/** Few values and short times, so that about half of the histories are linearizable. */
function histories({ kinds, isUnique }: Setting): fc.Arbitrary<readonly Operation[]> {
  const one = fc.record({
    kind: fc.constantFrom(...kinds),
    value: fc.integer({ min: 1, max: 3 }),
    expected: fc.integer({ min: 0, max: 3 }),
    seen: fc.integer({ min: 0, max: 4 }),
    isAnswered: fc.boolean(),
    startedAt: fc.integer({ min: 0, max: 12 }),
    takes: fc.constantFrom(0, 1, 2, 4, 8, NEVER),
  });
  return fc.array(one, { maxLength: 7 }).map(list =>
    list.map(({ kind, value, expected, seen, isAnswered, startedAt, takes }, at) => ({
      kind,
      value: isUnique ? at + 1 : value,
      expected,
      seen:
        takes !== NEVER && (kind === OPERATION.READ || (isAnswered && kind !== OPERATION.WRITE))
          ? seen
          : undefined,
      startedAt,
      endedAt: startedAt + takes,
    })),
  );
}

describe('random histories', () => {
  const { READ, WRITE, SWAP, ADD } = OPERATION;
  const settings: Readonly<Record<string, Setting>> = {
    'each value written once': { kinds: [READ, READ, WRITE, SWAP], isUnique: true },
    'values written again': { kinds: [READ, READ, WRITE, SWAP], isUnique: false },
    'with additions': { kinds: [READ, READ, WRITE, SWAP, ADD, ADD], isUnique: false },
  };
  for (const [name, setting] of Object.entries(settings)) {
    it(`are judged as the definition judges them: ${name}`, () => {
      const counts = { right: 0, wrong: 0 };
      fc.assert(
        fc.property(histories(setting), history => {
          const expected = isLinearizable(history);
          counts[expected ? 'right' : 'wrong'] += 1;
          expect(checkRegister(history, 0).kind).toBe(expected ? 'linearizable' : 'violation');
        }),
        { numRuns: 3_000, seed: 5 },
      );
      expect(Math.min(counts.right, counts.wrong)).toBeGreaterThan(300);
    });
  }
});

/** A register that works, used by `clients` at once; one of twenty answers is lost. */
function played(seed: number, operations: number, clients: number): Operation[] {
  const random = new SeededRandom(seed);
  const freeAt = new Array<number>(clients).fill(0);
  let held = 0;
  let unique = 0;
  let now = 0;
  const history: Operation[] = [];
  while (history.length < operations) {
    now += random.fraction();
    const client = random.below(clients);
    const startedAt = Math.max(freeAt[client]!, now - 2 * random.fraction());
    if (startedAt > now) continue;
    const kind = random.below(3);
    const expected = random.chance(0.7) ? held : held + 1;
    const endedAt = random.chance(0.05) ? NEVER : now + 2 * random.fraction();
    freeAt[client] = endedAt === NEVER ? now : endedAt;
    const seen = endedAt !== NEVER && kind !== OPERATION.WRITE ? held : undefined;
    unique += 1;
    history.push({ kind, value: unique, expected, seen, startedAt, endedAt });
    if (kind === OPERATION.WRITE || (kind === OPERATION.SWAP && held === expected)) held = unique;
  }
  return history;
}

describe('the work', () => {
  it('grows with the length of a history that holds, not with its unknown outcomes', () => {
    for (let seed = 1; seed <= 20; seed += 1) {
      const verdict = checkRegister(played(seed, 2_000, 8), 0);
      expect(verdict.kind).toBe('linearizable');
      expect(verdict.work).toBeLessThan(100_000);
    }
  });

  it('finds one wrong answer among thousands', () => {
    for (let seed = 1; seed <= 5; seed += 1) {
      const history = played(seed, 2_000, 8);
      const from = new SeededRandom(seed).below(1_000);
      const at = history.findIndex(({ seen }, index) => index > from && seen !== undefined && seen > 0);
      const early = history.find(({ kind }) => kind === OPERATION.WRITE)!;
      history[at + 500] = {
        ...history[at]!,
        ...read(early.value, history[at + 500]!.startedAt, history[at + 500]!.startedAt + 1),
      };
      expect(checkRegister(history, 0).kind).toBe('violation');
    }
  });

  it('is bounded, and says so', () => {
    // None of these sums is told, so that every order of them is to be tried before the wrong one is known.
    const sums = Array.from({ length: 24 }, (_, at) => add(2 ** at, undefined, 0, 100));
    const verdict = checkRegister([...sums, read(-1, 200, 201)], 0, 10_000);
    expect(verdict.kind).toBe('undecided');
    expect(verdictWords(verdict)).toContain('undecided');
  });
});
