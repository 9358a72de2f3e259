import { assert } from '../base/assert.js';

/** What a server says of itself, as the metadata of its membership. */
export interface Announcement {
  /** Unique in its service and for this run of the process; also its member name. */
  readonly id: string;
  /** Where its transport answers, `host:port`. */
  readonly address: string;
  /** Empty: it is in the untagged group. */
  readonly groups: readonly string[];
  readonly attributes: Readonly<Record<string, string>>;
  readonly version: string;
  /** It takes no new work and will be gone soon. */
  readonly draining: boolean;
}

/** Below what an agent takes as metadata. */
export const ANNOUNCEMENT_BYTES_MAX = 2_048;
export const SERVER_ID_LENGTH_MAX = 64;
export const GROUPS_MAX = 16;
export const GROUP_LENGTH_MAX = 32;

/** JSON: read by people in `shoalmq services`, written once per start, and either side may know more keys. */
export function encodeAnnouncement(announcement: Announcement): Uint8Array {
  const bytes = Buffer.from(JSON.stringify(announcement), 'utf8');
  assert(isAnnouncement(announcement), 'an announcement of our own is well-formed');
  assert(
    bytes.length <= ANNOUNCEMENT_BYTES_MAX,
    `an announcement has at most ${ANNOUNCEMENT_BYTES_MAX} bytes`,
  );
  return bytes;
}

/** Undefined for what is none. */
export function decodeAnnouncement(bytes: Uint8Array): Announcement | undefined {
  if (bytes.length > ANNOUNCEMENT_BYTES_MAX) return undefined;
  const value = parseJson(bytes);
  if (!isAnnouncement(value)) return undefined;
  const { id, address, groups, attributes, version, draining } = value;
  return { id, address, groups, attributes, version, draining };
}

/** Undefined for what is no JSON. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8'));
  } catch {
    return undefined;
  }
}

/** A group is named by 1 to 32 of `a-z 0-9 _ -`. */
export function isGroup(value: unknown): value is string {
  return typeof value === 'string' && /^[a-z0-9_-]{1,32}$/.test(value);
}

function isAnnouncement(value: unknown): value is Announcement {
  if (typeof value !== 'object' || value === null) return false;
  const { id, address, groups, attributes, version, draining } = value as Partial<Announcement>;
  return (
    isText(id, 1, SERVER_ID_LENGTH_MAX) &&
    isText(address, 1, 256) &&
    Array.isArray(groups) &&
    groups.length <= GROUPS_MAX &&
    groups.every(isGroup) &&
    typeof attributes === 'object' &&
    attributes !== null &&
    Object.values(attributes).every(attribute => typeof attribute === 'string') &&
    isText(version, 0, 64) &&
    typeof draining === 'boolean'
  );
}

function isText(value: unknown, lengthMin: number, lengthMax: number): value is string {
  return typeof value === 'string' && value.length >= lengthMin && value.length <= lengthMax;
}
