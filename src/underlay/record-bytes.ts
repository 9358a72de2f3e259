import { ByteWriter } from '../base/bytes.js';
import { AGENTS_MAX, isHostRecord } from './host-record.js';
import type { HostRecord } from './message.js';

/**
 * A host record as a value of the host map. Little-endian: layout u8, id and start as two u32 each, incarnation u32,
 * then name, address, version, and the agents with their number (u16) before them; a text has a u16 length before it.
 * A later release appends; what follows the fields that are known here is skipped.
 */
const LAYOUT = 1;

const FIXED_BYTES = 21;
const TWO_POW_32 = 0x1_0000_0000;

const writer = new ByteWriter(512);

/** A value is immutable, so it is decoded once, and hosts that share the bytes (in the simulator) share the record. */
const decoded = new WeakMap<Uint8Array, HostRecord>();

export function encodeRecord(record: HostRecord): Uint8Array {
  writer.reset().u8(LAYOUT).u53(record.id).u53(record.startedMs).u32(record.incarnation);
  addText(record.name);
  addText(record.address);
  addText(record.version);
  writer.u16(record.agents.length);
  for (const agent of record.agents) addText(agent);
  const bytes = writer.copy();
  decoded.set(bytes, record);
  return bytes;
}

/** Undefined for what is no record. */
export function decodeRecord(bytes: Uint8Array): HostRecord | undefined {
  const known = decoded.get(bytes);
  if (known !== undefined) return known;
  const record = new RecordReader(bytes).read();
  if (record !== undefined) decoded.set(bytes, record);
  return record;
}

function addText(text: string): void {
  const bytes = Buffer.from(text);
  writer.u16(bytes.length).raw(bytes);
}

class RecordReader {
  private readonly bytes: Buffer;
  private at = FIXED_BYTES;
  private isWhole = true;

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  read(): HostRecord | undefined {
    const { bytes } = this;
    if (bytes.length < FIXED_BYTES || bytes[0] !== LAYOUT) return undefined;
    const id = bytes.readUInt32LE(1) + bytes.readUInt32LE(5) * TWO_POW_32;
    const startedMs = bytes.readUInt32LE(9) + bytes.readUInt32LE(13) * TWO_POW_32;
    const incarnation = bytes.readUInt32LE(17);
    const [name, address, version] = [this.text(), this.text(), this.text()];
    const count = this.u16();
    if (count > AGENTS_MAX) return undefined;
    const agents: string[] = [];
    for (let left = count; left > 0 && this.isWhole; left--) agents.push(this.text());
    const record: HostRecord = { id, incarnation, name, address, version, startedMs, agents };
    return this.isWhole && isHostRecord(record) ? record : undefined;
  }

  private u16(): number {
    if (this.at + 2 > this.bytes.length) return this.fail();
    this.at += 2;
    return this.bytes.readUInt16LE(this.at - 2);
  }

  private text(): string {
    const start = this.at + 2;
    const length = this.u16();
    const end = start + length;
    if (!this.isWhole || end > this.bytes.length) {
      this.fail();
      return '';
    }
    this.at = end;
    return this.bytes.toString('utf8', start, end);
  }

  private fail(): number {
    this.isWhole = false;
    return 0;
  }
}
