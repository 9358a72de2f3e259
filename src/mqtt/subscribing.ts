import { ACL_DENIALS, SUBSCRIPTIONS } from '../base/metrics.js';
import { OP, STATUS } from '../contract/contract.js';
import { writeSubscription } from '../contract/inbox.js';
import { type ParsedFilter, parseFilter } from '../topic/topic.js';
import { type Call, callback } from './caller.js';
import { encodeSuback, encodeUnsuback } from './codec/encoder.js';
import {
  REASON,
  SUBACK,
  type SubscribePacket,
  type SubscriptionRequest,
  UNSUBACK,
  type UnsubscribePacket,
} from './codec/packet.js';
import type { Connection } from './connection.js';
import { explainRefusals } from './explanation.js';
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
 *
 * A persistent session's changes go to the inbox first, which notes that their routes are in doubt; then to dist, in
 * the same order; and then the inbox is told that they are settled. Whatever dies in between, it sees to the routes.
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
  const finish = (refused: readonly string[], change: number) => {
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
      if (session.outlet !== null) forget(session, session.outlet, [request.filter], [filter], () => {});
    }
    // Behind what takes the refused ones back, so that they are in doubt until that is done.
    settle(session, change);
    const { version, packetBytesMax } = connection;
    const why = explanation(connection, codes);
    answer(session, SUBACK, encodeSuback(version, packet.packetId, codes, packetBytesMax, why));
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

/**
 * Adds this shard's routes, and the inbox's where the session persists; `done` when all are in effect, with the shared
 * filters whose group is full, and the number of the change in the inbox.
 */
function makeEffective(
  session: Session,
  granted: readonly Granted[],
  id: number,
  done: (refused: readonly string[], change: number) => void,
): void {
  const { router, tenant, outlet } = session;
  const refused: string[] = [];
  let change = 0;
  let waits = outlet === null ? 1 : 2;
  const onRoutes = (found: readonly string[] | null) => {
    if (found === null) session.onStoreLost();
    else refused.push(...found);
    waits--;
    if (waits === 0) done(refused, change);
  };
  const live = router.routes.change(tenant, onRoutes);
  for (const { filter, isNew } of granted) addShardRoute(live, filter, isNew);
  if (outlet !== null)
    record(session, outlet, granted, id, number => {
      change = number;
      // Has the session gone meanwhile, the inbox sees to its routes; a route added now could outlive them.
      if (session.ended || number === FAILED) return onRoutes([]);
      const kept = router.routes.change(tenant, onRoutes);
      for (const { filter, options } of granted) addInboxRoute(session, kept, filter, options, id);
      kept.commit();
    });
  live.commit();
}

/** Tells the inbox of new subscriptions; `done` gets the number of the change. */
function record(
  session: Session,
  outlet: Outlet,
  granted: readonly Granted[],
  id: number,
  done: (change: number) => void,
): void {
  const { caller, links } = session.router;
  const writer = caller.begin(OP.INBOX_SUBSCRIBE, changeCall(session, done));
  writer.u53(outlet.instance).u32(granted.length);
  for (const { request, options } of granted)
    writeSubscription(writer, { filter: request.filter, options, subscriptionId: id });
  caller.send(links.inbox);
}

/** INBOX_SUBSCRIBE or INBOX_UNSUBSCRIBE: `done` gets the number of the change, 0 if nothing changed; FAILED. */
function changeCall(session: Session, done: (change: number) => void): Call {
  const lost = () => {
    session.onStoreLost();
    done(FAILED);
  };
  return callback((status, body) => {
    if (status !== STATUS.OK) return lost();
    const count = body.u32();
    body.position += count;
    done(body.u32());
  }, lost);
}

const FAILED = -1;

/** The inbox need not see to the routes of this change any more. 0 is no change. */
function settle(session: Session, change: number): void {
  const { outlet, ended } = session;
  if (outlet === null || ended || change <= 0) return;
  const { caller, links } = session.router;
  caller.begin(OP.INBOX_SETTLED, null).u53(outlet.instance).u32(change);
  caller.send(links.inbox);
}

/** Takes subscriptions out of the inbox, then their routes away; `done` when neither is in effect any more. */
function forget(
  session: Session,
  outlet: Outlet,
  texts: readonly string[],
  filters: readonly Filter[],
  done: () => void,
): void {
  const { router, tenant, clientId } = session;
  const call = changeCall(session, change => {
    if (session.ended || change <= 0) return done();
    router.routes.removeInboxes(tenant, clientId, filters, stored => {
      if (stored) settle(session, change);
      else session.onStoreLost();
      done();
    });
  });
  const writer = router.caller.begin(OP.INBOX_UNSUBSCRIBE, call).u53(outlet.instance).u32(texts.length);
  for (const text of texts) writer.text(text);
  router.caller.send(router.links.inbox);
}

function addInboxRoute(
  session: Session,
  change: RouteChange,
  filter: Filter,
  options: number,
  id: number,
): void {
  const { clientId } = session;
  change.addInbox(clientId, filter.filter, groupOf(filter), isOrdered(filter), options, id);
}

/** This shard's route for a subscription; one that is not new waits until it is in effect. */
export function addShardRoute(change: RouteChange, filter: Filter, isNew: boolean): void {
  if (isNew) change.addShard(filter.filter, groupOf(filter), isOrdered(filter));
  else change.await(filter.filter, groupOf(filter), isOrdered(filter));
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
  const { connection, outlet, shard } = session;
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
    const why = explanation(connection, codes);
    answer(session, UNSUBACK, encodeUnsuback(version, packet.packetId, codes, packetBytesMax, why));
    shard.endTurn();
  };
  connection.controlBegan();
  if (outlet === null) return finish();
  forget(session, outlet, packet.filters, removed, finish);
}

/** Why filters were refused; for those only who have not asked for no problem information [MQTT-3.1.2-29]. */
function explanation(connection: Connection, codes: readonly number[]): string | undefined {
  return connection.version === 5 && connection.wantsProblems ? explainRefusals(codes) : undefined;
}

/** SUBACK or UNSUBACK; one that is larger than the client takes ends the connection instead [MQTT-3.1.2-24]. */
function answer(session: Session, type: number, bytes: Buffer | null): void {
  const { connection } = session;
  if (bytes === null)
    connection.fail(REASON.packetTooLarge, 'MQTT-3.1.2-24', 'the answer is larger than the client takes');
  else connection.sendPacket(type, bytes);
}
