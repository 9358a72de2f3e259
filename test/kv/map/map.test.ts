import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeMapAnswer,
  encodeDelete,
  encodeGet,
  encodePut,
  MAP_KEY_BYTES_MAX,
  MAP_STATUS,
  MAP_VALUE_BYTES_MAX,
  mapKey,
  mapKeyFault,
} from '../../../src/kv/map/map-codec.js';
import { type ListStep, MapListing, type MapListingOptions } from '../../../src/kv/map/map-listing.js';
import { OneRange } from './map-model.js';

const VALUE = Buffer.from('value');
const KEYS = [
  'a',
  'a/1',
  'a/2',
  'b',
  'ä',
  'é/x',
  '日本',
  '\u{1f600}',
  'z'.repeat(MAP_KEY_BYTES_MAX),
] as const;

function put(range: OneRange, key: string, value: Uint8Array = VALUE, expected?: number) {
  return range.mutate(encodePut({ key, value, nowMs: 5, ...(expected === undefined ? {} : { expected }) }));
}

/** All of a listing, from whichever range has its key. */
function listed(ranges: readonly OneRange[], options: MapListingOptions = {}): [string[], MapListing] {
  const listing = new MapListing(options);
  const keys: string[] = [];
  for (let asked = 0; !listing.isDone; asked++) {
    expect(asked).toBeLessThan(1000);
    const range = ranges.find(other => other.holds(listing.key))!;
    const step: ListStep = listing.take(range.ask(listing.request()));
    if (step.kind === 'failed') throw new Error(step.answer.kind);
    for (const { key, bytes, value } of step.entries) {
      keys.push(key);
      if (options.withValues) expect(value?.length).toBe(bytes);
      else expect(value).toBeUndefined();
    }
  }
  return [keys, listing];
}

describe('a map range', () => {
  it('puts, gets and deletes, and tells the revision and the time of a change', () => {
    const range = new OneRange(7);
    expect(range.query(encodeGet('a'))).toEqual({ kind: 'absent' });
    expect(put(range, 'a')).toEqual({ kind: 'put', revision: 1 });
    expect(put(range, 'a', Buffer.from('2'))).toEqual({ kind: 'put', revision: 2 });
    const { kind, ...found } = range.query(encodeGet('a')) as { kind: string; value: Uint8Array };
    expect([kind, { ...found, value: Buffer.from(found.value).toString() }]).toEqual([
      'found',
      { revision: 2, modifiedAtMs: 5, value: '2' },
    ]);
    expect(range.mutate(encodeDelete({ key: 'a', nowMs: 6 }))).toEqual({ kind: 'deleted', revision: 2 });
    expect(range.mutate(encodeDelete({ key: 'a', nowMs: 6 }))).toEqual({ kind: 'deleted', revision: 0 });
    expect(put(range, 'a')).toEqual({ kind: 'put', revision: 3 });
  });

  it('does what is conditional on a revision only at that revision', () => {
    const range = new OneRange(7);
    expect(put(range, 'a', VALUE, 4)).toEqual({ kind: 'conflict', revision: 0 });
    expect(put(range, 'a', VALUE, 0)).toEqual({ kind: 'put', revision: 1 });
    expect(put(range, 'a', VALUE, 0)).toEqual({ kind: 'conflict', revision: 1 });
    expect(range.mutate(encodeDelete({ key: 'a', nowMs: 1, expected: 2 }))).toEqual({
      kind: 'conflict',
      revision: 1,
    });
    expect(put(range, 'a', VALUE, 1)).toEqual({ kind: 'put', revision: 2 });
    expect(range.mutate(encodeDelete({ key: 'a', nowMs: 1, expected: 2 }))).toEqual({
      kind: 'deleted',
      revision: 2,
    });
    expect(range.coprocessor.entries).toBe(0);
  });

  it('takes keys and values up to their limits, and says of a text why it is no key', () => {
    const range = new OneRange(7);
    const long = 'z'.repeat(MAP_KEY_BYTES_MAX);
    expect(put(range, long, new Uint8Array(MAP_VALUE_BYTES_MAX)).kind).toBe('put');
    expect(put(range, `${long}z`).kind).toBe('malformed');
    expect(put(range, 'a', new Uint8Array(MAP_VALUE_BYTES_MAX + 1)).kind).toBe('malformed');
    for (const key of ['', 'a\0b']) expect(put(range, key).kind).toBe('malformed');
    expect(KEYS.map(mapKeyFault)).toEqual(KEYS.map(() => undefined));
    for (const key of ['', `${long}z`, 'a\0b', '\ud800']) expect(mapKeyFault(key)).toMatch(/^a key /);
  });

  it('lets in no key of another range, and no question about one', () => {
    const range = new OneRange(7);
    const upper = range.divide(mapKey('m'), 8);
    expect(put(range, 'm')).toEqual({ kind: 'outside' });
    expect(put(upper, 'a')).toEqual({ kind: 'outside' });
    expect(range.query(encodeGet('x'))).toEqual({ kind: 'outside' });
    expect(decodeMapAnswer(upper.ask(new MapListing().request()))).toEqual({ kind: 'outside' });
    expect([range.coprocessor.entries, upper.coprocessor.entries]).toEqual([0, 0]);
  });

  it('is full at its bound of entries or bytes, but for what does not grow', () => {
    const few = new OneRange(7, undefined, undefined, { entriesMax: 2, bytesMax: 1000 });
    expect(['a', 'b', 'c', 'a'].map(key => put(few, key).kind)).toEqual(['put', 'put', 'full', 'put']);
    few.mutate(encodeDelete({ key: 'b', nowMs: 1 }));
    expect(put(few, 'c').kind).toBe('put');
    const small = new OneRange(7, undefined, undefined, { entriesMax: 20, bytesMax: 30 });
    expect(put(small, 'a', new Uint8Array(20)).kind).toBe('put');
    expect(put(small, 'a', new Uint8Array(26)).kind).toBe('full');
    expect(put(small, 'b').kind).toBe('full');
    expect(put(small, 'a', new Uint8Array(1)).kind).toBe('put');
    expect(put(small, 'b').kind).toBe('put');
  });

  it('shares the bound when it is divided, and has it whole again when it is joined', () => {
    const limits = { entriesMax: 11, bytesMax: 1000 };
    const lower = new OneRange(7, undefined, undefined, limits);
    for (const key of ['a', 'b', 'x']) put(lower, key);
    const upper = lower.divide(mapKey('m'), 8);
    const shares = [lower, upper].map(({ coprocessor }) => coprocessor.share);
    expect(shares.map(({ entriesMax }) => entriesMax)).toEqual([6, 5]);
    expect(shares[0]!.bytesMax + shares[1]!.bytesMax).toBe(limits.bytesMax);
    for (let i = 0; i < 20; i++)
      for (const range of [lower, upper]) put(range, range === lower ? `a${i}` : `x${i}`);
    expect([lower.coprocessor.entries, upper.coprocessor.entries]).toEqual([6, 5]);
    expect([put(lower, 'a99').kind, put(upper, 'x99').kind]).toEqual(['full', 'full']);
    lower.absorb(upper, 8);
    expect(lower.coprocessor.share).toMatchObject(limits);
    expect({ entries: lower.coprocessor.entries, bytes: lower.coprocessor.bytes }).toEqual(lower.counted());
  });

  it('gives no revision of a key again, whichever half it was in', () => {
    const lower = new OneRange(7);
    put(lower, 'a');
    const upper = lower.divide(mapKey('m'), 8);
    const revisions = ['x', 'x', 'x'].map(key => put(upper, key));
    upper.mutate(encodeDelete({ key: 'x', nowMs: 1 }));
    lower.absorb(upper, 8);
    revisions.push(put(lower, 'x'));
    expect(revisions.map(answer => 'revision' in answer && answer.revision)).toEqual([2, 3, 4, 5]);
  });

  it('answers bytes that are no command with a status, and changes nothing', () => {
    const range = new OneRange(7);
    put(range, 'a');
    const before = [...Object.entries(range.counted()), range.coprocessor.revision];
    const valid = [
      encodePut({ key: 'b', value: VALUE, nowMs: 1 }),
      encodeGet('a'),
      new MapListing().request(),
    ];
    const cut = fc
      .tuple(fc.constantFrom(...valid), fc.nat(), fc.nat(255), fc.nat(12))
      .map(([bytes, at, value, length]) => {
        const out = Uint8Array.from(bytes);
        out[at % out.length] = value;
        return length > 8 ? out.subarray(0, at % out.length) : out;
      })
      // A command that is one all the same is not what is tested.
      .filter(bytes => !['put', 'deleted'].includes(new OneRange(1).mutate(bytes).kind));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 40 }), cut), bytes => {
        const refused = ['malformed', 'unsupported', 'outside', 'conflict', 'full'];
        expect(refused).toContain(range.mutate(bytes).kind);
        expect(['found', 'absent', 'listed', ...refused]).toContain(range.query(bytes).kind);
        expect([...Object.entries(range.counted()), range.coprocessor.revision]).toEqual(before);
      }),
      { numRuns: 2000 },
    );
  });

  it('has answers whose reader takes anything', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.boolean(), (bytes, isOurs) => {
        const answer = decodeMapAnswer(isOurs ? Uint8Array.of(1, MAP_STATUS.LISTED, ...bytes) : bytes);
        const taken = new MapListing().take(bytes);
        if (answer.kind === 'garbled') expect(taken.kind).toBe('failed');
      }),
      { numRuns: 2000 },
    );
    const stuck = new MapListing({ prefix: 'a' });
    const back = Uint8Array.of(1, MAP_STATUS.LISTED, 1, 0x6d, 0, 0);
    expect(stuck.take(back)).toEqual({ kind: 'failed', answer: { kind: 'garbled' } });
  });
});

describe('a listing', () => {
  it('gives a page at a time, from the ranges in turn, and what is behind a key', () => {
    const lower = new OneRange(7);
    for (const key of KEYS) put(lower, key);
    const upper = lower.divide(mapKey('b'), 8);
    const middle = lower.divide(mapKey('a/1\0'), 9);
    const ranges = [lower, middle, upper];
    const sorted = [...KEYS].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    for (const pageEntries of [1, 2, 1000])
      expect(listed(ranges, { pageEntries, withValues: pageEntries === 2 })[0]).toEqual(sorted);
    expect(listed(ranges, { prefix: 'a/' })[0]).toEqual(['a/1', 'a/2']);
    expect(listed(ranges, { prefix: 'a', after: 'a/1' })[0]).toEqual(['a/2']);
    expect(listed(ranges, { prefix: 'a', after: 'b' })[0]).toEqual([]);
    const [keys, listing] = listed(ranges, { after: 'a', entriesMax: 3 });
    expect([keys, listing.more]).toEqual([sorted.slice(1, 4), true]);
  });

  it('bounds what an answer holds', () => {
    const range = new OneRange(7);
    for (let i = 0; i < 20; i++) put(range, `k${i}`, new Uint8Array(MAP_VALUE_BYTES_MAX));
    const listing = new MapListing({ withValues: true });
    const bytes: number[] = [];
    while (!listing.isDone) {
      const answer = range.ask(listing.request());
      bytes.push(answer.length);
      listing.take(answer);
    }
    expect(Math.max(...bytes)).toBeLessThan(256 * 1024 + 1024);
    expect(bytes.length).toBe(7);
  });
});

/** What the map should hold, and the greatest revision that each key ever had. */
class Model {
  readonly entries = new Map<string, { value: string; revision: number }>();
  readonly greatest = new Map<string, number>();
}

const KEY = fc.constantFrom(...KEYS, 'b/1', 'b/2', 'c', 'm', 'x');
const STEP = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ step: fc.constant('put'), key: KEY, size: fc.nat(40), expected: fc.nat(3) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ step: fc.constant('delete'), key: KEY, size: fc.nat(0), expected: fc.nat(3) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ step: fc.constant('divide'), key: KEY, size: fc.nat(0), expected: fc.nat(0) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ step: fc.constant('join'), key: KEY, size: fc.nat(0), expected: fc.nat(0) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ step: fc.constant('reset'), key: KEY, size: fc.nat(0), expected: fc.nat(0) }),
  },
);

describe('a map of ranges that are divided and joined', () => {
  it('is as its model is, with revisions that never repeat and counts that are right', () => {
    fc.assert(
      fc.property(fc.array(STEP, { maxLength: 80 }), steps => {
        const model = new Model();
        const limits = { entriesMax: 12, bytesMax: 1500 };
        let ids = 1;
        const ranges = new Map([[ids, new OneRange(1, undefined, undefined, limits)]]);
        const rangeOf = (key: string) => [...ranges].find(([, range]) => range.holds(mapKey(key)))!;
        for (const { step, key, size, expected } of steps) {
          const [id, range] = rangeOf(key);
          const has = model.entries.get(key)?.revision ?? 0;
          // 0: whatever there is, 1: that it has, 2 and 3: some that it has not, or none.
          const asked =
            expected === 0 ? {} : { expected: expected === 1 ? has : expected === 2 ? has + 1 : 0 };
          const holds = asked.expected === undefined || asked.expected === has;
          if (step === 'put') {
            const value = Buffer.alloc(size, key);
            const answer = range.mutate(encodePut({ key, value, nowMs: 3, ...asked }));
            if (answer.kind === 'put') {
              expect(holds).toBe(true);
              expect(answer.revision).toBeGreaterThan(model.greatest.get(key) ?? 0);
              model.greatest.set(key, answer.revision);
              model.entries.set(key, { value: value.toString('hex'), revision: answer.revision });
            } else if (holds) expect(answer).toEqual({ kind: 'full' });
            else expect(answer).toEqual({ kind: 'conflict', revision: has });
          } else if (step === 'delete') {
            const answer = range.mutate(encodeDelete({ key, nowMs: 3, ...asked }));
            expect(answer).toEqual({ kind: holds ? 'deleted' : 'conflict', revision: has });
            if (holds) model.entries.delete(key);
          } else if (step === 'divide' && Buffer.compare(mapKey(key), range.boundary.start) > 0) {
            ranges.set(++ids, range.divide(mapKey(key), ids));
          } else if (step === 'join') {
            const upper = [...ranges].find(
              ([, other]) => Buffer.compare(other.boundary.start, range.boundary.end) === 0,
            );
            if (upper !== undefined) {
              range.absorb(upper[1], upper[0]);
              ranges.delete(upper[0]);
            }
          } else if (step === 'reset') {
            const again = new OneRange(id, range.boundary, range.engine, limits);
            expect(again.coprocessor.share).toEqual(range.coprocessor.share);
            ranges.set(id, again);
          }
          for (const one of ranges.values()) {
            const { entries, bytes } = one.coprocessor;
            expect({ entries, bytes }).toEqual(one.counted());
          }
          const shares = [...ranges.values()].map(({ coprocessor }) => coprocessor.share);
          expect(shares.reduce((sum, { entriesMax }) => sum + entriesMax, 0)).toBe(limits.entriesMax);
          expect(shares.reduce((sum, { bytesMax }) => sum + bytesMax, 0)).toBe(limits.bytesMax);
        }
        for (const key of KEYS) {
          const found = rangeOf(key)[1].query(encodeGet(key));
          const wanted = model.entries.get(key);
          const value = found.kind === 'found' ? Buffer.from(found.value).toString('hex') : undefined;
          expect(value).toBe(wanted?.value);
        }
        expect(listed([...ranges.values()], { pageEntries: 2 })[0]).toEqual(
          [...model.entries.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
        );
      }),
      { numRuns: 300 },
    );
  });
});
