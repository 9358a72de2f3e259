import { TopicEntry, TopicTable } from '../topic/cache.js';
import type { HashKeys } from '../topic/hash.js';
import { TopicTrie } from '../topic/trie.js';
import type { LocalRoute } from './local-routes.js';
import type { Outlet } from './outlet.js';
import type { Publisher } from './publisher.js';
import type { Session } from './session.js';
import type { LocalGroup, TopicGroup } from './shared-group.js';

/** One filter of one live session; or, with `parts`, several filters of it that match the same topic. */
export class Subscription {
  readonly session: Session;
  /** As subscribed, with `$share/…`. */
  readonly filter: string;
  readonly qos: number;
  readonly noLocal: boolean;
  readonly retainAsPublished: boolean;
  /** Subscription identifiers, ascending by subscription; null when there are none. */
  readonly ids: readonly number[] | null;
  readonly group: LocalGroup | null;
  readonly parts: readonly Subscription[] | null;

  constructor(
    session: Session,
    filter: string,
    options: number,
    ids: readonly number[] | null,
    group: LocalGroup | null,
    parts: readonly Subscription[] | null,
  ) {
    this.session = session;
    this.filter = filter;
    this.qos = options & 3;
    this.noLocal = (options & 4) !== 0;
    this.retainAsPublished = (options & 8) !== 0;
    this.ids = ids;
    this.group = group;
    this.parts = parts;
  }

  /** The options byte as SUBSCRIBE has it, less retain handling. */
  get options(): number {
    return this.qos | (this.noLocal ? 4 : 0) | (this.retainAsPublished ? 8 : 0);
  }
}

/**
 * Several subscriptions of one session that match one message, as one: the highest QoS, all identifiers
 * [MQTT-3.3.4-2], [MQTT-3.3.4-4]. No local holds only if it holds for all of them.
 */
export function merge(parts: readonly Subscription[]): Subscription {
  let qos = 0;
  let noLocal = 4;
  let retainAsPublished = 0;
  const ids: number[] = [];
  for (const part of parts) {
    if (part.qos > qos) qos = part.qos;
    if (!part.noLocal) noLocal = 0;
    if (part.retainAsPublished) retainAsPublished = 8;
    if (part.ids !== null) ids.push(...part.ids);
  }
  const options = qos | noLocal | retainAsPublished;
  return new Subscription(parts[0]!.session, '', options, ids.length > 0 ? ids : null, null, parts);
}

/** A persistent session among the receivers of a topic. */
export interface InboxTarget {
  readonly clientId: string;
  /** Wall clock when it was first found gone, milliseconds; 0 when it was not. */
  goneAtMs: number;
  /** One per filter that matches. */
  readonly parts: { readonly options: number; readonly id: number; readonly filter: string }[];
  /** Of the member that was chosen for its room, which the message takes from now on; else null. */
  readonly outlet: Outlet | null;
}

export function inboxTarget(
  clientId: string,
  parts: InboxTarget['parts'],
  outlet: Outlet | null = null,
): InboxTarget {
  return { clientId, goneAtMs: 0, parts, outlet };
}

/** A topic and who receives it: what dist answered, and this shard's own sessions. */
export class Topic extends TopicEntry {
  readonly tenant: Tenant;
  readonly name: string;
  /** Only the broker itself publishes there. */
  readonly isReserved: boolean;
  /** What dist answered is still in force. */
  routed = false;
  /** Dist has been asked. */
  matching = false;
  /** Where its name was last seen in the shard's receive memory, and on which page of it. */
  seenAt = 0;
  seenPage = -1;
  /** Publishers that wait for the answer. */
  waiting: Publisher[] = [];
  /** Other shards of this node with live subscribers, as mesh peers. */
  shards: readonly number[] = NONE;
  inboxes: readonly InboxTarget[] = NONE;
  groups: readonly TopicGroup[] = NONE;
  /** `locals` is still in force. */
  resolved = false;
  /** This shard's ordinary subscriptions that match, one per session. */
  locals: readonly Subscription[] = NONE;

  constructor(tenant: Tenant, name: string) {
    super();
    this.tenant = tenant;
    this.name = name;
    this.isReserved = isReserved(name);
  }
}

const NONE: readonly never[] = [];

/** All that a shard knows of one tenant. Nothing is shared between tenants. */
export class Tenant {
  readonly name: string;
  readonly topics: TopicTable<Topic>;
  /** Ordinary subscriptions of this shard's sessions, by filter. */
  readonly index: TopicTrie<Subscription>;
  /** What this shard has told dist, by filter (and group). */
  readonly routes = new Map<string, LocalRoute>();
  /** Shared groups with members on this shard. */
  readonly groups = new Map<string, LocalGroup>();
  /** Connected sessions by client id. */
  readonly sessions = new Map<string, Session>();

  constructor(name: string, keys: HashKeys, topicCacheEntriesMax: number) {
    this.name = name;
    this.topics = new TopicTable(keys, topicCacheEntriesMax);
    this.index = new TopicTrie(keys);
  }
}

/** `$SYS/…` says what the broker says; a client that wrote there could lie to those who watch it. */
export function isReserved(topic: string): boolean {
  return topic.startsWith('$SYS/');
}
