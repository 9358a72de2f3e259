import type { HostId } from './message.js';

/** Ids in ascending order, kept so change by change: the mesh needs that order, and sorting at each change would not do. */
export class SortedIds {
  readonly ids: HostId[] = [];

  add(id: HostId): void {
    const at = this.lowerBound(id);
    if (this.ids[at] !== id) this.ids.splice(at, 0, id);
  }

  delete(id: HostId): void {
    const at = this.lowerBound(id);
    if (this.ids[at] === id) this.ids.splice(at, 1);
  }

  private lowerBound(id: HostId): number {
    let low = 0;
    let high = this.ids.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ids[middle]! < id) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
