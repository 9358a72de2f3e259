const COMPACT_AT = 1_024;

/** A queue over an array with a moving head: O(1) at both ends, amortised. */
export class Fifo<T> {
  private items: (T | undefined)[] = [];
  private head = 0;

  get length(): number {
    return this.items.length - this.head;
  }

  push(item: T): void {
    this.items.push(item);
  }

  shift(): T | undefined {
    const { items, head } = this;
    if (head === items.length) return undefined;
    const item = items[head];
    items[head] = undefined;
    this.head = head + 1;
    if (this.head === items.length) this.clear();
    else if (this.head >= COMPACT_AT && this.head * 2 >= items.length) {
      this.items = items.slice(this.head);
      this.head = 0;
    }
    return item;
  }

  /** The item `index` places behind the first. */
  at(index: number): T | undefined {
    return this.items[this.head + index];
  }

  /** Puts the items before all others, in their order. */
  prepend(items: readonly T[]): void {
    if (items.length === 0) return;
    this.items = [...items, ...this.items.slice(this.head)];
    this.head = 0;
  }

  /** Empties it and gives what was in it. */
  takeAll(): T[] {
    const all = this.items.slice(this.head) as T[];
    this.clear();
    return all;
  }

  private clear(): void {
    // A burst does not keep its memory.
    if (this.items.length > COMPACT_AT) this.items = [];
    else this.items.length = 0;
    this.head = 0;
  }
}
