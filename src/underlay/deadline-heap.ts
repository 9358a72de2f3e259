/** What may stand in a {@link DeadlineHeap}; the heap alone writes `heapIndex`, -1 while it is not in one. */
export interface Timed {
  dueMs: number;
  heapIndex: number;
}

/** A binary heap by `dueMs` whose items know their place, so that a deadline moves in O(log n). */
export class DeadlineHeap<T extends Timed> {
  private readonly items: T[] = [];

  get size(): number {
    return this.items.length;
  }

  /** Infinity when it is empty. */
  get firstMs(): number {
    return this.items.length === 0 ? Number.POSITIVE_INFINITY : this.items[0]!.dueMs;
  }

  /** In no particular order; not to be changed meanwhile. */
  all(): readonly T[] {
    return this.items;
  }

  /** Adds the item, or moves it if it is here already. */
  set(item: T, dueMs: number): void {
    item.dueMs = dueMs;
    if (item.heapIndex < 0) {
      item.heapIndex = this.items.length;
      this.items.push(item);
    }
    this.sink(this.rise(item.heapIndex));
  }

  delete(item: T): void {
    const at = item.heapIndex;
    if (at < 0) return;
    item.heapIndex = -1;
    const last = this.items.pop()!;
    if (last === item) return;
    this.put(last, at);
    this.sink(this.rise(at));
  }

  /** Takes the first item out if it is due. */
  takeDue(nowMs: number): T | undefined {
    const first = this.items[0];
    if (first === undefined || first.dueMs > nowMs) return undefined;
    this.delete(first);
    return first;
  }

  /** Moves all deadlines by the same amount, which keeps their order. */
  postpone(byMs: number): void {
    for (const item of this.items) item.dueMs += byMs;
  }

  private put(item: T, at: number): void {
    this.items[at] = item;
    item.heapIndex = at;
  }

  private rise(from: number): number {
    const item = this.items[from]!;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = this.items[parent]!;
      if (above.dueMs <= item.dueMs) break;
      this.put(above, at);
      at = parent;
    }
    this.put(item, at);
    return at;
  }

  private sink(from: number): void {
    const { items } = this;
    const item = items[from]!;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && items[child + 1]!.dueMs < items[child]!.dueMs) child += 1;
      const below = items[child]!;
      if (below.dueMs >= item.dueMs) break;
      this.put(below, at);
      at = child;
    }
    this.put(item, at);
  }
}
