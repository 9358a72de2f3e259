import { mkdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { open, type RootDatabase, type Transaction } from 'lmdb';
import { assert } from '../../base/assert.js';
import { ByteReader, ByteWriter } from '../../base/bytes.js';
import { ShoalError } from '../../base/errors.js';
import { crc32c } from '../crc32c.js';
import {
  type EngineSnapshot,
  type EntryVisitor,
  KEY_BYTES_MAX,
  KEY_FIRST_BYTE_MIN,
  type KvWriter,
  type SnapshotEngine,
} from '../engine.js';
import { copyOf } from '../keys.js';
import { checkLmdbFile } from './lmdb-check.js';
import { LongKeys } from './long-keys.js';

/**
 * The engine on LMDB: one environment, its main database, all keys and values binary.
 *
 * A record is stored as `u32 crc32c(key, value), value` and verified at every read. LMDB's own pages have no
 * checksum, and it maps the file, so a truncated or altered one would end the process or be believed: that is
 * why the whole file is walked before it is opened (lmdb-check.ts).
 *
 * Own records: `0x00 f` → format version; `0x00 c` → id of the transaction that wrote it, by which a walk tells a
 * meta page of another age; `0x00 i` and `0x01 …` for keys that LMDB cannot hold (long-keys.ts).
 *
 * Commits are synchronous, `transactionSync` with LMDB's plain two-step flush (data, then the meta page), so
 * `durable` is called within `write`. Measured on 2 cores, ext4 (perf/micro/lmdb-commit.bench.ts): 211 µs for one put,
 * 0.38 ms for 64, 1.35 ms for 1,024, half of it processor time. Committing without a flush and flushing in a
 * thread beside it (`overlappingSync`, `sync(callback)`) was 20 % slower for every size, as its hand-over costs more
 * than the overlap gains when requests gather during the flush anyway.
 *
 * With durability `async` the flush is left out: a kill -9 loses nothing, but a power cut may tear the file, which the
 * next start reports.
 */
export interface LmdbOptions {
  /** Directory of the environment; made if missing. */
  readonly path: string;
  readonly durability: 'flush' | 'async';
}

/**
 * Raised when what is stored changes shape; an older one is taken over at the first opening, and refused by the older
 * program from then on. 2: ranges have books (sole-range.ts).
 */
export const STORAGE_VERSION = 2;

const KEY_FORMAT = Uint8Array.of(0, 0x66);
const KEY_COMMIT = Uint8Array.of(0, 0x63);
const MAGIC = 0x4c414f48;

// Flags of lmdb's transactionSync: commit within the call; and LMDB's MDB_NOSYNC for this transaction.
const TXN_SYNCHRONOUS = 2;
const TXN_NO_FLUSH = 0x10000;

export class LmdbEngine implements SnapshotEngine, KvWriter {
  private readonly path: string;
  private readonly flags: number;
  private readonly db: RootDatabase<Uint8Array, Uint8Array>;
  private readonly longKeys: LongKeys;
  private readonly scratch = new ByteWriter(4096);
  /** The write transaction that is open; what was held in it is told by `held` how that ended. */
  private transaction: OpenTransaction | undefined;
  private held: ((isDurable: boolean) => void)[] = [];
  private writing = false;
  private scanning = 0;
  private broken = false;
  private closing: Promise<void> | undefined;

  /**
   * Opens or makes the environment. Throws SHOAL_STORAGE_CORRUPT, SHOAL_STORAGE_VERSION, SHOAL_DATA_DIR_UNUSABLE.
   * Two engines on one path are kept apart by the lock on the data directory (data-dir.ts).
   */
  constructor({ path, durability }: LmdbOptions) {
    this.path = path;
    this.flags = durability === 'flush' ? TXN_SYNCHRONOUS : TXN_SYNCHRONOUS | TXN_NO_FLUSH;
    try {
      mkdirSync(path, { recursive: true });
    } catch (cause) {
      throw new ShoalError('SHOAL_DATA_DIR_UNUSABLE', `cannot make ${path}: ${String(cause)}`, { cause });
    }
    const commit = checkLmdbFile(join(path, 'data.mdb'));
    this.db = openDatabase(path);
    this.longKeys = new LongKeys(this);
    try {
      this.checkFormat(commit);
    } catch (error) {
      void this.close();
      throw error;
    }
  }

  private checkFormat(commit: number): void {
    const format = this.physicalGet(KEY_FORMAT);
    if (format !== undefined) {
      const reader = new ByteReader(copyOf(format));
      if (reader.u32() !== MAGIC) throw this.corrupt('another program wrote it');
      const version = reader.u32();
      if (version > STORAGE_VERSION)
        throw new ShoalError(
          'SHOAL_STORAGE_VERSION',
          `${this.path} has format ${version}, this is ${STORAGE_VERSION}`,
        );
      const recorded = this.physicalGet(KEY_COMMIT);
      if (recorded === undefined || new ByteReader(copyOf(recorded)).u53() !== commit)
        throw this.corrupt('its last commit is not the one that its header names');
      if (version === STORAGE_VERSION) return;
    } else if (commit > 0) throw this.corrupt('it has no format record');
    this.write(
      () => this.physicalPut(KEY_FORMAT, new ByteWriter(8).u32(MAGIC).u32(STORAGE_VERSION).view()),
      () => undefined,
    );
  }

  // -- Engine ------------------------------------------------------------------------------------------------

  get(key: Uint8Array): Uint8Array | undefined {
    const physical = key.length <= LongKeys.CHUNK_BYTES ? key : this.longKeys.find(key);
    return physical === undefined ? undefined : this.physicalGet(physical);
  }

  scan(start: Uint8Array, end: Uint8Array, visit: EntryVisitor, reverse = false): void {
    this.longKeys.scan(start, end, visit, reverse);
  }

  put(key: Uint8Array, value: Uint8Array): void {
    assert(key.length > 0 && key.length <= KEY_BYTES_MAX, 'a key has 1 to KEY_BYTES_MAX bytes');
    assert(key[0]! >= KEY_FIRST_BYTE_MIN, 'a key begins with a service');
    this.physicalPut(key.length <= LongKeys.CHUNK_BYTES ? key : this.longKeys.make(key), value);
  }

  remove(key: Uint8Array): void {
    if (key.length <= LongKeys.CHUNK_BYTES) this.physicalRemove(key);
    else this.longKeys.remove(key);
  }

  write(work: (writer: KvWriter) => void, durable: () => void): void {
    this.within(work);
    const { held } = this;
    try {
      this.take().commit();
    } catch (error) {
      const failure = this.commitFailure(error);
      this.undo(held);
      throw failure;
    }
    for (const ended of held) ended(true);
    durable();
  }

  hold(work: (writer: KvWriter) => void, ended: (isDurable: boolean) => void): void {
    this.within(work);
    this.held.push(ended);
  }

  /** Does the work in the transaction that is open, or in a new one, and leaves that open. */
  private within(work: (writer: KvWriter) => void): void {
    assert(!this.writing, 'one write transaction at a time');
    assert(!this.broken, 'an engine that failed is not used again');
    this.transaction ??= this.begin();
    this.writing = true;
    try {
      work(this);
      if (this.changed) this.recordCommit();
    } catch (error) {
      const { held } = this;
      this.take().abort();
      this.writing = false;
      this.undo(held);
      throw error;
    } finally {
      this.writing = false;
    }
  }

  /** The open transaction, which is about to end. */
  private take(): OpenTransaction {
    const { transaction } = this;
    this.transaction = undefined;
    this.held = [];
    this.changed = false;
    return transaction!;
  }

  /** Memory follows what is stored. */
  private undo(held: readonly ((isDurable: boolean) => void)[]): void {
    this.longKeys.forget();
    for (const ended of held) ended(false);
  }

  /** The package keeps a transaction open until what its callback gives is settled: here that is told in the same call. */
  private begin(): OpenTransaction {
    const open = new OpenTransaction();
    this.db.transactionSync(() => open as unknown, this.flags);
    return open;
  }

  private changed = false;

  private recordCommit(): void {
    // Not in the package's types; it is how the id of the transaction under way is told.
    const id = (this.db as unknown as { getWriteTxnId(): number }).getWriteTxnId();
    this.physicalPut(KEY_COMMIT, new ByteWriter(8).u53(id).view());
  }

  /** LMDB has undone the transaction. Whether it can be used on depends on what failed. */
  private commitFailure(cause: unknown): ShoalError {
    const code = (cause as { code?: number }).code ?? 0;
    // LMDB reports a write that was cut short for want of room as an I/O error, and a put's failure at the commit.
    const vague = code === EIO || code === MDB_BAD_TXN;
    if (code === ENOSPC || code === EDQUOT || code === MDB_MAP_FULL || (vague && this.diskIsFull())) {
      if (this.canBegin())
        return new ShoalError('SHOAL_STORAGE_FULL', `no room to write ${this.path}`, { cause });
    }
    this.broken = true;
    return this.corrupt(`a commit failed: ${String(cause)}`, cause);
  }

  /** LMDB refuses all further transactions when it could not write its header; an empty one tells. */
  private canBegin(): boolean {
    try {
      this.db.transactionSync(() => undefined, this.flags);
      return true;
    } catch {
      return false;
    }
  }

  private diskIsFull(): boolean {
    const { bavail, bsize } = statfsSync(this.path);
    return bavail * bsize < DISK_FULL_BYTES;
  }

  private corrupt(what: string, cause?: unknown): ShoalError {
    return new ShoalError('SHOAL_STORAGE_CORRUPT', `${this.path}: ${what}`, { cause });
  }

  /** A read transaction of LMDB: pages that it may see are not used again, so the file grows while it is open. */
  snapshot(): EngineSnapshot {
    assert(!this.writing, 'a snapshot is taken of what is committed');
    const transaction = this.db.useReadTransaction();
    const keys = new LongKeys({
      physicalGet: key => this.readPast(key, transaction),
      physicalScan: (start, end, visit, reverse) =>
        this.physicalScan(start, end, visit, reverse, transaction),
      physicalPut: () => assert(false, 'a snapshot is read'),
      physicalRemove: () => assert(false, 'a snapshot is read'),
    });
    let isOpen = true;
    return {
      get: key => {
        const physical = key.length <= LongKeys.CHUNK_BYTES ? key : keys.find(key);
        return physical === undefined ? undefined : this.readPast(physical, transaction);
      },
      scan: (start, end, visit, reverse = false) => keys.scan(start, end, visit, reverse),
      close: () => {
        if (isOpen) transaction.done();
        isOpen = false;
      },
    };
  }

  /** Of a snapshot. While a write transaction is open the package looks up single keys in that, whatever it is told. */
  private readPast(key: Uint8Array, transaction: Transaction): Uint8Array | undefined {
    if (this.transaction === undefined) return this.physicalGet(key, transaction);
    const end = new Uint8Array(key.length + 1);
    end.set(key);
    let found: Uint8Array | undefined;
    const first = (_: Uint8Array, value: Uint8Array): boolean => {
      found = value;
      return false;
    };
    this.physicalScan(key, end, first, false, transaction);
    return found;
  }

  close(): Promise<void> {
    if (this.transaction !== undefined) this.take().abort();
    this.closing ??= this.db.close();
    return this.closing;
  }

  // -- Records as LMDB holds them, for this class and LongKeys -------------------------------------------------

  physicalGet(key: Uint8Array, transaction?: Transaction): Uint8Array | undefined {
    assert(transaction === undefined || !this.writing, 'a snapshot is not read within a transaction');
    const stored =
      transaction === undefined
        ? this.db.getBinaryFast(key)
        : (this.db as unknown as TransactionalGet).getBinaryFast(key, { transaction });
    if (stored === undefined) return undefined;
    return this.verified(key, stored, stored.length);
  }

  physicalPut(key: Uint8Array, value: Uint8Array): void {
    assert(this.writing && this.scanning === 0, 'writes happen in a transaction and not in a scan');
    this.changed = true;
    const record = this.scratch.reset();
    record.u32(crc32c(value, 0, value.length, crc32c(key, 0, key.length))).raw(value);
    this.db.put(key, record.view());
  }

  physicalRemove(key: Uint8Array): void {
    assert(this.writing && this.scanning === 0, 'writes happen in a transaction and not in a scan');
    this.changed = true;
    this.db.remove(key);
  }

  physicalScan(
    start: Uint8Array,
    end: Uint8Array,
    visit: EntryVisitor,
    reverse: boolean,
    transaction?: Transaction,
  ): void {
    assert(transaction === undefined || !this.writing, 'a snapshot is not read within a transaction');
    this.scanning++;
    try {
      // In reverse lmdb takes the upper bound first and includes it; here the upper bound is never included.
      const bounds = reverse
        ? { start: end, end: start, reverse, exclusiveStart: true, inclusiveEnd: true }
        : { start, end };
      const range = transaction === undefined ? bounds : { ...bounds, transaction };
      for (const { key, value } of this.db.getRange(range))
        if (!visit(key, this.verified(key, value, value.length))) return;
    } finally {
      this.scanning--;
    }
  }

  private verified(key: Uint8Array, stored: Uint8Array, length: number): Uint8Array {
    if (length < CRC_BYTES) throw this.corrupt('a record is cut short');
    const expected = (stored[0]! | (stored[1]! << 8) | (stored[2]! << 16) | (stored[3]! << 24)) >>> 0;
    if (crc32c(stored, CRC_BYTES, length, crc32c(key, 0, key.length)) !== expected)
      throw this.corrupt('a record fails its checksum');
    return stored.subarray(CRC_BYTES, length);
  }
}

/** What the package takes for the promise of a transaction's end. */
class OpenTransaction {
  private succeed!: () => void;
  private fail!: (error: unknown) => void;

  // biome-ignore lint/suspicious/noThenProperty: it is meant to be taken for a promise
  then(succeed: () => void, fail: (error: unknown) => void): void {
    this.succeed = succeed;
    this.fail = fail;
  }

  /** Throws what LMDB says; it is over in any case. */
  commit(): void {
    this.succeed();
  }

  abort(): void {
    try {
      this.fail(undefined);
    } catch {
      // It throws what it is given.
    }
  }
}

/** What lmdb's types leave out. */
interface TransactionalGet {
  getBinaryFast(key: Uint8Array, options: { transaction: Transaction }): Uint8Array | undefined;
}

export const CRC_BYTES = 4;
const EIO = 5;
const ENOSPC = 28;
const EDQUOT = 122;
const MDB_MAP_FULL = -30792;
const MDB_BAD_TXN = -30782;
const DISK_FULL_BYTES = 16 * 1024 * 1024;
/** Address space mapped at first; the map grows by itself. */
const MAP_BYTES = 256 * 1024 * 1024;

function openDatabase(path: string): RootDatabase<Uint8Array, Uint8Array> {
  try {
    return open<Uint8Array, Uint8Array>({
      path,
      noSubdir: false,
      encoding: 'binary',
      keyEncoding: 'binary',
      overlappingSync: false,
      mapSize: MAP_BYTES,
      maxDbs: 1,
    });
  } catch (cause) {
    throw new ShoalError('SHOAL_STORAGE_CORRUPT', `${path}: ${String(cause)}`, { cause });
  }
}
