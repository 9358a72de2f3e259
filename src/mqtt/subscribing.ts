import type { ByteReader } from '../base/bytes.js';
import { ACL_DENIALS, SUBSCRIPTIONS } from '../base/metrics.js';
import { OP, STATUS } from '../contract/contract.js';
import { writeSubscription } from '../contract/inbox.js';
import { type ParsedFilter, parseFilter } from '../topic/topic.js';
import { callback } from './caller.js';
import { encodeSuback, encodeUnsuback } from './codec/encoder.js';
import {
  REASON,
  SUBACK,
  type SubscribePacket,
  type SubscriptionRequest,
  UNSUBACK,
  type UnsubscribePacket,
} from './codec/packet.js';
import { type Filter, groupKey, groupOf, isOrdered, type RouteChange } from './local-routes.js';
import type { Outlet } from './outlet.js';
import { RetainedFeed } from './retained-feed.js';
import type { Session } from './session.js';
import { LocalGroup } from './shared-group.js';
import { Subscription } from './tenant.js';

/** One filter of a SUBSCRIBE that is granted. */
interface Granted {
  readonly request: SubscriptionRequest;
  readonly filter: Filter;
  readonly options: number;
  readonly isNew: boolean;
  readonly place: number;
}

/**
 * SUBSCRIBE. The session's own index changes at once; SUBACK leaves when the inbox has the subscription durably (if
 * the session persists) and dist has it in effect for every publisher; then retained messages follow.
 */
export function subscribe(session: Session, packet: SubscribePacket): void {
  const { shard, connection } = session;
  if (packet.subscriptions.length > shard.limits.filtersPerSubscribeMax)
    return connection.fail(REASON.quotaExceeded, 'limits', 'too many filters in one SUBSCRIBE');
  const codes: number[] = [];
  const granted: Granted[] = [];
  for (const request of packet.subscriptions) {
    const filter = parseFilter(request.filter, shard.topicLimits);
    let code = refusal(session, request, filter, packet.subscriptionId);
    if (code === 0 && filter.kind !== 'invalid') {
      code = Math.min(request.qos, shard.limits.qosMax);
      const options = code | (request.noLocal ? 4 : 0) | (request.retainAsPublished ? 8 : 0);
      const isNew = session.subscriptions.get(request.filter) === undefined;
      granted.push({ request, filter, options, isNew, place: codes.length });
      attach(session, request.filter, filter, options, packet.subscriptionId);
    }
    codes.push(code);
  }
  connection.controlBegan();
  const finish = (refused: readonly string[]) => {
    connection.controlEnded();
    if (session.ended) return;
    for (const { filter, request, place } of granted) {
      if (
        filter.kind !== 'shared' ||
        !refused.includes(groupKey(filter.group, filter.ordered, filter.filter))
      )
        continue;
      codes[place] = REASON.quotaExceeded;
      detach(session, request.filter);
      if (session.outlet !== null) withdraw(session, session.outlet, request.filter, filter);
    }
    const { version, packetBytesMax } = connection;
    answer(session, SUBACK, encodeSuback(version, packet.packetId, codes, packetBytesMax));
    sendRetained(session, granted);
    shard.endTurn();
  };
  makeEffective(session, granted, packet.subscriptionId, finish);
}

/** The reason code that refuses a filter, or 0. */
function refusal(session: Session, request: SubscriptionRequest, filter: ParsedFilter, id: number): number {
  const { features, limits, authorizer, counters } = session.shard;
  if (filter.kind === 'invalid') return REASON.topicFilterInvalid;
  if (filter.kind === 'shared' && !features.sharedSubscriptions)
    return REASON.sharedSubscriptionsNotSupported;
  if (!features.wildcards && /[+#]/.test(filter.filter)) return REASON.wildcardSubscriptionsNotSupported;
  if (id !== 0 && !features.subscriptionIdentifiers) return REASON.subscriptionIdentifiersNotSupported;
  const isNew = session.subscriptions.get(request.filter) === undefined;
  if (isNew && session.subscriptions.size >= limits.subscriptionsPerSessionMax) return REASON.quotaExceeded;
  if (authorizer.maySubscribe(session.identity, filter.filter, request.qos)) return 0;
  counters.values[ACL_DENIALS + 1]! += 1;
  return REASON.notAuthorized;
}

/** Puts a subscription into this shard's index, in place of one with the same filter [MQTT-3.8.4-3]. */
export function attach(session: Session, text: string, filter: Filter, options: number, id: number): void {
  const { tenant, shard } = session;
  const old = session.subscriptions.get(text);
  if (old !== undefined) unlink(session, old, filter.filter);
  else shard.counters.values[SUBSCRIPTIONS]! += 1;
  let group: LocalGroup | null = null;
  if (filter.kind === 'shared') {
    const key = groupKey(filter.group, filter.ordered, filter.filter);
    group = tenant.groups.get(key) ?? new LocalGroup(key, filter.filter, filter.group, filter.ordered);
    tenant.groups.set(key, group);
  }
  const subscription = new Subscription(session, text, options, id === 0 ? null : [id], group, null);
  session.subscriptions.set(subscription);
  if (group !== null) group.add(subscription);
  else {
    tenant.index.add(filter.filter, subscription);
    session.router.invalidateLocals(tenant, filter.filter);
  }
}

/** Takes a subscription out of the index, and its route away. False when there was none. */
export function detach(session: Session, text: string): boolean {
  const { tenant, shard } = session;
  const old = session.subscriptions.get(text);
  if (old === undefined) return false;
  session.subscriptions.delete(text);
  shard.counters.values[SUBSCRIPTIONS]! -= 1;
  const filter = parseFilter(text, shard.topicLimits) as Filter;
  unlink(session, old, filter.filter);
  session.router.routes.removeShard(tenant, filter.filter, groupOf(filter), isOrdered(filter));
  return true;
}

function unlink(session: Session, subscription: Subscription, filter: string): void {
  const { tenant } = session;
  const { group } = subscription;
  if (group !== null) {
    group.remove(session);
    if (group.size === 0) tenant.groups.delete(group.key);
    return;
  }
  tenant.index.remove(filter, subscription);
  session.router.invalidateLocals(tenant, filter);
}

/** Adds the routes, and the inbox's record first; `done` when both are in effect. */
function makeEffective(
  session: Session,
  granted: readonly Granted[],
  id: number,
  done: (refused: readonly string[]) => void,
): void {
  const { router, tenant, outlet } = session;
  let refused: readonly string[] = [];
  let waits = 1;
  const settle = () => {
    waits--;
    if (waits === 0) done(refused);
  };
  const change = router.routes.change(tenant, found => {
    if (found === null) session.onStoreLost();
    else refused = found;
    settle();
  });
  for (const { filter, options, isNew } of granted) addRoutes(session, change, filter, options, id, isNew);
  if (outlet !== null && granted.length > 0) {
    waits++;
    const call = callback(
      status => {
        if (status !== STATUS.OK) session.onStoreLost();
        settle();
      },
      () => {
        session.onStoreLost();
        settle();
      },
    );
    const writer = router.caller.begin(OP.INBOX_SUBSCRIBE, call).u53(outlet.instance).u32(granted.length);
    for (const { request, options } of granted)
      writeSubscription(writer, { filter: request.filter, options, subscriptionId: id });
    router.caller.send(router.links.inbox);
  }
  change.commit();
}

/** Takes back what the inbox was told of a subscription that dist then refused. */
function withdraw(session: Session, outlet: Outlet, text: string, filter: Filter): void {
  const { router, tenant } = session;
  router.routes.removeInbox(tenant, session.clientId, filter.filter, groupOf(filter), isOrdered(filter));
  router.caller.begin(OP.INBOX_UNSUBSCRIBE, null).u53(outlet.instance).u32(1).text(text);
  router.caller.send(router.links.inbox);
}

/** The routes of one subscription: this shard's, and the inbox's where the session persists. */
export function addRoutes(
  session: Session,
  change: RouteChange,
  filter: Filter,
  options: number,
  id: number,
  isNew: boolean,
): void {
  const group = groupOf(filter);
  const ordered = isOrdered(filter);
  if (session.outlet !== null) change.addInbox(session.clientId, filter.filter, group, ordered, options, id);
  if (isNew) change.addShard(filter.filter, group, ordered);
  else change.await(filter.filter, group, ordered);
}

/** Retained messages for what was subscribed, by retain handling [MQTT-3.3.1-9..11]; none for shared ones [4.8.2]. */
function sendRetained(session: Session, granted: readonly Granted[]): void {
  for (const { request, filter, isNew } of granted) {
    if (filter.kind === 'shared' || request.retainHandling === 2) continue;
    if (request.retainHandling === 1 && !isNew) continue;
    const subscription = session.subscriptions.get(request.filter);
    if (subscription === undefined) continue;
    session.feed ??= new RetainedFeed(session);
    session.feed.add(filter.filter, subscription);
  }
}

export function unsubscribe(session: Session, packet: UnsubscribePacket): void {
  const { connection, router, tenant, outlet, shard } = session;
  if (packet.filters.length > shard.limits.filtersPerSubscribeMax)
    return connection.fail(REASON.quotaExceeded, 'limits', 'too many filters in one UNSUBSCRIBE');
  const codes: number[] = [];
  const removed: Filter[] = [];
  for (const text of packet.filters) {
    const filter = parseFilter(text, shard.topicLimits);
    if (filter.kind !== 'invalid') removed.push(filter);
    if (filter.kind === 'invalid') codes.push(REASON.topicFilterInvalid);
    else codes.push(detach(session, text) ? REASON.success : REASON.noSubscriptionExisted);
  }
  const finish = () => {
    connection.controlEnded();
    if (session.ended) return;
    const { version, packetBytesMax } = connection;
    answer(session, UNSUBACK, encodeUnsuback(version, packet.packetId, codes, packetBytesMax));
    shard.endTurn();
  };
  connection.controlBegan();
  if (outlet === null) return finish();
  // Both at once, so that what the client pipelines is done in its order by each store.
  let waits = 2;
  const settle = () => {
    waits--;
    if (waits === 0) finish();
  };
  router.routes.removeInboxes(tenant, session.clientId, removed, settle);
  const call = callback(
    (status: number, _body: ByteReader) => {
      if (status !== STATUS.OK) session.onStoreLost();
      settle();
    },
    () => {
      session.onStoreLost();
      settle();
    },
  );
  const writer = router.caller
    .begin(OP.INBOX_UNSUBSCRIBE, call)
    .u53(outlet.instance)
    .u32(packet.filters.length);
  for (const text of packet.filters) writer.text(text);
  router.caller.send(router.links.inbox);
}

/** SUBACK or UNSUBACK; one that is larger than the client takes ends the connection instead [MQTT-3.1.2-24]. */
function answer(session: Session, type: number, bytes: Buffer | null): void {
  const { connection } = session;
  if (bytes === null)
    connection.fail(REASON.packetTooLarge, 'MQTT-3.1.2-24', 'the answer is larger than the client takes');
  else connection.sendPacket(type, bytes);
}
