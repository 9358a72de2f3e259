import { assert } from '../base/assert.js';
import { ServiceAnnouncement } from '../schema/gen/service-announcement.js';
import { ServiceAttribute } from '../schema/gen/service-attribute.js';
import { table } from './table.js';

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

const codec = table<Announcement>({
  write(builder, { id, address, groups, attributes, version, draining }) {
    const pairs = Object.entries(attributes).map(([name, value]) =>
      ServiceAttribute.createServiceAttribute(
        builder,
        builder.createString(name),
        builder.createString(value),
      ),
    );
    const names = groups.map(group => builder.createString(group));
    return ServiceAnnouncement.createServiceAnnouncement(
      builder,
      builder.createString(id),
      builder.createString(address),
      names.length === 0 ? 0 : ServiceAnnouncement.createGroupsVector(builder, names),
      pairs.length === 0 ? 0 : ServiceAnnouncement.createAttributesVector(builder, pairs),
      builder.createString(version),
      draining,
    );
  },

  read(buffer) {
    const found = ServiceAnnouncement.getRootAsServiceAnnouncement(buffer);
    const pairs = Array.from({ length: found.attributesLength() }, (_, at) => {
      const attribute = found.attributes(at);
      return [attribute?.name() ?? '', attribute?.value() ?? ''] as const;
    });
    const announcement = {
      id: found.id() ?? '',
      address: found.address() ?? '',
      groups: Array.from({ length: found.groupsLength() }, (_, at) => found.groups(at)),
      attributes: Object.fromEntries(pairs),
      version: found.version() ?? '',
      draining: found.draining(),
    };
    return isAnnouncement(announcement) ? announcement : undefined;
  },
});

/** Fresh bytes; `src/schema/rpc.fbs` has the layout. What breaks a limit asserts. */
export function encodeAnnouncement(announcement: Announcement): Uint8Array {
  assert(isAnnouncement(announcement), 'an announcement of our own is well-formed');
  const bytes = codec.encode(announcement);
  assert(
    bytes.length <= ANNOUNCEMENT_BYTES_MAX,
    `an announcement has at most ${ANNOUNCEMENT_BYTES_MAX} bytes`,
  );
  return bytes;
}

/** Undefined for what is none. Never throws. */
export function decodeAnnouncement(bytes: Uint8Array): Announcement | undefined {
  return bytes.length > ANNOUNCEMENT_BYTES_MAX ? undefined : codec.decode(bytes);
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
