import type { Closable } from '../base/scope.js';

/**
 * An ordered map from byte keys to byte values: what a store thread keeps its ranges in. Keys are ordered as
 * `Buffer.compare` orders them, are 1 to {@link KEY_BYTES_MAX} bytes long, and begin with a byte of at least
 * {@link KEY_FIRST_BYTE_MIN} (the engine keeps its own records below it).
 */
export interface KvReader {
  /** The value at `key`. The bytes are a view, valid until the next call on the engine. */
  get(key: Uint8Array): Uint8Array | undefined;
  /**
   * Visits the entries of [start, end) in order, or in reverse order, until `visit` returns false. Key and value
   * are views valid during the visit, which must not write.
   */
  scan(start: Uint8Array, end: Uint8Array, visit: EntryVisitor, reverse?: boolean): void;
}

export type EntryVisitor = (key: Uint8Array, value: Uint8Array) => boolean;

/** Reads see what was written before through the same writer. */
export interface KvWriter extends KvReader {
  put(key: Uint8Array, value: Uint8Array): void;
  remove(key: Uint8Array): void;
}

export interface Engine extends KvReader, Closable {
  /**
   * Runs `work` in one write transaction and commits it. `durable` is called once the commit is as lasting as
   * `storage.durability` asks for: within this call or later, in the order of the commits.
   *
   * When this throws, nothing of `work` is in force and `durable` is never called: SHOAL_STORAGE_FULL when there is
   * no room, SHOAL_STORAGE_CORRUPT when a record fails its checksum, or whatever `work` threw.
   */
  write(work: (writer: KvWriter) => void, durable: () => void): void;
  /**
   * Runs `work` in a write transaction that stays open: what it writes is seen by all reads from now on, while snapshots
   * may be without it, and is on disk with the next `write`, whose transaction it becomes a part of. `ended` is called,
   * once, when that is durable, before its own `durable`; or, with false, when that came to nothing, and this with it,
   * before it throws. For what can be made anew.
   *
   * Throws as `write` does, and then also what was held before is undone; `ended` of this is not called.
   */
  hold(work: (writer: KvWriter) => void, ended: (isDurable: boolean) => void): void;
}

/** What an engine held at one moment, whatever is written meanwhile. To be closed, as it keeps what was replaced. */
export interface EngineSnapshot extends KvReader, Closable {
  close(): void;
}

export interface SnapshotEngine extends Engine {
  /** What is committed now. Not within a transaction; nor is a snapshot read within one. */
  snapshot(): EngineSnapshot;
}

export const KEY_BYTES_MAX = 256 * 1024;
export const KEY_FIRST_BYTE_MIN = 0x10;
