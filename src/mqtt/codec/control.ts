import { FieldReader } from './field-reader.js';
import {
  AUTH,
  CONNECT,
  type ConnectPacket,
  type ControlPacket,
  DISCONNECT,
  type ProtocolVersion,
  REASON,
  SESSION_EXPIRY_NEVER,
  SUBSCRIBE,
  type SubscriptionRequest,
  type Violation,
  type WillMessage,
} from './packet.js';
import {
  ACK_PROPERTIES,
  AUTH_PROPERTIES,
  CONNECT_PROPERTIES,
  DISCONNECT_PROPERTIES,
  Properties,
  readProperties,
  readTopicName,
  SUBSCRIBE_PROPERTIES,
  UNSUBSCRIBE_PROPERTIES,
  WILL_PROPERTIES,
} from './properties.js';

/**
 * CONNECT, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT and AUTH from bytes to data.
 *
 * These are read here rather than by mqtt-packet's parser, which is made for the client side and forgives what a
 * server must refuse: it decodes ill-formed UTF-8 to U+FFFD (so that two client ids become one), ignores bytes after
 * the last field, takes properties of any packet in any packet and any number of times, lets lengths inside
 * properties run past the block, reads any non-zero byte as true, loses the order of user properties among
 * each other, keeps reading after an error in DISCONNECT, and accepts a SUBSCRIBE without filters and a packet identifier 0.
 * Patching each of these around it needs all offsets again, hence a second parser. mqtt-packet writes the control
 * packets that leave (encoder.ts) and is the oracle in test/mqtt/codec: all that it generates is read alike here.
 *
 * Reason codes: 0x81 for what cannot be read as the specification says, 0x82 for what it forbids to say (1.2).
 */

/** Parses one packet that lies whole in `buffer` from `start` (after its fixed header) to `end`. */
export function parseControl(
  type: number,
  version: ProtocolVersion | 0,
  buffer: Buffer,
  start: number,
  end: number,
): { kind: 'packet'; packet: ControlPacket } | { kind: 'violation'; violation: Violation } {
  const reader = new FieldReader(buffer, start, end);
  const packet = parse(type, version, reader);
  if (packet?.kind !== 'unsupported-version' && reader.more) {
    reader.malformed('MQTT-4.13.1-1', 'bytes follow the last field of a packet');
  }
  if (reader.violation !== null || packet === null) {
    return { kind: 'violation', violation: reader.violation ?? UNREADABLE };
  }
  return { kind: 'packet', packet };
}

const UNREADABLE: Violation = {
  reasonCode: REASON.malformedPacket,
  clause: 'MQTT-4.13.1-1',
  why: 'a packet cannot be read',
};

function parse(type: number, version: ProtocolVersion | 0, reader: FieldReader): ControlPacket | null {
  switch (type) {
    case CONNECT:
      return parseConnect(reader);
    case SUBSCRIBE:
      return parseSubscribe(version, reader);
    case DISCONNECT:
      return parseDisconnect(version, reader);
    case AUTH:
      return parseAuth(reader);
    default:
      return parseUnsubscribe(version, reader);
  }
}

const RESERVED = 0x01;
const CLEAN_START = 0x02;
const WILL = 0x04;
const WILL_RETAIN = 0x20;
const PASSWORD = 0x40;
const USER_NAME = 0x80;

function parseConnect(reader: FieldReader): ControlPacket | null {
  const protocolName = reader.string('MQTT-3.1.2-1');
  const protocolLevel = reader.u8();
  if (protocolName !== 'MQTT' && protocolName !== 'MQIsdp') {
    reader.fail(REASON.unsupportedProtocolVersion, 'MQTT-3.1.2-1', 'the protocol name is not MQTT');
    return null;
  }
  if (reader.violation !== null) return null;
  const version = protocolVersion(protocolName, protocolLevel);
  if (version === 0) return { kind: 'unsupported-version', protocolName, protocolLevel };

  const flags = reader.u8();
  checkConnectFlags(reader, flags, version);
  const keepAliveSeconds = reader.u16();
  const properties = version === 5 ? readProperties(reader, CONNECT_PROPERTIES) : new Properties();
  if (properties.authenticationData !== null && properties.authenticationMethod === null) {
    reader.illegal('MQTT-3.1.2.11.10', 'authentication data comes without an authentication method');
  }
  const clientId = reader.string('MQTT-3.1.3-4');
  const will = (flags & WILL) !== 0 ? parseWill(reader, flags, version) : null;
  // MQTT 3.1, section 3.1: the remaining length takes precedence over these two flags.
  const mayMiss = version === 3;
  const hasUserName = (flags & USER_NAME) !== 0 && !(mayMiss && !reader.more);
  const userName = hasUserName ? reader.string('MQTT-3.1.3-12') : null;
  const hasPassword = (flags & PASSWORD) !== 0 && !(mayMiss && !reader.more);
  const password = hasPassword ? reader.binary() : null;
  const cleanStart = (flags & CLEAN_START) !== 0;
  return {
    kind: 'connect',
    version,
    cleanStart,
    keepAliveSeconds,
    clientId,
    userName,
    password,
    will,
    sessionExpirySeconds: sessionExpirySeconds(version, cleanStart, properties),
    receiveMax: properties.receiveMax,
    packetBytesMax: properties.packetBytesMax,
    topicAliasMax: properties.topicAliasMax,
    requestResponseInformation: properties.requestResponseInformation,
    requestProblemInformation: properties.requestProblemInformation,
    userProperties: properties.userProperties,
    authenticationMethod: properties.authenticationMethod,
    authenticationData: properties.authenticationData,
  } satisfies ConnectPacket;
}

function protocolVersion(name: 'MQTT' | 'MQIsdp', level: number): ProtocolVersion | 0 {
  if (name === 'MQIsdp') return level === 3 ? 3 : 0;
  return level === 4 || level === 5 ? level : 0;
}

function sessionExpirySeconds(version: ProtocolVersion, cleanStart: boolean, properties: Properties): number {
  if (version === 5) return Math.max(0, properties.sessionExpirySeconds);
  return cleanStart ? 0 : SESSION_EXPIRY_NEVER;
}

function checkConnectFlags(reader: FieldReader, flags: number, version: ProtocolVersion): void {
  // MQTT 3.1 calls bit 0 unused, not reserved: it is not looked at there.
  if ((flags & RESERVED) !== 0 && version !== 3) {
    reader.malformed('MQTT-3.1.2-3', 'the reserved connect flag is set');
  }
  const willQos = (flags >> 3) & 3;
  if ((flags & WILL) === 0) {
    if (willQos !== 0) reader.malformed('MQTT-3.1.2-11', 'Will QoS is set without a will');
    if ((flags & WILL_RETAIN) !== 0) reader.malformed('MQTT-3.1.2-13', 'Will Retain is set without a will');
  } else if (willQos === 3) {
    reader.malformed('MQTT-3.1.2-12', 'Will QoS is 3');
  }
  if (version !== 5 && (flags & (USER_NAME | PASSWORD)) === PASSWORD) {
    reader.malformed('MQTT-3.1.2-22 (3.1.1)', 'a password comes without a user name');
  }
}

function parseWill(reader: FieldReader, flags: number, version: ProtocolVersion): WillMessage {
  const properties = version === 5 ? readProperties(reader, WILL_PROPERTIES) : new Properties();
  const topic = readTopicName(reader, 'MQTT-3.1.3-11', 'MQTT-3.3.2-2');
  const payload = reader.binary();
  return {
    topic,
    qos: ((flags >> 3) & 3) as 0 | 1 | 2,
    retain: (flags & WILL_RETAIN) !== 0,
    payload,
    delaySeconds: properties.willDelaySeconds,
    messageExpirySeconds: properties.messageExpirySeconds,
    payloadFormat: properties.payloadFormat,
    contentType: properties.contentType,
    responseTopic: properties.responseTopic,
    correlationData: properties.correlationData,
    userProperties: properties.userProperties,
    forwardedProperties: properties.forwarded,
  };
}

function parseSubscribe(version: ProtocolVersion | 0, reader: FieldReader): ControlPacket {
  const packetId = reader.packetId();
  const properties = version === 5 ? readProperties(reader, SUBSCRIBE_PROPERTIES) : new Properties();
  if (!reader.more) reader.illegal('MQTT-3.8.3-2', 'a SUBSCRIBE has no topic filter');
  const subscriptions: SubscriptionRequest[] = [];
  while (reader.more) {
    const filter = readFilter(reader, 'MQTT-3.8.3-1');
    const options = reader.u8();
    checkSubscriptionOptions(reader, version, filter, options);
    subscriptions.push({
      filter,
      qos: (options & 3) as 0 | 1 | 2,
      noLocal: (options & 0x04) !== 0,
      retainAsPublished: (options & 0x08) !== 0,
      retainHandling: ((options >> 4) & 3) as 0 | 1 | 2,
    });
  }
  const { subscriptionId, userProperties } = properties;
  return { kind: 'subscribe', packetId, subscriptions, subscriptionId, userProperties };
}

function checkSubscriptionOptions(
  reader: FieldReader,
  version: ProtocolVersion | 0,
  filter: string,
  options: number,
): void {
  if (version === 5) {
    if ((options & 0xc0) !== 0) reader.malformed('MQTT-3.8.3-5', 'reserved subscription options are set');
    if ((options & 0x30) === 0x30) reader.illegal('MQTT-3.8.3.1', 'Retain Handling is 3');
    if ((options & 0x04) !== 0 && isShared(filter)) {
      reader.illegal('MQTT-3.8.3-4', 'No Local is set on a shared subscription');
    }
  } else if ((options & 0xfc) !== 0) {
    reader.malformed('MQTT-3.8.3-4 (3.1.1)', 'reserved bits of the requested QoS are set');
  }
  if ((options & 3) === 3) reader.illegal('MQTT-3.8.3.1', 'the requested QoS is 3');
}

/** `$oshare` is our ordered kind of shared subscription, under the same rules. */
function isShared(filter: string): boolean {
  return filter.startsWith('$share/') || filter.startsWith('$oshare/');
}

function readFilter(reader: FieldReader, utf8Clause: string): string {
  const filter = reader.string(utf8Clause);
  if (filter.length === 0) reader.malformed('MQTT-4.7.3-1', 'a topic filter is empty');
  return filter;
}

function parseUnsubscribe(version: ProtocolVersion | 0, reader: FieldReader): ControlPacket {
  const packetId = reader.packetId();
  const properties = version === 5 ? readProperties(reader, UNSUBSCRIBE_PROPERTIES) : new Properties();
  if (!reader.more) reader.illegal('MQTT-3.10.3-2', 'an UNSUBSCRIBE has no topic filter');
  const filters: string[] = [];
  while (reader.more) filters.push(readFilter(reader, 'MQTT-3.10.3-1'));
  return { kind: 'unsubscribe', packetId, filters, userProperties: properties.userProperties };
}

/** The reason codes that a client may send (MQTT 5, table 3-13). */
const CLIENT_DISCONNECT_REASONS: ReadonlySet<number> = new Set<number>([
  REASON.success,
  REASON.disconnectWithWill,
  REASON.unspecifiedError,
  REASON.malformedPacket,
  REASON.protocolError,
  REASON.implementationSpecificError,
  REASON.topicNameInvalid,
  REASON.receiveMaximumExceeded,
  REASON.topicAliasInvalid,
  REASON.packetTooLarge,
  REASON.messageRateTooHigh,
  REASON.quotaExceeded,
  REASON.administrativeAction,
  REASON.payloadFormatInvalid,
]);

function parseDisconnect(version: ProtocolVersion | 0, reader: FieldReader): ControlPacket {
  // Before MQTT 5 it has no variable header; whatever follows is reported as trailing bytes.
  const reasonCode = version === 5 && reader.more ? reader.u8() : REASON.success;
  if (!CLIENT_DISCONNECT_REASONS.has(reasonCode)) {
    reader.illegal('MQTT-3.14.2-1', 'the reason code is not one for a client to disconnect with');
  }
  const properties =
    version === 5 && reader.more ? readProperties(reader, DISCONNECT_PROPERTIES) : new Properties();
  const { sessionExpirySeconds, reasonString, userProperties } = properties;
  return { kind: 'disconnect', reasonCode, sessionExpirySeconds, reasonString, userProperties };
}

function parseAuth(reader: FieldReader): ControlPacket | null {
  const reasonCode = reader.more ? reader.u8() : REASON.success;
  if (reasonCode !== REASON.continueAuthentication && reasonCode !== REASON.reAuthenticate) {
    reader.illegal('MQTT-3.15.2-1', 'the reason code is not one for a client to authenticate with');
  }
  const properties = reader.more ? readProperties(reader, AUTH_PROPERTIES) : new Properties();
  const { authenticationMethod, authenticationData, reasonString, userProperties } = properties;
  if (authenticationMethod === null) {
    reader.illegal('MQTT-3.15.2.2.2', 'an AUTH has no authentication method');
    return null;
  }
  return { kind: 'auth', reasonCode, authenticationMethod, authenticationData, reasonString, userProperties };
}

/** Checks the properties of an MQTT 5 acknowledgement, which the broker has no use for; null when all is well. */
export function checkAckProperties(buffer: Buffer, start: number, end: number): Violation | null {
  const reader = new FieldReader(buffer, start, end);
  readProperties(reader, ACK_PROPERTIES);
  if (reader.more) reader.malformed('MQTT-4.13.1-1', 'bytes follow the last field of a packet');
  return reader.violation;
}
