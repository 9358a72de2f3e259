import { assert } from '../../base/assert.js';
import { type ByteReader, ByteWriter } from '../../base/bytes.js';
import type { KvReader, KvWriter } from '../engine.js';
import { BY_KEY, KeySample } from '../key-sample.js';
import { localKey, SERVICE } from '../keys.js';
import { VarintReader, VarintWriter } from '../raft/varint.js';
import type { Boundary, Coprocessor, Division, RangeHints } from '../range.js';
import {
  beginAnswer,
  type Change,
  MAP_STATUS,
  type MapQuestion,
  readCommand,
  readQuestion,
  readStored,
  type StoredEntry,
  writeEntry,
  writeStored,
} from './map-codec.js';

/**
 * The map: small values by text key that whoever runs the cluster keeps in it, linearizable for each key. map-codec.ts
 * has the commands and answers, map-listing.ts the caller's side of a listing over several ranges.
 *
 * Entries: `m key` → u8 version, revision, modifiedAtMs, value;
 *          `L m range 0x63` → u8 version, revision, entries, bytes, entriesMax, bytesMax: written once per transaction.
 *
 * Invariants
 * - A command whose key is not in the range, or that cannot be read, is answered with a status and changes nothing. It may
 *   come from any node, by way of a log that all replicas apply, so nothing about it is asserted.
 * - Each put gets the next number of the range's counter as its revision. A new range begins with its parent's counter
 *   and a union has the greater of both, so for each key the counter of the range that has it never falls, and no two
 *   puts of a key share a revision, though it was deleted in between.
 * - `entries` and `bytes` (of keys with their service, and of what is stored under them) are those of the range.
 * - The shares of all ranges, entriesMax and bytesMax, add up to what the map may hold. A range that is divided keeps what
 *   both halves hold on their sides, and each gets half of what is free; a union has both shares. So the bound holds
 *   for the map as a whole without anybody asking anybody, and the price is that a range may be full while another is
 *   not. A value that does not grow is always let in.
 * - No clock: the time of a change is what its command says, and is not looked at.
 *
 * Limits: keys of 1 to 512 bytes of UTF-8 without U+0000, values of 64 KiB, {@link MAP_LIMITS} in all. A list answer has
 * at most 1,000 entries and 256 KiB beside the first, and looks at no more than 1 MiB. Dividing a range reads the
 * entries of its upper half once, within the transaction: 2 µs each on LMDB, so a second if half a million go.
 *
 * Difference from etcd: no history, no watches, no leases; a revision counts the puts of a range and not those of the map.
 */
export interface MapLimits {
  readonly entriesMax: number;
  readonly bytesMax: number;
}

/** For the map as a whole. The first range is given them, so all stores must have the same. */
export const MAP_LIMITS: MapLimits = { entriesMax: 1_000_000, bytesMax: 1024 * 1024 * 1024 };

const KIND_BOOK = 0x63;
const BOOK_VERSION = 1;
/** Bytes of entries that one list looks at. */
const LOOK_BYTES_MAX = 1024 * 1024;

/** What is stored about a range as a whole. */
interface Book {
  revision: number;
  entries: number;
  bytes: number;
  entriesMax: number;
  bytesMax: number;
}

export class MapCoprocessor implements Coprocessor {
  private readonly rangeId: number;
  private readonly limits: MapLimits;
  private readonly sample = new KeySample([BY_KEY]);
  private boundary: Boundary = { start: NOTHING, end: NOTHING };
  private book: Book;
  private isDirty = false;
  private readonly key = new ByteWriter(32);
  private readonly value = new VarintWriter(1024);
  private readonly answer = new VarintWriter(1024);

  constructor(rangeId: number, limits: MapLimits = MAP_LIMITS) {
    this.rangeId = rangeId;
    this.limits = limits;
    this.book = firstBook(limits);
  }

  get entries(): number {
    return this.book.entries;
  }

  get bytes(): number {
    return this.book.bytes;
  }

  /** The last one that was given. */
  get revision(): number {
    return this.book.revision;
  }

  /** What the range may hold. */
  get share(): MapLimits {
    return this.book;
  }

  // -- Commands ------------------------------------------------------------------------------------------------

  mutate(input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    const command = readCommand(input.bytes, input.position, input.end);
    input.position = input.end;
    const { answer } = this;
    if (command.kind === 'unread') beginAnswer(answer, command.status);
    else if (!this.covers(command.change.key)) beginAnswer(answer, MAP_STATUS.OUTSIDE);
    else if (command.kind === 'put') this.put(command.change, command.value, writer);
    else this.remove(command.change, writer);
    output.raw(answer.bytes, 0, answer.length);
  }

  private covers(key: Uint8Array): boolean {
    const { start, end } = this.boundary;
    return Buffer.compare(start, key) <= 0 && Buffer.compare(key, end) < 0;
  }

  private put({ key, nowMs, expected }: Change, value: Uint8Array, writer: KvWriter): void {
    const { book, answer } = this;
    const former = writer.get(key);
    const formerBytes = former === undefined ? 0 : key.length + former.length;
    const has = former === undefined ? 0 : entryOf(former).revision;
    if (expected >= 0 && expected !== has) {
      beginAnswer(answer, MAP_STATUS.CONFLICT).number(has);
      return;
    }
    const stored = writeStored(this.value, book.revision + 1, nowMs, value);
    const growth = key.length + stored.length - formerBytes;
    const isRoom =
      (former !== undefined || book.entries < book.entriesMax) &&
      (growth <= 0 || book.bytes + growth <= book.bytesMax);
    if (!isRoom) {
      beginAnswer(answer, MAP_STATUS.FULL);
      return;
    }
    book.revision++;
    book.entries += former === undefined ? 1 : 0;
    book.bytes += growth;
    this.isDirty = true;
    this.sample.put(key, key.length + stored.length);
    writer.put(key, stored);
    beginAnswer(answer, MAP_STATUS.PUT).number(book.revision);
  }

  private remove({ key, expected }: Change, writer: KvWriter): void {
    const { book, answer } = this;
    const former = writer.get(key);
    const has = former === undefined ? 0 : entryOf(former).revision;
    if (expected >= 0 && expected !== has) {
      beginAnswer(answer, MAP_STATUS.CONFLICT).number(has);
      return;
    }
    beginAnswer(answer, MAP_STATUS.DELETED).number(has);
    if (former === undefined) return;
    book.entries--;
    book.bytes -= key.length + former.length;
    assert(book.entries >= 0 && book.bytes >= 0, 'what is removed was counted');
    this.isDirty = true;
    this.sample.remove(key);
    writer.remove(key);
  }

  finish(writer: KvWriter): void {
    if (!this.isDirty) return;
    this.isDirty = false;
    this.writeBook(this.rangeId, this.book, writer);
  }

  // -- Questions -----------------------------------------------------------------------------------------------

  query(input: ByteReader, reader: KvReader, output: ByteWriter): void {
    const question = readQuestion(input.bytes, input.position, input.end);
    input.position = input.end;
    const { answer } = this;
    if (question.kind === 'unread') beginAnswer(answer, question.status);
    else if (!this.covers(question.kind === 'get' ? question.key : question.from))
      beginAnswer(answer, MAP_STATUS.OUTSIDE);
    else if (question.kind === 'get') this.get(question.key, reader);
    else {
      const entries = this.list(question, reader);
      output.raw(answer.bytes, 0, answer.length).raw(entries.bytes, 0, entries.length);
      return;
    }
    output.raw(answer.bytes, 0, answer.length);
  }

  private get(key: Uint8Array, reader: KvReader): void {
    const stored = reader.get(key);
    if (stored === undefined) {
      beginAnswer(this.answer, MAP_STATUS.ABSENT);
      return;
    }
    const { revision, modifiedAtMs, value } = entryOf(stored);
    beginAnswer(this.answer, MAP_STATUS.FOUND).number(revision).number(modifiedAtMs).blob(value);
  }

  /** Begins the answer, and gives what it ends with. */
  private list(question: Extract<MapQuestion, { kind: 'list' }>, reader: KvReader): VarintWriter {
    const { from, entriesMax, bytesMax, withValues } = question;
    const isCut = Buffer.compare(this.boundary.end, question.end) < 0;
    const end = isCut ? this.boundary.end : question.end;
    let next: Uint8Array = isCut ? end : NOTHING;
    let count = 0;
    let looked = 0;
    const entries = this.value.reset();
    reader.scan(from, end, (key, value) => {
      const entry = entryOf(value);
      const bytes = key.length + (withValues ? entry.value.length : 0);
      looked += key.length + value.length;
      const isFull = count === entriesMax || entries.length + bytes > bytesMax || looked > LOOK_BYTES_MAX;
      if (count > 0 && isFull) {
        next = Buffer.from(key);
        return false;
      }
      writeEntry(entries, key, entry, withValues);
      count++;
      return true;
    });
    beginAnswer(this.answer, MAP_STATUS.LISTED)
      .blob(next)
      .byte(withValues ? 1 : 0)
      .number(count);
    return entries;
  }

  // -- The range as a whole ------------------------------------------------------------------------------------

  reset(boundary: Boundary, reader: KvReader): void {
    this.boundary = boundary;
    this.isDirty = false;
    this.book = this.readBook(this.rangeId, reader) ?? firstBook(this.limits);
    this.sample.reset(boundary);
  }

  divide({ upper, child }: Division, writer: KvWriter): void {
    const { book } = this;
    let entries = 0;
    let bytes = 0;
    writer.scan(upper.start, upper.end, (key, value) => {
      entries++;
      bytes += key.length + value.length;
      return true;
    });
    const freeEntries = Math.floor((book.entriesMax - book.entries) / 2);
    const freeBytes = Math.floor((book.bytesMax - book.bytes) / 2);
    const taken = { entries, bytes, entriesMax: entries + freeEntries, bytesMax: bytes + freeBytes };
    this.writeBook(child, { revision: book.revision, ...taken }, writer);
    book.entries -= entries;
    book.bytes -= bytes;
    book.entriesMax -= taken.entriesMax;
    book.bytesMax -= taken.bytesMax;
    this.writeBook(this.rangeId, book, writer);
  }

  absorb(_boundary: Boundary, absorbed: number, writer: KvWriter): void {
    const { book } = this;
    // One without a book was never written to nor divided, so it is no part of this map: it has no share of it either.
    const other = this.readBook(absorbed, writer) ?? firstBook(NO_SHARE);
    book.revision = Math.max(book.revision, other.revision);
    book.entries += other.entries;
    book.bytes += other.bytes;
    book.entriesMax += other.entriesMax;
    book.bytesMax += other.bytesMax;
    this.writeBook(this.rangeId, book, writer);
  }

  hints(reader: KvReader): RangeHints {
    return this.sample.hints(reader, this.book.bytes);
  }

  private readBook(range: number, reader: KvReader): Book | undefined {
    const stored = reader.get(localKey(this.key, SERVICE.MAP, range, KIND_BOOK).view());
    if (stored === undefined) return undefined;
    const record = new VarintReader(stored);
    const version = record.byte();
    const counts = { revision: record.number(), entries: record.number(), bytes: record.number() };
    const book = { ...counts, entriesMax: record.number(), bytesMax: record.number() };
    assert(version === BOOK_VERSION && record.isDone, 'what is stored about a map range is of this layout');
    return book;
  }

  private writeBook(range: number, book: Book, writer: KvWriter): void {
    const value = this.value.reset().byte(BOOK_VERSION).number(book.revision);
    value.number(book.entries).number(book.bytes).number(book.entriesMax).number(book.bytesMax);
    writer.put(localKey(this.key, SERVICE.MAP, range, KIND_BOOK).view(), value.view());
  }
}

const NOTHING = new Uint8Array(0);

function firstBook({ entriesMax, bytesMax }: MapLimits): Book {
  return { revision: 0, entries: 0, bytes: 0, entriesMax, bytesMax };
}

const NO_SHARE: MapLimits = { entriesMax: 0, bytesMax: 0 };

function entryOf(stored: Uint8Array): StoredEntry {
  const entry = readStored(stored);
  assert(entry !== undefined, 'what a map range holds is of its layout');
  return entry;
}
