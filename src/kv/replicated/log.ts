import { assert } from '../../base/assert.js';
import { ByteReader, ByteWriter } from '../../base/bytes.js';
import type { KvReader, KvWriter } from '../engine.js';
import { BOOK_REST_AT, bookKey, copyOf, ordered53, readOrdered53 } from '../keys.js';
import type { Configuration, ReplicaId } from '../raft/configuration.js';
import { decodeConfiguration } from '../raft/configuration-codec.js';
import { ENTRY, type Entry, type HardState, type SnapshotMeta, type StoredLog } from '../raft/ready.js';
import { BOOK } from './books.js';
import {
  entryBytes,
  type LogState,
  readBatchHead,
  readEntry,
  readLogState,
  writeBatchHead,
  writeEntry,
  writeLogState,
} from './log-records.js';

/** How a log is kept. */
export interface LogLimits {
  /** Bytes of entries at the end that are held in memory, so that followers that keep up cost no reads. */
  readonly tailBytesMax: number;
  /** Bytes and entries of one record. */
  readonly batchBytesMax: number;
  readonly batchEntriesMax: number;
}

export const LOG_LIMITS: LogLimits = {
  tailBytesMax: 256 * 1024,
  batchBytesMax: 64 * 1024,
  batchEntriesMax: 512,
};

interface StoredBatch {
  readonly first: number;
  count: number;
  readonly term: number;
  bytes: number;
}

/**
 * A range's log, hard state, and how far it is applied, on an engine.
 *
 * Entries that came together and are of one term make a record under the index of the first, so that a turn's puts are
 * one record and one checksum, and terms are known from the heads, which stay in memory. All that is not entries is
 * one record, written once in a turn (`finish`). Whoever writes gives the turn's writer; the memory here follows at
 * once, so a log whose transaction failed is thrown away and opened again.
 *
 * Compaction moves `snapshot` on at once, by which the entries before it are gone for everybody; their records go in
 * steps of `trim`. Records below `snapshot.index` that a crash left behind are found at the next opening.
 */
export class RangeLog implements StoredLog {
  readonly rangeId: number;
  private readonly engine: KvReader;
  private readonly limits: LogLimits;
  private state: LogState;
  private dirty = false;
  /** What a decision that is not durable yet has changed. */
  private undecided: LogState | undefined;
  private last: number;
  /** What is stored, from the first record on that is not removed yet. */
  private batches: StoredBatch[] = [];
  /** First indices of records that stand for nothing any more. */
  private stale: number[] = [];
  private tail: Entry[] = [];
  private tailFrom = 0;
  private tailBytes = 0;
  /** Entries that change the configuration, behind the snapshot. */
  private changes: { index: number; configuration: Configuration }[] = [];
  private bytes = 0;
  private readonly key = new ByteWriter(32);
  private readonly value = new ByteWriter(256);
  private readonly reader = new ByteReader();

  private constructor(rangeId: number, engine: KvReader, state: LogState, limits: LogLimits) {
    this.rangeId = rangeId;
    this.engine = engine;
    this.state = state;
    this.last = state.snapshot.index;
    this.limits = limits;
  }

  /** The log that is stored; undefined if the store holds none for the range. */
  static open(rangeId: number, engine: KvReader, limits: LogLimits = LOG_LIMITS): RangeLog | undefined {
    const stored = engine.get(bookKey(new ByteWriter(16), BOOK.STATE, rangeId).view());
    if (stored === undefined) return undefined;
    const state = readLogState(new ByteReader(copyOf(stored)));
    const log = new RangeLog(rangeId, engine, state, limits);
    log.readBatches();
    return log;
  }

  /** A log that begins after `snapshot`; stored by the next `finish`. */
  static create(
    rangeId: number,
    engine: KvReader,
    state: LogState,
    limits: LogLimits = LOG_LIMITS,
  ): RangeLog {
    const log = new RangeLog(rangeId, engine, state, limits);
    log.dirty = true;
    return log;
  }

  // -- StoredLog -----------------------------------------------------------------------------------------------

  get replica(): ReplicaId {
    return this.state.replica;
  }

  get hardState(): HardState {
    return this.state.hardState;
  }

  get snapshot(): SnapshotMeta {
    return this.state.snapshot;
  }

  get applied(): number {
    return this.state.applied;
  }

  get lastIndex(): number {
    return this.last;
  }

  term(index: number): number | undefined {
    if (index === this.snapshot.index) return this.snapshot.term;
    if (index < this.snapshot.index || index > this.last) return undefined;
    return this.batches[this.batchOf(index)]!.term;
  }

  entries(from: number, to: number, bytesMax: number): readonly Entry[] {
    assert(from > this.snapshot.index && from <= to && to <= this.last, 'the log holds what is asked for');
    const out: Entry[] = [];
    let left = bytesMax;
    let index = from;
    const tailStart = this.last - (this.tail.length - this.tailFrom) + 1;
    for (let batch = index < tailStart ? this.batchOf(index) : 0; index < tailStart && index <= to; batch++)
      for (const entry of this.readBatch(this.batches[batch]!)) {
        if (entry.index < index || entry.index > to) continue;
        left -= entryBytes(entry);
        if (left < 0 && out.length > 0) return out;
        out.push(entry);
        index++;
      }
    for (; index <= to; index++) {
      const entry = this.tail[this.tailFrom + index - tailStart]!;
      left -= entryBytes(entry);
      if (left < 0 && out.length > 0) return out;
      out.push(entry);
    }
    return out;
  }

  // -- For the replica -------------------------------------------------------------------------------------------

  /** The configuration in force at `index`, which is in [snapshot.index, lastIndex]. */
  configurationAt(index: number): Configuration {
    let { configuration } = this.snapshot;
    for (const change of this.changes) if (change.index <= index) ({ configuration } = change);
    return configuration;
  }

  /** Bytes of entries that are stored behind the snapshot. */
  get storedBytes(): number {
    return this.bytes;
  }

  /** Whether `finish` has something to write. */
  get isDirty(): boolean {
    return this.dirty;
  }

  /** Whether records wait for `trim`. */
  get hasTrimmable(): boolean {
    const first = this.batches[0];
    if (first !== undefined && first.first + first.count - 1 <= this.snapshot.index) return true;
    return this.stale.length > 0;
  }

  /** The last index that is behind no more than `bytesMax` of entries. */
  indexLeaving(bytesMax: number): number {
    let left = bytesMax;
    let at = this.batches.length - 1;
    while (at >= 0 && (left -= this.batches[at]!.bytes) >= 0) at--;
    const batch = this.batches[at];
    return batch === undefined ? this.snapshot.index : batch.first + batch.count - 1;
  }

  /** Index of the last entry that changes the configuration, or that of the snapshot. */
  get lastChange(): number {
    return this.changes.at(-1)?.index ?? this.snapshot.index;
  }

  setHardState(hardState: HardState): void {
    this.state = { ...this.state, hardState };
    this.dirty = true;
  }

  setApplied(index: number): void {
    assert(index >= this.applied && index <= this.last, 'what is applied is in the log');
    if (index === this.applied) return;
    this.state = { ...this.state, applied: index };
    this.dirty = true;
  }

  /** Appends; what is stored from the first one's index on is replaced. The entries' data is kept. */
  append(writer: KvWriter, entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    assert(first.index <= this.last + 1 && first.index > this.snapshot.index, 'a log has no gap');
    assert(first.index > this.applied, 'what is applied stays');
    if (first.index <= this.last) this.truncate(writer, first.index);
    const { batchEntriesMax, batchBytesMax } = this.limits;
    for (let at = 0; at < entries.length; ) {
      const { term } = entries[at]!;
      let end = at;
      let bytes = 0;
      while (end < entries.length && end - at < batchEntriesMax && entries[end]!.term === term) {
        bytes += entryBytes(entries[end]!);
        if (bytes > batchBytesMax && end > at) break;
        end++;
      }
      this.putBatch(writer, entries, at, end);
      at = end;
    }
    for (const entry of entries) this.remember(entry);
  }

  /**
   * Takes entries that are applied in the transaction which would append them, in a group where nobody else will ask
   * for them: nothing is stored but that they were.
   */
  pass(entries: readonly Entry[]): void {
    const last = entries.at(-1);
    if (last === undefined) return;
    assert(entries[0]!.index === this.last + 1, 'a log has no gap');
    let { configuration } = this.snapshot;
    for (const change of this.changes) ({ configuration } = change);
    for (const entry of entries)
      if (entry.kind === ENTRY.CONFIGURATION) configuration = configurationOf(entry.data);
    this.last = last.index;
    this.dropTail();
    this.changes = [];
    this.bytes = 0;
    this.state = {
      ...this.state,
      snapshot: { index: last.index, term: last.term, configuration },
      applied: last.index,
    };
    this.dirty = true;
  }

  /** Whether nothing is stored but that everything was applied. */
  get isPassed(): boolean {
    return this.last === this.snapshot.index && this.last === this.applied && !this.dirty;
  }

  /** One entry more, which is what the transaction holds; see decisions.ts. To be confirmed or taken back. */
  decide(term: number): void {
    assert(this.isPassed, 'a decision comes behind all others');
    const { configuration } = this.snapshot;
    const index = ++this.last;
    this.undecided = this.state;
    this.state = { ...this.state, snapshot: { index, term, configuration }, applied: index };
    this.dirty = true;
  }

  confirmDecision(): void {
    this.undecided = undefined;
  }

  takeDecisionBack(): void {
    if (this.undecided === undefined) return;
    this.state = this.undecided;
    this.last = this.state.applied;
    this.undecided = undefined;
    this.dirty = false;
  }

  /** The state that came from another replica stands for everything up to its index: all entries go. */
  restore(writer: KvWriter, meta: SnapshotMeta): void {
    assert(meta.index > this.applied, 'a state that is received is newer');
    this.last = meta.index;
    this.dropTail();
    this.changes = [];
    this.bytes = 0;
    // Above the index they would be taken for entries at the next opening.
    for (const { first, count } of this.batches)
      if (first + count - 1 > meta.index) writer.remove(this.batchKey(first));
      else this.stale.push(first);
    this.batches = [];
    this.state = { ...this.state, snapshot: meta, applied: meta.index };
    this.dirty = true;
  }

  /** Entries up to `index`, which are applied, are not needed any more. */
  compact(index: number): void {
    assert(index <= this.applied, 'only what is applied is compacted');
    if (index <= this.snapshot.index) return;
    const term = this.term(index)!;
    const configuration = this.configurationAt(index);
    this.changes = this.changes.filter(change => change.index > index);
    for (const batch of this.batches) {
      if (batch.first + batch.count - 1 > index) break;
      this.bytes -= batch.bytes;
      batch.bytes = 0;
    }
    this.state = { ...this.state, snapshot: { index, term, configuration } };
    this.dirty = true;
  }

  /** Removes records that compaction left, `recordsMax` at most. True: there are more. */
  trim(writer: KvWriter, recordsMax: number): boolean {
    let left = recordsMax;
    for (; left > 0 && this.stale.length > 0; left--) writer.remove(this.batchKey(this.stale.pop()!));
    let gone = 0;
    while (left-- > 0 && gone < this.batches.length) {
      const batch = this.batches[gone]!;
      if (batch.first + batch.count - 1 > this.snapshot.index) break;
      writer.remove(this.batchKey(batch.first));
      gone++;
    }
    if (gone > 0) this.batches.splice(0, gone);
    return this.hasTrimmable;
  }

  /** Behind the last change of a transaction. */
  finish(writer: KvWriter): void {
    if (!this.dirty) return;
    this.dirty = false;
    writeLogState(this.value.reset(), this.state);
    writer.put(bookKey(this.key, BOOK.STATE, this.rangeId).view(), this.value.view());
  }

  // -- Records -------------------------------------------------------------------------------------------------

  private batchKey(first: number): Uint8Array {
    return ordered53(bookKey(this.key, BOOK.LOG, this.rangeId), first).view();
  }

  /** Position of the batch that holds `index`. */
  private batchOf(index: number): number {
    let low = 0;
    let high = this.batches.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.batches[middle]!.first <= index) low = middle;
      else high = middle - 1;
    }
    const batch = this.batches[low];
    assert(batch !== undefined && index >= batch.first && index < batch.first + batch.count, 'it is stored');
    return low;
  }

  private putBatch(writer: KvWriter, entries: readonly Entry[], start: number, end: number): void {
    const { value } = this;
    const { term, index: first } = entries[start]!;
    let hasConfiguration = false;
    let bytes = 0;
    for (let at = start; at < end; at++) {
      const entry = entries[at]!;
      assert(entry.index === first + at - start, 'entries follow each other');
      bytes += entryBytes(entry);
      if (entry.kind === ENTRY.CONFIGURATION) hasConfiguration = true;
    }
    writeBatchHead(value.reset(), { term, count: end - start, hasConfiguration });
    for (let at = start; at < end; at++) writeEntry(value, entries[at]!);
    writer.put(this.batchKey(first), value.view());
    this.batches.push({ first, count: end - start, term, bytes });
    this.bytes += bytes;
    this.last = first + end - start - 1;
  }

  private truncate(writer: KvWriter, from: number): void {
    const kept: Entry[] = [];
    for (let batch = this.batches.at(-1); batch !== undefined; batch = this.batches.at(-1)) {
      if (batch.first + batch.count <= from) break;
      if (batch.first < from)
        for (const entry of this.readBatch(batch)) if (entry.index < from) kept.push(entry);
      this.batches.pop();
      this.bytes -= batch.bytes;
      writer.remove(this.batchKey(batch.first));
    }
    this.last = from - 1;
    if (kept.length > 0) this.putBatch(writer, kept, 0, kept.length);
    this.changes = this.changes.filter(({ index }) => index < from);
    while (this.tail.length > this.tailFrom && this.tail.at(-1)!.index >= from)
      this.tailBytes -= entryBytes(this.tail.pop()!);
    if (this.tail.length === this.tailFrom) this.dropTail();
  }

  private readBatch(batch: StoredBatch): Entry[] {
    const stored = this.engine.get(this.batchKey(batch.first));
    assert(stored !== undefined, 'what was appended is stored');
    const reader = this.reader.over(copyOf(stored));
    const { term, count } = readBatchHead(reader);
    const out: Entry[] = [];
    for (let at = 0; at < count; at++) out.push(readEntry(reader, term, batch.first + at));
    return out;
  }

  /** At the opening: finds the records, and what in them must be known. */
  private readBatches(): void {
    const changing: StoredBatch[] = [];
    const start = bookKey(new ByteWriter(16), BOOK.LOG, this.rangeId).view();
    const end = bookKey(new ByteWriter(16), BOOK.LOG, this.rangeId + 1).view();
    this.engine.scan(start, end, (key, value) => {
      const first = readOrdered53(key, BOOK_REST_AT);
      const { term, count, hasConfiguration } = readBatchHead(this.reader.over(value));
      const batch = { first, count, term, bytes: value.length };
      const last = first + count - 1;
      if (last <= this.snapshot.index) this.stale.push(first);
      else {
        assert(first <= this.last + 1, 'a stored log has no gap');
        this.batches.push(batch);
        this.bytes += batch.bytes;
        this.last = last;
        if (hasConfiguration) changing.push(batch);
      }
      return true;
    });
    for (const batch of changing)
      for (const entry of this.readBatch(batch))
        if (entry.kind === ENTRY.CONFIGURATION && entry.index > this.snapshot.index)
          this.changes.push({ index: entry.index, configuration: configurationOf(entry.data) });
  }

  // -- Memory --------------------------------------------------------------------------------------------------

  private remember(entry: Entry): void {
    if (entry.kind === ENTRY.CONFIGURATION)
      this.changes.push({ index: entry.index, configuration: configurationOf(entry.data) });
    this.tail.push(entry);
    this.tailBytes += entryBytes(entry);
    while (this.tailBytes > this.limits.tailBytesMax && this.tail.length > this.tailFrom)
      this.tailBytes -= entryBytes(this.tail[this.tailFrom++]!);
    if (this.tailFrom > 64 && this.tailFrom * 2 > this.tail.length) {
      this.tail.splice(0, this.tailFrom);
      this.tailFrom = 0;
    }
  }

  private dropTail(): void {
    this.tail = [];
    this.tailFrom = 0;
    this.tailBytes = 0;
  }
}

function configurationOf(data: Uint8Array): Configuration {
  const configuration = decodeConfiguration(data);
  assert(configuration !== undefined, 'an entry that changes the configuration holds one');
  return configuration;
}
