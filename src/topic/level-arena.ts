import { assert } from '../base/assert.js';
import type { LevelKey } from './level-key.js';

const UNIT_SHIFT = 3;
const UNIT_BYTES = 1 << UNIT_SHIFT;
/** 128 KiB: room for the longest level there is. */
const PAGE_UNITS_SHIFT = 14;
const PAGE_UNITS = 1 << PAGE_UNITS_SHIFT;
const FIRST_PAGE_UNITS = 32;

/**
 * The bytes of levels too long for a node, in units of 8 bytes, addressed by the number of the first unit. What is
 * freed is reused for levels of as many units. Pages, so that growth copies no more than 128 KiB.
 */
export class LevelArena {
  private pages: Buffer[] = [];
  private unitEnd = 0;
  private readonly free = new Map<number, number[]>();

  clear(): void {
    this.pages = [];
    this.unitEnd = 0;
    this.free.clear();
  }

  /** Copies the bytes of `key`; returns their first unit. */
  store(key: LevelKey): number {
    const { bytes, start, length } = key;
    const units = (length + UNIT_BYTES - 1) >> UNIT_SHIFT;
    const unit = this.free.get(units)?.pop() ?? this.take(units);
    const page = this.pageOf(unit);
    const to = offsetOf(unit);
    for (let i = 0; i < length; i++) page[to + i] = bytes[start + i]!;
    return unit;
  }

  private take(units: number): number {
    assert(units <= PAGE_UNITS, 'a level fits into a page');
    const used = this.unitEnd & (PAGE_UNITS - 1);
    const crosses = used !== 0 && used + units > PAGE_UNITS;
    const unit = crosses ? this.unitEnd + PAGE_UNITS - used : this.unitEnd;
    this.unitEnd = unit + units;
    assert(this.unitEnd < 2 ** 31, 'units are numbered by an int32');
    const last = unit >> PAGE_UNITS_SHIFT;
    const needBytes = ((unit & (PAGE_UNITS - 1)) + units) << UNIT_SHIFT;
    const page = this.pages[last];
    if (page === undefined || page.length < needBytes) {
      const grownBytes = last > 0 ? PAGE_UNITS << UNIT_SHIFT : firstPageBytes(needBytes);
      const grown = Buffer.allocUnsafeSlow(grownBytes);
      page?.copy(grown);
      this.pages[last] = grown;
    }
    return unit;
  }

  release(unit: number, length: number): void {
    const units = (length + UNIT_BYTES - 1) >> UNIT_SHIFT;
    const free = this.free.get(units);
    if (free === undefined) this.free.set(units, [unit]);
    else free.push(unit);
  }

  same(unit: number, key: LevelKey): boolean {
    const page = this.pageOf(unit);
    const from = offsetOf(unit);
    const { bytes, start, length } = key;
    for (let i = 0; i < length; i++) if (page[from + i] !== bytes[start + i]) return false;
    return true;
  }

  firstByte(unit: number): number {
    return this.pageOf(unit)[offsetOf(unit)]!;
  }

  text(unit: number, length: number): string {
    const from = offsetOf(unit);
    return this.pageOf(unit).toString('utf8', from, from + length);
  }

  private pageOf(unit: number): Buffer {
    return this.pages[unit >> PAGE_UNITS_SHIFT]!;
  }
}

function offsetOf(unit: number): number {
  return (unit & (PAGE_UNITS - 1)) << UNIT_SHIFT;
}

/** The next power of two, for a page that starts small. */
function firstPageBytes(needBytes: number): number {
  let bytes = FIRST_PAGE_UNITS << UNIT_SHIFT;
  while (bytes < needBytes) bytes *= 2;
  return Math.min(bytes, PAGE_UNITS << UNIT_SHIFT);
}
