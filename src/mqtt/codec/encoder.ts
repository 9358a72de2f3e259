import { generate, writeToStream } from 'mqtt-packet';
import {
  connackReturnCode,
  PINGRESP,
  type ProtocolVersion,
  PUBREL,
  REASON,
  SUBACK,
  subackReturnCode,
  UNSUBACK,
  type UserProperty,
} from './packet.js';

/**
 * The packets that a server sends, except PUBLISH (publish-encoder.ts). mqtt-packet writes those that carry
 * properties, which are rare; the acknowledgements, SUBACK and UNSUBACK included, are few fixed bytes and are
 * written here.
 *
 * Nothing longer than the receiver's Maximum Packet Size may be sent [MQTT-3.1.2-24]: user properties and reason
 * string are left out where they would make a packet too long [MQTT-3.2.2-19, -20, 3.9.2-1, 3.11.2-1, 3.14.2-3, -4,
 * 3.15.2-2, -3];
 * a packet that is too long even so is `null`, and the connection is closed without it.
 */

// Its cache of all 65,536 two-byte numbers would cost each thread some megabytes and 20 ms.
writeToStream.cacheNumbers = false;

/** The whole PINGRESP packet; shared, never to be written into. */
export const PINGRESP_BYTES: Buffer = Buffer.from([PINGRESP << 4, 0]);

/** The longest acknowledgement that {@link encodeAck} writes. Bytes. */
export const ACK_BYTES_MAX = 5;

/** Writes PUBACK, PUBREC, PUBREL or PUBCOMP at `at` of `into`; returns how many bytes: 4, or 5 with a reason. */
export function encodeAck(
  type: number,
  packetId: number,
  reasonCode: number,
  version: ProtocolVersion,
  into: Buffer,
  at: number,
): number {
  const withReason = version === 5 && reasonCode !== REASON.success;
  into[at] = (type << 4) | (type === PUBREL ? 2 : 0);
  into[at + 1] = withReason ? 3 : 2;
  into[at + 2] = packetId >> 8;
  into[at + 3] = packetId;
  if (!withReason) return 4;
  into[at + 4] = reasonCode;
  return 5;
}

/** What CONNACK says; MQTT 5's properties by their meaning, each optional. */
export interface Connack {
  readonly reasonCode: number;
  /** Sent as 0 with every reason but success [MQTT-3.2.2-6]. */
  readonly sessionPresent: boolean;
  readonly sessionExpirySeconds?: number | undefined;
  readonly receiveMax?: number | undefined;
  /** 0 or 1 [MQTT-3.2.2-9]; absent for 2. */
  readonly qosMax?: 0 | 1 | undefined;
  readonly retainAvailable?: boolean | undefined;
  readonly packetBytesMax?: number | undefined;
  readonly assignedClientId?: string | undefined;
  readonly topicAliasMax?: number | undefined;
  readonly reasonString?: string | undefined;
  readonly userProperties?: readonly UserProperty[] | undefined;
  readonly wildcardSubscriptionAvailable?: boolean | undefined;
  readonly subscriptionIdsAvailable?: boolean | undefined;
  readonly sharedSubscriptionAvailable?: boolean | undefined;
  readonly serverKeepAliveSeconds?: number | undefined;
  readonly responseInformation?: string | undefined;
  readonly serverReference?: string | undefined;
  readonly authenticationMethod?: string | undefined;
  readonly authenticationData?: Buffer | undefined;
}

/**
 * CONNACK, with the old versions' return code where it is for them. `bytesMax` is the client's Maximum Packet Size.
 * Null where nothing may be sent: MQTT 3 has no code for the reason, or it does not fit.
 */
export function encodeConnack(
  version: ProtocolVersion,
  connack: Connack,
  bytesMax = BYTES_MAX,
): Buffer | null {
  const sessionPresent = connack.sessionPresent && connack.reasonCode === REASON.success;
  if (version !== 5) {
    const returnCode = connackReturnCode(connack.reasonCode);
    if (returnCode < 0) return null;
    // MQTT 3.1 has no session-present flag: the byte is reserved there.
    const flag = sessionPresent && version === 4;
    return generate({ cmd: 'connack', returnCode, sessionPresent: flag }, { protocolVersion: 4 });
  }
  const properties = {
    sessionExpiryInterval: connack.sessionExpirySeconds,
    receiveMaximum: connack.receiveMax,
    maximumQoS: connack.qosMax,
    retainAvailable: connack.retainAvailable,
    maximumPacketSize: connack.packetBytesMax,
    assignedClientIdentifier: connack.assignedClientId,
    topicAliasMaximum: connack.topicAliasMax,
    wildcardSubscriptionAvailable: connack.wildcardSubscriptionAvailable,
    subscriptionIdentifiersAvailable: connack.subscriptionIdsAvailable,
    sharedSubscriptionAvailable: connack.sharedSubscriptionAvailable,
    serverKeepAlive: connack.serverKeepAliveSeconds,
    responseInformation: connack.responseInformation,
    serverReference: connack.serverReference,
    authenticationMethod: connack.authenticationMethod,
    authenticationData: connack.authenticationData,
  };
  const { reasonCode } = connack;
  return generateWithin({ cmd: 'connack', reasonCode, sessionPresent }, properties, connack, bytesMax);
}

/**
 * The CONNACK for a CONNECT of a version that is not served, in the form that its sender can read: MQTT 5's for
 * later levels, else return code 1. Bridges that set the level's high bit to try a private dialect look at the rest.
 */
export function encodeUnsupportedVersion(protocolLevel: number): Buffer {
  const isLikeV5 = (protocolLevel & 0x7f) >= 5;
  const connack = { reasonCode: REASON.unsupportedProtocolVersion, sessionPresent: false };
  return encodeConnack(isLikeV5 ? 5 : 4, connack)!;
}

/** SUBACK: a reason code for each filter, in order; before MQTT 5 every failure becomes 0x80, without a word. */
export function encodeSuback(
  version: ProtocolVersion,
  packetId: number,
  reasonCodes: readonly number[],
  bytesMax = BYTES_MAX,
  reasonString?: string,
): Buffer | null {
  const bytes = acknowledgeFilters(SUBACK, version, packetId, reasonCodes.length, bytesMax, reasonString);
  const start = bytes.length - reasonCodes.length;
  for (let i = 0; i < reasonCodes.length; i++) {
    bytes[start + i] = subackReturnCode(version, reasonCodes[i]!);
  }
  return bytes.length <= bytesMax ? bytes : null;
}

/** UNSUBACK: a reason code for each filter, in order; before MQTT 5 there are none. */
export function encodeUnsuback(
  version: ProtocolVersion,
  packetId: number,
  reasonCodes: readonly number[],
  bytesMax = BYTES_MAX,
  reasonString?: string,
): Buffer | null {
  const count = version === 5 ? reasonCodes.length : 0;
  const bytes = acknowledgeFilters(UNSUBACK, version, packetId, count, bytesMax, reasonString);
  for (let i = 0; i < count; i++) bytes[bytes.length - count + i] = reasonCodes[i]!;
  return bytes.length <= bytesMax ? bytes : null;
}

/** All but the reason codes, for which it leaves room; without the reason string where it would be too long with it. */
function acknowledgeFilters(
  type: number,
  version: ProtocolVersion,
  packetId: number,
  count: number,
  bytesMax: number,
  reasonString: string | undefined,
): Buffer {
  const said = version === 5 && reasonString !== undefined ? Buffer.from(reasonString) : NOTHING;
  const properties = said.length === 0 ? 0 : 3 + said.length;
  const remaining = 2 + (version === 5 ? variableIntegerBytes(properties) + properties : 0) + count;
  const size = 1 + variableIntegerBytes(remaining) + remaining;
  if (size > bytesMax && properties > 0)
    return acknowledgeFilters(type, version, packetId, count, bytesMax, undefined);
  const bytes = Buffer.alloc(size);
  bytes[0] = type << 4;
  let at = bytes.writeUInt16BE(packetId, writeVariableInteger(bytes, 1, remaining));
  if (properties === 0) return bytes;
  at = writeVariableInteger(bytes, at, properties);
  bytes[at] = REASON_STRING;
  at = bytes.writeUInt16BE(said.length, at + 1);
  said.copy(bytes, at);
  return bytes;
}

const NOTHING = Buffer.alloc(0);
/** Property identifier (MQTT 5, 2.2.2.2). */
const REASON_STRING = 0x1f;

export interface Disconnect {
  readonly reasonCode: number;
  readonly reasonString?: string | undefined;
  readonly userProperties?: readonly UserProperty[] | undefined;
  readonly serverReference?: string | undefined;
}

/** DISCONNECT; null before MQTT 5, where a server sends none, and where it does not fit. */
export function encodeDisconnect(
  version: ProtocolVersion,
  disconnect: Disconnect,
  bytesMax = BYTES_MAX,
): Buffer | null {
  if (version !== 5) return null;
  const properties = { serverReference: disconnect.serverReference };
  const { reasonCode } = disconnect;
  return generateWithin({ cmd: 'disconnect', reasonCode }, properties, disconnect, bytesMax);
}

export interface Auth {
  readonly reasonCode: number;
  readonly authenticationMethod: string;
  readonly authenticationData?: Buffer | undefined;
  readonly reasonString?: string | undefined;
  readonly userProperties?: readonly UserProperty[] | undefined;
}

/** AUTH, which only MQTT 5 has; null where it does not fit. */
export function encodeAuth(auth: Auth, bytesMax = BYTES_MAX): Buffer | null {
  const { reasonCode, authenticationMethod, authenticationData } = auth;
  const properties = { authenticationMethod, authenticationData };
  return generateWithin({ cmd: 'auth', reasonCode }, properties, auth, bytesMax);
}

/** No limit: the longest packet that there can be (MQTT 5, 2.1.4), in bytes. */
const BYTES_MAX = 5 + 268_435_455;

interface Explanation {
  readonly reasonString?: string | undefined;
  readonly userProperties?: readonly UserProperty[] | undefined;
}

type Generated =
  | { cmd: 'connack'; reasonCode: number; sessionPresent: boolean }
  | { cmd: 'disconnect'; reasonCode: number }
  | { cmd: 'auth'; reasonCode: number };

/** Writes a packet of MQTT 5, without user properties and then without reason string where it gets too long. */
function generateWithin(
  packet: Generated,
  properties: Record<string, number | string | boolean | Buffer | undefined>,
  explanation: Explanation,
  bytesMax: number,
): Buffer | null {
  const { reasonString } = explanation;
  const userProperties = userPropertiesByName(explanation.userProperties);
  const variants = [
    { ...properties, reasonString, userProperties },
    { ...properties, reasonString },
    properties,
  ];
  for (const variant of variants) {
    const bytes = generate({ ...packet, properties: variant } as Parameters<typeof generate>[0], {
      protocolVersion: 5,
    });
    if (bytes.length <= bytesMax) return bytes;
  }
  return null;
}

/** mqtt-packet takes them by name, which keeps the order among equal names. */
function userPropertiesByName(
  userProperties: readonly UserProperty[] | undefined,
): Record<string, string[]> | undefined {
  if (userProperties === undefined || userProperties.length === 0) return undefined;
  const byName: Record<string, string[]> = Object.create(null);
  for (const [name, value] of userProperties) (byName[name] ??= []).push(value);
  return byName;
}

/** How many bytes a Variable Byte Integer takes (MQTT 5, 1.5.5), 1 to 4. */
export function variableIntegerBytes(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  return value < 0x20_0000 ? 3 : 4;
}

/** Writes a Variable Byte Integer below 2^28 at `at`; returns where it ends. */
export function writeVariableInteger(into: Buffer, at: number, value: number): number {
  let rest = value;
  let next = at;
  while (rest >= 0x80) {
    into[next++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  into[next++] = rest;
  return next;
}
