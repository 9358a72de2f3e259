import { ByteReader, ByteWriter } from '../../base/bytes.js';
import type { EntryVisitor } from '../engine.js';
import { copyOf, ordered53 } from '../keys.js';

/** The records underneath, by keys that LMDB can hold. */
export interface PhysicalRecords {
  physicalGet(key: Uint8Array): Uint8Array | undefined;
  physicalPut(key: Uint8Array, value: Uint8Array): void;
  physicalRemove(key: Uint8Array): void;
  physicalScan(start: Uint8Array, end: Uint8Array, visit: EntryVisitor, reverse: boolean): void;
}

/**
 * Keys longer than LMDB's limit, in the right order among all others: a trie of chunks. A key of more than
 * `CHUNK_BYTES` is found by its first `CHUNK_BYTES` with 0x00 behind them: that record is a directory and holds a
 * number, and under `0x01 number` the rest of the key follows in the same manner. Nothing else is stored under
 * a key of exactly `CHUNK_BYTES + 1`, so the length tells a directory; and it sorts behind the key that is its
 * chunk and before everything that is greater, which is where the keys in it belong.
 *
 * Numbers rise by one, from the record `0x00 i`. A directory goes with the last key in it.
 */
export class LongKeys {
  /** Below LMDB's 1,978 with 8 bytes of prefix, and small enough that a page holds several. */
  static readonly CHUNK_BYTES = 1024;

  private readonly records: PhysicalRecords;
  private lastNumber = -1;

  constructor(records: PhysicalRecords) {
    this.records = records;
  }

  /** The physical key of `key`, if the directories on its way exist. */
  find(key: Uint8Array): Uint8Array | undefined {
    let prefix: Uint8Array = ROOT;
    let at = 0;
    while (key.length - at > CHUNK) {
      const number = this.numberAt(directoryKey(prefix, key, at));
      if (number === undefined) return undefined;
      prefix = prefixOf(number);
      at += CHUNK;
    }
    return join(prefix, key, at, key.length);
  }

  /** The physical key of `key`; makes the directories on its way. */
  make(key: Uint8Array): Uint8Array {
    let prefix: Uint8Array = ROOT;
    let at = 0;
    while (key.length - at > CHUNK) {
      const directory = directoryKey(prefix, key, at);
      let number = this.numberAt(directory);
      if (number === undefined) {
        number = this.nextNumber();
        this.records.physicalPut(directory, new ByteWriter(8).u53(number).view());
      }
      prefix = prefixOf(number);
      at += CHUNK;
    }
    return join(prefix, key, at, key.length);
  }

  /** Removes `key` and the directories that it leaves empty. */
  remove(key: Uint8Array): void {
    const directories: Uint8Array[] = [];
    const prefixes: Uint8Array[] = [];
    let prefix: Uint8Array = ROOT;
    let at = 0;
    while (key.length - at > CHUNK) {
      const directory = directoryKey(prefix, key, at);
      const number = this.numberAt(directory);
      if (number === undefined) return;
      directories.push(directory);
      prefix = prefixOf(number);
      prefixes.push(prefix);
      at += CHUNK;
    }
    this.records.physicalRemove(join(prefix, key, at, key.length));
    for (let i = directories.length - 1; i >= 0 && this.isEmpty(prefixes[i]!); i--)
      this.records.physicalRemove(directories[i]!);
  }

  scan(start: Uint8Array, end: Uint8Array, visit: EntryVisitor, reverse: boolean): void {
    this.scanUnder(ROOT, NO_BYTES, start, end, visit, reverse);
  }

  /**
   * Visits the keys of [start, end) that begin with `logical`, which are stored under `prefix`. `start` and `end`
   * are whole keys; those that do not begin with `logical` bound nothing here. False: `visit` has had enough.
   */
  private scanUnder(
    prefix: Uint8Array,
    logical: Uint8Array,
    start: Uint8Array,
    end: Uint8Array,
    visit: EntryVisitor,
    reverse: boolean,
  ): boolean {
    const from = beginsWith(start, logical)
      ? chunkBound(prefix, start, logical.length, 0)
      : prefix.length === 0
        ? start
        : prefix;
    const to = beginsWith(end, logical)
      ? chunkBound(prefix, end, logical.length, 1)
      : prefix.length === 0
        ? end
        : prefixOf(numberOf(prefix) + 1);
    let more = true;
    const directoryBytes = prefix.length + CHUNK + 1;
    this.records.physicalScan(
      from,
      to,
      (key, value) => {
        if (key.length === directoryBytes) {
          const below = concat(logical, key.subarray(prefix.length, key.length - 1));
          const number = new ByteReader(copyOf(value)).u53();
          more = this.scanUnder(prefixOf(number), below, start, end, visit, reverse);
        } else more = visit(logical.length === 0 ? key : concat(logical, key.subarray(prefix.length)), value);
        return more;
      },
      reverse,
    );
    return more;
  }

  /** After a failed transaction: the counter is read again. */
  forget(): void {
    this.lastNumber = -1;
  }

  private isEmpty(prefix: Uint8Array): boolean {
    let empty = true;
    const visit = () => {
      empty = false;
      return false;
    };
    this.records.physicalScan(prefix, prefixOf(numberOf(prefix) + 1), visit, false);
    return empty;
  }

  private numberAt(directory: Uint8Array): number | undefined {
    const stored = this.records.physicalGet(directory);
    return stored === undefined ? undefined : new ByteReader(copyOf(stored)).u53();
  }

  private nextNumber(): number {
    if (this.lastNumber < 0) this.lastNumber = this.numberAt(KEY_NUMBER) ?? 0;
    this.lastNumber++;
    this.records.physicalPut(KEY_NUMBER, new ByteWriter(8).u53(this.lastNumber).view());
    return this.lastNumber;
  }
}

const CHUNK = LongKeys.CHUNK_BYTES;
const KEY_NUMBER = Uint8Array.of(0, 0x69);
const NO_BYTES = new Uint8Array(0);
/** Where keys begin: no prefix. */
const ROOT = NO_BYTES;
const PREFIX_BYTE = 1;

function prefixOf(number: number): Uint8Array {
  return ordered53(new ByteWriter(8).u8(PREFIX_BYTE), number).view();
}

function numberOf(prefix: Uint8Array): number {
  let number = 0;
  for (let i = 1; i < prefix.length; i++) number = number * 256 + prefix[i]!;
  return number;
}

function directoryKey(prefix: Uint8Array, key: Uint8Array, at: number): Uint8Array {
  return new ByteWriter(prefix.length + CHUNK + 1)
    .raw(prefix)
    .raw(key, at, at + CHUNK)
    .u8(0)
    .view();
}

/** The physical bound that stands for `key` under `prefix`; one in a directory includes the directory. */
function chunkBound(prefix: Uint8Array, key: Uint8Array, at: number, past: number): Uint8Array {
  if (key.length - at <= CHUNK) return join(prefix, key, at, key.length);
  return new ByteWriter(prefix.length + CHUNK + 1)
    .raw(prefix)
    .raw(key, at, at + CHUNK)
    .u8(past)
    .view();
}

function join(prefix: Uint8Array, key: Uint8Array, start: number, end: number): Uint8Array {
  if (prefix.length === 0 && start === 0 && end === key.length) return key;
  return concat(prefix, key.subarray(start, end));
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

function beginsWith(key: Uint8Array, prefix: Uint8Array): boolean {
  if (key.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (key[i] !== prefix[i]) return false;
  return true;
}
