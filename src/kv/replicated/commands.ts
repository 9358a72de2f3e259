import { type ByteReader, ByteWriter } from '../../base/bytes.js';
import { copyOf } from '../keys.js';
import { union } from '../range.js';
import { type Descriptor, type Merging, storesOf } from './descriptor.js';

/** What an entry of a range asks for. The first byte of its data; the epoch follows, then the body. */
export const COMMAND = {
  /** The coprocessor's. Body: what `Coprocessor.mutate` reads. */
  SERVICE: 0,
  /** The part from `key` on becomes the range `child`. Body: u53 child, blob key. */
  SPLIT: 1,
  /** Who is to be a member. Body: u53 membersAt, u16 count, (u53 store, u8 role)…; applied at that `membersAt` only. */
  CONFIGURE: 2,
  /** To the source of a merge. Body: u53 target, u53 its epoch, u53 its membersAt. */
  PREPARE_MERGE: 3,
  /** To the target. Body: u53 its membersAt, u53 source, u53 epoch and u53 preparation of that, u16 count, u53 store…, its boundary. */
  COMMIT_MERGE: 4,
  /** To the target: an epoch that nobody can commit a merge at. No body. */
  FENCE: 5,
  /** To the source, once the target is past the epoch. Body: u53 index of the preparation. */
  ROLL_BACK_MERGE: 6,
  /** After a quorum was lost and given up: the members are those that are left. At any epoch. No body. */
  RECOVER: 7,
  /** The range, to which nothing was ever proposed, is over. No body. */
  DISCARD: 9,
} as const;

/** How a command ended. */
export const OUTCOME = {
  /** Applied. The bytes are what the coprocessor answered, or nothing. */
  DONE: 0,
  /** Applied, by an earlier proposal of the same number; what it answered is not kept. */
  DONE_BEFORE: 1,
  /** Not applied: it was proposed at another epoch, or to a range that is gone. The bytes are the range's descriptor. */
  WRONG_RANGE: 2,
  /** Not applied: the range is to become part of another, and does nothing meanwhile. */
  MERGING: 3,
  /** Not applied: it would break a rule of its own kind. */
  REFUSED: 4,
  /** Not applied: this replica does not lead, and knows of nobody who does or cannot forward it. */
  NOT_LEADER: 5,
  /** Not applied: too much is under way. */
  OVERLOADED: 6,
  /** Not known: it may be applied, now or later. */
  UNKNOWN: 7,
  /** Not known, and nobody will ever know: its number is too old. It will not be applied any more. */
  FORGOTTEN: 8,
} as const;

/** Bytes before the body, or before what the next one announces. */
const COMMAND_HEAD_BYTES = 9;
/**
 * Beside the command: behind the epoch stands a u32, by how much the lowest number is below this one's that its proposer
 * has no answer to. Books of version 1 have none that say so.
 */
const TELLS_LOWEST = 0x80;
const LOWEST_BYTES = 4;

/** What stands before a command's body. */
export interface CommandHead {
  /** One of {@link COMMAND}, or of a newer version. */
  command: number;
  epoch: number;
  /** No number below it is made use of by the proposer any more; 0: it does not say. */
  lowest: number;
}

/** Reads into `head` what the entry's data begin with; `sequence` is the entry's. */
export function readCommandHead(body: ByteReader, sequence: number, head: CommandHead): void {
  const first = body.u8();
  head.command = first & ~TELLS_LOWEST;
  head.epoch = body.u53();
  head.lowest = (first & TELLS_LOWEST) === 0 ? 0 : Math.max(0, sequence - body.u32());
}

/** Whether there is a head at least: another store may have it proposed. */
export function isCommand(data: Uint8Array): boolean {
  if (data.length < COMMAND_HEAD_BYTES) return false;
  return (data[0]! & TELLS_LOWEST) === 0 || data.length >= COMMAND_HEAD_BYTES + LOWEST_BYTES;
}

export function beginCommand(writer: ByteWriter, command: number, epoch: number): ByteWriter {
  return writer.u8(command).u53(epoch);
}

/** `behind`: how much lower the lowest number is that has no answer; undefined if that is not known. */
export function serviceCommand(epoch: number, body: Uint8Array, behind?: number): Uint8Array {
  const writer = new ByteWriter(COMMAND_HEAD_BYTES + LOWEST_BYTES + body.length);
  if (behind === undefined || behind > BEHIND_MAX) beginCommand(writer, COMMAND.SERVICE, epoch);
  else beginCommand(writer, COMMAND.SERVICE | TELLS_LOWEST, epoch).u32(behind);
  return writer.raw(body).view();
}

const BEHIND_MAX = 0xffff_ffff;

export function splitCommand(epoch: number, child: number, key: Uint8Array): Uint8Array {
  return beginCommand(new ByteWriter(64), COMMAND.SPLIT, epoch).u53(child).blob(key).view();
}

export interface Place {
  readonly store: number;
  readonly role: number;
}

export function configureCommand(epoch: number, membersAt: number, places: readonly Place[]): Uint8Array {
  const writer = beginCommand(new ByteWriter(64), COMMAND.CONFIGURE, epoch).u53(membersAt);
  writer.u16(places.length);
  for (const { store, role } of places) writer.u53(store).u8(role);
  return writer.view();
}

export function readPlaces(body: ByteReader): Place[] {
  const out: Place[] = [];
  for (let left = body.u16(); left > 0; left--) out.push({ store: body.u53(), role: body.u8() });
  return out;
}

/** To the source of a merge; undefined if the two cannot be one. */
export function mergeCommand(source: Descriptor, target: Descriptor): Uint8Array | undefined {
  // When a target becomes a source itself its epoch rises: then this preparation can be rolled back.
  if (target.merging !== undefined || storesOf(source) !== storesOf(target)) return undefined;
  // What a range counts it shares with those of its own key space alone.
  if (source.genesis !== target.genesis) return undefined;
  if (union(source.boundary, target.boundary) === undefined) return undefined;
  const command = beginCommand(new ByteWriter(32), COMMAND.PREPARE_MERGE, source.epoch);
  return command.u53(target.id).u53(target.epoch).u53(target.membersAt).view();
}

/** What the target is told of a source that is ready: the same at all its replicas. */
export function commitMergeCommand(source: Descriptor, merging: Merging): Uint8Array {
  const stores = source.members.map(({ store }) => store).sort((a, b) => a - b);
  const writer = beginCommand(new ByteWriter(128), COMMAND.COMMIT_MERGE, merging.targetEpoch);
  writer.u53(merging.targetMembersAt).u53(source.id).u53(source.epoch).u53(merging.at);
  writer.u16(stores.length);
  for (const store of stores) writer.u53(store);
  return writer.blob(source.boundary.start).blob(source.boundary.end).view();
}

export function fenceCommand(epoch: number): Uint8Array {
  return beginCommand(new ByteWriter(16), COMMAND.FENCE, epoch).view();
}

export function rollBackMergeCommand(epoch: number, preparedAt: number): Uint8Array {
  return beginCommand(new ByteWriter(24), COMMAND.ROLL_BACK_MERGE, epoch).u53(preparedAt).view();
}

export function recoverCommand(epoch: number): Uint8Array {
  return beginCommand(new ByteWriter(16), COMMAND.RECOVER, epoch).view();
}

/** Reads a key as a copy. */
export function readKey(body: ByteReader): Uint8Array {
  return copyOf(body.blob());
}

export function discardCommand(epoch: number): Uint8Array {
  return beginCommand(new ByteWriter(16), COMMAND.DISCARD, epoch).view();
}
