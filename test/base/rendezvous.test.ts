import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type RendezvousId, rendezvousPick, rendezvousTop } from '../../src/base/rendezvous.js';

const id: fc.Arbitrary<RendezvousId> = fc.oneof(
  fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
  fc.string({ maxLength: 12 }),
  fc.constantFrom<RendezvousId>(1, '1', 0, ''),
);
const ids = fc.uniqueArray(id, { minLength: 1, maxLength: 30, selector: value => `${typeof value}${value}` });

describe('rendezvous', () => {
  it('picks the same whatever the order, and the first of the top', () => {
    fc.assert(
      fc.property(ids, id, fc.nat(40), (all, key, count) => {
        const top = rendezvousTop(key, all, count);
        const reversed = [...all].reverse();
        expect(rendezvousTop(key, reversed, count)).toEqual(top);
        expect(top).toHaveLength(Math.min(count, all.length));
        expect(new Set(top).size).toBe(top.length);
        expect(rendezvousPick(key, all)).toBe(rendezvousTop(key, all, 1)[0]);
        expect(rendezvousPick(key, reversed)).toBe(rendezvousPick(key, all));
        expect(rendezvousTop(key, all, count, () => 3)).toEqual(top);
      }),
    );
  });

  it('moves only the keys of an id that goes, and to a new id only what it wins', () => {
    const before = Array.from({ length: 20 }, (_, i) => `server ${i}`);
    const after = before.slice(1);
    let moved = 0;
    for (let key = 0; key < 2_000; key++) {
      const was = rendezvousPick(key, before)!;
      const is = rendezvousPick(key, after)!;
      if (was !== is) {
        expect(was).toBe(before[0]);
        moved++;
      }
      const kept = rendezvousTop(key, before, 3).filter(name => name !== before[0]);
      expect(rendezvousTop(key, after, 3).slice(0, kept.length)).toEqual(kept);
    }
    expect(moved).toBeGreaterThan(50);
    expect(moved).toBeLessThan(150);
  });

  it('spreads keys evenly', () => {
    for (const all of [
      Array.from({ length: 10 }, (_, i) => i),
      Array.from({ length: 10 }, (_, i) => `node-${i}.example`),
      Array.from({ length: 10 }, (_, i) => 2 ** 40 + i * 2 ** 33),
    ]) {
      const wins = new Map<RendezvousId, number>();
      for (let key = 0; key < 20_000; key++) {
        const winner = rendezvousPick<RendezvousId>(`key ${key}`, all)!;
        wins.set(winner, (wins.get(winner) ?? 0) + 1);
      }
      // 2,000 expected, standard deviation 42.
      for (const one of all) expect(Math.abs(wins.get(one)! - 2_000)).toBeLessThan(200);
    }
  });

  it('lets ids win in proportion to their weights, and never without weight', () => {
    const weights = new Map([
      ['none', 0],
      ['wrong', Number.NaN],
      ['one', 1],
      ['two', 2],
      ['five', 5],
    ]);
    const wins = new Map<string, number>();
    for (let key = 0; key < 16_000; key++) {
      const winner = rendezvousPick(key, weights.keys(), name => weights.get(name)!)!;
      wins.set(winner, (wins.get(winner) ?? 0) + 1);
    }
    expect([...wins.keys()].sort()).toEqual(['five', 'one', 'two']);
    expect(Math.abs(wins.get('one')! - 2_000)).toBeLessThan(200);
    expect(Math.abs(wins.get('two')! - 4_000)).toBeLessThan(300);
    expect(Math.abs(wins.get('five')! - 10_000)).toBeLessThan(400);
  });

  it('has no winner among none', () => {
    expect(rendezvousPick('key', [])).toBeUndefined();
    expect(rendezvousPick('key', ['a'], () => 0)).toBeUndefined();
    expect(rendezvousTop('key', ['a', 'b'], 2, () => -1)).toEqual([]);
    expect(rendezvousTop('key', ['a', 'b'], -1)).toEqual([]);
  });
});
