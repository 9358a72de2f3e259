/**
 * Room `mqtt`: from a client's bytes to what they mean, and back. One `Shard` per mqtt thread owns its connections
 * and sessions whole; nothing here is shared between threads, they talk in frames (contract/contract.ts).
 *
 * From the socket inwards: transport.ts, io/ (bytes), receive-memory.ts (where they lie, for a turn), admission.ts (how
 * many) · connection.ts (order, time, holds) with codec/ · connect.ts, departure.ts, reauthentication.ts (how a session
 * begins and ends) · session.ts with window.ts, outlet.ts, retained-feed.ts (what is owed to a client) · publisher.ts
 * (the order of one source) · router.ts, local-routes.ts, shared-router.ts, shared-group.ts, subscribing.ts (who
 * receives) · sender.ts, outbox.ts (packets, one write a turn).
 *
 * The way of a PUBLISH. `Session.onPublish` fills the shard's one `Publication` and submits it. Is nothing of this
 * publisher pending and the topic routed, it is dispatched and acknowledged in this call, and the object is filled
 * anew. Else it is kept: `Publisher` dispatches its messages in order as topics become routed, and acknowledges them
 * in order as their `waits` become 0. A wait is a frame whose answer must come first: INBOX_INSERT, RETAIN_SET of
 * QoS 1 and 2, an offer to a shared group on another shard. SHARD_PUBLISH is not waited for: it is on the ring,
 * in order, and only transient sessions depend on it.
 *
 * Acknowledgement. No PUBACK or PUBREC before everything waited for has answered OK. A store that died with a message
 * leaves unknown whether it has it, so the publisher's connection is closed instead, and it sends again. QoS 2 of a
 * publisher whose session persists is marked received in the same transaction as the inserts; where other shards have
 * to be asked first (a shared group), the mark follows them, so a crash in between can repeat a message, never lose it.
 *
 * Receivers. `Topic` remembers what dist answered (`routed`) and this shard's own subscriptions (`resolved`).
 * DIST_INVALIDATE clears `routed`; answers and invalidations share one ring, so an answer that is older than a change
 * is always followed by its invalidation. SUBACK waits for DIST_ADD, whose reply waits for every shard's word that it
 * has forgotten: a PUBLISH sent after a SUBACK finds the subscription, on whatever shard. An evicted `Topic` hears of
 * no change, so it is looked up anew for each message.
 *
 * Persistent sessions live in the inbox. QoS 1 and 2 reach them only through it, in the order of their sequence
 * numbers, by `Outlet`; the packet id follows from the number, so what is sent again has its old id. QoS 0 comes by
 * the shard route that the session holds while it is connected; before CONNACK it is in no index.
 *
 * One owner. CONNECT claims the client id of session-dict before it attaches the inbox, and lets go of it only after
 * the DETACH was answered, also when the client goes in the middle of it (`Connect.abandon`). A kick for a connection
 * that is leaving is answered when it has left. So two connections never have a session at once.
 *
 * Shared groups. The origin draws a shard by its live members, there the next member with room takes the message; a
 * shard without says so and the next is asked; when none has room, the first queues. `$oshare` goes by the highest
 * random weight of source and member instead. What a transient member leaves unacknowledged goes to another, but not
 * QoS 2 that was sent already [MQTT-4.8.2-5].
 *
 * When a thread dies its rings are fresh. Calls to it end in `onLost`; answers owed to it are dropped (`Caller.reply`
 * knows which life asked). Match: routes are told again, all topics matched again. Apply: persistent sessions and
 * publishers that wait are closed. Another shard: its members and routes go, offers move on.
 *
 * Bounds. In: reading stops (holds of `Connection`) while a publisher has `pendingPublishMax`, a ring is full, 64
 * controls are under way, or the client does not read what its own packets cause. Out: `connectionBufferBytesMax` a
 * connection; above it QoS 0 is dropped and counted, QoS 1 and 2 wait in a queue of `queueMessagesMax`; retained
 * messages come page by page as the receiver takes them. `topicCacheEntriesMax` topics are remembered a tenant.
 *
 * Lenient on purpose. MQTT 3.1 ends client ids at 23 bytes and refuses longer ones with 0x02 (its section 3.1); here
 * they may have `clientIdBytesMax` in all versions, as later ones allow, for nothing is gained by sending such a client
 * away. What MQTT 3.1 calls unused in fixed headers and connect flags is not looked at, as it says.
 *
 * Differences from BifroMQ. Subscribing is never behind the SUBACK (there caches expire by time). No thread serves a
 * connection for another, and no queue lies between decode and delivery. One handler for all versions of MQTT instead
 * of one a version. A newcomer waits until the former owner of its client id has gone.
 */
import type { Env } from '../base/env.js';
import type { CounterBlock } from '../base/metrics.js';
import type { Authenticator, Authorizer } from '../plugin/plugin.js';
import type { HashKeys } from '../topic/hash.js';
import type { Wire } from './caller.js';
import type { Links } from './router.js';

/** The settings that the data path obeys; the meaning and the bounds of each are in the configuration's schema. */
export interface Limits {
  readonly packetBytesMax: number;
  readonly connectBytesMax: number;
  readonly connectTimeoutMs: number;
  readonly keepAliveSecondsMax: number;
  readonly keepAliveSecondsDefault: number;
  readonly clientIdBytesMax: number;
  readonly topicBytesMax: number;
  readonly topicLevelsMax: number;
  readonly topicLevelBytesMax: number;
  readonly subscriptionsPerSessionMax: number;
  readonly filtersPerSubscribeMax: number;
  readonly inflightInboundMax: number;
  readonly inflightOutboundMax: number;
  readonly topicAliasMax: number;
  readonly qosMax: number;
  readonly sessionExpirySecondsMax: number;
  readonly queueMessagesMax: number;
  readonly queueBytesMax: number;
  readonly queueDropPolicy: 'newest' | 'oldest';
  readonly connectionBufferBytesMax: number;
  readonly pendingPublishMax: number;
  readonly pendingPublishBytesMax: number;
  readonly willBytesMax: number;
  readonly topicCacheEntriesMax: number;
}

/** What is served at all. */
export interface Features {
  readonly mqtt31: boolean;
  readonly mqtt311: boolean;
  readonly mqtt5: boolean;
  readonly retain: boolean;
  readonly wildcards: boolean;
  readonly sharedSubscriptions: boolean;
  readonly subscriptionIdentifiers: boolean;
}

/** What a shard is given. */
export interface ShardOptions {
  readonly env: Env;
  readonly limits: Limits;
  readonly features: Features;
  readonly links: Links;
  readonly wire: Wire;
  readonly counters: CounterBlock;
  readonly keys: HashKeys;
  readonly authenticator: Authenticator;
  readonly authorizer: Authorizer;
  /** One CONNECT of this second's, in the whole node; false when they are used up. */
  readonly takeConnect: () => boolean;
  /** Asks for `flushTurn` at the end of the turn; may be called often. */
  readonly schedule: () => void;
}
