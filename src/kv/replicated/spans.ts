import { ByteWriter } from '../../base/bytes.js';
import type { KvReader, KvWriter } from '../engine.js';
import { bookKey, copyOf, localPrefix } from '../keys.js';
import { BOOK } from './books.js';
import type { Descriptor } from './descriptor.js';
import { sessionSpan } from './sessions.js';

/** Keys from `start` on and below `end`, which may be longer than any range's. */
export interface Span {
  readonly start: Uint8Array;
  readonly end: Uint8Array;
}

/** What a range's coprocessor keeps about it as a whole. */
export function localSpan(service: number, rangeId: number): Span {
  const start = localPrefix(new ByteWriter(16), service, rangeId).copy();
  // Kinds are below 0xff.
  return { start, end: Buffer.concat([start, Uint8Array.of(0xff)]) };
}

/** All of a range that its replicas have in common, in the order in which it is sent: the descriptor comes first. */
export function stateSpans(descriptor: Pick<Descriptor, 'id' | 'service' | 'boundary'>): readonly Span[] {
  const { id, service, boundary } = descriptor;
  const record = bookKey(new ByteWriter(16), BOOK.DESCRIPTOR, id).copy();
  return [
    { start: record, end: Buffer.concat([record, Uint8Array.of(0)]) },
    sessionSpan(id),
    localSpan(service, id),
    boundary,
  ];
}

/** What a replica has for itself: its log, and what it is receiving. */
export function ownSpans(rangeId: number): readonly Span[] {
  return [BOOK.STATE, BOOK.LOG, BOOK.STAGE, BOOK.RECEIVED].map(kind => ({
    start: bookKey(new ByteWriter(16), kind, rangeId).copy(),
    end: bookKey(new ByteWriter(16), kind, rangeId + 1).copy(),
  }));
}

/** Removes up to `keysMax` keys of the span; gives how many there were, which is less than that when it is empty. */
export function removeSome(writer: KvWriter, { start, end }: Span, keysMax: number): number {
  const keys: Uint8Array[] = [];
  writer.scan(start, end, key => {
    keys.push(copyOf(key));
    return keys.length < keysMax;
  });
  for (const key of keys) writer.remove(key);
  return keys.length;
}

/** Whether the span holds a key. */
export function holdsAny(reader: KvReader, { start, end }: Span): boolean {
  let found = false;
  reader.scan(start, end, () => {
    found = true;
    return false;
  });
  return found;
}
