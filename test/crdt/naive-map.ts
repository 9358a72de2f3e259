import type { OrMap } from '../../src/crdt/or-map.js';
import { text } from './seeded.js';

/** An add-wins map as its definition says it: every write ever made, and every write that a later one removed. */
export class NaiveMap {
  private readonly writes = new Map<string, { readonly key: string; readonly value: string }>();
  private readonly removed = new Set<string>();
  private readonly name: string;
  private count = 0;

  constructor(name: string) {
    this.name = name;
  }

  set(key: string, value: string): void {
    this.remove(key);
    this.writes.set(`${this.name} ${++this.count}`, { key, value });
  }

  remove(key: string): void {
    for (const [id, write] of this.writes) if (write.key === key) this.removed.add(id);
  }

  join(other: NaiveMap): void {
    for (const [id, write] of other.writes) this.writes.set(id, write);
    for (const id of other.removed) this.removed.add(id);
  }

  contents(): Record<string, string[]> {
    const all = new Map<string, string[]>();
    for (const [id, { key, value }] of this.writes) {
      if (!this.removed.has(id)) all.set(key, [...(all.get(key) ?? []), value].sort());
    }
    return Object.fromEntries([...all].sort(([a], [b]) => (a < b ? -1 : 1)));
  }
}

/** What a user sees of a map, in the form of `NaiveMap.contents`. */
export function sortedContents(map: OrMap): Record<string, string[]> {
  return Object.fromEntries([...map.keys()].sort().map(key => [key, map.values(key).map(text).sort()]));
}
