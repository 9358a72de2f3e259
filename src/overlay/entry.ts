import type { Entry } from '../crdt/message.js';
import type { HostId } from '../underlay/message.js';
import { decodeEntry } from './codec.js';
import { isName, KEY_LENGTH_MAX, MEMBER_NAME_MAX } from './limits.js';

/** The map of members: its keys are `host/member`. No shared map has this name, nor that of the withdrawals. */
export const MEMBERS = '';

/** The map of what hosts have withdrawn lately, an entry each: see withdrawals.ts. Its keys are hosts. */
export const WITHDRAWN = '!';

/** One live write under a name of the replicated map. */
export interface Found {
  readonly stamp: number;
  readonly writer: HostId;
  /** The writer whose registration it is; 0: it belongs to nobody. */
  readonly owner: HostId;
  readonly bytes: Uint8Array;
}

/** What is seen under a name. */
export interface Visible extends Found {
  readonly map: string;
  readonly key: string;
}

/** Names in the replicated map are `map/key`. */
export function splitName(name: string): { readonly map: string; readonly key: string } {
  const at = name.indexOf('/');
  return { map: name.slice(0, Math.max(0, at)), key: name.slice(at + 1) };
}

export function keyOfHost(host: HostId): string {
  return host.toString(36);
}

export function memberKey(host: HostId, member: string): string {
  return `${keyOfHost(host)}/${member}`;
}

export function memberOfKey(key: string): string {
  return key.slice(key.indexOf('/') + 1);
}

/** Of concurrent writes the later one is seen; ids decide between equals, so that all agree. */
export function isLater(one: Found, other: Found): boolean {
  return one.stamp > other.stamp || (one.stamp === other.stamp && one.writer > other.writer);
}

/** The writes that are well-formed, and by somebody who may write under this name. */
export function readDots(name: string, dots: readonly Entry[]): Found[] {
  const found: Found[] = [];
  for (const { replica, value } of dots) {
    if (!isWriter(name, replica)) continue;
    const entry = decodeEntry(value);
    if (entry === undefined) continue;
    const { stamp, bytes, isOwned } = entry;
    if (isOwned || !isPersonal(name))
      found.push({ stamp, writer: replica, owner: isOwned ? replica : 0, bytes });
  }
  return found;
}

function isPersonal(name: string): boolean {
  return name.startsWith(`${MEMBERS}/`) || name.startsWith(`${WITHDRAWN}/`);
}

function isWriter(name: string, writer: HostId): boolean {
  const { map, key } = splitName(name);
  if (map === WITHDRAWN) return key === keyOfHost(writer);
  if (map !== MEMBERS) return isName(map) && key.length > 0 && key.length <= KEY_LENGTH_MAX;
  const host = keyOfHost(writer);
  return (
    key.startsWith(`${host}/`) &&
    key.length > host.length + 1 &&
    key.length <= host.length + 1 + MEMBER_NAME_MAX
  );
}
