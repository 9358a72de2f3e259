import type { Random } from '../../src/base/env.js';

/** A stream of numbers that its seed decides. Streams forked from one seed under different names are independent. */
export class SeededRandom implements Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number) {
    this.#a = mix(seed >>> 0);
    this.#b = mix(this.#a ^ Math.floor(seed / 2 ** 32));
    this.#c = mix(this.#b + 0x9e3779b9);
    for (let turn = 0; turn < 12; turn += 1) this.u32();
  }

  /** A stream of its own: what one part of the world draws does not move what another one gets. */
  fork(name: string): SeededRandom {
    let hash = this.#a ^ Math.imul(this.#b, 3) ^ Math.imul(this.#c, 5);
    for (let at = 0; at < name.length; at += 1) hash = mix(hash ^ name.charCodeAt(at));
    return new SeededRandom(hash >>> 0);
  }

  /** Three words of state stirred by a counter (the "small fast counting" family): long period, cheap in JavaScript. */
  u32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** In [0, 1). */
  fraction(): number {
    return this.u32() / 2 ** 32;
  }

  chance(probability: number): boolean {
    return probability > 0 && this.fraction() < probability;
  }

  /** A whole number in [0, end). */
  below(end: number): number {
    return Math.floor(this.fraction() * end);
  }

  between(low: number, high: number): number {
    return low + this.fraction() * (high - low);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  /** `count` different ones, or all where there are fewer, in random order. */
  sample<T>(from: readonly T[], count: number): T[] {
    const all = [...from];
    const taken = Math.min(count, all.length);
    for (let at = 0; at < taken; at += 1) {
      const other = at + this.below(all.length - at);
      [all[at], all[other]] = [all[other]!, all[at]!];
    }
    return all.slice(0, taken);
  }
}

function mix(value: number): number {
  let mixed = Math.imul(value ^ (value >>> 16), 0x45d9f3b);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  return (mixed ^ (mixed >>> 14)) | 0;
}
