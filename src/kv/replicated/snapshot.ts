import { ByteWriter } from '../../base/bytes.js';
import type { Clock, Random } from '../../base/env.js';
import { crc32c } from '../crc32c.js';
import type { EngineSnapshot, SnapshotEngine } from '../engine.js';
import { copyOf } from '../keys.js';
import type { ReplicaId } from '../raft/configuration.js';
import { VarintReader, VarintWriter } from '../raft/varint.js';
import { getDescriptor } from './descriptor.js';
import { type Frames, ITEM } from './frames.js';
import { randomU53 } from './identity.js';
import { writeStateHead } from './install.js';
import { RangeLog } from './log.js';
import type { Replica } from './replica.js';
import { type Span, stateSpans } from './spans.js';

export interface SnapshotLimits {
  /** Of one chunk; a record that is larger makes one by itself. */
  readonly chunkBytesMax: number;
  /** Chunks that are sent ahead of the answers, and kept until then. */
  readonly windowChunksMax: number;
  /** Transfers of one store at a time: each keeps a snapshot of the engine. */
  readonly transfersMax: number;
  /** After this long without an answer what was sent last is sent again, and after the second the transfer ends. */
  readonly resendMs: number;
  readonly silenceMsMax: number;
  /** A transfer that takes longer ends: the engine keeps for it what is replaced meanwhile. */
  readonly ageMsMax: number;
}

export const SNAPSHOT_LIMITS: SnapshotLimits = {
  chunkBytesMax: 128 * 1024,
  windowChunksMax: 8,
  transfersMax: 4,
  resendMs: 1000,
  silenceMsMax: 20_000,
  ageMsMax: 600_000,
};

/** A part of a state, as it travels. */
export interface Chunk {
  readonly from: ReplicaId;
  readonly to: ReplicaId;
  readonly transfer: number;
  readonly number: number;
  /** One of {@link PART}. */
  readonly part: number;
  readonly bytes: Uint8Array;
}

/** What a chunk is: one of several, the last one, or none: the question how far the state has come. */
export const PART = { MORE: 0, LAST: 1, QUESTION: 2 } as const;

/** How far a state has come. */
export interface ChunkAnswer {
  /** Of the replica that receives. */
  readonly from: ReplicaId;
  readonly transfer: number;
  /** Chunks that are durable there. */
  readonly received: number;
  /** One of {@link PROGRESS}. */
  readonly progress: number;
}

/** `TAKEN`: it is the receiver's state now, or not needed any more. `UNKNOWN`: nothing of it is there. */
export const PROGRESS = { UNDER_WAY: 0, TAKEN: 1, UNKNOWN: 2 } as const;

export function encodeChunk(writer: VarintWriter, chunk: Chunk): Uint8Array {
  const { from, to, transfer, number, part, bytes } = chunk;
  writer.reset().number(from).number(to).number(transfer).number(number).byte(part);
  return writer
    .number(crc32c(bytes, 0, bytes.length, number))
    .blob(bytes)
    .view();
}

/** Undefined if it is none, or its checksum is wrong. The bytes are a copy. */
export function decodeChunk(body: Uint8Array): Chunk | undefined {
  const reader = new VarintReader(body);
  const from = reader.number();
  const to = reader.number();
  const transfer = reader.number();
  const number = reader.number();
  const part = reader.byte();
  const checksum = reader.number();
  const bytes = reader.blob();
  if (!reader.isDone || crc32c(bytes, 0, bytes.length, number) !== checksum) return undefined;
  return { from, to, transfer, number, part, bytes: copyOf(bytes) };
}

export function encodeChunkAnswer(writer: VarintWriter, answer: ChunkAnswer): Uint8Array {
  const { from, transfer, received, progress } = answer;
  return writer.reset().number(from).number(transfer).number(received).byte(progress).view();
}

export function decodeChunkAnswer(body: Uint8Array): ChunkAnswer | undefined {
  const reader = new VarintReader(body);
  const from = reader.number();
  const transfer = reader.number();
  const received = reader.number();
  const progress = reader.byte();
  return reader.isDone ? { from, transfer, received, progress } : undefined;
}

/** One state on its way to one follower. */
interface Transfer {
  readonly replica: Replica;
  readonly to: ReplicaId;
  readonly store: number;
  readonly id: number;
  readonly index: number;
  readonly snapshot: EngineSnapshot;
  readonly spans: readonly Span[];
  spanAt: number;
  /** The first key that is not sent yet. */
  next: Uint8Array;
  head: Uint8Array | undefined;
  /** Chunks without answer, from number `acked` on. */
  window: Chunk[];
  acked: number;
  isRead: boolean;
  readonly beganMs: number;
  heardMs: number;
  sentMs: number;
}

/**
 * Sends states to followers that the log does not reach any more.
 *
 * A state is read from a snapshot of the engine: in one and the same, the log's record says which entry has been applied
 * last, and everything else is what the entries up to there have made. So writes go on meanwhile, and none is seen. A
 * chunk is read when the window has room, between turns; those without answer stay in memory, so whatever the
 * connection or the receiver forgets is sent again from where the receiver is.
 */
export class SnapshotSender {
  private readonly engine: SnapshotEngine;
  private readonly clock: Clock;
  private readonly random: Random;
  private readonly frames: Frames;
  private readonly limits: SnapshotLimits;
  private transfers: Transfer[] = [];
  private readonly body = new VarintWriter(4096);
  private readonly records = new ByteWriter(4096);
  /** Chunks sent, again or not: for the metrics. */
  chunks = 0;

  constructor(
    engine: SnapshotEngine,
    env: { readonly clock: Clock; readonly random: Random },
    frames: Frames,
    limits: SnapshotLimits,
  ) {
    this.engine = engine;
    this.clock = env.clock;
    this.random = env.random;
    this.frames = frames;
    this.limits = limits;
  }

  get count(): number {
    return this.transfers.length;
  }

  /** Begins to send; what cannot be done now is reported to the machine as failed, which asks again. */
  begin(replica: Replica, to: ReplicaId, store: number): void {
    if (this.transfers.some(transfer => transfer.replica === replica && transfer.to === to)) return;
    if (store === 0 || this.transfers.length >= this.limits.transfersMax) {
      replica.raft.snapshotSent(to, 0, false);
      return;
    }
    const snapshot = this.engine.snapshot();
    const log = RangeLog.open(replica.rangeId, snapshot);
    const descriptor = getDescriptor(snapshot, replica.rangeId);
    if (log === undefined || descriptor === undefined) {
      snapshot.close();
      replica.raft.snapshotSent(to, 0, false);
      return;
    }
    const index = log.applied;
    const meta = { index, term: log.term(index)!, configuration: log.configurationAt(index) };
    const head = new ByteWriter(512);
    writeStateHead(head, { meta, descriptor });
    const spans = stateSpans(descriptor);
    const nowMs = this.clock.monotonicMs();
    const transfer: Transfer = {
      ...{ replica, to, store, index, snapshot, spans, spanAt: 0, next: spans[0]!.start, window: [] },
      ...{ id: randomU53(this.random), head: head.copy(), acked: 0, isRead: false },
      ...{ beganMs: nowMs, heardMs: nowMs, sentMs: nowMs },
    };
    this.transfers.push(transfer);
    replica.statesUnderWay.set(to, index);
    this.fill(transfer);
  }

  /** The receiver says how far it is. */
  answered(replica: Replica, store: number, answer: ChunkAnswer): void {
    const transfer = this.transfers.find(({ id, store: to }) => id === answer.transfer && to === store);
    if (transfer === undefined || transfer.replica !== replica || transfer.to !== answer.from) return;
    if (answer.received > transfer.acked + transfer.window.length) return;
    transfer.heardMs = this.clock.monotonicMs();
    const { progress } = answer;
    if (progress === PROGRESS.TAKEN || (progress === PROGRESS.UNKNOWN && transfer.acked > 0)) {
      this.end(transfer, progress === PROGRESS.TAKEN);
      return;
    }
    if (answer.received <= transfer.acked) return;
    transfer.window.splice(0, answer.received - transfer.acked);
    transfer.acked = answer.received;
    this.fill(transfer);
  }

  /** Sends again what was not answered, and ends what has no end. */
  tick(): void {
    if (this.transfers.length === 0) return;
    const nowMs = this.clock.monotonicMs();
    const { resendMs, silenceMsMax, ageMsMax } = this.limits;
    for (const transfer of [...this.transfers]) {
      const { replica, heardMs, sentMs, window } = transfer;
      const isVain = replica.isDestroyed || !replica.isLeader || replica.log.snapshot.index > transfer.index;
      if (isVain || nowMs - heardMs >= silenceMsMax || nowMs - transfer.beganMs >= ageMsMax)
        this.end(transfer, false);
      else if (nowMs - Math.max(heardMs, sentMs) >= resendMs) {
        transfer.sentMs = nowMs;
        for (const chunk of window.length > 0 ? window : [question(transfer)]) this.send(transfer, chunk);
      } else this.fill(transfer);
    }
  }

  close(): void {
    for (const transfer of this.transfers) release(transfer);
    this.transfers = [];
  }

  private end(transfer: Transfer, ok: boolean): void {
    this.transfers = this.transfers.filter(other => other !== transfer);
    release(transfer);
    if (!transfer.replica.isDestroyed) transfer.replica.raft.snapshotSent(transfer.to, transfer.index, ok);
  }

  /** Reads one chunk if the window has room: what the store is asked goes on between two of them. */
  private fill(transfer: Transfer): void {
    if (transfer.isRead || transfer.window.length >= this.limits.windowChunksMax) return;
    const bytes = this.read(transfer);
    const number = transfer.acked + transfer.window.length;
    const { to, id } = transfer;
    const part = transfer.isRead ? PART.LAST : PART.MORE;
    const chunk = { from: transfer.replica.id, to, transfer: id, number, part, bytes };
    transfer.window.push(chunk);
    transfer.sentMs = this.clock.monotonicMs();
    this.send(transfer, chunk);
  }

  private send({ replica, store }: Transfer, chunk: Chunk): void {
    this.chunks++;
    this.frames.add(store, ITEM.CHUNK, replica.rangeId, encodeChunk(this.body, chunk));
  }

  /** The records of the next chunk. */
  private read(transfer: Transfer): Uint8Array {
    const records = this.records.reset();
    if (transfer.head !== undefined) records.raw(transfer.head);
    transfer.head = undefined;
    const { chunkBytesMax } = this.limits;
    while (records.length < chunkBytesMax) {
      const span = transfer.spans[transfer.spanAt]!;
      let isCut = false;
      transfer.snapshot.scan(transfer.next, span.end, (key, value) => {
        if (records.length >= chunkBytesMax) {
          transfer.next = copyOf(key);
          isCut = true;
          return false;
        }
        records.blob(key).blob(value);
        return true;
      });
      if (isCut) return records.copy();
      transfer.spanAt++;
      if (transfer.spanAt === transfer.spans.length) {
        transfer.isRead = true;
        return records.copy();
      }
      transfer.next = transfer.spans[transfer.spanAt]!.start;
    }
    return records.copy();
  }
}

function release({ replica, to, snapshot }: Transfer): void {
  snapshot.close();
  replica.statesUnderWay.delete(to);
}

/** All is there, but not in force yet. */
function question({ replica, to, id, acked }: Transfer): Chunk {
  return { from: replica.id, to, transfer: id, number: acked, part: PART.QUESTION, bytes: NO_BYTES };
}

const NO_BYTES = new Uint8Array(0);
