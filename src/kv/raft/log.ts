import { assert } from '../../base/assert.js';
import { decodeConfiguration } from './configuration-codec.js';
import { ConfigurationHistory } from './configuration-history.js';
import { ENTRY, type Entry, type SnapshotMeta, type StoredLog } from './ready.js';
import { ENTRY_OVERHEAD_BYTES } from './settings.js';

const SCAN_BYTES_MAX = 1024 * 1024;

export function entryBytes(entry: Entry): number {
  return entry.data.length + ENTRY_OVERHEAD_BYTES;
}

/**
 * The log as the machine sees it: what is stored, and behind it a tail in memory that begins with entries which are
 * stored as well (kept for followers) and ends with those that are not.
 *
 *     snapshotIndex ≤ commitIndex ≤ lastIndex        durableIndex ≤ handedIndex ≤ lastIndex
 *     appliedIndex ≤ applyingIndex ≤ lastIndex       the tail holds at least what follows durableIndex and applyingIndex
 */
export class RaftLog {
  private readonly stored: StoredLog;
  private tail: Entry[] = [];
  /** Where in `tail` it begins: cutting off the front moves this, and now and then the rest. */
  private head = 0;
  /** Index of the first entry in the tail; lastIndex + 1 when it is empty. */
  private tailFirst: number;
  private tailBytes = 0;
  readonly configurations: ConfigurationHistory;

  snapshotIndex: number;
  private snapshotTerm: number;
  lastIndex: number;
  lastTerm: number;
  commitIndex: number;
  /** Given out to be stored. */
  handedIndex: number;
  /** Known to be stored for good. */
  durableIndex: number;
  /** Given out to be applied. */
  applyingIndex: number;
  appliedIndex: number;
  private truncatedFrom = Number.POSITIVE_INFINITY;

  constructor(stored: StoredLog) {
    const { snapshot, lastIndex, applied, hardState } = stored;
    this.stored = stored;
    this.snapshotIndex = snapshot.index;
    this.snapshotTerm = snapshot.term;
    this.lastIndex = this.handedIndex = this.durableIndex = lastIndex;
    this.tailFirst = lastIndex + 1;
    this.appliedIndex = this.applyingIndex = applied;
    this.commitIndex = Math.max(applied, Math.min(hardState.commit, lastIndex));
    assert(snapshot.index <= applied && applied <= lastIndex, 'what is applied is in the log or before it');
    this.lastTerm = lastIndex === snapshot.index ? snapshot.term : stored.term(lastIndex)!;
    this.configurations = new ConfigurationHistory(snapshot.index, snapshot.configuration);
    this.scanConfigurations();
  }

  private scanConfigurations(): void {
    let next = this.snapshotIndex + 1;
    while (next <= this.lastIndex) {
      const entries = this.stored.entries(next, this.lastIndex, SCAN_BYTES_MAX);
      assert(entries.length > 0, 'the stored log has all entries up to its last index');
      for (const entry of entries) this.noteConfiguration(entry);
      next += entries.length;
    }
  }

  private noteConfiguration(entry: Entry): void {
    if (entry.kind !== ENTRY.CONFIGURATION) return;
    const configuration = decodeConfiguration(entry.data);
    assert(configuration !== undefined, 'an entry of a configuration holds one');
    this.configurations.push(entry.index, configuration);
  }

  private at(index: number): Entry {
    return this.tail[this.head + index - this.tailFirst]!;
  }

  /** The term of an entry in [snapshotIndex, lastIndex]; undefined outside. */
  term(index: number): number | undefined {
    if (index === this.lastIndex) return this.lastTerm;
    if (index > this.lastIndex || index < this.snapshotIndex) return undefined;
    if (index >= this.tailFirst) return this.at(index).term;
    return index === this.snapshotIndex ? this.snapshotTerm : this.stored.term(index);
  }

  /** Whether a log that ends so is at least as up to date as this one (paper, 5.4.1). */
  isUpToDate(lastIndex: number, lastTerm: number): boolean {
    return lastTerm > this.lastTerm || (lastTerm === this.lastTerm && lastIndex >= this.lastIndex);
  }

  append(entry: Entry): void {
    assert(
      entry.index === this.lastIndex + 1 && entry.term >= this.lastTerm,
      'a log has no gap, its terms only grow',
    );
    this.tail.push(entry);
    this.tailBytes += entryBytes(entry);
    this.lastIndex = entry.index;
    this.lastTerm = entry.term;
    if (entry.kind !== ENTRY.COMMAND) this.noteConfiguration(entry);
  }

  /**
   * Takes what a leader sent if the entry before it agrees (paper, 5.3), and drops what contradicts it. False if that
   * entry does not agree. Entries that are there already stay, also those behind them.
   */
  accept(previousIndex: number, previousTerm: number, entries: readonly Entry[]): boolean {
    if (this.term(previousIndex) !== previousTerm) return false;
    for (const entry of entries) {
      if (entry.index <= this.lastIndex) {
        if (this.term(entry.index) === entry.term) continue;
        this.truncate(entry.index);
      }
      this.append(entry);
    }
    return true;
  }

  private truncate(index: number): void {
    assert(index > this.commitIndex && index > this.applyingIndex, 'what is committed is never taken back');
    this.lastTerm = this.term(index - 1)!;
    this.lastIndex = index - 1;
    if (index <= this.tailFirst) this.clearTail(index);
    else {
      for (let i = this.head + index - this.tailFirst; i < this.tail.length; i++)
        this.tailBytes -= entryBytes(this.tail[i]!);
      this.tail.length = this.head + index - this.tailFirst;
    }
    this.handedIndex = Math.min(this.handedIndex, index - 1);
    this.durableIndex = Math.min(this.durableIndex, index - 1);
    this.truncatedFrom = Math.min(this.truncatedFrom, index);
    this.configurations.truncate(index);
  }

  /** The first index that was cut off since this was last asked; Infinity: none. */
  takeTruncation(): number {
    const from = this.truncatedFrom;
    this.truncatedFrom = Number.POSITIVE_INFINITY;
    return from;
  }

  private clearTail(first: number): void {
    this.tail = [];
    this.head = 0;
    this.tailFirst = first;
    this.tailBytes = 0;
  }

  /**
   * The last entry at or before `index` whose term is not above `term`: no later one can agree with a log that has
   * `term` at `index`. Skips a term in each step; ends at the snapshot.
   */
  lastNotAbove(index: number, term: number): number {
    let at = Math.min(index, this.lastIndex);
    while (at > this.snapshotIndex && (this.term(at) ?? 0) > term) at--;
    return at;
  }

  /** Entries from `from` up to `to`, at least one and no more than fit `bytesMax` but for the first. Do not change it. */
  entries(from: number, to: number, bytesMax: number): readonly Entry[] {
    if (from >= this.tailFirst) return this.tailEntries(from, to, bytesMax);
    const stored = this.stored.entries(from, Math.min(to, this.tailFirst - 1), bytesMax);
    const next = from + stored.length;
    if (next !== this.tailFirst || next > to) return stored;
    let room = bytesMax;
    for (const entry of stored) room -= entryBytes(entry);
    return room < entryBytes(this.at(next)) ? stored : stored.concat(this.tailEntries(next, to, room));
  }

  private tailEntries(from: number, to: number, bytesMax: number): readonly Entry[] {
    const start = this.head + from - this.tailFirst;
    const limit = this.head + to + 1 - this.tailFirst;
    let bytes = entryBytes(this.tail[start]!);
    let end = start + 1;
    while (end < limit && (bytes += entryBytes(this.tail[end]!)) <= bytesMax) end++;
    return this.tail.slice(start, end);
  }

  /** What must be stored next, and counts as given out from now on. */
  handOut(): readonly Entry[] {
    if (this.handedIndex === this.lastIndex) return NO_ENTRIES;
    const start = this.head + this.handedIndex + 1 - this.tailFirst;
    this.handedIndex = this.lastIndex;
    return this.tail.slice(start);
  }

  /** What may be applied up to `to`, and counts as given out from now on. */
  handOutApplicable(to: number, bytesMax: number): readonly Entry[] {
    if (to <= this.applyingIndex) return NO_ENTRIES;
    const entries = this.entries(this.applyingIndex + 1, to, bytesMax);
    this.applyingIndex += entries.length;
    return entries;
  }

  /** The sum of the sizes of the entries from `from` to `to`, as far as they are in memory. */
  bytesBetween(from: number, to: number): number {
    let bytes = 0;
    for (let index = Math.max(from, this.tailFirst); index <= to; index++)
      bytes += entryBytes(this.at(index));
    return bytes;
  }

  /** A snapshot takes the place of everything; it is not stored yet. */
  restore({ index, term, configuration }: SnapshotMeta): void {
    assert(index > this.commitIndex, 'a snapshot goes forward');
    this.clearTail(index + 1);
    this.snapshotIndex = this.commitIndex = this.lastIndex = index;
    this.handedIndex = this.applyingIndex = this.appliedIndex = index;
    this.snapshotTerm = this.lastTerm = term;
    this.durableIndex = 0;
    this.truncatedFrom = 1;
    this.configurations.replace(index, configuration);
  }

  /** One entry more, which is stored, committed, applied and forgotten already. */
  pass(term: number): void {
    assert(
      this.appliedIndex === this.lastIndex && this.durableIndex === this.lastIndex,
      'nothing is under way',
    );
    const index = this.lastIndex + 1;
    this.clearTail(index + 1);
    this.snapshotIndex = this.commitIndex = this.lastIndex = index;
    this.handedIndex = this.durableIndex = this.applyingIndex = this.appliedIndex = index;
    this.snapshotTerm = this.lastTerm = term;
    this.configurations.compact(index);
  }

  /** Entries up to `index` are not stored any more. */
  compact(index: number): void {
    assert(index <= this.applyingIndex, 'only what is applied can be forgotten');
    if (index <= this.snapshotIndex) return;
    this.snapshotTerm = this.term(index)!;
    this.snapshotIndex = index;
    this.configurations.compact(index);
  }

  /**
   * Drops from memory what is stored, applied and known to followers up to `keepAfter`. When it is too much, also what is
   * not, as long as it is committed: who needs it reads it from the disk.
   */
  trim(keepAfter: number, cacheBytesMax: number): void {
    const known = Math.min(keepAfter, this.applyingIndex, this.durableIndex);
    const committed = Math.min(this.durableIndex, Math.max(this.commitIndex, this.applyingIndex));
    while (this.tailFirst <= known || (this.tailFirst <= committed && this.tailBytes > cacheBytesMax)) {
      this.tailBytes -= entryBytes(this.tail[this.head++]!);
      this.tailFirst++;
    }
    if (this.head === this.tail.length) {
      this.tail.length = this.head = 0;
    } else if (this.head * 2 >= this.tail.length) {
      this.tail.splice(0, this.head);
      this.head = 0;
    }
  }
}

const NO_ENTRIES: readonly Entry[] = [];
