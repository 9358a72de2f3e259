import { HostRecord as RecordTable } from '../schema/gen/host-record.js';
import { CheckedBuffer, MALFORMED, MessageBuilder } from '../schema/schema.js';
import type { HostRecord } from './message.js';

/**
 * Incarnations and sequence numbers as the wire holds them. What is larger is held as the largest, and so are times
 * above 2^53: whatever somebody has talked a host into, its packets must not become unreadable.
 */
const U32_MAX = 0xffff_ffff;

/** Largest incarnation: one below the wire's limit, since a ping carries the suspected one plus one. */
export const INCARNATION_MAX = U32_MAX - 1;

/** A part that is missing where there has to be one. */
export function present<T>(part: T | null): T {
  if (part === null) throw MALFORMED;
  return part;
}

/** A host id, clock or version from the wire: an integer in [0, 2^53). */
export function checkedInteger(value: number): number {
  if (!(value >= 0 && value <= Number.MAX_SAFE_INTEGER && Number.isInteger(value))) throw MALFORMED;
  return value;
}

/** Milliseconds since 1970, perhaps with a fraction. */
export function checkedMs(value: number): number {
  if (!(value >= 0 && value <= Number.MAX_SAFE_INTEGER)) throw MALFORMED;
  return value;
}

/** The id of a host; 0 is nobody's. */
export function checkedHostId(value: number): number {
  if (value === 0) throw MALFORMED;
  return checkedInteger(value);
}

export function checkedIncarnation(value: number): number {
  if (value > INCARNATION_MAX) throw MALFORMED;
  return value;
}

export function u32(value: number): number {
  return value < U32_MAX ? value : U32_MAX;
}

export function incarnationOf(value: number): number {
  return value < INCARNATION_MAX ? value : INCARNATION_MAX;
}

/** Writes a text and gives its offset; 0, which stands for no text, for ''. */
export function addText(builder: MessageBuilder, text: string): number {
  return text === '' ? 0 : builder.createString(text);
}

export function addRecord(builder: MessageBuilder, record: HostRecord): number {
  const name = addText(builder, record.name);
  const address = addText(builder, record.address);
  const version = addText(builder, record.version);
  const agents =
    record.agents.length === 0
      ? 0
      : RecordTable.createAgentsVector(
          builder,
          record.agents.map(agent => builder.createString(agent)),
        );
  RecordTable.startHostRecord(builder);
  RecordTable.addId(builder, record.id);
  RecordTable.addStartedMs(builder, Math.min(record.startedMs, Number.MAX_SAFE_INTEGER));
  RecordTable.addIncarnation(builder, incarnationOf(record.incarnation));
  RecordTable.addName(builder, name);
  RecordTable.addAddress(builder, address);
  RecordTable.addVersion(builder, version);
  RecordTable.addAgents(builder, agents);
  return RecordTable.endHostRecord(builder);
}

/** Throws {@link MALFORMED}. */
export function readRecord(table: RecordTable): HostRecord {
  const count = table.agentsLength();
  const agents: string[] = [];
  for (let at = 0; at < count; at++) agents.push(table.agents(at));
  return {
    id: checkedHostId(table.id()),
    incarnation: checkedIncarnation(table.incarnation()),
    name: table.name() ?? '',
    address: table.address() ?? '',
    version: table.version() ?? '',
    startedMs: checkedMs(table.startedMs()),
    agents,
  };
}

const builder = new MessageBuilder(512);
const buffer = new CheckedBuffer();
const recordTable = new RecordTable();

/** The value of a host in the host map. Fresh bytes. */
export function encodeHostRecord(record: HostRecord): Uint8Array {
  builder.clear();
  builder.finish(addRecord(builder, record));
  return builder.asUint8Array().slice();
}

/** Undefined for what is no host record. Never throws. */
export function decodeHostRecord(bytes: Uint8Array): HostRecord | undefined {
  try {
    return readRecord(RecordTable.getRootAsHostRecord(buffer.over(bytes), recordTable));
  } catch (error) {
    if (error !== MALFORMED) throw error;
    return undefined;
  } finally {
    buffer.release();
  }
}
