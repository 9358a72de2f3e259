import { decodeHostRecord, encodeHostRecord } from './codec-parts.js';
import { isHostRecord } from './host-record.js';
import type { HostRecord } from './message.js';

/** A value of the host map is immutable, so it is decoded once; hosts that share bytes, as simulated ones do, share records. */
const known = new WeakMap<Uint8Array, HostRecord>();

export function encodeRecord(record: HostRecord): Uint8Array {
  const bytes = encodeHostRecord(record);
  known.set(bytes, record);
  return bytes;
}

/** Undefined for what is no record, or none that may be kept. */
export function decodeRecord(bytes: Uint8Array): HostRecord | undefined {
  const record = known.get(bytes) ?? decodeHostRecord(bytes);
  if (record === undefined || !isHostRecord(record)) return undefined;
  known.set(bytes, record);
  return record;
}
