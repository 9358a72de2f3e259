import { assert } from '../base/assert.js';
import {
  type EngineSnapshot,
  type EntryVisitor,
  KEY_FIRST_BYTE_MIN,
  type KvWriter,
  type SnapshotEngine,
} from './engine.js';
import { copyOf, latin1 } from './keys.js';

/** Sorted chunks of at most `CHUNK_MAX` entries. */
class Chunks {
  list: Chunk[];

  constructor(list: Chunk[]) {
    this.list = list;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    const text = latin1(key);
    const chunk = this.list[this.chunkOf(text)]!;
    const at = lowerBound(chunk.keys, text);
    return chunk.keys[at] === text ? chunk.values[at] : undefined;
  }

  scan(start: Uint8Array, end: Uint8Array, visit: EntryVisitor, reverse = false): void {
    if (reverse) this.scanDown(latin1(start), latin1(end), visit);
    else this.scanUp(latin1(start), latin1(end), visit);
  }

  private scanUp(start: string, end: string, visit: EntryVisitor): void {
    let index = this.chunkOf(start);
    let at = lowerBound(this.list[index]!.keys, start);
    for (; index < this.list.length; index++, at = 0) {
      const { keys, values } = this.list[index]!;
      for (; at < keys.length; at++) {
        const key = keys[at]!;
        if (key >= end || !visit(Buffer.from(key, 'latin1'), values[at]!)) return;
      }
    }
  }

  private scanDown(start: string, end: string, visit: EntryVisitor): void {
    let index = this.chunkOf(end);
    let at = lowerBound(this.list[index]!.keys, end) - 1;
    for (;;) {
      const { keys, values } = this.list[index]!;
      for (; at >= 0; at--) {
        const key = keys[at]!;
        if (key < start || !visit(Buffer.from(key, 'latin1'), values[at]!)) return;
      }
      if (--index < 0) return;
      at = this.list[index]!.keys.length - 1;
    }
  }

  /** The last chunk whose first key is not above `key`. */
  chunkOf(key: string): number {
    let low = 0;
    let high = this.list.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.list[middle]!.keys[0]! <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

interface Change {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/**
 * The engine without a disk, for tests, simulation and nodes that keep nothing. Keys are held as Latin-1 strings, which
 * compare as their bytes do. A snapshot shares the chunks; one that is shared is copied before it is changed.
 */
export class MemoryEngine implements SnapshotEngine, KvWriter {
  private readonly chunks = new Chunks([emptyChunk()]);
  /** What the transaction has changed, and what is held. */
  private undo: Change[] | undefined;
  private held: Change[] = [];
  private ended: ((isDurable: boolean) => void)[] = [];
  private scanning = 0;
  /** Chunks of an earlier age may be in a snapshot. */
  private age = 0;

  get(key: Uint8Array): Uint8Array | undefined {
    return this.chunks.get(key);
  }

  scan(start: Uint8Array, end: Uint8Array, visit: EntryVisitor, reverse = false): void {
    this.scanning++;
    try {
      this.chunks.scan(start, end, visit, reverse);
    } finally {
      this.scanning--;
    }
  }

  snapshot(): EngineSnapshot {
    assert(this.undo === undefined, 'a snapshot is taken of what is committed');
    this.age++;
    const kept = new Chunks([...this.chunks.list]);
    return {
      get: key => kept.get(key),
      scan: (start, end, visit, reverse) => kept.scan(start, end, visit, reverse),
      close: () => {
        kept.list = [emptyChunk()];
      },
    };
  }

  write(work: (writer: KvWriter) => void, durable: () => void): void {
    this.within(work);
    for (const ended of this.takeHeld()) ended(true);
    durable();
  }

  hold(work: (writer: KvWriter) => void, ended: (isDurable: boolean) => void): void {
    this.within(work);
    this.ended.push(ended);
  }

  private within(work: (writer: KvWriter) => void): void {
    assert(this.undo === undefined, 'one write transaction at a time');
    const undo = this.held;
    this.undo = undo;
    try {
      work(this);
    } catch (error) {
      for (let i = undo.length - 1; i >= 0; i--) this.set(undo[i]!.key, undo[i]!.value);
      this.undo = undefined;
      for (const ended of this.takeHeld()) ended(false);
      throw error;
    }
    this.undo = undefined;
  }

  private takeHeld(): readonly ((isDurable: boolean) => void)[] {
    const { ended } = this;
    this.held = [];
    if (ended.length > 0) this.ended = [];
    return ended;
  }

  put(key: Uint8Array, value: Uint8Array): void {
    assert(key.length > 0 && key[0]! >= KEY_FIRST_BYTE_MIN, 'a key begins with a service');
    this.change(latin1(key), copyOf(value));
  }

  remove(key: Uint8Array): void {
    this.change(latin1(key), undefined);
  }

  private change(key: string, value: Uint8Array | undefined): void {
    assert(
      this.undo !== undefined && this.scanning === 0,
      'writes happen in a transaction and not in a scan',
    );
    this.undo.push({ key, value: this.set(key, value) });
  }

  /** Returns the former value. */
  private set(key: string, value: Uint8Array | undefined): Uint8Array | undefined {
    const { list } = this.chunks;
    const index = this.chunks.chunkOf(key);
    const { keys, values } = this.own(index);
    const at = lowerBound(keys, key);
    if (keys[at] === key) {
      const former = values[at];
      if (value !== undefined) values[at] = value;
      else {
        keys.splice(at, 1);
        values.splice(at, 1);
        if (keys.length === 0 && list.length > 1) list.splice(index, 1);
      }
      return former;
    }
    if (value === undefined) return undefined;
    keys.splice(at, 0, key);
    values.splice(at, 0, value);
    if (keys.length > CHUNK_MAX) {
      // An append keeps the old chunk full, so that sorted loads do not leave chunks half empty.
      const cut = at === keys.length - 1 ? keys.length - 1 : keys.length >> 1;
      list.splice(index + 1, 0, { keys: keys.splice(cut), values: values.splice(cut), age: this.age });
    }
    return undefined;
  }

  /** The chunk as one that may be changed. */
  private own(index: number): Chunk {
    const { list } = this.chunks;
    const chunk = list[index]!;
    if (chunk.age === this.age) return chunk;
    const copy = { keys: [...chunk.keys], values: [...chunk.values], age: this.age };
    list[index] = copy;
    return copy;
  }

  close(): void {
    this.chunks.list = [emptyChunk()];
  }
}

interface Chunk {
  keys: string[];
  values: Uint8Array[];
  readonly age: number;
}

function emptyChunk(): Chunk {
  return { keys: [], values: [], age: 0 };
}

const CHUNK_MAX = 512;

function lowerBound(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
