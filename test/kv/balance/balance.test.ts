import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bootstrap } from '../../../src/kv/balance/bootstrap.js';
import { deadReplica } from '../../../src/kv/balance/dead-replica.js';
import { MEMBER, type ReplicaAccount } from '../../../src/kv/balance/landscape.js';
import { leaderSpread } from '../../../src/kv/balance/leader-spread.js';
import { merge } from '../../../src/kv/balance/merge.js';
import { placement } from '../../../src/kv/balance/placement.js';
import { redundant } from '../../../src/kv/balance/redundant.js';
import { replicaCount } from '../../../src/kv/balance/replica-count.js';
import { DEFAULT_RULES } from '../../../src/kv/balance/rules.js';
import { split } from '../../../src/kv/balance/split.js';
import { between, Model } from './model.js';

const KIB = 1024;
const GIB = 1024 ** 3;

describe('bootstrap', () => {
  it('makes the first range of each service at one store, after a while', () => {
    const model = new Model(3, [between('a', 'b'), between('i', 'j')]);
    expect(bootstrap.decide(model.sight(2))).toEqual({ kind: 'content' });
    const first = bootstrap.decide(model.sight(1));
    expect(first.kind).toBe('later');
    if (first.kind === 'later') model.nowMs = first.atMs;
    expect(bootstrap.decide(model.sight(1))).toEqual({ kind: 'bootstrap', boundary: between('a', 'b') });
    model.settle();
    expect(model.ranges.map(({ boundary }) => boundary.start.toString())).toEqual(['a', 'i']);
    expect(model.ranges.every(({ members }) => members.length === 3)).toBe(true);
  });

  it('is left to a store that takes ranges of the service', () => {
    const model = new Model(3);
    model.servicesOf.set(1, []);
    model.settle();
    expect(model.ranges.map(({ members }) => members.map(({ store }) => store))).toEqual([[2]]);
  });

  it('waits for the data of a store that is lost', () => {
    const model = new Model(3);
    model.addRange('a', 'b', [3]);
    model.kill(3);
    model.nowMs += 3_600_000;
    expect(bootstrap.decide(model.sight(1))).toEqual({ kind: 'content' });
  });
});

describe('redundant', () => {
  it('retires a replica that the leader no longer counts, and none whose members are newer than the leader’s', () => {
    const model = new Model(4);
    const range = model.addRange('a', 'b', [1, 2, 3]);
    const old: ReplicaAccount = { ...model.replica(range, 2), replica: 99, leads: false, membersAt: 1 };
    model.leftOver.set(4, [old]);
    expect(redundant.decide(model.sight(4))).toEqual({ kind: 'retire', range: range.id, replica: 99 });
    // It may have gone while its range was changing.
    model.leftOver.set(4, [{ ...old, changing: true }]);
    expect(redundant.decide(model.sight(4)).kind).toBe('retire');
    model.leftOver.set(4, [{ ...old, membersAt: range.membersAt + 1 }]);
    expect(redundant.decide(model.sight(4))).toEqual({ kind: 'content' });
  });

  it('discards only what is empty, whichever key space is older', () => {
    const model = new Model(2);
    const mine = model.addRange('a', 'b', [1]);
    const theirs = model.addRange('a', 'b', [2]);
    mine.genesis = 9;
    theirs.genesis = 3;
    expect(redundant.decide(model.sight(1))).toEqual({ kind: 'content' });
    expect(redundant.decide(model.sight(2))).toEqual({ kind: 'content' });
    theirs.pristine = true;
    expect(redundant.decide(model.sight(2))).toEqual({ kind: 'discard', range: theirs.id, genesis: 3 });
    const sight = model.sight(2);
    const changing = sight.landscape.stores.map(account => ({
      ...account,
      replicas: account.replicas.map(one => ({ ...one, changing: true })),
    }));
    expect(redundant.decide({ ...sight, landscape: { stores: changing } }).kind).toBe('discard');
    mine.pristine = true;
    expect(redundant.decide(model.sight(2))).toEqual({ kind: 'content' });
    expect(redundant.decide(model.sight(1))).toEqual({ kind: 'discard', range: mine.id, genesis: 9 });
  });

  it('has it asked whether a replica still counts whose range nobody leads', () => {
    const model = new Model(3);
    const whole = model.addRange('a', 'b', [1, 2, 3]);
    const gone: ReplicaAccount = {
      ...model.replica(whole, 2),
      range: 500,
      replica: 98,
      boundary: between('am', 'b'),
    };
    model.leftOver.set(2, [gone]);
    expect(redundant.decide(model.sight(2))).toEqual({ kind: 'retire', range: 500, replica: 98 });
    model.leftOver.set(2, [
      { ...gone, leads: true, members: [{ replica: 98, store: 2, role: MEMBER.VOTER }] },
    ]);
    expect(redundant.decide(model.sight(2))).toEqual({ kind: 'content' });
  });
});

describe('dead-replica', () => {
  it('takes out a member whose living store does not hold it', () => {
    const model = new Model(3);
    const range = model.addRange('a', 'b', [1, 2, 3]);
    const sight = model.sight(1);
    const lost = range.members[2]!;
    const stores = sight.landscape.stores.map(account => ({
      ...account,
      replicas:
        account.store === 3
          ? []
          : account.replicas.map(one => ({
              ...one,
              silent: [{ replica: lost.replica, sinceMs: model.nowMs }],
            })),
    }));
    const later = { ...sight, landscape: { stores } };
    const dueMs = model.nowMs + DEFAULT_RULES.deadAfterMs;
    expect(deadReplica.decide(later)).toEqual({ kind: 'later', atMs: dueMs });
    expect(deadReplica.decide({ ...later, nowMs: dueMs })).toMatchObject({ kind: 'change', voters: [1, 2] });
  });
});

describe('replica-count', () => {
  it.each([
    [1, 1],
    [2, 1],
    [3, 3],
    [4, 3],
    [7, 3],
  ])('on %i stores keeps %i voters', (stores, voters) => {
    const model = new Model(stores);
    model.addRange('a', 'b', [1]);
    model.settle();
    expect(model.ranges[0]!.members.length).toBe(voters);
  });

  it('replaces a lost store after a while, and keeps its place when nobody can take it', () => {
    const model = new Model(3);
    const range = model.addRange('a', 'b', [1, 2, 3]);
    model.kill(3);
    model.settle(DEFAULT_RULES.replaceAfterMs * 2);
    expect(range.members.map(({ store }) => store)).toEqual([1, 2, 3]);
    model.addStore();
    model.settle();
    expect(range.members.map(({ store }) => store)).toEqual([1, 2, 4]);
  });

  it('leaves a range that is changing to that, but for newcomers whose store is lost before they come', () => {
    const model = new Model(4);
    const range = model.addRange('a', 'b', [1, 2, 3]);
    const changing = () => {
      const sight = model.sight(1);
      const stores = sight.landscape.stores.map(store => ({
        ...store,
        replicas: store.replicas.map(replica => ({ ...replica, changing: true })),
      }));
      return replicaCount.decide({ ...sight, landscape: { stores }, rules: { ...sight.rules, voters: 1 } });
    };
    expect(changing()).toEqual({ kind: 'content' });
    model.kill(3);
    model.nowMs += DEFAULT_RULES.replaceAfterMs;
    expect(changing()).toMatchObject({ kind: 'change', range: range.id, voters: [1] });
  });

  it('does not replace a store that is gone for a short time', () => {
    const model = new Model(4);
    model.addRange('a', 'b', [1, 2, 3]);
    model.kill(3);
    model.nowMs += DEFAULT_RULES.replaceAfterMs - 1;
    expect(replicaCount.decide(model.sight(1))).toEqual({ kind: 'later', atMs: model.nowMs + 1 });
    model.nowMs += 1;
    expect(replicaCount.decide(model.sight(1))).toMatchObject({ kind: 'change', voters: [1, 2, 4] });
  });

  it('brings the number down when the rules want fewer, and up by learners first', () => {
    const model = new Model(5);
    const range = model.addRange('a', 'b', [1, 2, 3, 4, 5]);
    model.rules = { ...DEFAULT_RULES, learners: -1 };
    model.settle();
    expect(range.members.filter(({ role }) => role === MEMBER.VOTER).length).toBe(3);
    expect(range.members.filter(({ role }) => role === MEMBER.LEARNER).length).toBe(2);
    const learners = range.members
      .filter(({ role }) => role === MEMBER.LEARNER)
      .map(({ replica }) => replica);
    model.rules = { ...DEFAULT_RULES, voters: 5 };
    model.settle();
    const voters = range.members.filter(({ role }) => role === MEMBER.VOTER).map(({ replica }) => replica);
    expect(voters).toEqual(expect.arrayContaining(learners));
  });

  it('empties a store that drains', () => {
    const model = new Model(4);
    for (let i = 0; i < 6; i++) model.addRange(`a${i}`, `a${i + 1}`, [1, 2, 3]);
    model.stores[0]!.draining = true;
    model.settle();
    for (const range of model.ranges) {
      expect(range.leader).not.toBe(1);
      expect(range.members.map(({ store }) => store).sort()).toEqual([2, 3, 4]);
    }
  });
});

describe('leader-spread', () => {
  it('evens leaders, and leaves a difference of one', () => {
    const model = new Model(3);
    for (let i = 0; i < 8; i++) model.addRange(`a${i}`, `a${i + 1}`, [1, 2, 3]);
    model.settle();
    const led = [1, 2, 3].map(id => model.ranges.filter(({ leader }) => leader === id).length);
    expect(led.toSorted()).toEqual([2, 3, 3]);
  });

  it('does not give to a store that is silent', () => {
    const model = new Model(2);
    model.addRange('a0', 'a1', [1, 2]);
    model.addRange('a1', 'a2', [1, 2]);
    const sight = model.sight(1);
    const stores = sight.landscape.stores.map(account => ({
      ...account,
      replicas: account.replicas.map(one => ({
        ...one,
        silent: one.leads ? [{ replica: one.members[1]!.replica, sinceMs: 0 }] : [],
      })),
    }));
    expect(leaderSpread.decide(sight).kind).toBe('transfer');
    expect(leaderSpread.decide({ ...sight, landscape: { stores } })).toEqual({ kind: 'content' });
  });
});

describe('placement', () => {
  it('moves from the dearest store to the cheapest, never further than half of the difference', () => {
    const model = new Model(2);
    model.rules = { ...DEFAULT_RULES, voters: 1 };
    model.addRange('a0', 'a1', [1], { writesPerSecond: 10_000 });
    model.addRange('a1', 'a2', [1], { writesPerSecond: 3000 });
    model.addRange('a2', 'a3', [2], { writesPerSecond: 100 });
    const decision = placement.decide(model.sight(1));
    expect(decision).toMatchObject({ kind: 'change', range: model.ranges[1]!.id, voters: [2] });
  });
});

describe('split and merge', () => {
  it('divides what is too large until it is not, also on a small machine', () => {
    const model = new Model(1);
    model.addRange('a', 'b', [1], { bytes: 4 * GIB, splitKey: Buffer.from('ammmmm') });
    model.settle();
    expect(model.ranges.length).toBe(4);
    expect(model.ranges.every(({ load }) => load.bytes <= DEFAULT_RULES.splitBytes)).toBe(true);
  });

  it('waits until the figures are those of the range as it is', () => {
    const model = new Model(1);
    const epochSinceMs = model.nowMs - 1000;
    model.addRange('a', 'b', [1], { bytes: 4 * GIB, splitKey: Buffer.from('am'), epochSinceMs });
    expect(split.decide(model.sight(1))).toEqual({ kind: 'later', atMs: epochSinceMs + 30_000 });
  });

  it('does not divide where the coprocessor names no key, or one outside', () => {
    const model = new Model(1);
    const range = model.addRange('a', 'b', [1], { bytes: 4 * GIB });
    expect(split.decide(model.sight(1))).toEqual({ kind: 'content' });
    range.load = { ...range.load, splitKey: Buffer.from('a') };
    expect(split.decide(model.sight(1))).toEqual({ kind: 'content' });
    range.load = { ...range.load, splitKey: Buffer.from('b') };
    expect(split.decide(model.sight(1))).toEqual({ kind: 'content' });
  });

  it('brings cold neighbours together and joins them, within a service', () => {
    const model = new Model(5, [between('a', 'b'), between('b', 'c')]);
    model.addRange('a', 'ag', [1, 2, 3], { bytes: KIB });
    model.addRange('ag', 'am', [3, 4, 5], { bytes: KIB });
    model.addRange('am', 'b', [2, 4, 5], { bytes: KIB });
    model.addRange('b', 'c', [1, 4, 5], { bytes: KIB });
    model.settle(DEFAULT_RULES.settleMs * 2);
    expect(model.ranges.map(({ boundary }) => boundary)).toEqual([between('a', 'b'), between('b', 'c')]);
  });

  it('leaves warm or young neighbours alone', () => {
    const model = new Model(1);
    model.addRange('a', 'ag', [1], { bytes: KIB });
    const upper = model.addRange('ag', 'b', [1], { writesPerSecond: 1000 });
    expect(merge.decide(model.sight(1))).toEqual({ kind: 'content' });
    upper.load = { ...upper.load, writesPerSecond: 0, epochSinceMs: model.nowMs };
    expect(merge.decide(model.sight(1))).toEqual({
      kind: 'later',
      atMs: model.nowMs + DEFAULT_RULES.settleMs,
    });
  });
});

describe('all balancers together', () => {
  const load = fc.record({
    bytes: fc.integer({ min: 0, max: 3 * GIB }),
    writesPerSecond: fc.integer({ min: 0, max: 120_000 }),
    queriesPerSecond: fc.integer({ min: 0, max: 10_000 }),
    queryMicros: fc.integer({ min: 0, max: 900 }),
  });

  it('come to rest from any landscape, with the voters wanted, and the whole key space covered', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 7 }),
        fc.array(fc.tuple(load, fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 5 })), {
          minLength: 1,
          maxLength: 12,
        }),
        (stores, ranges) => {
          const model = new Model(stores);
          for (const [at, [figures, places]] of ranges.entries()) {
            const last = at === ranges.length - 1;
            const start = at === 0 ? 'a' : `a${String.fromCharCode(98 + at)}`;
            const end = last ? 'b' : `a${String.fromCharCode(99 + at)}`;
            const members = [...new Set(places.map(place => ((place - 1) % stores) + 1))];
            model.addRange(start, end, members, { ...figures, splitKey: Buffer.from(`${start}m`) });
          }
          model.settle(DEFAULT_RULES.settleMs * 2);
          const sorted = model.ranges.toSorted((a, b) => Buffer.compare(a.boundary.start, b.boundary.start));
          expect(sorted[0]!.boundary.start).toEqual(Buffer.from('a'));
          expect(sorted.at(-1)!.boundary.end).toEqual(Buffer.from('b'));
          for (const [at, { boundary, members }] of sorted.entries()) {
            if (at > 0) expect(boundary.start).toEqual(sorted[at - 1]!.boundary.end);
            const voters = members.filter(({ role }) => role === MEMBER.VOTER).length;
            expect(voters).toBeGreaterThanOrEqual(stores >= 3 ? 3 : 1);
            expect(voters).toBeLessThanOrEqual(3);
          }
        },
      ),
      { numRuns: 40 },
    );
  });
});
