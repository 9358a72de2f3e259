import { decodeMessage } from '../raft/codec.js';
import { NOBODY, type ReplicaId } from '../raft/configuration.js';
import { MESSAGE, type Message } from '../raft/message.js';
import { VarintReader, VarintWriter } from '../raft/varint.js';
import { covers, overlap } from '../range.js';
import { isCommand } from './commands.js';
import { type Descriptor, memberOf } from './descriptor.js';
import { type Frames, ITEM } from './frames.js';
import { Install } from './install.js';
import type { Replica } from './replica.js';
import type { ReplicaTable } from './replica-table.js';
import {
  decodeChunk,
  decodeChunkAnswer,
  encodeChunkAnswer,
  PART,
  PROGRESS,
  type SnapshotSender,
} from './snapshot.js';
import { RECOVERY_STEP } from './transitions.js';

/** More than a second, at the default pace; nobody campaigns so soon. */
const EARLY_TICKS = 12;
const EARLY_TICKS_BETWEEN = 3;

/** What an inquiry says of the replica. */
type Held = Pick<Descriptor, 'genesis' | 'epoch' | 'boundary'>;

function readHeld(reader: VarintReader): Held {
  return {
    genesis: reader.number(),
    epoch: reader.number(),
    boundary: { start: reader.blob(), end: reader.blob() },
  };
}

export interface MailroomHost {
  /** Something has happened to the replica. */
  touched(replica: Replica): void;
  /** The replica is to end in the next turn; `target`: the range that absorbed its range, or 0. */
  doom(replica: Replica, target: number): void;
}

/**
 * What other stores say, and who it is for. A replica that the members of its range do not include any more is told so,
 * by whoever it speaks to and whose applied entries say it; it ends then. Items that make no sense are dropped.
 */
export class Mailroom {
  private readonly own: number;
  private readonly table: ReplicaTable;
  private readonly frames: Frames;
  private readonly sender: SnapshotSender;
  private readonly host: MailroomHost;
  private readonly body = new VarintWriter(256);
  private earlyTicks = EARLY_TICKS;
  /** Items that were dropped: for the metrics. */
  dropped = 0;

  /** `own`: the store's id. */
  constructor(own: number, table: ReplicaTable, frames: Frames, sender: SnapshotSender, host: MailroomHost) {
    this.own = own;
    this.table = table;
    this.frames = frames;
    this.sender = sender;
    this.host = host;
  }

  /** The items of a frame, behind its head. */
  open(from: number, reader: VarintReader): void {
    while (reader.remaining > 0) {
      const kind = reader.byte();
      const range = reader.number();
      const body = reader.blob();
      if (reader.broken) {
        this.dropped++;
        return;
      }
      this.deliver(from, kind, range, body);
    }
  }

  private deliver(from: number, kind: number, range: number, body: Uint8Array): void {
    if (kind === ITEM.RAFT) {
      const message = decodeMessage(body);
      if (message === undefined || !isSound(message)) this.dropped++;
      else this.message(from, range, message);
    } else if (kind === ITEM.GONE) this.gone(range, body);
    else if (kind === ITEM.CHUNK) this.chunk(from, range, body);
    else if (kind === ITEM.CHUNK_ANSWER) {
      const answer = decodeChunkAnswer(body);
      const replica = this.table.byRange.get(range);
      if (answer === undefined || replica === undefined) return;
      this.sender.answered(replica, from, answer);
      this.host.touched(replica);
    } else if (kind === ITEM.INQUIRY) this.inquiry(from, range, body);
    else this.dropped++;
  }

  private message(from: number, range: number, message: Message): void {
    let replica = this.table.byRange.get(range);
    if (replica !== undefined && replica.id < message.to && isLeaders(message)) {
      // The leader of the range knows a later replica on this store: this one is none any more.
      this.host.doom(replica, 0);
      return;
    }
    if (replica === undefined) {
      const heir = this.table.heirOf(range);
      if (heir !== undefined) this.tellGone(from, range, message.from, heir);
      else if (isLeaders(message)) replica = this.table.make(range, message.to);
    }
    if (replica === undefined || replica.id !== message.to) return;
    if (this.isGone(replica, message.from)) return this.tellGone(from, range, message.from, 0);
    replica.routes.set(message.from, from);
    replica.ticksUnheard = 0;
    replica.raft.step(message);
    this.host.touched(replica);
  }

  /**
   * In the first moments of a process: asks whether what was found on the disk still counts, several times before any of it
   * may campaign. A majority that was given up for lost and comes back would elect a leader otherwise.
   */
  tick(): void {
    if (this.earlyTicks <= 0) return;
    if (this.earlyTicks-- % EARLY_TICKS_BETWEEN !== 0) return;
    for (const replica of this.table.byRange.values())
      if (replica.raft.leader === NOBODY) this.inquire(replica, 0);
  }

  /** Asks the stores that a replica knows of whether it still counts; who knows that it does not says so. */
  inquire(replica: Replica, other: number): void {
    const { rangeId, id, descriptor, install, routes, chunksFrom } = replica;
    const { members } = descriptor ?? install?.head?.descriptor ?? { members: [] };
    const stores = new Set([...members.map(({ store }) => store), ...routes.values(), chunksFrom, other]);
    for (const store of stores) {
      if (store === 0 || store === this.own) continue;
      this.body.reset().number(id);
      if (descriptor !== undefined) {
        const { genesis, epoch, boundary } = descriptor;
        this.body.number(genesis).number(epoch).blob(boundary.start).blob(boundary.end);
      }
      this.frames.add(store, ITEM.INQUIRY, rangeId, this.body.view());
    }
  }

  private inquiry(from: number, range: number, body: Uint8Array): void {
    const reader = new VarintReader(body);
    const id = reader.number();
    const held = reader.remaining === 0 ? undefined : readHeld(reader);
    if (!reader.isDone) return;
    const replica = this.table.byRange.get(range);
    const heir = this.table.heirOf(range);
    if (replica === undefined ? heir !== undefined : this.isGone(replica, id))
      this.tellGone(from, range, id, heir ?? 0);
    else if (held !== undefined) {
      const recovered = this.recoveredOver(range, held);
      if (recovered !== 0) this.tellGone(from, range, id, recovered);
    }
  }

  /** Whether the sender was a member and is for ever not. */
  private isGone({ state, raft }: Replica, from: ReplicaId): boolean {
    if (state === undefined || from >= state.descriptor.nextReplica) return false;
    if (memberOf(state.descriptor, from) !== undefined) return false;
    const { voters, outgoing, learners } = raft.configuration;
    return !voters.includes(from) && !outgoing.includes(from) && !learners.includes(from);
  }

  /**
   * A range here that has gone on without the majority that knew of `range`: it holds keys of it, of the same lineage, at an
   * epoch that is reached in no other way. 0: there is none.
   */
  private recoveredOver(range: number, { genesis, epoch, boundary }: Held): number {
    for (const { rangeId, descriptor } of this.table.byRange.values())
      if (
        descriptor !== undefined &&
        rangeId !== range &&
        descriptor.genesis === genesis &&
        descriptor.epoch - epoch >= RECOVERY_STEP / 2 &&
        overlap(descriptor.boundary, boundary)
      )
        return rangeId;
    return 0;
  }

  private tellGone(store: number, range: number, replica: number, target: number): void {
    this.frames.add(store, ITEM.GONE, range, this.body.reset().number(replica).number(target).view());
  }

  private gone(range: number, body: Uint8Array): void {
    const reader = new VarintReader(body);
    const id = reader.number();
    const target = reader.number();
    const replica = this.table.byRange.get(range);
    if (!reader.isDone || replica === undefined || replica.id !== id) return;
    if (target !== 0) {
      // The target's replica here may still have to absorb this one: then it ends by that.
      const absorber = this.table.byRange.get(target);
      const boundary = replica.heldBoundary;
      const isAwaited =
        absorber !== undefined &&
        boundary !== undefined &&
        (absorber.descriptor === undefined || !covers(absorber.descriptor.boundary, boundary));
      if (isAwaited) return;
    }
    this.host.doom(replica, target);
  }

  // -- States --------------------------------------------------------------------------------------------------

  private chunk(from: number, range: number, body: Uint8Array): void {
    const chunk = decodeChunk(body);
    const replica = this.table.byRange.get(range);
    if (chunk === undefined || replica === undefined || replica.id !== chunk.to) {
      this.dropped++;
      return;
    }
    replica.routes.set(chunk.from, from);
    replica.chunksFrom = from;
    replica.ticksUnheard = 0;
    const { transfer, number, part, bytes } = chunk;
    const isKnown = replica.install?.transfer === transfer || transfer === replica.lastTransfer;
    const isFree = replica.install === undefined || !replica.install.isCommitted;
    if (!isKnown && number === 0 && part !== PART.QUESTION && isFree)
      replica.install = new Install(range, transfer);
    const { install } = replica;
    if (install?.transfer !== transfer)
      this.answer(replica, transfer, 0, isKnown ? PROGRESS.TAKEN : PROGRESS.UNKNOWN);
    else if (part === PART.QUESTION) install.mustAnswer = true;
    else if (!install.take(number, part === PART.LAST, bytes)) this.dropped++;
    this.host.touched(replica);
  }

  /** Between turns: says how far a state is, and has it taken when it can be. True: the replica has something to do. */
  answerState(replica: Replica): boolean {
    const { install } = replica;
    if (install === undefined) return false;
    if (install.isWhole && !install.isAdmitted && !install.isUnwanted && this.table.admits(replica)) {
      install.isAdmitted = replica.raft.snapshotReceived(install.head!.meta);
      install.isUnwanted = !install.isAdmitted;
    }
    const isTaken = install.isCommitted || install.isUnwanted;
    if (isTaken && replica.lastTransfer !== install.transfer) {
      replica.lastTransfer = install.transfer;
      install.mustAnswer = true;
    }
    const progress = isTaken ? PROGRESS.TAKEN : PROGRESS.UNDER_WAY;
    if (install.mustAnswer) this.answer(replica, install.transfer, install.received, progress);
    install.mustAnswer = false;
    return install.isAdmitted || install.isUnwanted;
  }

  private answer(replica: Replica, transfer: number, received: number, progress: number): void {
    const answer = { from: replica.id, transfer, received, progress };
    const body = encodeChunkAnswer(this.body, answer);
    this.frames.add(replica.chunksFrom, ITEM.CHUNK_ANSWER, replica.rangeId, body);
  }
}

/** Of those, only a leader's word makes a replica. */
function isLeaders({ kind }: Message): boolean {
  return kind === MESSAGE.APPEND || kind === MESSAGE.HEARTBEAT;
}

/** Commands are looked into by all replicas alike, so nothing that is none may become an entry. */
function isSound(message: Message): boolean {
  if (message.from === NOBODY) return false;
  return message.kind !== MESSAGE.PROPOSE || message.proposals.every(({ data }) => isCommand(data));
}
