import { AgentAck } from '../schema/gen/agent-ack.js';
import { AgentBody } from '../schema/gen/agent-body.js';
import { AgentData } from '../schema/gen/agent-data.js';
import { AgentEntry } from '../schema/gen/agent-entry.js';
import { AgentMessage } from '../schema/gen/agent-message.js';
import { CheckedBuffer, MALFORMED, MessageBuilder } from '../schema/schema.js';
import type { HostId } from '../underlay/message.js';
import { isName, MEMBER_NAME_MAX, MESSAGE_BYTES_MAX } from './limits.js';

/** What hosts say to each other for their members; see links.ts. Numbers are integers of [1, 2^53), or 0 in an ack. */
export type LinkMessage = DataMessage | AckMessage;

export interface DataMessage {
  readonly kind: 'data';
  readonly agent: string;
  /** The host that it is for: another one may live at its address by now. */
  readonly target: HostId;
  readonly epoch: number;
  readonly sequence: number;
  readonly isReliable: boolean;
  readonly from: string;
  /** '': all members of the host. */
  readonly to: string;
  readonly bytes: Uint8Array;
}

export interface AckMessage {
  readonly kind: 'ack';
  readonly agent: string;
  readonly epoch: number;
  readonly sequence: number;
}

/** The value of a key in an agent's replicated map. */
export interface EntryValue {
  readonly stamp: number;
  readonly isOwned: boolean;
  readonly bytes: Uint8Array;
}

/** Above this no later stamp could be drawn; a clock gets here in 2094 (`base/hlc.ts`). */
const STAMP_MAX = 2 ** 53 - 2 ** 32;

const NO_BYTES = new Uint8Array(0);

/** A larger one is not kept after a large message. */
const BUILDER_BYTES_KEPT = 65_536;

let builder = new MessageBuilder(1_024);
const buffer = new CheckedBuffer();
const messageTable = new AgentMessage();
const dataTable = new AgentData();
const ackTable = new AgentAck();
const entryTable = new AgentEntry();

/** Fresh bytes. */
export function encodeLinkMessage(message: LinkMessage): Uint8Array {
  builder.clear();
  const isData = message.kind === 'data';
  const body = isData ? addData(message) : addAck(message);
  builder.finish(
    AgentMessage.createAgentMessage(builder, isData ? AgentBody.AgentData : AgentBody.AgentAck, body),
  );
  const encoded = builder.asUint8Array().slice();
  if (encoded.length > BUILDER_BYTES_KEPT) builder = new MessageBuilder(1_024);
  return encoded;
}

function addData(message: DataMessage): number {
  const { bytes, to } = message;
  const vector = bytes.length === 0 ? 0 : builder.createByteVector(bytes);
  const member = to === '' ? 0 : builder.createString(to);
  const from = builder.createString(message.from);
  const agent = builder.createString(message.agent);
  AgentData.startAgentData(builder);
  AgentData.addTarget(builder, message.target);
  AgentData.addEpoch(builder, message.epoch);
  AgentData.addSequence(builder, message.sequence);
  AgentData.addAgent(builder, agent);
  AgentData.addFrom(builder, from);
  AgentData.addTo(builder, member);
  AgentData.addBytes(builder, vector);
  AgentData.addReliable(builder, message.isReliable);
  return AgentData.endAgentData(builder);
}

function addAck(message: AckMessage): number {
  const agent = builder.createString(message.agent);
  return AgentAck.createAgentAck(builder, agent, message.epoch, message.sequence);
}

/** Undefined for what is none, or one that only a later release knows. Never throws. Its bytes are a view of `bytes`. */
export function decodeLinkMessage(bytes: Uint8Array): LinkMessage | undefined {
  try {
    const table = AgentMessage.getRootAsAgentMessage(buffer.over(bytes), messageTable);
    switch (table.bodyType()) {
      case AgentBody.AgentData:
        return readData(table.body(dataTable));
      case AgentBody.AgentAck:
        return readAck(table.body(ackTable));
      default:
        return undefined;
    }
  } catch (error) {
    if (error !== MALFORMED) throw error;
    return undefined;
  } finally {
    buffer.release();
  }
}

function readData(table: AgentData | null): DataMessage | undefined {
  if (table === null) return undefined;
  const agent = table.agent() ?? '';
  const from = table.from() ?? '';
  const to = table.to() ?? '';
  const bytes = table.bytesArray() ?? NO_BYTES;
  const epoch = table.epoch();
  const sequence = table.sequence();
  const target = table.target();
  if (
    !isName(agent) ||
    !isCount(target, 1) ||
    from === '' ||
    from.length > MEMBER_NAME_MAX ||
    to.length > MEMBER_NAME_MAX
  )
    return undefined;
  if (!isCount(epoch, 1) || !isCount(sequence, 1) || bytes.length > MESSAGE_BYTES_MAX) return undefined;
  return { kind: 'data', agent, target, epoch, sequence, isReliable: table.reliable(), from, to, bytes };
}

function readAck(table: AgentAck | null): AckMessage | undefined {
  if (table === null) return undefined;
  const agent = table.agent() ?? '';
  const epoch = table.epoch();
  const sequence = table.sequence();
  if (!isName(agent) || !isCount(epoch, 1) || !isCount(sequence, 0)) return undefined;
  return { kind: 'ack', agent, epoch, sequence };
}

function isCount(value: number, min: number): boolean {
  return Number.isSafeInteger(value) && value >= min;
}

/** Fresh bytes. */
export function encodeEntry(stamp: number, isOwned: boolean, bytes: Uint8Array): Uint8Array {
  builder.clear();
  const vector = bytes.length === 0 ? 0 : builder.createByteVector(bytes);
  builder.finish(AgentEntry.createAgentEntry(builder, stamp, isOwned, vector));
  return builder.asUint8Array().slice();
}

/** Undefined for what is no entry. Never throws. Its bytes are a view of `bytes`. */
export function decodeEntry(bytes: Uint8Array): EntryValue | undefined {
  try {
    const table = AgentEntry.getRootAsAgentEntry(buffer.over(bytes), entryTable);
    const stamp = table.stamp();
    if (!isCount(stamp, 1) || stamp > STAMP_MAX) return undefined;
    return { stamp, isOwned: table.owned(), bytes: table.bytesArray() ?? NO_BYTES };
  } catch (error) {
    if (error !== MALFORMED) throw error;
    return undefined;
  } finally {
    buffer.release();
  }
}
