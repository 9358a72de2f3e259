import { AssertionError, assert } from '../../base/assert.js';
import { ByteReader, ByteWriter } from '../../base/bytes.js';
import { ShoalError } from '../../base/errors.js';
import { KEY_BYTES_MAX, type KvReader, type KvWriter } from '../engine.js';
import { bookKey, copyOf, ordered53 } from '../keys.js';
import type { SnapshotMeta } from '../raft/ready.js';
import { overlap } from '../range.js';
import { BOOK, BOOKS_VERSION } from './books.js';
import { type Descriptor, descriptorFault, readDescriptor, writeDescriptor } from './descriptor.js';
import { readSnapshotMeta, readVersion, writeSnapshotMeta } from './log-records.js';
import { removeSome, type Span, stateSpans } from './spans.js';
import type { Turn } from './turn.js';

/** What the first chunk says before its records. */
export interface StateHead {
  readonly meta: SnapshotMeta;
  readonly descriptor: Descriptor;
}

function readStateHead(reader: ByteReader): StateHead {
  readVersion(reader);
  return { meta: readSnapshotMeta(reader), descriptor: readDescriptor(reader) };
}

/** The head of a state from another store; undefined if it is none, or one of a newer layout. */
function foreignHead(reader: ByteReader): StateHead | undefined {
  try {
    const head = readStateHead(reader);
    return descriptorFault(head.descriptor) === undefined ? head : undefined;
  } catch (error) {
    // A checksum says that it came as it was sent, not that it was sent by somebody who knows how.
    if (error instanceof AssertionError || error instanceof ShoalError) return undefined;
    throw error;
  }
}

/** Whether what follows is records within the spans, and nothing else. */
function holdsRecords(reader: ByteReader, spans: readonly Span[]): boolean {
  while (reader.remaining > 0) {
    for (let part = 0; part < 2; part++) {
      if (reader.remaining < 4) return false;
      const length = reader.u32();
      if (length > reader.remaining) return false;
      const bytes = reader.raw(length);
      if (part === 0 && (length === 0 || length > KEY_BYTES_MAX || !isWithin(bytes, spans))) return false;
    }
  }
  return true;
}

function isWithin(key: Uint8Array, spans: readonly Span[]): boolean {
  return spans.some(({ start, end }) => Buffer.compare(start, key) <= 0 && Buffer.compare(key, end) < 0);
}

const PHASE = { RECEIVING: 0, CLEARING: 1, PLACING: 2 } as const;

/** Keys and chunks that one turn moves: about a quarter of a megabyte of either. */
const CLEAR_KEYS_MAX = 1000;
const PLACE_CHUNKS_MAX = 1;
const STAGE_CHUNKS_MAX = 16;

/**
 * A state that comes from another replica, chunk by chunk.
 *
 *   RECEIVING   Chunks are kept as they are, under keys of their own (the stage), each in some turn's transaction. The
 *               replica goes on with what it has. A crash leaves the chunks that are durable, and the sender goes on
 *               behind them; or another sender begins anew, and the stage is cleared.
 *   CLEARING    All chunks are durable and Raft has taken the state: from the transaction that says so on, it is what
 *               the replica has, log and all; the old state is removed in steps, and anything else in the new boundary.
 *   PLACING     Chunk by chunk the records go to where they belong.
 *
 * So a crash finds the old state, or all that the new one is made of, and never half: what the steps do is done again
 * from where the record of this says. Meanwhile the replica votes and takes entries, since log and hard state are whole,
 * but applies none and answers no reads. Each byte is written twice; that is the price of the old state staying
 * in force until there is a new one, which a group that lost another replica may depend on.
 */
export class Install {
  readonly rangeId: number;
  /** Chosen by the sender. */
  readonly transfer: number;
  /** Chunks that are durable, or will be with the turn. */
  received = 0;
  /** Number of chunks; 0 while the last one has not come. */
  total = 0;
  head: StateHead | undefined;
  /** Nothing in its boundary is given to another range any more. */
  isAdmitted = false;
  /** The replica has what it needs from its log. */
  isUnwanted = false;
  /** What the store that sends is told when the turn is durable. */
  mustAnswer = false;
  private phase: number = PHASE.RECEIVING;
  private placed = 0;
  private clear: Span[] = [];
  private incoming: Uint8Array[] = [];
  private readonly key = new ByteWriter(32);

  constructor(rangeId: number, transfer: number) {
    this.rangeId = rangeId;
    this.transfer = transfer;
  }

  /** What a crash left. */
  static open(rangeId: number, reader: KvReader): Install | undefined {
    const stored = reader.get(bookKey(new ByteWriter(16), BOOK.RECEIVED, rangeId).view());
    if (stored === undefined) return undefined;
    const record = new ByteReader(copyOf(stored));
    readVersion(record);
    const install = new Install(rangeId, record.u53());
    install.phase = record.u8();
    install.received = record.u32();
    install.total = record.u32();
    install.placed = record.u32();
    for (let left = record.u16(); left > 0; left--)
      install.clear.push({ start: copyOf(record.blob()), end: copyOf(record.blob()) });
    install.head = record.remaining > 0 ? readStateHead(record) : undefined;
    install.isAdmitted = install.isCommitted;
    return install;
  }

  /** The state of the replica is this one. */
  get isCommitted(): boolean {
    return this.phase !== PHASE.RECEIVING;
  }

  /** All of it is durable. */
  get isWhole(): boolean {
    return this.total > 0 && this.received === this.total && this.incoming.length === 0;
  }

  /** A turn can go on with it, without anything coming from outside. */
  get hasWork(): boolean {
    return this.incoming.length > 0 || this.isCommitted || this.isUnwanted;
  }

  /** Takes the chunk if it is the next one. False: it is none. */
  take(number: number, isLast: boolean, bytes: Uint8Array): boolean {
    this.mustAnswer = true;
    if (this.isCommitted || this.total > 0 || number !== this.received) return true;
    const reader = new ByteReader(bytes);
    const head = number === 0 ? foreignHead(reader) : this.head;
    if (head === undefined || !holdsRecords(reader, stateSpans(head.descriptor))) return false;
    this.head = head;
    this.incoming.push(bytes);
    this.received++;
    if (isLast) this.total = this.received;
    return true;
  }

  /** Writes what has come. */
  stage(writer: KvWriter): void {
    if (this.incoming.length === 0) return;
    const first = this.received - this.incoming.length;
    for (let at = 0; at < this.incoming.length; at++)
      writer.put(this.chunkKey(first + at), this.incoming[at]!);
    this.incoming = [];
    this.save(writer);
  }

  /** Raft has taken the state. `replaced`: what is removed before it is put in place, beside its own boundary. */
  commit(turn: Turn, replaced: readonly Span[]): void {
    assert(this.isWhole && this.isAdmitted && !this.isCommitted, 'a state is taken when it is whole, once');
    this.phase = PHASE.CLEARING;
    this.clear = [...replaced, ...stateSpans(this.head!.descriptor)];
    this.save(turn.writer);
  }

  /** One step; true when the state is in place. */
  step(turn: Turn): boolean {
    const { writer } = turn;
    if (this.phase === PHASE.CLEARING) {
      let left = CLEAR_KEYS_MAX;
      while (this.clear.length > 0 && left > 0) {
        const gone = removeSome(writer, this.clear[0]!, left);
        if (gone < left) this.clear.shift();
        left -= gone;
      }
      if (this.clear.length === 0) this.phase = PHASE.PLACING;
      this.save(writer);
      if (left === 0) return false;
    }
    for (let at = 0; at < PLACE_CHUNKS_MAX && this.placed < this.total; at++) this.place(writer);
    if (this.placed < this.total) {
      this.save(writer);
      return false;
    }
    // Of a state that was given up for this one there may be more.
    if (!this.dropStage(writer)) return false;
    writer.remove(this.recordKey());
    return true;
  }

  private place(writer: KvWriter): void {
    const key = this.chunkKey(this.placed);
    const stored = writer.get(key);
    assert(stored !== undefined, 'what was received is in the stage');
    const reader = new ByteReader(copyOf(stored));
    if (this.placed === 0) readStateHead(reader);
    const spans = stateSpans(this.head!.descriptor);
    while (reader.remaining > 0) {
      const at = reader.blob();
      assert(isWithin(at, spans), 'a state holds what is its own');
      writer.put(at, reader.blob());
    }
    writer.remove(this.chunkKey(this.placed++));
  }

  /** Drops some of a state that is not wanted; true when nothing is left. */
  discard(writer: KvWriter): boolean {
    assert(!this.isCommitted, 'a state that was taken is put in place');
    this.incoming = [];
    // Beginning anew is all that a crash in between could do with it.
    if (!this.dropStage(writer)) return false;
    writer.remove(this.recordKey());
    return true;
  }

  private dropStage(writer: KvWriter): boolean {
    const start = bookKey(new ByteWriter(16), BOOK.STAGE, this.rangeId).view();
    const end = bookKey(new ByteWriter(16), BOOK.STAGE, this.rangeId + 1).view();
    return removeSome(writer, { start, end }, STAGE_CHUNKS_MAX) < STAGE_CHUNKS_MAX;
  }

  /** Where it has, or will have, something of it or of what it takes the place of. */
  get toClear(): readonly Span[] {
    return this.isCommitted ? [...this.clear, ...stateSpans(this.head!.descriptor)] : [];
  }

  /** Whether keys of the span belong to it, or are still to be removed. */
  occupies(span: Span): boolean {
    const isIn = this.isAdmitted && overlap(this.head!.descriptor.boundary, span);
    return isIn || this.clear.some(cleared => overlap(cleared, span));
  }

  private save(writer: KvWriter): void {
    const value = new ByteWriter(256).u8(BOOKS_VERSION).u53(this.transfer).u8(this.phase);
    value.u32(this.received).u32(this.total).u32(this.placed).u16(this.clear.length);
    for (const { start, end } of this.clear) value.blob(start).blob(end);
    if (this.head !== undefined) writeStateHead(value, this.head);
    writer.put(this.recordKey(), value.view());
  }

  private recordKey(): Uint8Array {
    return bookKey(this.key, BOOK.RECEIVED, this.rangeId).view();
  }

  private chunkKey(number: number): Uint8Array {
    return ordered53(bookKey(this.key, BOOK.STAGE, this.rangeId), number).view();
  }
}

export function writeStateHead(writer: ByteWriter, { meta, descriptor }: StateHead): void {
  writer.u8(BOOKS_VERSION);
  writeSnapshotMeta(writer, meta);
  writeDescriptor(writer, descriptor);
}
