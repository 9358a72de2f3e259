import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  decodeAnswer,
  decodeOrder,
  encodeAnswer,
  encodeOrder,
  type Order,
  type OrderAnswer,
} from '../../../src/kv/balance/order.js';
import { registerKey } from '../replicated/cluster.js';
import { Stewards } from './stewards.js';

const id = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const text = fc.string({ maxLength: 40 });

const order: fc.Arbitrary<Order> = fc.oneof(
  fc.record({ kind: fc.constant('transfer' as const), range: id, to: id }),
  fc.record({
    kind: fc.constant('split' as const),
    range: id,
    key: fc.option(fc.uint8Array({ minLength: 1, maxLength: 4096 }), { nil: undefined }),
  }),
  fc.record({ kind: fc.constant('merge' as const), range: id }),
  fc.record({ kind: fc.constant('move' as const), range: id, from: id, to: id }),
  fc.record({ kind: fc.constant('recover' as const), range: id, forced: fc.boolean() }),
  fc.record({ kind: fc.constantFrom('drain' as const, 'stand-back' as const, 'balancers' as const) }),
);

const answer: fc.Arbitrary<OrderAnswer> = fc.oneof(
  fc.record({ kind: fc.constantFrom('done' as const, 'begun' as const) }),
  fc.record({ kind: fc.constant('refused' as const), why: text, leader: id }),
  fc.record({
    kind: fc.constant('balancers' as const),
    balancers: fc.array(
      fc.record({
        ...{ name: text, last: text, running: fc.boolean() },
        ...{ commands: fc.nat(), failures: fc.nat(), lastAgoMs: fc.nat(), restsMs: fc.nat() },
      }),
      { maxLength: 9 },
    ),
  }),
);

describe('orders and answers', () => {
  it('are read as they were written', () => {
    fc.assert(
      fc.property(order, answer, (one, other) => {
        expect(decodeOrder(encodeOrder(one))).toEqual(one);
        expect(decodeAnswer(encodeAnswer(other))).toEqual(other);
      }),
    );
  });

  it('that are damaged, or of another release, are none', () => {
    const damaged = fc
      .tuple(fc.oneof(order.map(encodeOrder), answer.map(encodeAnswer)), fc.nat(4000), fc.nat(255))
      .map(([bytes, at, byte]) => bytes.with(at % bytes.length, byte));
    fc.assert(
      fc.property(fc.oneof(damaged, fc.uint8Array()), bytes => {
        const one = decodeOrder(bytes);
        if (one !== undefined) expect(decodeOrder(encodeOrder(one))).toEqual(one);
        const other = decodeAnswer(bytes);
        if (other !== undefined) expect(decodeAnswer(encodeAnswer(other))).toEqual(other);
      }),
      { numRuns: 500 },
    );
    const other = (value: unknown) => decodeOrder(Buffer.from(JSON.stringify(value)));
    for (const value of [null, 7, {}, { kind: 'dance' }, { kind: 'merge' }, { kind: 'merge', range: -1 }])
      expect(other(value)).toBeUndefined();
    expect(other({ kind: 'split', range: 1, key: 'abc' })).toBeUndefined();
    expect(other({ kind: 'merge', range: 5, calmly: true })).toEqual({ kind: 'merge', range: 5 });
    expect(decodeOrder(new Uint8Array(20_000).fill(0x20))).toBeUndefined();
  });
});

const RANGE = 40;

describe('an order', () => {
  let world: Stewards;
  let lead: number;
  let other: number;

  beforeEach(() => {
    world = new Stewards(4);
    world.cluster.found(RANGE, '', '\x7f', world.cluster.hosts.slice(0, 3));
    lead = world.leader(RANGE);
    other = (lead + 1) % 3;
  });

  it('to transfer gives leadership to a voter', () => {
    expect(world.order(lead, { kind: 'transfer', range: RANGE, to: world.idOf(other) })).toEqual({
      kind: 'begun',
    });
    world.cluster.until(() => world.leader(RANGE) === other);
  });

  it('to somebody who does not lead names who does', () => {
    const asked = { kind: 'transfer', range: RANGE, to: world.idOf(other) } as const;
    const said = world.order(other, asked);
    expect(said).toMatchObject({ kind: 'refused', leader: world.idOf(lead) });
    expect(world.why(3, asked)).toMatch(/^apply-0@d does not lead range 14, apply-0@[abc] does$/);
    world.look();
    world.lose(lead);
    world.look();
    expect(world.why(3, asked)).toMatch(/^range 14 has no leader now/);
  });

  it('to transfer is refused for stores that cannot lead', () => {
    const to = (index: number) => world.why(lead, { kind: 'transfer', range: RANGE, to: world.idOf(index) });
    expect(to(lead)).toMatch(/leads range 14 already/);
    expect(to(3)).toMatch(/apply-0@d holds no voter of range 14; apply-0@a, apply-0@b, apply-0@c do/);
    world.look();
    world.lose(other);
    expect(to(other)).toMatch(/is lost: its node is not in the cluster now/);
  });

  it('to split divides at the key, or where the coprocessor would', () => {
    const split = (key: string | undefined) =>
      world.why(lead, { kind: 'split', range: RANGE, key: key === undefined ? key : registerKey(key) });
    expect(split(undefined)).toMatch(/holds too little to be divided/);
    expect(split('')).toMatch(/not inside range 14/);
    expect(split('\x7f')).toMatch(/not inside range 14/);
    expect(split('m')).toBe('begun');
    world.cluster.until(() => world.cluster.epochOf(RANGE) === 2);
    world.splitKey = registerKey('f');
    expect(split(undefined)).toBe('begun');
    world.cluster.until(() => world.cluster.epochOf(RANGE) === 3);
    const { boundary } = world.cluster.hosts[lead]!.store.replica(RANGE)!.descriptor!;
    expect(Buffer.from(boundary.end).toString()).toBe('rf');
  });

  it('to merge says what is missing, and does it when all is there', () => {
    const merge = () => world.why(world.leader(RANGE), { kind: 'merge', range: RANGE });
    expect(merge()).toMatch(/no range with a leader begins where range 14 ends/);
    world.order(lead, { kind: 'split', range: RANGE, key: registerKey('m') });
    world.cluster.until(() => world.cluster.epochOf(RANGE) === 2);
    const child = [...world.cluster.hosts[lead]!.store.replicas].find(
      ({ rangeId }) => rangeId !== RANGE,
    )!.rangeId;
    world.cluster.until(() => world.leader(child) >= 0);
    if (world.leader(child) === lead)
      world.order(lead, { kind: 'transfer', range: child, to: world.idOf(other) });
    world.cluster.until(() => world.leader(child) === other);
    expect(merge()).toMatch(/its neighbour \w+ is led by apply-0@\w: "kv transfer \w+ apply-0@\w" first/);
    world.order(other, { kind: 'transfer', range: child, to: world.idOf(lead) });
    world.cluster.until(() => world.leader(child) === lead);
    expect(merge()).toBe('begun');
    world.cluster.until(() => world.leader(child) < 0);
    expect(merge()).toMatch(/no range with a leader begins where/);
  });

  it('to merge wants both at the same stores', () => {
    world.order(lead, { kind: 'split', range: RANGE, key: registerKey('m') });
    world.cluster.until(() => world.cluster.epochOf(RANGE) === 2);
    world.cluster.run(2000);
    expect(
      world.order(lead, { kind: 'move', range: RANGE, from: world.idOf(other), to: world.idOf(3) }).kind,
    ).toBe('begun');
    world.cluster.settle();
    expect(world.why(lead, { kind: 'merge', range: RANGE })).toMatch(/changing already/);
    world.cluster.until(() => world.cluster.hosts[other]!.store.replica(RANGE) === undefined);
    const why = world.why(world.leader(RANGE), { kind: 'merge', range: RANGE });
    expect(why).toMatch(/has other stores .*: "kv move" it there first/);
  });

  it('to move is refused for the wrong stores', () => {
    const move = (from: number, to: number) =>
      world.why(lead, { kind: 'move', range: RANGE, from: world.idOf(from), to: world.idOf(to) });
    expect(move(3, 3)).toMatch(/apply-0@d holds no replica of range 14/);
    expect(move(lead, other)).toMatch(/holds a replica of range 14 already/);
    expect(world.why(lead, { kind: 'move', range: RANGE, from: world.idOf(lead), to: 99 })).toMatch(
      /no store is known as 2r/,
    );
    world.stewards[3]!.order(encodeOrder({ kind: 'drain' }));
    expect(move(other, 3)).toMatch(/apply-0@d does not take ranges of this service/);
    world.look();
    world.lose(3);
    expect(move(other, 3)).toMatch(/apply-0@d is lost/);
  });

  it('to move away from the leader brings the range there', () => {
    expect(world.why(lead, { kind: 'move', range: RANGE, from: world.idOf(lead), to: world.idOf(3) })).toBe(
      'begun',
    );
    world.cluster.until(() => world.cluster.hosts[lead]!.store.replica(RANGE) === undefined);
    expect(world.cluster.leaderOf(RANGE)).toBeDefined();
  });

  it('to recover is refused while nothing has to be lost, and done where it is forced or needed', () => {
    const recover = (index: number, forced = false) =>
      world.why(index, { kind: 'recover', range: RANGE, forced });
    expect(recover(other)).toMatch(/has a leader that lives, apply-0@\w: nothing is to be recovered/);
    expect(recover(3)).toMatch(/apply-0@d has no data of range 14/);
    world.look();
    world.lose(lead);
    world.look();
    expect(recover(other)).toMatch(/of the 3 voters of range 14, 2 live: that is a majority/);
    const third = 3 - lead - other;
    world.lose(third);
    expect(recover(other)).toMatch(/has heard a leader of range 14 within the last seconds/);
    world.cluster.run(5000);
    expect(recover(other)).toBe('begun');
    world.cluster.until(() => world.cluster.hosts[other]!.store.replica(RANGE)!.isLeader);
    world.cluster.until(
      () => world.cluster.hosts[other]!.store.replica(RANGE)!.descriptor!.members.length === 1,
    );
  });

  it('for a range that is a store’s own is refused', () => {
    world.sole.add(RANGE);
    for (const asked of [
      { kind: 'merge' },
      { kind: 'recover', forced: true },
      { kind: 'split', key: undefined },
    ] as const)
      expect(world.why(lead, { ...asked, range: RANGE })).toMatch(/its node's own/);
  });

  it('to drain hands all over at once, and takes nothing more', () => {
    expect(world.order(lead, { kind: 'drain' })).toEqual({ kind: 'begun' });
    world.cluster.until(() => world.leader(RANGE) !== lead && world.leader(RANGE) >= 0);
    expect(world.order(lead, { kind: 'drain' })).toEqual({ kind: 'done' });
    const [account] = world.stewards[other]!.board.landscape().stores.filter(
      ({ store }) => store === world.idOf(lead),
    );
    expect(account).toMatchObject({ services: [], alive: true, draining: false });
  });

  it('that is no order is refused as well', () => {
    const bytes = world.stewards[0]!.order(Buffer.from('{"kind":"dance"}'));
    expect(decodeAnswer(bytes)).toMatchObject({
      kind: 'refused',
      why: expect.stringMatching(/another version/),
    });
  });

  it('to stand back has the balancers rest that only even things out', () => {
    expect(world.order(lead, { kind: 'stand-back' })).toEqual({ kind: 'done' });
    const said = world.order(lead, { kind: 'balancers' });
    const balancers = said.kind === 'balancers' ? said.balancers : [];
    const resting = balancers.filter(({ restsMs }) => restsMs > 50_000);
    expect(resting.map(({ name }) => name)).toEqual(['split', 'merge', 'leader-spread', 'placement']);
  });

  it('tells what balancers did', () => {
    const said = world.order(lead, { kind: 'balancers' });
    expect(said.kind === 'balancers' && said.balancers.map(({ name }) => name)).toContain('merge');
    for (const steward of world.stewards) {
      steward.rules = { ...steward.rules, bootstrapAfterMs: 0, voters: 1 };
      steward.isSettled = true;
    }
    world.look();
    const after = world.order(lead, { kind: 'balancers' });
    expect(
      after.kind === 'balancers' && after.balancers.find(({ name }) => name === 'replica-count'),
    ).toMatchObject({
      ...{ running: true, commands: 1, failures: 0 },
      last: expect.stringMatching(/^14: voters apply-0@\w$/),
    });
  });
});
