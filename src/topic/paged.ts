import { assert } from '../base/assert.js';

const PAGE_SHIFT = 16;
const PAGE_LENGTH = 1 << PAGE_SHIFT;
const PAGE_MASK = PAGE_LENGTH - 1;

/**
 * A growing array of int32, zero at first, in pages of 256 KiB: growth never copies more than one page, where doubling
 * one array of 50 MB was seen to stop the thread for 140 ms. The first page starts small and doubles, so that a
 * small structure stays small. A group of words aligned to its size of a power of two never crosses a page.
 */
export class PagedInts {
  private readonly pages: Int32Array[];
  length: number;

  /** @param length words at first, a power of two of at most 65,536. */
  constructor(length: number) {
    assert(length > 0 && length <= PAGE_LENGTH, 'the first page holds 1 to 65,536 words');
    this.pages = [new Int32Array(length)];
    this.length = length;
  }

  get(at: number): number {
    return this.pages[at >> PAGE_SHIFT]![at & PAGE_MASK]!;
  }

  set(at: number, value: number): void {
    this.pages[at >> PAGE_SHIFT]![at & PAGE_MASK] = value;
  }

  /** The page that holds word `at`; index it with {@link inPage}. Valid until the next `grow`. */
  pageOf(at: number): Int32Array {
    return this.pages[at >> PAGE_SHIFT]!;
  }

  /** Adds zeroed words: doubles the first page while it is smaller than a page, then adds pages. */
  grow(): void {
    if (this.length < PAGE_LENGTH) {
      const first = new Int32Array(Math.min(this.length * 2, PAGE_LENGTH));
      first.set(this.pages[0]!);
      this.pages[0] = first;
      this.length = first.length;
      return;
    }
    this.pages.push(new Int32Array(PAGE_LENGTH));
    this.length += PAGE_LENGTH;
  }
}

export function inPage(at: number): number {
  return at & PAGE_MASK;
}

const HELD_SHIFT = 12;
const HELD_MASK = (1 << HELD_SHIFT) - 1;

/** Values under small positive numbers, which a node can hold in a word; numbers are reused. Paged as above. */
export class HeldValues<T> {
  private pages: (T | undefined)[][] = [[undefined]];
  private free: number[] = [];
  private end = 1;

  /** The number of `value` from now on; never 0. */
  hold(value: T): number {
    const free = this.free.pop();
    if (free !== undefined) {
      this.set(free, value);
      return free;
    }
    const index = this.end++;
    if ((index & HELD_MASK) === 0) this.pages.push([]);
    this.pages[index >> HELD_SHIFT]!.push(value);
    return index;
  }

  get(index: number): T {
    return this.pages[index >> HELD_SHIFT]![index & HELD_MASK] as T;
  }

  set(index: number, value: T): void {
    this.pages[index >> HELD_SHIFT]![index & HELD_MASK] = value;
  }

  release(index: number): void {
    this.pages[index >> HELD_SHIFT]![index & HELD_MASK] = undefined;
    this.free.push(index);
  }

  clear(): void {
    this.pages = [[undefined]];
    this.free = [];
    this.end = 1;
  }
}
