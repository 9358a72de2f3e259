import { assert } from '../base/assert.js';
import { ServiceAnnouncement } from '../schema/gen/service-announcement.js';
import { ServiceAttribute } from '../schema/gen/service-attribute.js';
import { CheckedBuffer, MessageBuilder } from '../schema/schema.js';

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
export const ATTRIBUTES_MAX = 32;
const ADDRESS_LENGTH_MAX = 256;
const VERSION_LENGTH_MAX = 64;

const builder = new MessageBuilder(512);
const buffer = new CheckedBuffer();

/** Fresh bytes; `src/schema/rpc.fbs` has the layout. What breaks a limit asserts. */
export function encodeAnnouncement(announcement: Announcement): Uint8Array {
  assert(isAnnouncement(announcement), 'an announcement of our own is well-formed');
  builder.clear();
  const attributes = Object.entries(announcement.attributes).map(([name, value]) =>
    ServiceAttribute.createServiceAttribute(builder, builder.createString(name), builder.createString(value)),
  );
  const groups = announcement.groups.map(group => builder.createString(group));
  const root = ServiceAnnouncement.createServiceAnnouncement(
    builder,
    builder.createString(announcement.id),
    builder.createString(announcement.address),
    groups.length === 0 ? 0 : ServiceAnnouncement.createGroupsVector(builder, groups),
    attributes.length === 0 ? 0 : ServiceAnnouncement.createAttributesVector(builder, attributes),
    builder.createString(announcement.version),
    announcement.draining,
  );
  builder.finish(root);
  const bytes = builder.asUint8Array().slice();
  assert(
    bytes.length <= ANNOUNCEMENT_BYTES_MAX,
    `an announcement has at most ${ANNOUNCEMENT_BYTES_MAX} bytes`,
  );
  return bytes;
}

/** Undefined for what is none. Never throws. */
export function decodeAnnouncement(bytes: Uint8Array): Announcement | undefined {
  if (bytes.length > ANNOUNCEMENT_BYTES_MAX) return undefined;
  const announcement = buffer.read(bytes, readAnnouncement);
  return announcement !== undefined && isAnnouncement(announcement) ? announcement : undefined;
}

function readAnnouncement(): Announcement {
  const table = ServiceAnnouncement.getRootAsServiceAnnouncement(buffer);
  const groups = Array.from({ length: table.groupsLength() }, (_, at) => table.groups(at));
  const attributes = Array.from({ length: table.attributesLength() }, (_, at) => {
    const attribute = table.attributes(at);
    return [attribute?.name() ?? '', attribute?.value() ?? ''] as const;
  });
  return {
    id: table.id() ?? '',
    address: table.address() ?? '',
    groups,
    attributes: Object.fromEntries(attributes),
    version: table.version() ?? '',
    draining: table.draining(),
  };
}

/** A group is named by 1 to 32 of `a-z 0-9 _ -`. */
export function isGroup(name: string): boolean {
  return /^[a-z0-9_-]{1,32}$/.test(name);
}

function isAnnouncement({ id, address, groups, attributes, version }: Announcement): boolean {
  return (
    isText(id, 1, SERVER_ID_LENGTH_MAX) &&
    isText(address, 1, ADDRESS_LENGTH_MAX) &&
    groups.length <= GROUPS_MAX &&
    groups.every(isGroup) &&
    Object.keys(attributes).length <= ATTRIBUTES_MAX &&
    isText(version, 0, VERSION_LENGTH_MAX)
  );
}

function isText(text: string, lengthMin: number, lengthMax: number): boolean {
  return text.length >= lengthMin && text.length <= lengthMax;
}
