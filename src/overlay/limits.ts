/** Agents that one process may ever carry: what is known of their links and maps is kept until it ends. */
export const AGENTS_MAX = 64;

/** Names of agents and maps: they are parts of keys and travel in every message. */
const NAME = /^[a-z0-9._-]{1,64}$/;

/** UTF-16 units of a member's name. */
export const MEMBER_NAME_MAX = 128;

export const METADATA_BYTES_MAX = 4_096;

/** Members that one host may register under one agent. */
export const MEMBERS_PER_HOST_MAX = 256;

/** UTF-16 units of a key of a shared map. */
export const KEY_LENGTH_MAX = 256;

export const VALUE_BYTES_MAX = 16_384;

/** Members and entries of all maps of one agent, above which this host writes no new entries. */
export const ENTRIES_MAX = 32_768;

/** A stream packet of the underlay (1 MiB) less what stands around the bytes, the longest names included. */
export const MESSAGE_BYTES_MAX = 1_046_528;

/** What one link may hold unacknowledged, and all links of a host together; `full` above. */
export const LINK_BYTES_MAX = 4_194_304;
export const LINKS_BYTES_MAX = 67_108_864;

export function isName(name: string): boolean {
  return NAME.test(name);
}
