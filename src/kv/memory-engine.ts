import { assert } from '../base/assert.js';
import { type Engine, type EntryVisitor, KEY_FIRST_BYTE_MIN, type KvWriter } from './engine.js';
import { copyOf, latin1 } from './keys.js';

/**
 * The engine without a disk, for tests, simulation and nodes that keep nothing. Sorted chunks of at most
 * `CHUNK_MAX` entries; keys are held as Latin-1 strings, which compare as their bytes do.
 */
export class MemoryEngine implements Engine, KvWriter {
  private chunks: Chunk[] = [{ keys: [], values: [] }];
  private undo: { key: string; value: Uint8Array | undefined }[] | undefined;
  private scanning = 0;

  get(key: Uint8Array): Uint8Array | undefined {
    const text = latin1(key);
    const chunk = this.chunks[this.chunkOf(text)]!;
    const at = lowerBound(chunk.keys, text);
    return chunk.keys[at] === text ? chunk.values[at] : undefined;
  }

  scan(start: Uint8Array, end: Uint8Array, visit: EntryVisitor, reverse = false): void {
    this.scanning++;
    try {
      if (reverse) this.scanDown(latin1(start), latin1(end), visit);
      else this.scanUp(latin1(start), latin1(end), visit);
    } finally {
      this.scanning--;
    }
  }

  private scanUp(start: string, end: string, visit: EntryVisitor): void {
    let index = this.chunkOf(start);
    let at = lowerBound(this.chunks[index]!.keys, start);
    for (; index < this.chunks.length; index++, at = 0) {
      const { keys, values } = this.chunks[index]!;
      for (; at < keys.length; at++) {
        const key = keys[at]!;
        if (key >= end || !visit(Buffer.from(key, 'latin1'), values[at]!)) return;
      }
    }
  }

  private scanDown(start: string, end: string, visit: EntryVisitor): void {
    let index = this.chunkOf(end);
    let at = lowerBound(this.chunks[index]!.keys, end) - 1;
    for (;;) {
      const { keys, values } = this.chunks[index]!;
      for (; at >= 0; at--) {
        const key = keys[at]!;
        if (key < start || !visit(Buffer.from(key, 'latin1'), values[at]!)) return;
      }
      if (--index < 0) return;
      at = this.chunks[index]!.keys.length - 1;
    }
  }

  write(work: (writer: KvWriter) => void, durable: () => void): void {
    assert(this.undo === undefined, 'one write transaction at a time');
    this.undo = [];
    try {
      work(this);
    } catch (error) {
      const undo = this.undo;
      this.undo = undefined;
      for (let i = undo.length - 1; i >= 0; i--) this.set(undo[i]!.key, undo[i]!.value);
      throw error;
    }
    this.undo = undefined;
    durable();
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
    const index = this.chunkOf(key);
    const { keys, values } = this.chunks[index]!;
    const at = lowerBound(keys, key);
    if (keys[at] === key) {
      const former = values[at];
      if (value !== undefined) values[at] = value;
      else {
        keys.splice(at, 1);
        values.splice(at, 1);
        if (keys.length === 0 && this.chunks.length > 1) this.chunks.splice(index, 1);
      }
      return former;
    }
    if (value === undefined) return undefined;
    keys.splice(at, 0, key);
    values.splice(at, 0, value);
    if (keys.length > CHUNK_MAX) {
      // An append keeps the old chunk full, so that sorted loads do not leave chunks half empty.
      const cut = at === keys.length - 1 ? keys.length - 1 : keys.length >> 1;
      this.chunks.splice(index + 1, 0, { keys: keys.splice(cut), values: values.splice(cut) });
    }
    return undefined;
  }

  /** The last chunk whose first key is not above `key`. */
  private chunkOf(key: string): number {
    let low = 0;
    let high = this.chunks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.chunks[middle]!.keys[0]! <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  close(): void {
    this.chunks = [{ keys: [], values: [] }];
  }
}

interface Chunk {
  keys: string[];
  values: Uint8Array[];
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
