import type { ByteReader } from '../base/bytes.js';
import {
  AUTH_RESULT,
  AUTH_RESULTS,
  CONNECT_REFUSAL,
  CONNECT_REFUSALS,
  CONNECTS,
  TRANSPORT_INDEX,
} from '../base/metrics.js';
import { isValidMqttUtf8 } from '../base/utf8.js';
import { OP, STATUS } from '../contract/contract.js';
import { readSubscription, type Subscription as StoredSubscription } from '../contract/inbox.js';
import { Message, writeMessage } from '../contract/message.js';
import { type AuthDecision, type AuthRequest, EXCHANGE_STEPS_MAX, type Identity } from '../plugin/plugin.js';
import { checkTopicName, parseFilter } from '../topic/topic.js';
import { callback } from './caller.js';
import { type Connack, encodeAuth, encodeConnack, encodeUnsupportedVersion } from './codec/encoder.js';
import {
  AUTH,
  type AuthPacket,
  CONNACK,
  type ConnectPacket,
  REASON,
  type UnsupportedVersionPacket,
  type WillMessage,
} from './codec/packet.js';
import type { Connection } from './connection.js';
import { clampExpiry } from './departure.js';
import type { Filter } from './local-routes.js';
import { Outlet } from './outlet.js';
import { Session } from './session.js';
import { addShardRoute, attach } from './subscribing.js';
import { isReserved } from './tenant.js';
import { willOf } from './will.js';

type Accepted = Extract<AuthDecision, { kind: 'accept' }>;

interface Stored extends StoredSubscription {
  readonly parsed: Filter;
}

/**
 * From CONNECT to CONNACK: checks, authentication, the claim on the client id (which ends an older connection with
 * it, on whatever shard), the stored session, its routes. Each step calls the next; after `abandon` none does.
 */
export class Connect {
  private readonly connection: Connection;
  private packet: ConnectPacket | null = null;
  private clientId = '';
  private accepted: Accepted | null = null;
  private exchange: object | null = null;
  private steps = 0;
  private over = false;
  /** The client id is ours, or will be. */
  private claimed = false;
  /** A step has asked another thread, and its answer has not come. */
  private waits = false;
  /** Subscriptions that the session has from earlier. */
  private readonly stored: Stored[] = [];
  /** Made, but not yet told to the client. */
  private session: Session | null = null;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  begin(packet: ConnectPacket | UnsupportedVersionPacket): void {
    const { connection } = this;
    const { shard } = connection;
    if (packet.kind === 'unsupported-version') {
      connection.sendPacket(CONNACK, encodeUnsupportedVersion(packet.protocolLevel));
      shard.counters.values[CONNECT_REFUSALS + CONNECT_REFUSAL.PROTOCOL]! += 1;
      return connection.close();
    }
    this.packet = packet;
    connection.version = packet.version;
    connection.packetBytesMax = packet.packetBytesMax;
    connection.wantsProblems = packet.requestProblemInformation;
    // 3.2.2.2 has a code for a limit that the server was given, and MQTT 3 one for a server that is unavailable.
    if (!connection.remote.admitted)
      return this.refuse(REASON.quotaExceeded, 'the broker has as many connections as it may have');
    if (!shard.takeConnect())
      return this.refuse(REASON.connectionRateExceeded, 'too many clients connect at once');
    const refusal = this.check(packet);
    if (refusal !== null) return this.refuse(refusal[0], refusal[1]);
    this.clientId = packet.clientId === '' ? shard.assignClientId() : packet.clientId;
    this.decide(() => shard.authenticator.authenticate(this.authRequest(packet)));
  }

  /** What the packet asks that may not be; null when nothing. */
  private check(packet: ConnectPacket): readonly [number, string] | null {
    const { limits, features, topicLimits } = this.connection.shard;
    const served =
      packet.version === 5 ? features.mqtt5 : packet.version === 4 ? features.mqtt311 : features.mqtt31;
    if (!served) return [REASON.unsupportedProtocolVersion, 'this version of MQTT is switched off here'];
    if (packet.clientId === '' && packet.version !== 5 && (packet.version === 3 || !packet.cleanStart))
      return [
        REASON.clientIdentifierNotValid,
        'an empty client identifier needs a clean session [MQTT-3.1.3-8]',
      ];
    if (Buffer.byteLength(packet.clientId) > limits.clientIdBytesMax)
      return [REASON.clientIdentifierNotValid, 'the client identifier is too long'];
    const { will } = packet;
    if (will === null) return null;
    const topic = checkTopicName(will.topic, topicLimits);
    if (topic.kind === 'invalid') return [REASON.topicNameInvalid, 'the will topic is not valid'];
    if (will.qos > limits.qosMax)
      return [REASON.qosNotSupported, 'the QoS of the will is not served [MQTT-3.2.2-12]'];
    if (will.retain && !features.retain)
      return [REASON.retainNotSupported, 'retained messages are not served [MQTT-3.2.2-13]'];
    if (will.payload.length > limits.willBytesMax) return [REASON.quotaExceeded, 'the will is too large'];
    if (will.payloadFormat === 1 && !isText(will.payload))
      return [REASON.payloadFormatInvalid, 'the will is not the UTF-8 that it is said to be'];
    return null;
  }

  // -- authentication ----------------------------------------------------------------------------------------

  private authRequest(packet: ConnectPacket): AuthRequest {
    const { remote } = this.connection;
    return {
      clientId: packet.clientId,
      userName: packet.userName ?? undefined,
      password: packet.password ?? undefined,
      protocolVersion: packet.version,
      transport: remote.transport,
      remoteAddress: remote.remoteAddress,
      remotePort: remote.remotePort,
      certificate: remote.certificate,
      userProperties: packet.userProperties,
      authMethod: packet.authenticationMethod ?? undefined,
      authData: packet.authenticationData ?? undefined,
      established: undefined,
    };
  }

  private decide(ask: () => AuthDecision | Promise<AuthDecision>): void {
    const { shard } = this.connection;
    try {
      const decision = ask();
      if (!(decision instanceof Promise)) return this.onDecision(decision);
      decision.then(
        answer => {
          this.onDecision(answer);
          shard.endTurn();
        },
        error => {
          this.onPluginFailure(error);
          shard.endTurn();
        },
      );
    } catch (error) {
      this.onPluginFailure(error);
    }
  }

  private onPluginFailure(error: unknown): void {
    const { shard } = this.connection;
    shard.counters.values[AUTH_RESULTS + AUTH_RESULT.FAILED]! += 1;
    shard.log.error({ err: error }, 'the authenticator failed');
    this.refuse(REASON.implementationSpecificError, 'authentication is not possible now');
  }

  private onDecision(decision: AuthDecision): void {
    if (this.over) return;
    const { connection, packet } = this;
    const { counters } = connection.shard;
    if (decision.kind === 'refuse') {
      const result = decision.reasonCode === REASON.serverBusy ? AUTH_RESULT.BUSY : AUTH_RESULT.REFUSED;
      counters.values[AUTH_RESULTS + result]! += 1;
      return this.refuse(decision.reasonCode, decision.reason);
    }
    if (decision.kind === 'continue') {
      if (++this.steps > EXCHANGE_STEPS_MAX)
        return this.refuse(REASON.notAuthorized, 'authentication takes too many steps');
      this.exchange = decision.exchange;
      const authenticationMethod = packet!.authenticationMethod!;
      const authenticationData = Buffer.from(decision.data);
      const reasonCode = REASON.continueAuthentication;
      connection.sendPacket(AUTH, encodeAuth({ reasonCode, authenticationMethod, authenticationData }));
      return connection.releaseConnecting();
    }
    counters.values[AUTH_RESULTS + AUTH_RESULT.ACCEPTED]! += 1;
    this.accepted = decision;
    this.claim(decision);
  }

  onAuth(packet: AuthPacket): void {
    const { connection } = this;
    const { shard } = connection;
    const method = this.packet!.authenticationMethod;
    const { exchange } = this;
    if (
      exchange === null ||
      packet.reasonCode !== REASON.continueAuthentication ||
      packet.authenticationMethod !== method
    )
      return this.refuse(
        REASON.protocolError,
        'AUTH does not continue an exchange [MQTT-4.12.0-3], [MQTT-4.12.0-5]',
      );
    this.exchange = null;
    connection.holdConnecting();
    this.decide(() => shard.authenticator.continue(exchange, packet.authenticationData ?? undefined));
  }

  // -- the session -------------------------------------------------------------------------------------------

  private claim(accepted: Accepted): void {
    const { connection, packet } = this;
    const { shard } = connection;
    const { will } = packet!;
    const identity = this.identity(accepted);
    if (will !== null && !this.mayLeave(identity, will))
      return this.refuse(REASON.notAuthorized, 'the will may not be published there');
    this.claimed = this.waits = true;
    const call = callback(
      () => this.attachInbox(identity),
      () => {
        this.waits = false;
        this.refuse(REASON.serverUnavailable, 'the session directory is gone');
      },
    );
    shard.caller.begin(OP.DICT_CLAIM, call).text(identity.tenant).text(this.clientId).u32(connection.id);
    shard.caller.send(shard.links.main);
  }

  private mayLeave(identity: Identity, will: WillMessage): boolean {
    const { authorizer } = this.connection.shard;
    return !isReserved(will.topic) && authorizer.mayPublish(identity, will.topic, will.qos, will.retain);
  }

  private identity(accepted: Accepted): Identity {
    const { tenant, user, attributes } = accepted;
    return { tenant, user, clientId: this.clientId, attributes: attributes ?? NO_ATTRIBUTES };
  }

  private attachInbox(identity: Identity): void {
    const { connection, packet } = this;
    const { shard } = connection;
    if (this.over) return this.letGo();
    const { will, cleanStart } = packet!;
    const expiry = clampExpiry(packet!.sessionExpirySeconds, shard.limits.sessionExpirySecondsMax);
    const call = callback(
      (status, body) => this.onAttached(identity, expiry, status, body),
      () => this.onStoreLost('the session store was restarted'),
    );
    const writer = shard.caller.begin(OP.INBOX_ATTACH, call).text(identity.tenant).text(this.clientId);
    writer
      .u8(cleanStart ? 1 : 0)
      .u32(expiry)
      .u53(shard.wallMs());
    writer.u16(shard.links.shard).u32(connection.id);
    // The inbox needs the will only where it may have to outlive this thread.
    const keeps = will !== null && expiry > 0;
    writer.u8(keeps ? 1 : 0);
    if (keeps) {
      writer.u32(will.delaySeconds);
      writeMessage(writer, willOf(will, shard.wallMs()).toMessage(new Message()));
    }
    shard.caller.send(shard.links.inbox);
  }

  /** Nothing is attached, or nobody knows. */
  private onStoreLost(why: string): void {
    if (this.over) return this.letGo();
    this.waits = false;
    this.refuse(REASON.serverUnavailable, why);
  }

  private onAttached(identity: Identity, expiry: number, status: number, body: ByteReader): void {
    const { connection, packet } = this;
    const { shard } = connection;
    if (status !== STATUS.OK) return this.onStoreLost('the session cannot be stored now');
    const instance = body.u53();
    const present = body.u8() === 1;
    for (let n = body.u32(); n > 0; n--) {
      const stored = readSubscription(body);
      const filter = parseFilter(stored.filter, shard.topicLimits);
      if (filter.kind !== 'invalid') this.stored.push({ ...stored, parsed: filter });
    }
    const received: number[] = [];
    for (let n = body.u32(); n > 0; n--) received.push(body.u16());
    body.u53(); // nextSeq
    const sentSeq = body.u53();
    const owed: number[] = [];
    for (let n = body.u32(); n > 0; n--) owed.push(body.u53());

    const tenant = shard.router.tenant(identity.tenant);
    const session = new Session(shard, connection, tenant, identity, packet!.receiveMax);
    session.expirySeconds = expiry;
    session.will = packet!.will;
    session.authMethod = packet!.authenticationMethod;
    session.restoreReceived(received);
    if (instance !== 0) session.outlet = new Outlet(session, instance, sentSeq, session.windowMax);
    if (this.over) return this.detachAgain(instance);
    this.waits = false;
    this.session = session;
    this.addStored(session, present, owed);
  }

  private addStored(session: Session, present: boolean, owed: readonly number[]): void {
    const change = session.router.routes.change(session.tenant, refused => {
      if (this.over) return;
      if (refused === null) this.onStoreLost('the routes of the session cannot be stored now');
      else this.accept(session, present, owed);
    });
    // Those to the inbox are there: they are its subscriptions when it is attached.
    for (const { parsed } of this.stored) addShardRoute(change, parsed, true);
    change.commit();
  }

  /** Until CONNACK the session is in no index, so that nothing is delivered before it [MQTT-3.2.0-1]. */
  private attachStored(session: Session): void {
    for (const { filter, parsed, options, subscriptionId } of this.stored)
      attach(session, filter, parsed, options, subscriptionId);
  }

  /** The client went while its inbox was attached. */
  private detachAgain(instance: number): void {
    if (instance === 0) return this.letGo();
    const { shard, id } = this.connection;
    const letGo = () => this.letGo();
    const call = callback(letGo, letGo);
    const expiry = clampExpiry(this.packet!.sessionExpirySeconds, shard.limits.sessionExpirySecondsMax);
    const writer = shard.caller.begin(OP.INBOX_DETACH, call).u53(instance).u32(id);
    writer.u32(expiry).u53(shard.wallMs()).u8(1).u53(0);
    shard.caller.send(shard.links.inbox);
  }

  private letGo(): void {
    const { shard, id } = this.connection;
    shard.letGo(this.accepted!.tenant, this.clientId, id);
  }

  private accept(session: Session, present: boolean, owed: readonly number[]): void {
    const { connection, packet } = this;
    const { shard } = connection;
    this.over = true;
    connection.connect = null;
    connection.session = session;
    session.tenant.sessions.set(session.clientId, session);
    this.attachStored(session);
    const { version } = connection;
    if (version === 5 && packet!.topicAliasMax > 0 && shard.limits.topicAliasMax > 0) {
      connection.aliases = new Map();
      connection.aliasMax = Math.min(packet!.topicAliasMax, shard.limits.topicAliasMax);
    }
    const { keepAliveSecondsMax, keepAliveSecondsDefault } = shard.limits;
    const asked = packet!.keepAliveSeconds;
    const longest = keepAliveSecondsMax === 65_535 ? KEEP_ALIVE_NEVER : keepAliveSecondsMax;
    // Only MQTT 5 clients can be told of another one [MQTT-3.1.2-21], [MQTT-3.2.2-22].
    const agreed =
      version === 5
        ? Math.min(asked || keepAliveSecondsDefault || KEEP_ALIVE_NEVER, longest)
        : asked || KEEP_ALIVE_NEVER;
    connection.silenceMsMax = agreed === KEEP_ALIVE_NEVER ? 0 : agreed * 1500; // [MQTT-3.1.2-22]
    shard.counters.values[CONNECTS + 4 * (version - 3) + TRANSPORT_INDEX[connection.remote.transport]]! += 1;
    connection.heardMs = shard.monotonicMs();
    shard.sessionOpened(session);
    const connack = encodeConnack(version, this.connack(session, present, agreed), connection.packetBytesMax);
    if (connack === null) return connection.close('drop-will'); // larger than the client takes [MQTT-3.1.2-24]
    connection.sendPacket(CONNACK, connack);
    session.outlet?.start(owed);
    connection.releaseConnecting();
    shard.endTurn();
  }

  private connack(session: Session, present: boolean, keepAlive: number): Connack {
    const { limits, features } = this.connection.shard;
    const packet = this.packet!;
    const { accepted } = this;
    const said = packet.sessionExpirySeconds;
    const unless = (available: boolean) => (available ? undefined : false);
    return {
      reasonCode: REASON.success,
      sessionPresent: present,
      sessionExpirySeconds: session.expirySeconds === said ? undefined : session.expirySeconds,
      receiveMax: limits.inflightInboundMax === 65_535 ? undefined : limits.inflightInboundMax,
      qosMax: limits.qosMax === 2 ? undefined : limits.qosMax === 1 ? 1 : 0,
      packetBytesMax: limits.packetBytesMax,
      assignedClientId: packet.clientId === '' ? this.clientId : undefined,
      topicAliasMax: limits.topicAliasMax === 0 ? undefined : limits.topicAliasMax,
      retainAvailable: unless(features.retain),
      wildcardSubscriptionAvailable: unless(features.wildcards),
      subscriptionIdsAvailable: unless(features.subscriptionIdentifiers),
      sharedSubscriptionAvailable: unless(features.sharedSubscriptions),
      serverKeepAliveSeconds:
        keepAlive !== (packet.keepAliveSeconds || KEEP_ALIVE_NEVER) ? keepAlive : undefined,
      responseInformation: packet.requestResponseInformation ? accepted!.responseInformation : undefined,
      authenticationMethod: packet.authenticationMethod ?? undefined,
      authenticationData: accepted!.data === undefined ? undefined : Buffer.from(accepted!.data),
    };
  }

  // -- the end -----------------------------------------------------------------------------------------------

  /** CONNACK with the reason, then the end [MQTT-3.1.4-6]. */
  refuse(reasonCode: number, reason: string): void {
    if (this.over) return;
    const { connection } = this;
    const { shard } = connection;
    shard.counters.values[CONNECT_REFUSALS + refusalOf(reasonCode)]! += 1;
    const reasonString = connection.wantsProblems ? reason : undefined;
    if (this.packet !== null)
      connection.sendPacket(
        CONNACK,
        encodeConnack(
          connection.version,
          { reasonCode, sessionPresent: false, reasonString },
          connection.packetBytesMax,
        ),
      );
    connection.close();
  }

  /** The connection ended first. What is under way lets go of the client id when its answer has come. */
  abandon(): void {
    this.over = true;
    const { shard, id } = this.connection;
    const { session } = this;
    if (session !== null) {
      this.attachStored(session);
      shard.depart(session, 'drop-will');
    } else if (this.claimed) {
      shard.leaves(id);
      if (!this.waits) this.letGo();
    }
  }
}

const NO_ATTRIBUTES = {};

/** Above every keep-alive that can be said (16 bits). Seconds. */
const KEEP_ALIVE_NEVER = 65_536;

function isText(bytes: Buffer): boolean {
  return isValidMqttUtf8(bytes, 0, bytes.length) || Buffer.from(bytes.toString('utf8')).equals(bytes);
}

function refusalOf(reasonCode: number): number {
  switch (reasonCode) {
    case REASON.connectionRateExceeded:
      return CONNECT_REFUSAL.RATE;
    case REASON.badUserNameOrPassword:
    case REASON.notAuthorized:
    case REASON.badAuthenticationMethod:
    case REASON.serverBusy:
      return CONNECT_REFUSAL.AUTHENTICATION;
    case REASON.serverUnavailable:
    case REASON.implementationSpecificError:
      return CONNECT_REFUSAL.UNAVAILABLE;
    case REASON.quotaExceeded:
      return CONNECT_REFUSAL.LIMIT;
    default:
      return CONNECT_REFUSAL.PROTOCOL;
  }
}
