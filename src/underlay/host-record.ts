import type { HostRecord } from './message.js';

/** Bytes of UTF-16 units of a name, version or agent; what is longer is no record of ours. */
const NAME_UNITS_MAX = 255;
const ADDRESS_UNITS_MAX = 280;
export const AGENTS_MAX = 64;

/** As the wire has it (32 bits), less some room so that a refutation can always answer with one more. */
export const INCARNATION_MAX = 0xffff_0000;

/** Leaves room for a host that has to outlive a liar's claim. */
export const STARTED_MS_MAX = 2 ** 52;

/** Only the host itself raises its incarnation, by one; a leap is a lie, and believing it would use the numbers up. */
const LEAP_MAX = 65_536;

export function isLeap(incarnation: number, known: number): boolean {
  return incarnation > known + LEAP_MAX;
}

/** Whether a host id may be one. */
export function isHostId(id: number): boolean {
  return Number.isSafeInteger(id) && id > 0;
}

export function isIncarnation(incarnation: number): boolean {
  return Number.isInteger(incarnation) && incarnation >= 0 && incarnation <= INCARNATION_MAX;
}

/** What comes from outside is bounded before it is kept. */
export function isHostRecord(record: HostRecord): boolean {
  if (!isHostId(record.id) || !isIncarnation(record.incarnation)) return false;
  if (!(record.startedMs >= 0 && record.startedMs <= STARTED_MS_MAX)) return false;
  if (!isText(record.name, NAME_UNITS_MAX) || !isText(record.version, NAME_UNITS_MAX)) return false;
  if (!isText(record.address, ADDRESS_UNITS_MAX) || record.address.length === 0) return false;
  const { agents } = record;
  if (!Array.isArray(agents) || agents.length > AGENTS_MAX) return false;
  for (const agent of agents) if (!isText(agent, NAME_UNITS_MAX)) return false;
  return true;
}

/** Of two hosts at one address the later one lives; ids decide between equals, so that all agree. */
export function isLater(record: HostRecord, other: HostRecord): boolean {
  return record.startedMs === other.startedMs ? record.id > other.id : record.startedMs > other.startedMs;
}

function isText(text: unknown, unitsMax: number): boolean {
  return typeof text === 'string' && text.length <= unitsMax;
}
