/**
 * Persistent sessions. An inbox is (tenant, client id); an `instance` (u53, never reused) is one life of it, from
 * creation to clean start or expiry. Frames that name an instance that is no more are answered GONE, or ignored
 * when they want no answer.
 *
 * Queue: QoS 1 and 2 messages in the order of their sequence numbers (u53, from 1). The packet id of a queued
 * message is `(seq - 1) % 65535 + 1`, so it survives reconnects and crashes without being stored; the owner keeps
 * less than 65,535 between the oldest message not finished and the newest sent.
 *
 * INBOX_ATTACH       request: tenant, client id, u8 cleanStart, u32 expirySeconds (0xFFFFFFFF never), u53 nowMs,
 *                             u16 owner shard, u32 owner connection, u8 hasWill, [Will]
 *                    reply:   u8 STATUS, u53 instance, u8 sessionPresent, u32 n, n × Subscription (now in force),
 *                             u32 r, r × u16 received packet ids (QoS 2 from the client, not released),
 *                             u53 nextSeq, u53 sentSeq (messages up to it are sent with DUP; kept by DETACH, and
 *                             nextSeq - 1 after a crash while attached), u32 p, p × u53 seqs with PUBREC received
 *                             (PUBREL owed), ascending
 *                    expirySeconds 0 never creates a session: with cleanStart the old one is ended, without it an
 *                    existing one is attached and ends at DETACH; where none exists the reply has instance 0, and
 *                    nothing is stored. The reply comes when dist has no route that an ended session left, and, of one
 *                    that goes on, the routes that its subscriptions say.
 *                    An expired session counts as absent. The owner then PULLs. The connection stays attached until
 *                    DETACH; an ATTACH by another owner replaces it (session-dict has kicked the former one).
 * INBOX_DETACH       request: u53 instance, u32 owner connection, u32 expirySeconds, u53 nowMs, u8 will (0 keep and start its
 *                             delay, 1 discard), u53 sentSeq (highest seq ever sent to the client); expirySeconds 0 ends the session now
 *                    reply:   u8 STATUS
 *                    A will that is kept fires at now + min(delay, expiry) as INBOX_WILL; attached again before
 *                    that, it is discarded [MQTT-3.1.3-9]. At start of the store all sessions still marked attached
 *                    are detached, their wills kept.
 * INBOX_SUBSCRIBE    request: u53 instance, u32 n, n × Subscription
 *                    reply:   u8 STATUS, u32 n, n × u8 (1: there was a subscription with that filter, 0: new),
 *                             u32 change: its number; 0 when nothing is other than before. Only then dist is told of
 *                             the inbox's routes, in the order of the changes, and then this store: INBOX_SETTLED.
 * INBOX_UNSUBSCRIBE  request: u53 instance, u32 n, n × text filter (as subscribed, with $share/…)
 *                    reply:   u8 STATUS, u32 n, n × u8 (1: existed), u32 change, as above
 * INBOX_INSERT       request: tenant, u53 source instance (0 none), u16 source packet id (0 none), u53 nowMs, Message,
 *                             u32 n, n × Target
 *                    reply:   u8 STATUS, u32 n, n × u8 INSERT_RESULT; sent when durable
 *                    With a source (a QoS 2 publisher with a persistent session): the packet id is marked received
 *                    in the same transaction; if it was marked before, nothing is inserted (all results DUPLICATE).
 *                    n may be 0: then only the mark is made.
 * INBOX_PULL         request (no reply): u53 instance, u53 fromSeq (0: go on where the last push ended), u32 credit
 *                    grants `credit` more messages; pushes follow as INBOX_MESSAGES, now and when messages come.
 * INBOX_MESSAGES     push: u53 instance, u32 owner connection, u32 n, n × Queued; only what is durable, in order.
 * INBOX_ACKED        request (no reply): u53 instance, u32 n, n × u53 seq: finished (PUBACK, PUBCOMP, or dropped by
 *                    the owner as expired or too large): removed; need not be durable before anything.
 * INBOX_RECEIVED     request: u53 instance, u32 n, n × u53 seq: PUBREC came; the message's body may go, the seq stays
 *                    until ACKED. reply: u8 STATUS when durable.
 * INBOX_SETTLED      request (no reply): u53 instance, u32 change: dist has the routes of that change durably. What is
 *                    not settled when the owner detaches or dies is made good by INBOX_ROUTES.
 * INBOX_RELEASED     request: u53 instance, u16 packet id: PUBREL came from the publisher; the mark goes.
 *                    reply: u8 STATUS when durable.
 * INBOX_WILL         push: tenant, client id, u53 instance, Message; reply when published, then the will is deleted.
 * INBOX_ROUTES       push: tenant, client id, u53 instance, u32 m, m × text filter (as subscribed: routes to remove),
 *                    u32 k, k × Subscription (routes to add or replace); reply when dist has them so, durably, or
 *                    UNAVAILABLE: then it is asked again. Nobody is attached to the session until then.
 *
 * Subscription: text filter (as subscribed), u8 options, u32 subscription id (0 none).
 * Will:         u32 delaySeconds, Message.
 * Target:       text client id, u8 effective QoS, u8 flags (bit 0: RETAIN flag to be set on delivery),
 *               u8 s, s × u32 subscription ids.
 * Queued:       u53 seq, u8 effective QoS, u8 flags (bit 0 retain), u8 s, s × u32 subscription ids, Message.
 */
import type { ByteReader, ByteWriter } from '../base/bytes.js';

export const INSERT_RESULT = {
  QUEUED: 0,
  /** No such inbox (expired or cleaned): the route that led here is stale. */
  GONE: 1,
  /** The queue is full and the policy drops the newest. */
  DROPPED_NEWEST: 2,
  /** Queued, and the oldest was dropped for it. */
  DROPPED_OLDEST: 3,
  /** The source packet id had been received before; nothing was inserted. */
  DUPLICATE: 4,
} as const;

export interface Subscription {
  filter: string;
  options: number;
  subscriptionId: number;
}

export function writeSubscription(writer: ByteWriter, subscription: Subscription): void {
  writer.text(subscription.filter).u8(subscription.options).u32(subscription.subscriptionId);
}

export function readSubscription(reader: ByteReader): Subscription {
  return { filter: reader.text(), options: reader.u8(), subscriptionId: reader.u32() };
}
