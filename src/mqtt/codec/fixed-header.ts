import {
  AUTH,
  CONNACK,
  CONNECT,
  DISCONNECT,
  illegal,
  malformed,
  PINGREQ,
  PINGRESP,
  type ProtocolVersion,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  SUBACK,
  SUBSCRIBE,
  UNSUBACK,
  UNSUBSCRIBE,
  type Violation,
} from './packet.js';

const NOT_CONNECT = illegal('MQTT-3.1.0-1', 'the first packet is not CONNECT');
const SECOND_CONNECT = illegal('MQTT-3.1.0-2', 'a second CONNECT came');
const FLAGS = malformed('MQTT-2.1.3-1', 'reserved flags of the fixed header are wrong');
const RESERVED_TYPE = malformed('MQTT-2.1.2', 'the packet type is reserved in this version');
const FROM_SERVER = illegal('MQTT-2.1.2', 'a packet type came that only servers send');
const QOS_3 = malformed('MQTT-3.3.1-4', 'a PUBLISH has QoS 3');
const DUP_QOS_0 = malformed('MQTT-3.3.1-2', 'a PUBLISH has DUP at QoS 0');

/** Why a first byte is refused; null when it is not. */
export function headerViolation(headerByte: number, version: ProtocolVersion | 0): Violation | null {
  const type = headerByte >> 4;
  const flags = headerByte & 0x0f;
  if (version === 0) {
    if (type !== CONNECT) return NOT_CONNECT;
    return flags === 0 ? null : FLAGS;
  }
  switch (type) {
    case CONNECT:
      return SECOND_CONNECT;
    case PUBLISH:
      if ((flags & 0x06) === 0x06) return QOS_3;
      return (flags & 0x0e) === 0x08 ? DUP_QOS_0 : null;
    case CONNACK:
    case SUBACK:
    case UNSUBACK:
    case PINGRESP:
      return FROM_SERVER;
    case 0:
      return RESERVED_TYPE;
    case AUTH:
      if (version !== 5) return RESERVED_TYPE;
      return flags === 0 ? null : FLAGS;
    default:
      // MQTT 3.1 defines DUP for PUBREL, SUBSCRIBE and UNSUBSCRIBE and calls all other flags unused.
      return version === 3 || flags === requiredFlags(type) ? null : FLAGS;
  }
}

function requiredFlags(type: number): number {
  return type === PUBREL || type === SUBSCRIBE || type === UNSUBSCRIBE ? 2 : 0;
}

/** 1 for each first byte that is right after CONNECT in every version, to which `headerViolation` need not look. */
export const HEADER_ACCEPTED: Uint8Array = new Uint8Array(256);
for (let flags = 0; flags < 16; flags++) {
  const headerByte = (PUBLISH << 4) | flags;
  HEADER_ACCEPTED[headerByte] = headerViolation(headerByte, 5) === null ? 1 : 0;
}
for (const type of [PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT]) {
  HEADER_ACCEPTED[(type << 4) | requiredFlags(type)] = 1;
}
