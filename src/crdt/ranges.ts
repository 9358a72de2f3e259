/**
 * Sets of positive integers as flat arrays of inclusive ranges `[from, to, from, to …]`: ascending, disjoint, and
 * not adjacent. What is known of a replica's counters is nearly always one range, and grows at its upper end.
 */

/** Whether all of `[from, to]` is in the set. */
export function rangesCover(ranges: readonly number[], from: number, to: number): boolean {
  for (let i = ranges.length - 2; i >= 0; i -= 2) {
    if (ranges[i]! <= from) return to <= ranges[i + 1]!;
  }
  return false;
}

/** Adds `[from, to]` in place. */
export function rangesAdd(ranges: number[], from: number, to: number): void {
  let end = ranges.length;
  while (end > 0 && ranges[end - 2]! > to + 1) end -= 2;
  let start = end;
  while (start > 0 && ranges[start - 1]! >= from - 1) start -= 2;
  if (start === end) {
    ranges.splice(start, 0, from, to);
    return;
  }
  ranges[start] = Math.min(from, ranges[start]!);
  ranges[start + 1] = Math.max(to, ranges[end - 1]!);
  if (end - start > 2) ranges.splice(start + 2, end - start - 2);
}
