import { DISCONNECTS, WILLS } from '../base/metrics.js';
import { OP } from '../contract/contract.js';
import { callback } from './caller.js';
import { type DisconnectPacket, REASON, SESSION_EXPIRY_NEVER } from './codec/packet.js';
import type { Session } from './session.js';
import { detach } from './subscribing.js';
import { willOf } from './will.js';

/** What becomes of the will when a connection ends. */
export type Farewell = 'keep-will' | 'drop-will';

/** DISCONNECT from the client: the end in good order, unless it wants its will published. */
export function onDisconnect(session: Session, packet: DisconnectPacket): void {
  const { connection, shard } = session;
  const { sessionExpirySeconds: expiry } = packet;
  if (expiry > 0 && session.expirySeconds === 0 && shard.limits.sessionExpirySecondsMax > 0)
    return connection.fail(
      REASON.protocolError,
      'MQTT-3.1.2-23',
      'a session that does not persist cannot be kept',
    );
  if (expiry >= 0) session.expirySeconds = clampExpiry(expiry, shard.limits.sessionExpirySecondsMax);
  shard.counters.values[DISCONNECTS]! += 1;
  // Only the normal disconnection takes the will away [MQTT-3.14.4-3].
  connection.close(packet.reasonCode === REASON.success ? 'drop-will' : 'keep-will');
}

/** The session expiry that the settings allow; "never" is allowed only where the limit says so too. */
export function clampExpiry(seconds: number, secondsMax: number): number {
  return Math.min(seconds, secondsMax, SESSION_EXPIRY_NEVER);
}

/**
 * The connection is gone: the session leaves this shard. Its will is published or left with the inbox, what shared
 * groups gave it goes to other members, and `done` is called when the inbox has been told.
 */
export function depart(session: Session, farewell: Farewell, done: () => void): void {
  const { shard, router, tenant, outlet, clientId } = session;
  session.ended = true;
  if (tenant.sessions.get(clientId) === session) tenant.sessions.delete(clientId);
  for (const filter of session.subscriptions.filters()) detach(session, filter);
  for (const { publication, group } of session.takeShared()) shard.broker.reroute(tenant, publication, group);
  const { will } = session;
  const persists = outlet !== null && session.expirySeconds > 0;
  const isDelayed = will !== null && will.delaySeconds > 0 && persists;
  if (will !== null && farewell === 'keep-will' && !isDelayed) {
    shard.counters.values[WILLS]! += 1;
    shard.broker.publish(tenant, willOf(will, shard.wallMs()));
  }
  if (outlet === null) return done();
  outlet.flushFinished();
  const keep = isDelayed && farewell === 'keep-will';
  const call = callback(done, done);
  const writer = router.caller.begin(OP.INBOX_DETACH, call).u53(outlet.instance).u32(session.connection.id);
  writer
    .u32(session.expirySeconds)
    .u53(shard.wallMs())
    .u8(keep ? 0 : 1)
    .u53(outlet.sentSeq);
  router.caller.send(router.links.inbox);
}
