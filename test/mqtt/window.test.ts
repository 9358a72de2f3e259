import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AWAITING, Window } from '../../src/mqtt/window.js';

describe('window', () => {
  it('behaves as a map does (property)', () => {
    const step = fc.record({
      act: fc.constantFrom('take', 'next', 'advance', 'release'),
      id: fc.oneof(fc.integer({ min: 1, max: 65_535 }), fc.integer({ min: 1, max: 20 })),
      state: fc.integer({ min: 1, max: 4 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), steps => {
        const window = new Window();
        const model = new Map<number, number>();
        let last = 0;
        for (const { act, id, state } of steps) {
          if (act === 'take') {
            expect(window.take(id, state)).toBe(!model.has(id));
            if (!model.has(id)) model.set(id, state);
          } else if (act === 'next') {
            last = window.takeNext(last, state);
            expect(model.has(last)).toBe(false);
            model.set(last, state);
          } else if (model.has(id) && act === 'advance') {
            window.advance(id, state);
            model.set(id, state);
          } else if (model.has(id)) {
            window.release(id);
            model.delete(id);
          }
          expect(window.count).toBe(model.size);
        }
        for (let id = 1; id <= 65_535; id += 97) expect(window.stateOf(id)).toBe(model.get(id) ?? 0);
        for (const [id, state] of model) expect(window.stateOf(id)).toBe(state);
      }),
      { numRuns: 100 },
    );
  });

  it('gives out ids in order, over 65,535, and never one in flight [MQTT-2.2.1-4]', () => {
    const window = new Window();
    const stuck = window.takeNext(0, AWAITING.PUBACK);
    let last = stuck;
    const seen = new Set<number>();
    for (let i = 0; i < 140_000; i++) {
      last = window.takeNext(last, AWAITING.PUBACK);
      expect(last).not.toBe(stuck);
      seen.add(last);
      window.release(last);
    }
    expect(last).toBeGreaterThan(0);
    expect(seen.size).toBeGreaterThan(50_000);
    expect(window.count).toBe(1);
  });

  it('does not grow for one message that is never answered', () => {
    const window = new Window();
    let last = window.takeNext(0, AWAITING.PUBACK);
    for (let i = 0; i < 70_000; i++) {
      last = window.takeNext(last, AWAITING.PUBACK);
      window.release(last);
    }
    expect((window as unknown as { ids: Uint16Array }).ids.length).toBe(8);
  });

  it('holds all ids but one, and refuses the last as a bug', () => {
    const window = new Window();
    let last = 0;
    for (let i = 0; i < 65_535; i++) last = window.takeNext(last, AWAITING.PUBREC);
    expect(window.count).toBe(65_535);
    expect(() => window.takeNext(last, AWAITING.PUBREC)).toThrow('a packet id is free');
    expect(() => window.release(0)).toThrow();
  });
});
