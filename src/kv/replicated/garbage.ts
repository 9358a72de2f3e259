import { ByteReader, ByteWriter } from '../../base/bytes.js';
import type { KvReader, KvWriter } from '../engine.js';
import { BOOK_RANGE_AT, bookKey, bookSpan, copyOf, readOrdered53 } from '../keys.js';
import { overlap } from '../range.js';
import { BOOK, BOOKS_VERSION } from './books.js';
import { readVersion } from './log-records.js';
import { removeSome, type Span } from './spans.js';

/** Keys that one turn removes. */
const GARBAGE_KEYS_MAX = 512;

/**
 * Keys of replicas that are gone. They are removed in steps, so that the end of a large range stalls nobody; what is
 * left to do is stored. Nothing new is put where garbage lies (replica-table.ts asks).
 */
export class Garbage {
  private readonly byRange = new Map<number, Span[]>();

  open(reader: KvReader): void {
    this.byRange.clear();
    const { start, end } = bookSpan(BOOK.GARBAGE);
    reader.scan(start, end, (key, value) => {
      const record = new ByteReader(copyOf(value));
      readVersion(record);
      const spans: Span[] = [];
      for (let left = record.u16(); left > 0; left--)
        spans.push({ start: copyOf(record.blob()), end: copyOf(record.blob()) });
      this.byRange.set(readOrdered53(key, BOOK_RANGE_AT), spans);
      return true;
    });
  }

  get isEmpty(): boolean {
    return this.byRange.size === 0;
  }

  has(rangeId: number): boolean {
    return this.byRange.has(rangeId);
  }

  overlaps(span: Span): boolean {
    for (const spans of this.byRange.values()) if (spans.some(garbage => overlap(garbage, span))) return true;
    return false;
  }

  add(writer: KvWriter, rangeId: number, spans: readonly Span[]): void {
    const all = [...(this.byRange.get(rangeId) ?? []), ...spans];
    this.byRange.set(rangeId, all);
    this.save(writer, rangeId, all);
  }

  /** Removes a turn's share. */
  step(writer: KvWriter): void {
    let left = GARBAGE_KEYS_MAX;
    for (const [rangeId, spans] of this.byRange) {
      const count = spans.length;
      while (spans.length > 0 && left > 0) {
        const gone = removeSome(writer, spans[0]!, left);
        if (gone < left) spans.shift();
        left -= gone;
      }
      if (spans.length === 0) {
        this.byRange.delete(rangeId);
        writer.remove(garbageKey(rangeId));
      } else if (spans.length < count) this.save(writer, rangeId, spans);
      if (left <= 0) return;
    }
  }

  private save(writer: KvWriter, rangeId: number, spans: readonly Span[]): void {
    const value = new ByteWriter(128).u8(BOOKS_VERSION).u16(spans.length);
    for (const { start, end } of spans) value.blob(start).blob(end);
    writer.put(garbageKey(rangeId), value.view());
  }
}

function garbageKey(rangeId: number): Uint8Array {
  return bookKey(new ByteWriter(16), BOOK.GARBAGE, rangeId).view();
}
