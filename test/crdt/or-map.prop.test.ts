import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonical, joined, play, REPLICAS, steps } from './map-history.js';
import { NaiveMap, sortedContents } from './naive-map.js';

describe('OrMap.apply', () => {
  it('is commutative, associative and idempotent', () => {
    fc.assert(
      fc.property(steps, script => {
        const [a, b, c] = play(script).maps.map(map => map.toDelta()) as [never, never, never];
        const abc = canonical(joined(a, b, c));
        expect(canonical(joined(c, b, a))).toEqual(abc);
        expect(canonical(joined(b, a, c))).toEqual(abc);
        expect(canonical(joined(joined(a, b).toDelta(), c))).toEqual(abc);
        expect(canonical(joined(a, joined(b, c).toDelta()))).toEqual(abc);
        expect(canonical(joined(a, b, c, b, a, joined(a, b).toDelta()))).toEqual(abc);
      }),
      { numRuns: 500 },
    );
  });

  it('makes of deltas in any order, repeated, what it makes of whole states', () => {
    fc.assert(
      fc.property(steps, fc.array(fc.nat()), (script, order) => {
        const { maps, deltas } = play(script);
        const whole = joined(...maps.map(map => map.toDelta()));
        const shuffled = [...deltas];
        for (const [i, swap] of order.slice(0, shuffled.length).entries()) {
          const other = swap % shuffled.length;
          [shuffled[i], shuffled[other]] = [shuffled[other]!, shuffled[i]!];
        }
        const repeated = order
          .map(i => deltas[i % Math.max(1, deltas.length)])
          .filter(delta => delta !== undefined);
        const pieces = joined(...shuffled, ...repeated);
        expect(canonical(pieces)).toEqual(canonical(whole));
        // Deltas of deltas are deltas: what was news to one replica brings another to the same.
        const relay = joined();
        const last = joined();
        for (const delta of [...repeated, ...shuffled]) last.apply(relay.apply(delta).toDelta());
        expect(canonical(last)).toEqual(canonical(whole));
      }),
      { numRuns: 500 },
    );
  });

  it('shows what the definition of an add-wins map says, at every replica and every step', () => {
    fc.assert(
      fc.property(steps, script => {
        const models = Array.from({ length: REPLICAS }, (_, i) => new NaiveMap(`${i}`));
        for (const [i, step] of script.entries()) {
          const model = models[step.at]!;
          if (step.kind === 'sync') model.join(models[step.from]!);
          else if (step.kind === 'remove') model.remove(step.key);
          else model.set(step.key, `${i}`);
        }
        const { maps } = play(script);
        expect(maps.map(sortedContents)).toEqual(models.map(model => model.contents()));
      }),
      { numRuns: 500 },
    );
  });

  it('names exactly the keys whose values changed', () => {
    fc.assert(
      fc.property(steps, script => {
        const { deltas } = play(script);
        const map = joined();
        for (const delta of deltas) {
          const before = sortedContents(map);
          const keys = new Set(map.apply(delta).keys);
          const after = sortedContents(map);
          for (const key of ['a', 'b', 'c', 'd']) {
            expect(keys.has(key)).toBe(JSON.stringify(before[key]) !== JSON.stringify(after[key]));
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});
