/**
 * What the services say to each other, as frames.
 *
 * A frame is `u8 op, u32 callId, body`. A request with callId 0 wants no answer; an answer repeats the
 * request's callId under op REPLY. Pushes are requests in the other direction. The frames of one pair of
 * threads arrive in the order in which they were sent; every promise below about order stands on that.
 * Order is what keeps promises cheap: an invalidation sent before a reply is seen before it, a mark sent after an
 * insertion is durable only if the insertion is, and nobody numbers frames for it.
 *
 * A request is answered once, or its sender is told that the peer died (`Call.onLost`); it then does not know whether
 * the request was carried out, and asks again only what is safe to do twice. Nothing here has a time-out of its own:
 * a peer is alive or replaced.
 *
 * All integers are little-endian, texts are UTF-8 with a u32 length before them (`base/bytes`).
 * The module holds layouts only; what they mean is implemented in dist/, inbox/, retain/, session-dict/ and mqtt/.
 *
 * | op | from → to | request | reply |
 * | --- | --- | --- | --- |
 * | DIST_MATCH | mqtt → dist | tenant, topic | u8 STATUS, u32 n, n × Route |
 * | DIST_ADD | mqtt → dist | tenant, u32 n, n × Route | u8 STATUS, u32 n, n × u8 result; sent once every shard has dropped the cached topics that the filters match |
 * | DIST_REMOVE | mqtt → dist | tenant, u32 n, n × Route (its key counts) | u8 STATUS, u32 n, n × u8 result |
 * | DIST_INVALIDATE | dist → each mqtt | tenant, u32 n, n × filter | u8 STATUS |
 * | INBOX_ATTACH … | mqtt → inbox | see contract/inbox.ts | |
 * | RETAIN_SET, RETAIN_SCAN | mqtt → retain | see contract/retain.ts | |
 * | DICT_CLAIM, DICT_RELEASE | mqtt → main | see contract/session-dict.ts | |
 * | KV_OPEN … | main ↔ stores | see contract/kv-relay.ts | |
 */
export const OP = {
  REPLY: 1,

  DIST_MATCH: 10,
  DIST_ADD: 11,
  DIST_REMOVE: 12,
  DIST_INVALIDATE: 13,

  INBOX_ATTACH: 20,
  INBOX_DETACH: 21,
  INBOX_SUBSCRIBE: 22,
  INBOX_UNSUBSCRIBE: 23,
  INBOX_INSERT: 24,
  INBOX_PULL: 25,
  INBOX_ACKED: 26,
  INBOX_RECEIVED: 27,
  INBOX_RELEASED: 28,
  INBOX_SETTLED: 29,
  /** inbox → owner shard: messages within the granted credit. */
  INBOX_MESSAGES: 30,
  /** inbox → any mqtt shard: a will is due. Replied to when it has been published. */
  INBOX_WILL: 31,
  /** inbox → any mqtt shard: dist is to be told the routes of a session. Replied to when it has them. */
  INBOX_ROUTES: 32,

  RETAIN_SET: 40,
  RETAIN_SCAN: 41,

  DICT_CLAIM: 50,
  DICT_RELEASE: 51,
  /** main → owner shard: another connection has claimed this client id. Replied to when the session is let go. */
  DICT_KICK: 52,

  /** mqtt → mqtt: a message for the subscribers of the receiving shard. No reply. */
  SHARD_PUBLISH: 60,
  /** mqtt → mqtt: a message for one member of a shared group. Replied to with whether a member took it. */
  SHARD_SHARED: 61,
  /** main → mqtt: publish this as the broker itself: tenant, Message. No reply. */
  SHARD_ANNOUNCE: 62,

  KV_OPEN: 70,
  KV_STANDING: 71,
  KV_HEARD: 72,
  KV_PUBLISH: 73,
  KV_FRAME: 74,
  KV_CALL: 75,
  KV_CALL_EVENT: 76,
  KV_ANSWERS: 77,
  KV_CALLER: 78,
  KV_STEER: 79,
} as const;

/** First byte of every reply body. */
export const STATUS = {
  OK: 0,
  /** The named thing (inbox, instance) does not exist (any more). */
  GONE: 1,
  /** A configured limit forbids it. */
  LIMIT: 2,
  /** The store could not make it durable (disk full, I/O error): nothing was done. */
  UNAVAILABLE: 3,
} as const;
