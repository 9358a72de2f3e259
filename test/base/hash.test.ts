import { describe, expect, it } from 'vitest';
import { hashNumber, hashText, mix32 } from '../../src/base/hash.js';

/** Mean share of output bits that change with one input bit; a half is ideal. */
function avalanche(hash: (value: number) => number, bits: number): { mean: number; worst: number } {
  let [sum, worst] = [0, 0];
  for (let bit = 0; bit < bits; bit++) {
    let changed = 0;
    for (let i = 0; i < 500; i++) {
      const value = i * 7_919 * (bits > 32 ? 1_000_003 : 1);
      let difference = hash(value) ^ hash(flip(value, bit));
      for (; difference !== 0; difference &= difference - 1) changed++;
    }
    const share = changed / (500 * 32);
    sum += share;
    worst = Math.max(worst, Math.abs(share - 0.5));
  }
  return { mean: sum / bits, worst };
}

function flip(value: number, bit: number): number {
  const place = 2 ** bit;
  return Math.floor(value / place) % 2 === 0 ? value + place : value - place;
}

describe('hashes', () => {
  it('spread a change of any bit over all bits', () => {
    for (const result of [avalanche(mix32, 32), avalanche(value => hashNumber(value, 5), 53)]) {
      expect(result.mean).toBeCloseTo(0.5, 1);
      expect(result.worst).toBeLessThan(0.05);
    }
  });

  it('do not collide more often than chance', () => {
    const texts = new Set<number>();
    const numbers = new Set<number>();
    for (let i = 0; i < 20_000; i++) {
      texts.add(hashText(`host ${i}`, 1));
      numbers.add(hashNumber(i * 0x1_0000_0001, 1));
    }
    // 20,000 draws from 2^32: 0.05 pairs expected.
    expect(texts.size).toBeGreaterThanOrEqual(19_998);
    expect(numbers.size).toBeGreaterThanOrEqual(19_998);
  });

  it('tell seeds, lengths and high bits apart', () => {
    expect(hashText('a', 1)).not.toBe(hashText('a', 2));
    expect(hashText('', 1)).not.toBe(hashText('\0', 1));
    expect(hashText('ab', 1)).not.toBe(hashText('ba', 1));
    expect(hashNumber(1, 0)).not.toBe(hashNumber(1 + 2 ** 32, 0));
  });

  it('are the same on every node and in every release', () => {
    expect([mix32(1), hashNumber(2 ** 53 - 1, 7), hashText('shoal', 7)]).toEqual([
      -2032993677, 1766478429, 1664893245,
    ]);
  });
});
