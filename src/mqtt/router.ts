import type { ByteReader, ByteWriter } from '../base/bytes.js';
import { type CounterBlock, DROP, DROPS, MATCH_INVALIDATIONS, SHARD_HOPS } from '../base/metrics.js';
import { OP, STATUS } from '../contract/contract.js';
import { type Route, readRoute } from '../contract/dist.js';
import { INSERT_RESULT } from '../contract/inbox.js';
import { Message, writeMessage } from '../contract/message.js';
import type { HashKeys } from '../topic/hash.js';
import { type Call, type Caller, callback } from './caller.js';
import { groupKey, LocalRoutes } from './local-routes.js';
import type { Outlet } from './outlet.js';
import type { Publication } from './publication.js';
import type { Publisher, Source } from './publisher.js';
import { TopicGroup } from './shared-group.js';
import { SharedRouter } from './shared-router.js';
import { type InboxTarget, inboxTarget, merge, type Subscription, Tenant, Topic } from './tenant.js';

/** Where the services are, as mesh peers, and who we are. */
export interface Links {
  readonly node: string;
  /** This shard's number. */
  readonly shard: number;
  /** The mesh peer of each mqtt shard, by shard number. */
  readonly shards: readonly number[];
  readonly main: number;
  readonly dist: number;
  readonly inbox: number;
  readonly retain: number;
}

/**
 * From a publication to its receivers: finds the topic's receivers (asking dist once and remembering), and hands
 * the message to this shard's sessions, to other shards, to inboxes, to shared groups and to the retained store.
 */
export class Router {
  readonly links: Links;
  readonly caller: Caller;
  readonly counters: CounterBlock;
  private readonly unwaited: UnwaitedRetain;
  readonly routes: LocalRoutes;
  readonly shared: SharedRouter;
  private readonly keys: HashKeys;
  private readonly cacheEntriesMax: number;
  private readonly tenants = new Map<string, Tenant>();
  private readonly message = new Message();
  private readonly found: Subscription[] = [];
  private readonly stale: Topic[] = [];
  /** Persistent members that shared groups chose for the message being dispatched. */
  private readonly chosen: InboxTarget[] = [];
  private groupsMade = 0;
  private readonly nowMs: () => number;

  constructor(
    links: Links,
    caller: Caller,
    counters: CounterBlock,
    keys: HashKeys,
    cacheEntriesMax: number,
    nowMs: () => number,
  ) {
    this.links = links;
    this.caller = caller;
    this.counters = counters;
    this.unwaited = new UnwaitedRetain(counters);
    this.keys = keys;
    this.cacheEntriesMax = cacheEntriesMax;
    this.nowMs = nowMs;
    this.routes = new LocalRoutes(caller, links.dist, links.node, links.shard);
    this.shared = new SharedRouter(this);
  }

  tenant(name: string): Tenant {
    let tenant = this.tenants.get(name);
    if (tenant === undefined) {
      tenant = new Tenant(name, this.keys, this.cacheEntriesMax);
      this.tenants.set(name, tenant);
    }
    return tenant;
  }

  get allTenants(): Iterable<Tenant> {
    return this.tenants.values();
  }

  /** The topic's entry; made on first sight. The bytes are a checked topic name. */
  topicOf(tenant: Tenant, bytes: Buffer, start: number, end: number): Topic {
    const found = tenant.topics.find(bytes, start, end);
    if (found !== undefined) return found;
    const topic = new Topic(tenant, bytes.toString('utf8', start, end));
    tenant.topics.insert(bytes, start, end, topic);
    return topic;
  }

  // -- who receives a topic ----------------------------------------------------------------------------------

  /** Asks dist for the topic's receivers; `publisher` goes on when they are known. */
  match(topic: Topic, publisher: Publisher): void {
    if (!topic.waiting.includes(publisher)) topic.waiting.push(publisher);
    if (topic.matching) return;
    topic.matching = true;
    this.askDist(topic);
  }

  private askDist(topic: Topic): void {
    const call = callback(
      (status, body) => this.onMatched(topic, status, body),
      () => this.askDist(topic),
    );
    this.caller.begin(OP.DIST_MATCH, call).text(topic.tenant.name).text(topic.name);
    this.caller.send(this.links.dist);
  }

  private onMatched(topic: Topic, status: number, body: ByteReader): void {
    topic.matching = false;
    const routes: Route[] = [];
    const count = status === STATUS.OK ? body.u32() : 0;
    for (let i = 0; i < count; i++) routes.push(readRoute(body));
    this.setRoutes(topic, routes);
    topic.routed = true;
    for (const publisher of topic.waiting.splice(0)) publisher.advance();
    // Evicted meanwhile: no invalidation reaches it any more, so it must not be trusted later.
    if (topic.slot < 0) topic.routed = false;
  }

  private setRoutes(topic: Topic, routes: readonly Route[]): void {
    const shards: number[] = [];
    const inboxes = new Map<string, InboxTarget>();
    const groups = new Map<string, TopicGroup>();
    for (const route of routes) {
      const { receiver, options, subscriptionId: id } = route;
      if (route.group !== '') {
        const key = groupKey(route.group, route.ordered, route.filter);
        let group = groups.get(key);
        if (group === undefined)
          groups.set(key, (group = new TopicGroup(key, route.ordered, this.groupsMade++)));
        if (receiver.kind === 'inbox')
          group.inboxes.push(inboxTarget(receiver.clientId, [{ options, id, filter: route.filter }]));
        else group.shards.push({ peer: this.links.shards[receiver.shard]!, members: route.members });
      } else if (receiver.kind === 'inbox') {
        let inbox = inboxes.get(receiver.clientId);
        if (inbox === undefined) inboxes.set(receiver.clientId, (inbox = inboxTarget(receiver.clientId, [])));
        inbox.parts.push({ options, id, filter: route.filter });
      } else if (receiver.shard !== this.links.shard) {
        const peer = this.links.shards[receiver.shard]!;
        if (!shards.includes(peer)) shards.push(peer);
      }
    }
    topic.shards = shards;
    topic.inboxes = [...inboxes.values()];
    topic.groups = [...groups.values()];
  }

  /** A route changed somewhere: topics that the filter matches are asked for anew. */
  invalidate(tenant: Tenant, filter: string): void {
    const { stale } = this;
    tenant.topics.collect(filter, stale);
    for (const topic of stale) topic.routed = topic.resolved = false;
    this.counters.values[MATCH_INVALIDATIONS]! += stale.length;
    stale.length = 0;
  }

  /** A local subscription changed: who of this shard receives those topics is looked up anew. */
  invalidateLocals(tenant: Tenant, filter: string): void {
    const { stale } = this;
    tenant.topics.collect(filter, stale);
    for (const topic of stale) topic.resolved = false;
    stale.length = 0;
  }

  /** Dist's thread was replaced: what it knew when it answered may have changed unheard. */
  invalidateAll(): void {
    for (const tenant of this.tenants.values()) {
      this.invalidate(tenant, '#');
      tenant.topics.clear(); // also what begins with `$`, which no one filter matches
    }
  }

  private resolve(topic: Topic): void {
    const { found } = this;
    topic.tenant.index.matchBytes(topic.topicBytes, 0, topic.topicBytes.length, found);
    if (found.length < 2) {
      topic.locals = found.slice();
    } else {
      const bySession = new Map<object, Subscription[]>();
      for (const subscription of found) {
        const parts = bySession.get(subscription.session);
        if (parts === undefined) bySession.set(subscription.session, [subscription]);
        else parts.push(subscription);
      }
      const locals: Subscription[] = [];
      for (const parts of bySession.values()) locals.push(parts.length === 1 ? parts[0]! : merge(parts));
      topic.locals = locals;
    }
    topic.resolved = true;
    found.length = 0;
  }

  // -- dispatch ----------------------------------------------------------------------------------------------

  /** Hands a message to all who receive it. Its topic is routed. What must be awaited is counted in `waits`. */
  dispatch(publication: Publication, publisher: Source): void {
    const topic = publication.topic!;
    const only = publication.onlyGroup;
    if (only !== null) {
      const group = topic.groups.find(({ key }) => key === only);
      publication.dispatched = true;
      if (group !== undefined) this.shared.deliver(publication, group, publisher);
      return;
    }
    this.deliverLocals(publication, topic, publisher);
    if (topic.shards.length > 0) this.forward(publication, topic);
    // The groups choose first: a QoS 2 message is inserted everywhere, and marked received, in one transaction.
    for (const group of topic.groups) this.shared.deliver(publication, group, publisher);
    publication.dispatched = true;
    publication.marksLater = publication.markInstance !== 0 && publication.waits > 0;
    // RETAIN_SET before the mark, on the same ring.
    if (publication.retain) this.setRetained(publication, topic, publisher);
    if (topic.inboxes.length > 0 || this.chosen.length > 0 || publication.markInstance !== 0)
      this.insertAll(publication, topic, publisher);
    if (publication.receivers === 0) this.counters.values[DROPS + DROP.NO_RECEIVER]! += 1;
  }

  /** To the sessions of this shard. */
  deliverLocals(publication: Publication, topic: Topic, publisher: Source | null): void {
    if (!topic.resolved) this.resolve(topic);
    const { locals } = topic;
    const { qos } = publication;
    publication.receivers += locals.length;
    for (let i = 0; i < locals.length; i++) {
      let subscription = locals[i]!;
      const session = subscription.session;
      if ((session as unknown) === publisher) {
        if (subscription.noLocal) continue; // [MQTT-3.8.3-3]
        if (subscription.parts !== null) subscription = withoutNoLocal(subscription);
      }
      const effective = qos < subscription.qos ? qos : subscription.qos;
      if (effective === 0) session.deliverQos0(publication, subscription);
      else if (session.outlet === null) session.deliver(publication, subscription, effective);
      // A persistent session gets QoS 1 and 2 from its inbox.
    }
  }

  private forward(publication: Publication, topic: Topic): void {
    for (const peer of topic.shards) {
      const writer = this.caller.begin(OP.SHARD_PUBLISH, null).text(topic.tenant.name);
      writeMessage(writer, publication.toMessage(this.message));
      this.caller.send(peer);
    }
    publication.receivers += topic.shards.length;
    this.counters.values[SHARD_HOPS]! += topic.shards.length;
  }

  private insertAll(publication: Publication, topic: Topic, publisher: Source): void {
    const { inboxes } = topic;
    const { chosen } = this;
    if (publication.qos === 0) {
      publication.receivers += inboxes.length;
      return;
    }
    const call = new InsertCall(this, publication, publisher, null);
    const mark = publication.marksLater ? 0 : publication.markInstance;
    const writer = this.beginInsert(publication, topic, call, mark);
    const countAt = writer.length;
    writer.u32(0);
    for (const inbox of inboxes) if (writeTarget(writer, inbox, publication, publisher)) call.add(inbox);
    for (const inbox of chosen) if (writeTarget(writer, inbox, publication, null)) call.add(inbox);
    chosen.length = 0;
    const { targets } = call;
    if (targets.length === 0 && mark === 0) return this.caller.cancel();
    writer.bytes.writeUInt32LE(targets.length, countAt);
    publication.waits++;
    publication.receivers += targets.length;
    this.caller.send(this.links.inbox);
  }

  /** A shared group's choice. `group` is asked for another member should this one be gone; null if it is not. */
  insertShared(
    publication: Publication,
    publisher: Source,
    target: InboxTarget,
    group: TopicGroup | null,
  ): void {
    if (publication.markInstance !== 0 && !publication.dispatched) this.chosen.push(target);
    else this.insertOne(publication, publication.topic!, publisher, target, group);
  }

  /** All that had to come before the mark of a QoS 2 message is settled. */
  mark(publication: Publication, publisher: Source): void {
    publication.marksLater = false;
    const call = new InsertCall(this, publication, publisher, null);
    this.beginInsert(publication, publication.topic!, call, publication.markInstance).u32(0);
    publication.waits++;
    this.caller.send(this.links.inbox);
  }

  /** One message into one inbox: a shared group's choice, or a retained message. */
  insertOne(
    publication: Publication,
    topic: Topic,
    publisher: Source,
    target: InboxTarget,
    group: TopicGroup | null,
  ): void {
    const call = new InsertCall(this, publication, publisher, group);
    const writer = this.beginInsert(publication, topic, call, 0).u32(1);
    if (!writeTarget(writer, target, publication, null)) return this.caller.cancel();
    call.add(target);
    publication.waits++;
    this.caller.send(this.links.inbox);
  }

  private beginInsert(publication: Publication, topic: Topic, call: Call, mark: number): ByteWriter {
    const writer = this.caller.begin(OP.INBOX_INSERT, call).text(topic.tenant.name);
    writer.u53(mark).u16(mark === 0 ? 0 : publication.packetId);
    writer.u53(this.nowMs());
    writeMessage(writer, publication.toMessage(this.message));
    return writer;
  }

  private setRetained(publication: Publication, topic: Topic, publisher: Source): void {
    const call = publication.qos === 0 ? this.unwaited : new RetainCall(this, publication, publisher);
    const writer = this.caller.begin(OP.RETAIN_SET, call).text(topic.tenant.name).u53(this.nowMs());
    writeMessage(writer, publication.toMessage(this.message));
    if (publication.qos > 0) publication.waits++;
    this.caller.send(this.links.retain);
  }

  /**
   * An inbox that ordinary routes lead to is no more. Whoever ended it removes them just now, so only those that are
   * still there much later were left behind by a crash, and go. (At once would be wrong: a new session of that
   * client may have added them again meanwhile, which `topic` is not told when nothing changes by it.)
   */
  forgetInbox(topic: Topic, clientId: string): void {
    const inbox = topic.inboxes.find(target => target.clientId === clientId);
    if (inbox === undefined) return;
    if (inbox.goneAtMs === 0) inbox.goneAtMs = this.nowMs();
    if (this.nowMs() - inbox.goneAtMs < GONE_FOR_MS) return;
    for (const { filter } of inbox.parts) this.routes.removeInbox(topic.tenant, clientId, filter, '', false);
  }
}

/** How long an inbox has to be gone before routes to it count as left behind. */
const GONE_FOR_MS = 60_000;

function withoutNoLocal(subscription: Subscription): Subscription {
  const parts = subscription.parts!.filter(part => !part.noLocal);
  return parts.length === subscription.parts!.length ? subscription : merge(parts);
}

/** Writes a Target of INBOX_INSERT; false (and nothing) when this inbox is not to get the message. */
function writeTarget(
  writer: ByteWriter,
  inbox: InboxTarget,
  publication: Publication,
  publisher: Source | null,
): boolean {
  const own = publisher !== null && publisher.clientId === inbox.clientId;
  let qos = 0;
  let ids = 0;
  let retain = 0;
  for (const { options, id } of inbox.parts) {
    if (own && (options & 4) !== 0) continue;
    const effective = Math.min(publication.qos, options & 3);
    if (effective > qos) qos = effective;
    if (id !== 0 && ids < IDS_MAX) ids++;
    if ((options & 8) !== 0 && publication.retain) retain = 1;
  }
  if (qos === 0) return false;
  writer.text(inbox.clientId).u8(qos).u8(retain).u8(ids);
  for (const { options, id } of inbox.parts) {
    if (id === 0 || (own && (options & 4) !== 0) || ids === 0) continue;
    writer.u32(id);
    ids--;
  }
  return true;
}

/** Subscription identifiers that a message keeps in an inbox: their count is a byte. */
const IDS_MAX = 255;

/** A store's answer that a publication waits for. */
abstract class AckCall implements Call {
  protected readonly router: Router;
  protected readonly publication: Publication;
  protected readonly publisher: Source;

  constructor(router: Router, publication: Publication, publisher: Source) {
    this.router = router;
    this.publication = publication;
    this.publisher = publisher;
  }

  onReply(status: number, _body: ByteReader): void {
    if (status !== STATUS.OK) this.refuse(status);
    this.publisher.settle(this.publication);
  }

  private refuse(status: number): void {
    countRefusal(this.router.counters, status);
    this.publication.refuse(status);
  }

  onLost(): void {
    this.refuse(STATUS.UNAVAILABLE);
    this.publisher.onStoreLost();
    this.publisher.settle(this.publication);
  }
}

class RetainCall extends AckCall {
  /** No room for one more retained message: this one is not kept, and delivered all the same (MQTT 5, 3.3.1.3). */
  override onReply(status: number, body: ByteReader): void {
    if (status === STATUS.LIMIT) countRefusal(this.router.counters, status);
    super.onReply(status === STATUS.LIMIT ? STATUS.OK : status, body);
  }
}

/** Of all retained messages at QoS 0: their publishers do not wait, but what is not kept is counted. */
class UnwaitedRetain implements Call {
  private readonly counters: CounterBlock;

  constructor(counters: CounterBlock) {
    this.counters = counters;
  }

  onReply(status: number): void {
    if (status !== STATUS.OK) countRefusal(this.counters, status);
  }

  onLost(): void {
    countRefusal(this.counters, STATUS.UNAVAILABLE);
  }
}

function countRefusal({ values }: CounterBlock, status: number): void {
  values[DROPS + (status === STATUS.LIMIT ? DROP.LIMIT : DROP.STORE_UNAVAILABLE)]! += 1;
}

class InsertCall extends AckCall {
  private readonly group: TopicGroup | null;
  readonly targets: string[] = [];
  /** Sessions whose windows the message counts against until the inbox has it, and pushes it. */
  private promised: Outlet[] | null = null;

  /** `group` is the shared group that chose the only target, if another member can take its place. */
  constructor(router: Router, publication: Publication, publisher: Source, group: TopicGroup | null) {
    super(router, publication, publisher);
    this.group = group;
  }

  add({ clientId, outlet }: InboxTarget): void {
    this.targets.push(clientId);
    if (outlet === null) return;
    outlet.promised++;
    (this.promised ??= []).push(outlet);
  }

  private settlePromises(): void {
    if (this.promised !== null) for (const outlet of this.promised) outlet.promised--;
  }

  override onLost(): void {
    this.settlePromises();
    super.onLost();
  }

  override onReply(status: number, body: ByteReader): void {
    this.settlePromises();
    const { values } = this.router.counters;
    if (status === STATUS.OK) {
      const count = body.u32();
      for (let i = 0; i < count; i++) {
        const result = body.u8();
        if (result === INSERT_RESULT.GONE) {
          values[DROPS + DROP.SESSION_GONE]! += 1;
          this.onGone(this.targets[i]!);
        } else if (result === INSERT_RESULT.DROPPED_NEWEST || result === INSERT_RESULT.DROPPED_OLDEST) {
          values[DROPS + DROP.QUEUE_FULL]! += 1;
        }
      }
    }
    super.onReply(status, body);
  }

  private onGone(clientId: string): void {
    const { router, publication, publisher, group } = this;
    if (group === null) router.forgetInbox(publication.topic!, clientId);
    else router.shared.onGone(publication, group, publisher, clientId);
  }
}
