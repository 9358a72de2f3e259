import type { ByteReader, ByteWriter } from '../base/bytes.js';

/**
 * A route: messages that match `filter` go to `receiver`.
 *
 * A shard receiver means "this shard of this node has at least one live session subscribed to the filter";
 * the shard's own index knows which. An inbox receiver means a persistent session, online or not: it gets every
 * match whose effective QoS, min(published, options.qos), is 1 or 2, by INBOX_INSERT. QoS 0 reaches a persistent
 * session through the shard route that it holds while it is online.
 *
 * Key of a route: tenant, filter, group, ordered, receiver. Adding a route whose key exists replaces its options.
 */
export interface Route {
  /** Plain filter, without the `$share/group/` part. */
  filter: string;
  /** Shared group; '' for an ordinary subscription. */
  group: string;
  /** `$oshare`: one publisher's messages stay with one member. */
  ordered: boolean;
  receiver: Receiver;
  /** SUBSCRIBE options byte: bits 0-1 QoS, 2 no local, 3 retain as published, 4-5 retain handling. For inbox receivers. */
  options: number;
  /** Subscription identifier, 0 when none. For inbox receivers. */
  subscriptionId: number;
  /** Shard receivers in a shared group: how many live members that shard has. 0 otherwise. */
  members: number;
}

export type Receiver =
  | { readonly kind: 'shard'; readonly node: string; readonly shard: number }
  | { readonly kind: 'inbox'; readonly clientId: string };

const KIND_SHARD = 1;
const KIND_INBOX = 2;

export function writeRoute(writer: ByteWriter, route: Route): void {
  writer
    .text(route.filter)
    .text(route.group)
    .u8(route.ordered ? 1 : 0);
  const { receiver } = route;
  if (receiver.kind === 'shard') writer.u8(KIND_SHARD).text(receiver.node).u16(receiver.shard);
  else writer.u8(KIND_INBOX).text(receiver.clientId);
  writer.u8(route.options).u32(route.subscriptionId).u32(route.members);
}

export function readRoute(reader: ByteReader): Route {
  const filter = reader.text();
  const group = reader.text();
  const ordered = reader.u8() === 1;
  const receiver: Receiver =
    reader.u8() === KIND_SHARD
      ? { kind: 'shard', node: reader.text(), shard: reader.u16() }
      : { kind: 'inbox', clientId: reader.text() };
  const options = reader.u8();
  const subscriptionId = reader.u32();
  return { filter, group, ordered, receiver, options, subscriptionId, members: reader.u32() };
}

/** Per-route result in the replies of DIST_ADD and DIST_REMOVE. */
export const ROUTE_RESULT = {
  OK: 0,
  /** DIST_REMOVE: there was no such route. */
  NONE: 1,
  /** DIST_ADD: the group has limits.sharedGroupMembersMax members. */
  GROUP_FULL: 2,
} as const;
