import { type AuthDecision, EXCHANGE_STEPS_MAX } from '../plugin/plugin.js';
import { encodeAuth } from './codec/encoder.js';
import { AUTH, type AuthPacket, REASON } from './codec/packet.js';
import type { Session } from './session.js';

/** An exchange under way on an open connection. */
interface Exchange {
  readonly exchange: object;
  readonly steps: number;
}

const exchanges = new WeakMap<Session, Exchange>();

/**
 * AUTH on an open connection: re-authentication (MQTT 5, 4.12.1). Messages flow on meanwhile. Only the identity that
 * the connection has may come out of it: its session, subscriptions and permissions belong to that one.
 */
export function reauthenticate(session: Session, packet: AuthPacket): void {
  const { connection, shard, authMethod } = session;
  if (authMethod === null || packet.authenticationMethod !== authMethod)
    return connection.fail(
      REASON.protocolError,
      'MQTT-4.12.1-1',
      'AUTH with another method than that of CONNECT',
    );
  const data = packet.authenticationData ?? undefined;
  const { remote } = connection;
  if (packet.reasonCode === REASON.reAuthenticate) {
    exchanges.delete(session);
    const request = {
      clientId: session.clientId,
      userName: session.identity.user,
      password: undefined,
      protocolVersion: 5,
      transport: remote.transport,
      remoteAddress: remote.remoteAddress,
      remotePort: remote.remotePort,
      certificate: remote.certificate,
      userProperties: packet.userProperties,
      authMethod,
      authData: data,
      established: session.identity,
    };
    return decide(session, () => shard.authenticator.authenticate(request), 0);
  }
  const under = exchanges.get(session);
  if (under === undefined)
    return connection.fail(REASON.protocolError, 'MQTT-4.12.0-3', 'AUTH continues no exchange');
  exchanges.delete(session);
  decide(session, () => shard.authenticator.continue(under.exchange, data), under.steps);
}

function decide(session: Session, ask: () => AuthDecision | Promise<AuthDecision>, steps: number): void {
  const { connection, shard } = session;
  const failed = (error: unknown) => {
    shard.log.error({ err: error }, 'the authenticator failed');
    connection.fail(REASON.implementationSpecificError, '4.12.1', 'authentication is not possible now');
  };
  connection.controlBegan();
  // Through a promise always: one shape, and a hook that throws is a hook that rejects.
  Promise.resolve()
    .then(ask)
    .then(decision => onDecision(session, decision, steps))
    .catch(failed)
    .finally(() => {
      connection.controlEnded();
      shard.endTurn();
    });
}

function onDecision(session: Session, decision: AuthDecision, steps: number): void {
  if (session.ended) return;
  const { connection, identity } = session;
  const authenticationMethod = session.authMethod!;
  if (decision.kind === 'refuse')
    return connection.fail(disconnectReason(decision.reasonCode), 'MQTT-4.12.1-2', decision.reason);
  if (decision.kind === 'continue') {
    if (steps >= EXCHANGE_STEPS_MAX)
      return connection.fail(REASON.notAuthorized, '4.12', 'authentication takes too many steps');
    exchanges.set(session, { exchange: decision.exchange, steps: steps + 1 });
    const reasonCode = REASON.continueAuthentication;
    const authenticationData = Buffer.from(decision.data);
    return connection.sendPacket(AUTH, encodeAuth({ reasonCode, authenticationMethod, authenticationData }));
  }
  if (decision.tenant !== identity.tenant || decision.user !== identity.user)
    return connection.fail(REASON.notAuthorized, '4.12.1', 'another identity than that of CONNECT');
  session.reidentify({ ...identity, attributes: decision.attributes ?? {} });
  const authenticationData = decision.data === undefined ? undefined : Buffer.from(decision.data);
  connection.sendPacket(
    AUTH,
    encodeAuth({ reasonCode: REASON.success, authenticationMethod, authenticationData }),
  );
}

/** Some reasons of a hook are for CONNACK alone (MQTT 5, table 2-6). */
function disconnectReason(reasonCode: number): number {
  const isForBoth = reasonCode === REASON.badAuthenticationMethod || reasonCode === REASON.serverBusy;
  return isForBoth || reasonCode === REASON.implementationSpecificError ? reasonCode : REASON.notAuthorized;
}
