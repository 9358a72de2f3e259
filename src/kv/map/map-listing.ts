import { assert } from '../../base/assert.js';
import {
  decodeMapAnswer,
  encodeList,
  LIST_BYTES_MAX,
  LIST_ENTRIES_MAX,
  type MapAnswer,
  type MapEntry,
  mapKey,
  prefixFault,
} from './map-codec.js';

export interface MapListingOptions {
  /** Only keys that begin so. All, if it is missing; must be without {@link prefixFault}. */
  readonly prefix?: string;
  /** Only keys behind this one. */
  readonly after?: string;
  /** Entries in all; no bound if it is missing. */
  readonly entriesMax?: number;
  /** Entries asked for at once, up to `LIST_ENTRIES_MAX`. */
  readonly pageEntries?: number;
  readonly withValues?: boolean;
}

export type ListStep =
  | {
      readonly kind: 'page';
      readonly entries: readonly MapEntry[];
      readonly done: boolean;
      /** The last key that was listed so far. */
      readonly last: string | undefined;
    }
  /** It has ended here. */
  | { readonly kind: 'failed'; readonly answer: MapAnswer };

/**
 * A listing over however many ranges: ask `request()` of the range that has `key`, hand what it answers to `take`, and
 * again until that is done. A page is of one moment, the listing is not; an entry that is there all the time is in it
 * once, whatever is divided or joined meanwhile, as each page goes on at the key at which the one before ended.
 */
export class MapListing {
  /** By which the range is found that is to be asked next. */
  key: Uint8Array;
  isDone = false;
  /** It was ended by `entriesMax`, and there may be more behind `last`. */
  more = false;
  private readonly prefix: string;
  private readonly pageEntries: number;
  private readonly withValues: boolean;
  private left: number;
  private last: string | undefined;

  constructor(options: MapListingOptions = {}) {
    const { prefix = '', after, entriesMax = Number.POSITIVE_INFINITY, withValues = false } = options;
    assert(prefixFault(prefix) === undefined, 'some key can begin with what a listing is asked for');
    this.prefix = prefix;
    this.pageEntries = Math.min(Math.max(options.pageEntries ?? LIST_ENTRIES_MAX, 1), LIST_ENTRIES_MAX);
    this.withValues = withValues;
    this.left = entriesMax;
    const start = mapKey(prefix);
    const behind = after === undefined ? start : Buffer.concat([mapKey(after), Uint8Array.of(0)]);
    this.key = Buffer.compare(start, behind) > 0 ? start : behind;
    // Behind all that begins so there is nothing to be asked.
    this.isDone = entriesMax <= 0 || !isWithin(this.key, start);
  }

  request(): Uint8Array {
    const { prefix, key, withValues } = this;
    const entriesMax = Math.min(this.left, this.pageEntries);
    return encodeList({ prefix, from: key, entriesMax, bytesMax: LIST_BYTES_MAX, withValues });
  }

  take(output: Uint8Array): ListStep {
    const answer = decodeMapAnswer(output);
    if (answer.kind !== 'listed') return { kind: 'failed', answer };
    const { entries, next } = answer;
    const isOver = next.length === 0;
    // Whoever does not get on is asked no more: nothing would end.
    if (entries.length > this.left || (!isOver && Buffer.compare(next, this.key) <= 0))
      return { kind: 'failed', answer: { kind: 'garbled' } };
    this.left -= entries.length;
    this.last = entries.at(-1)?.key ?? this.last;
    this.more = !isOver && this.left === 0;
    this.isDone = isOver || this.left === 0;
    this.key = next;
    return { kind: 'page', entries, done: this.isDone, last: this.last };
  }
}

function isWithin(key: Uint8Array, start: Uint8Array): boolean {
  return Buffer.compare(start, key.subarray(0, start.length)) === 0;
}
