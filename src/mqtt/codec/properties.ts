import { EMPTY, type FieldReader } from './field-reader.js';
import type { UserProperty } from './packet.js';

/**
 * MQTT 5 properties of what clients send, except those of PUBLISH, which publish-view.ts reads in place.
 * Identifiers are those of MQTT 5, table 2-4. All fit one byte, whose high bit is never set.
 */
export const PROPERTY = {
  payloadFormat: 0x01,
  messageExpiry: 0x02,
  contentType: 0x03,
  responseTopic: 0x08,
  correlationData: 0x09,
  subscriptionId: 0x0b,
  sessionExpiry: 0x11,
  authenticationMethod: 0x15,
  authenticationData: 0x16,
  requestProblemInformation: 0x17,
  willDelay: 0x18,
  requestResponseInformation: 0x19,
  serverReference: 0x1c,
  reasonString: 0x1f,
  receiveMax: 0x21,
  topicAliasMax: 0x22,
  topicAlias: 0x23,
  userProperty: 0x26,
  packetBytesMax: 0x27,
} as const;

/** Which properties a packet may carry, indexed by identifier. */
export type PropertySet = Uint8Array;

function propertySet(...identifiers: number[]): PropertySet {
  const set = new Uint8Array(256);
  for (const identifier of identifiers) set[identifier] = 1;
  return set;
}

export const CONNECT_PROPERTIES: PropertySet = propertySet(
  PROPERTY.sessionExpiry,
  PROPERTY.receiveMax,
  PROPERTY.packetBytesMax,
  PROPERTY.topicAliasMax,
  PROPERTY.requestResponseInformation,
  PROPERTY.requestProblemInformation,
  PROPERTY.userProperty,
  PROPERTY.authenticationMethod,
  PROPERTY.authenticationData,
);
export const WILL_PROPERTIES: PropertySet = propertySet(
  PROPERTY.willDelay,
  PROPERTY.payloadFormat,
  PROPERTY.messageExpiry,
  PROPERTY.contentType,
  PROPERTY.responseTopic,
  PROPERTY.correlationData,
  PROPERTY.userProperty,
);
export const ACK_PROPERTIES: PropertySet = propertySet(PROPERTY.reasonString, PROPERTY.userProperty);
export const SUBSCRIBE_PROPERTIES: PropertySet = propertySet(PROPERTY.subscriptionId, PROPERTY.userProperty);
export const UNSUBSCRIBE_PROPERTIES: PropertySet = propertySet(PROPERTY.userProperty);
/** Server Reference is listed for DISCONNECT (table 2-4) whoever sends it; from a client it says nothing. */
export const DISCONNECT_PROPERTIES: PropertySet = propertySet(
  PROPERTY.sessionExpiry,
  PROPERTY.reasonString,
  PROPERTY.userProperty,
  PROPERTY.serverReference,
);
export const AUTH_PROPERTIES: PropertySet = propertySet(
  PROPERTY.authenticationMethod,
  PROPERTY.authenticationData,
  PROPERTY.reasonString,
  PROPERTY.userProperty,
);

const NO_USER_PROPERTIES: readonly UserProperty[] = [];

/** What a property block said; an absent property has the value that the specification gives it. */
export class Properties {
  payloadFormat = -1;
  messageExpirySeconds = -1;
  contentType: string | null = null;
  responseTopic: string | null = null;
  correlationData: Buffer | null = null;
  subscriptionId = 0;
  sessionExpirySeconds = -1;
  authenticationMethod: string | null = null;
  authenticationData: Buffer | null = null;
  requestProblemInformation = true;
  willDelaySeconds = 0;
  requestResponseInformation = false;
  reasonString: string | null = null;
  receiveMax = 0xffff;
  topicAliasMax = 0;
  packetBytesMax = 0xffff_ffff;
  userProperties: readonly UserProperty[] = NO_USER_PROPERTIES;
  /** The encoded block without will delay and message expiry; filled only where will properties are read. */
  forwarded: Buffer = EMPTY;
}

/** Reads a Property Length and the properties that it measures; what is wrong is left in `reader.violation`. */
export function readProperties(reader: FieldReader, allowed: PropertySet): Properties {
  const into = new Properties();
  const length = reader.variableInteger();
  const start = reader.at;
  const outerEnd = reader.end;
  if (start + length > outerEnd) reader.malformed('MQTT-4.13.1-1', 'the properties end after their packet');
  if (reader.violation !== null || length === 0) return into;
  reader.end = start + length;
  let seenLow = 0;
  let seenHigh = 0;
  const kept: Buffer[] = [];
  const userProperties: UserProperty[] = [];
  while (reader.more) {
    const at = reader.at;
    const identifier = reader.u8();
    if (allowed[identifier] === 0) {
      reader.malformed('MQTT-2.2.2.2', `property ${identifier} does not belong in this packet`);
      return into;
    }
    if (identifier === PROPERTY.userProperty) {
      userProperties.push([reader.string('MQTT-1.5.7-1'), reader.string('MQTT-1.5.7-1')]);
    } else {
      const bit = 1 << (identifier & 31);
      if (((identifier < 32 ? seenLow : seenHigh) & bit) !== 0) {
        reader.illegal('MQTT-2.2.2.2', `property ${identifier} occurs twice`);
      }
      if (identifier < 32) seenLow |= bit;
      else seenHigh |= bit;
      readProperty(reader, identifier, into);
    }
    if (allowed === WILL_PROPERTIES && isForwarded(identifier)) {
      kept.push(reader.buffer.subarray(at, reader.at));
    }
  }
  if (reader.violation !== null) return into;
  reader.end = outerEnd;
  into.userProperties = userProperties;
  if (kept.length > 0) into.forwarded = Buffer.concat(kept);
  return into;
}

function isForwarded(identifier: number): boolean {
  return identifier !== PROPERTY.willDelay && identifier !== PROPERTY.messageExpiry;
}

function readProperty(reader: FieldReader, identifier: number, into: Properties): void {
  switch (identifier) {
    case PROPERTY.payloadFormat:
      into.payloadFormat = readFlag(reader) ? 1 : 0;
      return;
    case PROPERTY.messageExpiry:
      into.messageExpirySeconds = reader.u32();
      return;
    case PROPERTY.contentType:
      into.contentType = reader.string('MQTT-3.3.2-19');
      return;
    case PROPERTY.responseTopic:
      into.responseTopic = readTopicName(reader, 'MQTT-3.3.2-13', 'MQTT-3.3.2-14');
      return;
    case PROPERTY.correlationData:
      into.correlationData = reader.binary();
      return;
    case PROPERTY.subscriptionId:
      into.subscriptionId = reader.variableInteger();
      if (into.subscriptionId === 0) reader.illegal('MQTT-3.8.2.1.2', 'the subscription identifier is 0');
      return;
    case PROPERTY.sessionExpiry:
      into.sessionExpirySeconds = reader.u32();
      return;
    case PROPERTY.authenticationMethod:
      into.authenticationMethod = reader.string('MQTT-1.5.4-1');
      return;
    case PROPERTY.authenticationData:
      into.authenticationData = reader.binary();
      return;
    case PROPERTY.requestProblemInformation:
      into.requestProblemInformation = readFlag(reader);
      return;
    case PROPERTY.willDelay:
      into.willDelaySeconds = reader.u32();
      return;
    case PROPERTY.requestResponseInformation:
      into.requestResponseInformation = readFlag(reader);
      return;
    case PROPERTY.serverReference:
      reader.string('MQTT-1.5.4-1');
      return;
    case PROPERTY.reasonString:
      into.reasonString = reader.string('MQTT-1.5.4-1');
      return;
    case PROPERTY.receiveMax:
      into.receiveMax = reader.u16();
      if (into.receiveMax === 0) reader.illegal('MQTT-3.1.2.11.3', 'Receive Maximum is 0');
      return;
    case PROPERTY.topicAliasMax:
      into.topicAliasMax = reader.u16();
      return;
    default:
      into.packetBytesMax = reader.u32();
      if (into.packetBytesMax === 0) reader.illegal('MQTT-3.1.2.11.4', 'Maximum Packet Size is 0');
  }
}

function readFlag(reader: FieldReader): boolean {
  const value = reader.u8();
  if (value > 1) reader.illegal('MQTT-2.2.2.2', 'a property of 0 or 1 has another value');
  return value === 1;
}

/** A topic name that is not empty and has no wildcards; topics of PUBLISH are checked by the topic cache instead. */
export function readTopicName(reader: FieldReader, utf8Clause: string, wildcardClause: string): string {
  const topic = reader.string(utf8Clause);
  if (reader.violation !== null) return '';
  if (topic.length === 0) reader.malformed('MQTT-4.7.3-1', 'a topic name is empty');
  if (/[#+]/.test(topic)) reader.malformed(wildcardClause, 'a topic name contains a wildcard');
  return topic;
}
