import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Replicator } from '../../src/crdt/anti-entropy.js';
import { type CrdtMessage, crdtMessageBytes, isCrdtMessage } from '../../src/crdt/message.js';
import { OrMap } from '../../src/crdt/or-map.js';
import { canonical } from './map-history.js';
import { contents, Network } from './network.js';
import { bytes, SeededRandom } from './seeded.js';

const LIMITS = {
  keysMax: 50,
  dotsPerKeyMax: 3,
  rangesPerOriginMax: 4,
  dormantMax: 20,
  keyLengthMax: 8,
  valueBytesMax: 8,
};
const OPTIONS = { newsMax: 16, bulkBytesMax: 2_000, repairPagesMax: 3 };

const number = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 1, max: 9 }) },
  fc.constantFrom(
    0,
    -1,
    0.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    2 ** 32,
    2 ** 52,
    2 ** 52 + 1,
    2 ** 53 - 1,
    2 ** 53,
  ),
  fc.double(),
);
const hash = fc.oneof(fc.constantFrom(0, 1, 0xffff_ffff, 2 ** 32), fc.nat());
const numbers = fc.array(number, { maxLength: 12 });
const value = fc.oneof(fc.uint8Array({ maxLength: 12 }), fc.constantFrom(null, 'text', [1, 2]));
const entry = fc.record({ key: fc.string({ maxLength: 10 }), replica: number, counter: number, value });
const entries = fc.array(entry, { maxLength: 8 });

/** Right in shape, odd in content; every field may be missing or of another type. */
const message = fc
  .oneof(
    fc.record({ kind: fc.constant('delta'), seq: number, entries, dropped: numbers }),
    fc.record({ kind: fc.constant('repair'), entries, dropped: numbers, wanted: numbers }),
    fc.record({ kind: fc.constant('ack'), seq: number }),
    fc.record({ kind: fc.constant('root'), low: hash, high: hash, count: hash }),
    fc.record({
      kind: fc.constant('buckets'),
      digests: fc.array(hash, { minLength: 16, maxLength: 16 }),
      check: hash,
    }),
    fc.record({
      kind: fc.constant('dots'),
      ranges: fc.array(hash, { maxLength: 6 }).map(all => all.sort((a, b) => a - b)),
      dots: numbers,
    }),
    fc.record({ kind: fc.string(), seq: number }),
  )
  .chain(whole =>
    fc.oneof(
      { weight: 8, arbitrary: fc.constant<unknown>(whole) },
      fc
        .tuple(fc.constantFrom(...Object.keys(whole)), fc.anything())
        .map(([field, odd]): unknown => ({ ...whole, [field]: odd })),
      fc.anything(),
    ),
  );

/** One replicator with contents and neighbours 2 to 5. */
function victim(): Replicator {
  const node = new Replicator(new OrMap(1, LIMITS), new SeededRandom(1), OPTIONS);
  node.setNeighbours([2, 3, 4, 5]);
  for (let i = 0; i < 5; i++) node.set(`mine ${i}`, bytes('v'));
  return node;
}

function expectSound({ map, newsHeld }: Replicator): void {
  expect(newsHeld).toBeLessThanOrEqual(OPTIONS.newsMax);
  expect(map.size).toBeLessThanOrEqual(LIMITS.keysMax);
  expect(map.originCount).toBeLessThanOrEqual(LIMITS.dormantMax + map.digest.count + 1);
  for (const key of map.keys()) {
    expect(key.length).toBeLessThanOrEqual(LIMITS.keyLengthMax);
    expect(map.entries(key).length).toBeLessThanOrEqual(LIMITS.dotsPerKeyMax);
    expect(map.entries(key).length).toBeGreaterThan(0);
  }
  const fresh = new OrMap(2 ** 40, LIMITS);
  fresh.apply(map.toDelta());
  expect(canonical(fresh)).toEqual(canonical(map));
}

describe('Replicator.receive', () => {
  it('withstands messages of any kind, and keeps within its limits', () => {
    const step = fc.tuple(fc.integer({ min: 1, max: 8 }), message, fc.integer({ min: 0, max: 2_000 }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), script => {
        const node = victim();
        let nowMs = 0;
        for (const [from, odd, passedMs] of script) {
          nowMs += passedMs;
          node.receive(from, odd as CrdtMessage, nowMs);
          const sends = node.takeSends();
          expect(sends.length).toBeLessThanOrEqual(OPTIONS.repairPagesMax + 4);
          for (const { message: sent } of sends) {
            expect(isCrdtMessage(sent)).toBe(true);
            expect(crdtMessageBytes(sent)).toBeLessThan(OPTIONS.bulkBytesMax + 500);
          }
          node.tick(nowMs);
          node.takeSends();
          expect(node.nextDeadlineMs()).toBeGreaterThan(nowMs);
        }
        expectSound(node);
        expect(node.set('mine 0', bytes('w'))).toBe(true);
      }),
      { numRuns: 600 },
    );
  });

  it('grows nothing beyond its limits under a flood from hosts unknown', () => {
    const node = victim();
    const random = new SeededRandom(7);
    for (let i = 0; i < 20_000; i++) {
      const entriesSent = [
        {
          key: `k${random.below(500)}`,
          replica: random.replica(),
          counter: 1 + random.below(9),
          value: bytes('v'),
        },
      ];
      const dropped = [random.replica(), 1, 2 ** 52, 7, 2 * random.below(1_000) + 1, 2_001];
      node.receive(random.replica(), { kind: 'delta', seq: 2, entries: entriesSent, dropped }, i);
      if (random.chance(0.2)) node.receive(random.replica(), { kind: 'root', low: 1, high: 1, count: 1 }, i);
      node.takeSends();
    }
    expectSound(node);
    expect(node.map.refused).toBeGreaterThan(1_000);
    expect(node.takeChanges().length).toBeLessThan(500 + 5 + 1);
  });

  it('converges all the same when messages are damaged on the way', () => {
    for (let seed = 1; seed <= 5; seed++) {
      const network = new Network(seed);
      const ids = Array.from({ length: 5 }, () => network.add());
      network.mesh();
      for (let i = 0; i < 100; i++) {
        const id = ids[network.random.below(ids.length)]!;
        network.act(id, node => node.set(`key ${network.random.below(20)}`, bytes(`${i}`)));
        network.run(20);
        // Damage that a checksum would miss: a message arrives again with other numbers in it.
        const [from, to] = [ids[network.random.below(ids.length)]!, ids[network.random.below(ids.length)]!];
        const damaged = damage(network.random);
        network.act(to, node => node.receive(from, damaged, network.nowMs));
      }
      network.converge(60_000);
      for (const id of ids) {
        expect(contents(network.nodes.get(id)!.map)).toEqual(contents(network.nodes.get(ids[0]!)!.map));
      }
    }
  });
});

function damage(random: SeededRandom): CrdtMessage {
  const pair = [random.below(6), random.below(40)];
  const kinds: unknown[] = [
    { kind: 'ack', seq: random.below(50) },
    { kind: 'root', low: random.u32(), high: random.u32(), count: random.below(3) },
    { kind: 'dots', ranges: [0, 0xffff_ffff], dots: pair },
    { kind: 'buckets', digests: Array.from({ length: 16 }, () => random.u32()), check: 0 },
    { kind: 'repair', entries: [], dropped: [...pair, 50], wanted: pair },
    {
      kind: 'delta',
      seq: 4,
      entries: [{ key: 'key 1', replica: 9, counter: 0, value: bytes('v') }],
      dropped: [],
    },
  ];
  return kinds[random.below(kinds.length)] as CrdtMessage;
}
