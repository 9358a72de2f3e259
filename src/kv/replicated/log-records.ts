import { assert } from '../../base/assert.js';
import type { ByteReader, ByteWriter } from '../../base/bytes.js';
import { ShoalError } from '../../base/errors.js';
import type { Configuration, ReplicaId } from '../raft/configuration.js';
import type { Entry, HardState, SnapshotMeta } from '../raft/ready.js';
import { ENTRY_OVERHEAD_BYTES } from '../raft/settings.js';
import { BOOKS_VERSION } from './books.js';

/** Layouts of a log's records. Checksums are the engine's. */

/** What a record of entries says before them. */
export interface BatchHead {
  readonly term: number;
  readonly count: number;
  readonly hasConfiguration: boolean;
}

export function entryBytes(entry: Entry): number {
  return entry.data.length + ENTRY_OVERHEAD_BYTES;
}

export function writeBatchHead(writer: ByteWriter, head: BatchHead): void {
  writer
    .u8(BOOKS_VERSION)
    .u8(head.hasConfiguration ? 1 : 0)
    .u53(head.term)
    .u32(head.count);
}

export function readBatchHead(reader: ByteReader): BatchHead {
  readVersion(reader);
  const hasConfiguration = reader.u8() === 1;
  return { hasConfiguration, term: reader.u53(), count: reader.u32() };
}

/** An entry behind its batch's head, which holds the term; the index follows from its place. */
export function writeEntry(writer: ByteWriter, entry: Entry): void {
  writer.u8(entry.kind).u53(entry.session).u53(entry.sequence).blob(entry.data);
}

/** The data is a view. */
export function readEntry(reader: ByteReader, term: number, index: number): Entry {
  const kind = reader.u8();
  const session = reader.u53();
  return { term, index, kind, session, sequence: reader.u53(), data: reader.blob() };
}

export interface LogState {
  /** Whose log it is. */
  readonly replica: ReplicaId;
  readonly hardState: HardState;
  readonly snapshot: SnapshotMeta;
  readonly applied: number;
}

export function writeLogState(writer: ByteWriter, { replica, hardState, snapshot, applied }: LogState): void {
  writer
    .u8(BOOKS_VERSION)
    .u53(replica)
    .u53(hardState.term)
    .u53(hardState.vote)
    .u53(hardState.commit)
    .u53(applied);
  writeSnapshotMeta(writer, snapshot);
}

export function readLogState(reader: ByteReader): LogState {
  readVersion(reader);
  const replica = reader.u53();
  const hardState = { term: reader.u53(), vote: reader.u53(), commit: reader.u53() };
  const applied = reader.u53();
  return { replica, hardState, applied, snapshot: readSnapshotMeta(reader) };
}

export function writeSnapshotMeta(writer: ByteWriter, { index, term, configuration }: SnapshotMeta): void {
  writer.u53(index).u53(term);
  for (const list of [configuration.voters, configuration.outgoing, configuration.learners]) {
    writer.u16(list.length);
    for (const replica of list) writer.u53(replica);
  }
}

export function readSnapshotMeta(reader: ByteReader): SnapshotMeta {
  const index = reader.u53();
  const term = reader.u53();
  const configuration: Configuration = {
    voters: readReplicas(reader),
    outgoing: readReplicas(reader),
    learners: readReplicas(reader),
  };
  return { index, term, configuration };
}

function readReplicas(reader: ByteReader): ReplicaId[] {
  const out: ReplicaId[] = [];
  for (let left = reader.u16(); left > 0; left--) out.push(reader.u53());
  return out;
}

/** Throws SHOAL_STORAGE_VERSION; a record that is older than this program is read as what it was. */
export function readVersion(reader: ByteReader): number {
  const version = reader.u8();
  assert(version > 0, 'a record begins with its version');
  if (version > BOOKS_VERSION)
    throw new ShoalError('SHOAL_STORAGE_VERSION', `a record has layout ${version}, this is ${BOOKS_VERSION}`);
  return version;
}
