import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hashBytes, hashKeys, mix } from '../../src/topic/hash.js';

test('depends on the seed, on each byte and on the range only', () => {
  const bytes = Buffer.from('x'.repeat(700));
  const keys = hashKeys(1);
  const hash = hashBytes(keys, bytes, 10, 690);
  expect(hashBytes(hashKeys(2), bytes, 10, 690)).not.toBe(hash);
  expect(hashBytes(hashKeys(1), Buffer.concat([Buffer.from('yy'), bytes]), 12, 692)).toBe(hash);
  for (let at = 10; at < 690; at++) {
    const other = Buffer.from(bytes);
    other[at] = 0x79;
    expect(hashBytes(keys, other, 10, 690)).not.toBe(hash);
  }
  expect(hashBytes(keys, bytes, 10, 689)).not.toBe(hash);
});

test('spreads topics that differ little over the buckets of a table', () => {
  for (const seed of [0, 1, 0xdeadbeef]) {
    const keys = hashKeys(seed);
    const counts = new Uint16Array(1 << 14);
    for (let i = 0; i < 1 << 14; i++) {
      const bytes = Buffer.from(`sensors/${i}/temp`);
      const bucket = mix(hashBytes(keys, bytes, 0, bytes.length)) & (counts.length - 1);
      counts[bucket] = counts[bucket]! + 1;
    }
    // Uniform: 1 - 1/e of the buckets used (63.2 %), and none with more than about ten.
    expect(counts.filter(count => count > 0).length / counts.length).toBeGreaterThan(0.6);
    expect(Math.max(...counts)).toBeLessThan(16);
  }
});

test('topics that collide under one seed do not under another', () => {
  const one = hashKeys(5);
  const two = hashKeys(6);
  const seen = new Map<number, Buffer>();
  const pairs: [Buffer, Buffer][] = [];
  for (let i = 0; i < 400_000; i++) {
    const bytes = Buffer.from(`t/${mix(i).toString(36)}/${mix(~i)}`);
    const hash = hashBytes(one, bytes, 0, bytes.length);
    const before = seen.get(hash);
    if (before) pairs.push([before, bytes]);
    else seen.set(hash, bytes);
  }
  for (const [a, b] of pairs) expect(hashBytes(two, a, 0, a.length)).not.toBe(hashBytes(two, b, 0, b.length));
  // By chance there should be 19; none at all would make this test empty.
  expect(pairs.length).toBeGreaterThan(0);
  expect(pairs.length).toBeLessThan(400);
});

test('mix is a bijection on samples: no two of them meet', () => {
  fc.assert(fc.property(fc.integer(), fc.integer(), (a, b) => a === b || mix(a) !== mix(b)));
});
