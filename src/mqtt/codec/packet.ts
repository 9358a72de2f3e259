/**
 * The control packets of MQTT 3.1, 3.1.1 and 5 as plain data, one shape for all versions: what an older version
 * cannot say holds the value that MQTT 5 defines as its meaning, so that the session needs no version branches.
 * PUBLISH and the four acknowledgements are not here: they never become objects (see decoder.ts).
 */

/** The protocol level byte of CONNECT: 3 is MQTT 3.1 (MQIsdp), 4 is 3.1.1, 5 is 5.0. */
export type ProtocolVersion = 3 | 4 | 5;

/** MQTT control packet types, the high nibble of the first byte (MQTT 5, table 2-1). */
export const CONNECT = 1;
export const CONNACK = 2;
export const PUBLISH = 3;
export const PUBACK = 4;
export const PUBREC = 5;
export const PUBREL = 6;
export const PUBCOMP = 7;
export const SUBSCRIBE = 8;
export const SUBACK = 9;
export const UNSUBSCRIBE = 10;
export const UNSUBACK = 11;
export const PINGREQ = 12;
export const PINGRESP = 13;
export const DISCONNECT = 14;
export const AUTH = 15;

/** MQTT 5 reason codes (table 2-6), by their names there. 0x00 to 0x02 also are the granted QoS of a SUBACK. */
export const REASON = {
  success: 0x00,
  grantedQos0: 0x00,
  grantedQos1: 0x01,
  grantedQos2: 0x02,
  disconnectWithWill: 0x04,
  noMatchingSubscribers: 0x10,
  noSubscriptionExisted: 0x11,
  continueAuthentication: 0x18,
  reAuthenticate: 0x19,
  unspecifiedError: 0x80,
  malformedPacket: 0x81,
  protocolError: 0x82,
  implementationSpecificError: 0x83,
  unsupportedProtocolVersion: 0x84,
  clientIdentifierNotValid: 0x85,
  badUserNameOrPassword: 0x86,
  notAuthorized: 0x87,
  serverUnavailable: 0x88,
  serverBusy: 0x89,
  banned: 0x8a,
  serverShuttingDown: 0x8b,
  badAuthenticationMethod: 0x8c,
  keepAliveTimeout: 0x8d,
  sessionTakenOver: 0x8e,
  topicFilterInvalid: 0x8f,
  topicNameInvalid: 0x90,
  packetIdentifierInUse: 0x91,
  packetIdentifierNotFound: 0x92,
  receiveMaximumExceeded: 0x93,
  topicAliasInvalid: 0x94,
  packetTooLarge: 0x95,
  messageRateTooHigh: 0x96,
  quotaExceeded: 0x97,
  administrativeAction: 0x98,
  payloadFormatInvalid: 0x99,
  retainNotSupported: 0x9a,
  qosNotSupported: 0x9b,
  useAnotherServer: 0x9c,
  serverMoved: 0x9d,
  sharedSubscriptionsNotSupported: 0x9e,
  connectionRateExceeded: 0x9f,
  maximumConnectTime: 0xa0,
  subscriptionIdentifiersNotSupported: 0xa1,
  wildcardSubscriptionsNotSupported: 0xa2,
} as const;

/** Never expires (MQTT 5, 3.1.2.11.2); what CleanSession 0 meant before MQTT 5. Seconds. */
export const SESSION_EXPIRY_NEVER = 0xffff_ffff;

/**
 * The CONNACK return code of MQTT 3.1 and 3.1.1 (table 3.1 there) for a reason code, or -1 where the old versions
 * know none and the connection is closed without a CONNACK [MQTT-3.2.2-6 (3.1.1)].
 */
export function connackReturnCode(reasonCode: number): number {
  switch (reasonCode) {
    case REASON.success:
      return 0;
    case REASON.unsupportedProtocolVersion:
      return 1;
    case REASON.clientIdentifierNotValid:
      return 2;
    case REASON.unspecifiedError:
    case REASON.implementationSpecificError:
    case REASON.serverUnavailable:
    case REASON.serverBusy:
    case REASON.serverShuttingDown:
    case REASON.quotaExceeded:
    case REASON.useAnotherServer:
    case REASON.serverMoved:
    case REASON.connectionRateExceeded:
      return 3;
    case REASON.badUserNameOrPassword:
    case REASON.badAuthenticationMethod:
      return 4;
    case REASON.notAuthorized:
    case REASON.banned:
      return 5;
    default:
      return -1;
  }
}

/** The SUBACK return code of a version for a reason code: before MQTT 5 every failure is 0x80. */
export function subackReturnCode(version: ProtocolVersion, reasonCode: number): number {
  return version === 5 || reasonCode <= REASON.grantedQos2 ? reasonCode : REASON.unspecifiedError;
}

/** Name and value, in the order in which the client sent them, repetitions kept [MQTT-3.3.2-18]. */
export type UserProperty = readonly [name: string, value: string];

export interface WillMessage {
  /** Not empty, valid UTF-8, without wildcards. */
  readonly topic: string;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  /** A copy of its own, not a view of the received bytes. */
  readonly payload: Buffer;
  /** Seconds; 0 before MQTT 5. */
  readonly delaySeconds: number;
  /** Seconds, -1 for none. */
  readonly messageExpirySeconds: number;
  /** -1 unsaid, 0 bytes, 1 UTF-8. */
  readonly payloadFormat: number;
  readonly contentType: string | null;
  readonly responseTopic: string | null;
  readonly correlationData: Buffer | null;
  readonly userProperties: readonly UserProperty[];
  /** The encoded properties that a PUBLISH of this will carries: all but will delay and message expiry. A copy. */
  readonly forwardedProperties: Buffer;
}

export interface ConnectPacket {
  readonly kind: 'connect';
  readonly version: ProtocolVersion;
  /** Clean Start, or Clean Session before MQTT 5. */
  readonly cleanStart: boolean;
  /** Seconds, 0 for none. */
  readonly keepAliveSeconds: number;
  /** May be empty: the server then assigns one [MQTT-3.1.3-6]. */
  readonly clientId: string;
  readonly userName: string | null;
  /** A copy of its own. */
  readonly password: Buffer | null;
  readonly will: WillMessage | null;
  /** Seconds; before MQTT 5, 0 for a clean session and {@link SESSION_EXPIRY_NEVER} for any other. */
  readonly sessionExpirySeconds: number;
  /** How many QoS 1 and 2 messages may await the client's acknowledgement; 65,535 where unsaid. */
  readonly receiveMax: number;
  /** The largest packet that the client takes, in bytes; 0xffff_ffff where unsaid. */
  readonly packetBytesMax: number;
  /** The highest topic alias that may be sent to the client; 0 for none. */
  readonly topicAliasMax: number;
  readonly requestResponseInformation: boolean;
  readonly requestProblemInformation: boolean;
  readonly userProperties: readonly UserProperty[];
  readonly authenticationMethod: string | null;
  readonly authenticationData: Buffer | null;
}

/**
 * A CONNECT of a protocol that this server does not speak. The answer is `encodeUnsupportedVersion` (encoder.ts)
 * [MQTT-3.1.2-2]; nothing more is decoded.
 */
export interface UnsupportedVersionPacket {
  readonly kind: 'unsupported-version';
  readonly protocolName: 'MQTT' | 'MQIsdp';
  readonly protocolLevel: number;
}

export interface SubscriptionRequest {
  /** Not empty and valid UTF-8; whether it is a legal filter is for the session to say in the SUBACK. */
  readonly filter: string;
  readonly qos: 0 | 1 | 2;
  readonly noLocal: boolean;
  readonly retainAsPublished: boolean;
  readonly retainHandling: 0 | 1 | 2;
}

export interface SubscribePacket {
  readonly kind: 'subscribe';
  readonly packetId: number;
  /** At least one. */
  readonly subscriptions: readonly SubscriptionRequest[];
  /** 1 to 268,435,455, 0 for none. */
  readonly subscriptionId: number;
  readonly userProperties: readonly UserProperty[];
}

export interface UnsubscribePacket {
  readonly kind: 'unsubscribe';
  readonly packetId: number;
  /** At least one, each not empty and valid UTF-8. */
  readonly filters: readonly string[];
  readonly userProperties: readonly UserProperty[];
}

export interface DisconnectPacket {
  readonly kind: 'disconnect';
  /** 0 before MQTT 5. */
  readonly reasonCode: number;
  /** Seconds; -1 where unsaid. */
  readonly sessionExpirySeconds: number;
  readonly reasonString: string | null;
  readonly userProperties: readonly UserProperty[];
}

export interface AuthPacket {
  readonly kind: 'auth';
  /** 0x18 (continue) or 0x19 (re-authenticate). */
  readonly reasonCode: number;
  readonly authenticationMethod: string;
  readonly authenticationData: Buffer | null;
  readonly reasonString: string | null;
  readonly userProperties: readonly UserProperty[];
}

/** What a client sends besides PUBLISH, the acknowledgements and PINGREQ. */
export type ControlPacket =
  | ConnectPacket
  | UnsupportedVersionPacket
  | SubscribePacket
  | UnsubscribePacket
  | DisconnectPacket
  | AuthPacket;

/** Why a connection's bytes are refused. */
export interface Violation {
  /** MQTT 5's: 0x81 malformed, 0x82 protocol error, 0x84 version, 0x94 topic alias, 0x95 too large. */
  readonly reasonCode: number;
  /** The clause of MQTT 5, such as 'MQTT-2.1.3-1'; of 3.1.1 where it says so; a section where no clause is named. */
  readonly clause: string;
  /** One line in English for the log and the reason string; never contains the client's bytes. */
  readonly why: string;
}

/** Malformed Packet: it cannot be read according to the specification (MQTT 5, 1.2). */
export function malformed(clause: string, why: string): Violation {
  return { reasonCode: REASON.malformedPacket, clause, why };
}

/** Protocol Error: it can be read, but says what is not allowed (MQTT 5, 1.2). */
export function illegal(clause: string, why: string): Violation {
  return { reasonCode: REASON.protocolError, clause, why };
}
