import { describe, expect, it } from 'vitest';
import type { Balancer, Decision, Retire } from '../../../src/kv/balance/balancer.js';
import { Governor } from '../../../src/kv/balance/governor.js';
import { changedRules, DEFAULT_RULES } from '../../../src/kv/balance/rules.js';
import { Model } from './model.js';

const RETIRE: Retire = { kind: 'retire', range: 1, replica: 2 };

function always(name: string, decision: () => Decision): Balancer {
  return { name, decide: decision };
}

describe('Governor', () => {
  const sight = (nowMs: number) => ({ ...new Model(1).sight(1), nowMs });

  it('has one command under way, and looks again when news of it had time to come round', () => {
    const governor = new Governor([always('one', () => RETIRE)]);
    expect(governor.decide(sight(0))).toBe(RETIRE);
    expect(governor.decide(sight(10_000))).toBeUndefined();
    expect(governor.nextDeadlineMs).toBe(Number.POSITIVE_INFINITY);
    governor.finished(true, 10_000, 0.5);
    expect(governor.nextDeadlineMs).toBe(11_500);
    expect(governor.decide(sight(11_499))).toBeUndefined();
    expect(governor.decide(sight(11_500))).toBe(RETIRE);
  });

  it('lets a balancer rest whose commands fail, twice as long each time, and asks the others meanwhile', () => {
    const other: Retire = { ...RETIRE, range: 9 };
    const governor = new Governor([always('failing', () => RETIRE), always('other', () => other)]);
    expect(governor.decide(sight(0))).toBe(RETIRE);
    governor.finished(false, 0, 0);
    expect(governor.decide(sight(1000))).toBe(other);
    governor.finished(true, 1000, 0);
    expect(governor.decide(sight(5000))).toBe(RETIRE);
    governor.finished(false, 5000, 0);
    expect(governor.states()[0]).toMatchObject({ commands: 2, failures: 2, restsUntilMs: 15_000 });
    expect(governor.decide(sight(14_999))).toBe(other);
  });

  it('is told to stop and start balancers by name', () => {
    const governor = new Governor([always('one', () => RETIRE)]);
    expect(governor.setRunning('another', false)).toBe(false);
    expect(governor.setRunning('one', false)).toBe(true);
    expect(governor.decide(sight(0))).toBeUndefined();
    expect(governor.states()[0]).toMatchObject({ name: 'one', running: false, commands: 0 });
    governor.setRunning('one', true);
    expect(governor.decide(sight(0))).toBe(RETIRE);
  });

  it('wakes at the earliest time that a balancer named', () => {
    const governor = new Governor([
      always('late', () => ({ kind: 'later', atMs: 9000 })),
      always('early', () => ({ kind: 'later', atMs: 4000 })),
    ]);
    expect(governor.decide(sight(0))).toBeUndefined();
    expect(governor.nextDeadlineMs).toBe(4000);
  });
});

describe('ranges that stores have for themselves', () => {
  it('are seen by no balancer: they share ids and keys, and are no twins', () => {
    const model = new Model(2);
    const range = model.addRange('a', 'b', [1], { bytes: 1e12, splitKey: Buffer.from('am') });
    const sole = (store: number) => ({
      ...model.replica(range, 1),
      sole: true,
      pristine: true,
      genesis: store,
    });
    model.ranges = [];
    model.leftOver.set(1, [sole(1)]);
    model.leftOver.set(2, [sole(2)]);
    model.nowMs += 3_600_000;
    for (const self of [1, 2]) {
      const sight = { ...model.sight(self), services: [] };
      expect(new Governor().decide(sight)).toBeUndefined();
    }
  });
});

describe('changedRules', () => {
  it('changes what is named and keeps the rest', () => {
    expect(changedRules(DEFAULT_RULES, { voters: 5 })).toEqual({ ...DEFAULT_RULES, voters: 5 });
    expect(changedRules(DEFAULT_RULES, { placementSlack: 0.5 })).toMatchObject({ placementSlack: 0.5 });
  });

  it.each([
    [{ voter: 3 }, /no rule is called voter; there are voters, /],
    [{ voters: 4 }, /voters wants an odd number, not 4/],
    [{ voters: 11 }, /voters wants a whole number from 1 to 9, not 11/],
    [{ voters: 1.5 }, /voters wants a whole number/],
    [{ settleMs: '5s' }, /settleMs wants a whole number from 1000 to 86400000, not 5s/],
    [{ deadAfterMs: Number.NaN }, /deadAfterMs wants/],
    [{ toString: 1 }, /no rule is called toString/],
    [{ splitBytes: 64 * 1024 * 1024 }, /mergeBytes wants to be at most half of splitBytes/],
    [{ mergeWritesPerSecond: 30_000 }, /mergeWritesPerSecond wants to be at most half/],
  ])('refuses %o and says why', (changes, why) => {
    expect(changedRules(DEFAULT_RULES, changes)).toMatch(why);
  });
});
