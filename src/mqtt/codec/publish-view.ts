import { isValidMqttUtf8 } from '../../base/utf8.js';
import { illegal, malformed, type ProtocolVersion, REASON, type Violation } from './packet.js';
import { PROPERTY } from './properties.js';

/**
 * One received PUBLISH, described by positions in the bytes that it came in: nothing is copied or allocated. The
 * decoder fills one view again and again; it is valid during `onPublish`. The bytes themselves stay valid as long as
 * somebody holds `buffer`.
 *
 * Checked before anybody sees it: lengths, QoS, DUP, packet id, all properties with their UTF-8, topic alias not 0,
 * a topic or an alias present. Not checked here: the topic's bytes (UTF-8, wildcards), which the topic cache does at
 * first sight; the alias against the maximum; the payload against its format.
 */
export class PublishView {
  buffer: Buffer = NOTHING;
  version: ProtocolVersion = 4;
  /** The whole packet, fixed header included, is [packetStart, packetEnd). */
  packetStart = 0;
  packetEnd = 0;
  headerByte = 0;
  qos = 0;
  dup = 0;
  retain = 0;
  topicStart = 0;
  topicEnd = 0;
  /** 0 at QoS 0. */
  packetId = 0;
  /** The property block without its length; empty before MQTT 5. */
  propertiesStart = 0;
  propertiesEnd = 0;
  payloadStart = 0;
  payloadEnd = 0;
  /** 0 for none. */
  topicAlias = 0;
  /** Seconds; -1 for none. */
  messageExpirySeconds = -1;
  /** Where the expiry's four bytes lie (big-endian); -1 for none. */
  messageExpiryAt = -1;
  /** -1 unsaid, 0 bytes, 1 UTF-8 [MQTT-3.3.2-4]. */
  payloadFormat = -1;
  /** Both 0 where there is none; valid UTF-8 without wildcards. */
  responseTopicStart = 0;
  responseTopicEnd = 0;
  /**
   * The properties that go on to receivers unaltered: the block without topic alias and message expiry. A range of
   * `buffer`, or of a small copy in the rare case that one of the two lies between others.
   */
  forwardedBuffer: Buffer = NOTHING;
  forwardedStart = 0;
  forwardedEnd = 0;
  private topicAliasAt = -1;

  /**
   * Reads the PUBLISH at [packetStart, packetEnd), whose fixed header is right and whose variable header begins at
   * `bodyStart`. Returns what is wrong with it, or null.
   */
  read(
    version: ProtocolVersion,
    buffer: Buffer,
    packetStart: number,
    bodyStart: number,
    packetEnd: number,
  ): Violation | null {
    const headerByte = buffer[packetStart]!;
    const qos = (headerByte >> 1) & 3;
    this.buffer = buffer;
    this.version = version;
    this.packetStart = packetStart;
    this.packetEnd = packetEnd;
    this.headerByte = headerByte;
    this.qos = qos;
    this.dup = (headerByte >> 3) & 1;
    this.retain = headerByte & 1;

    if (bodyStart + 2 > packetEnd) return TRUNCATED;
    const topicStart = bodyStart + 2;
    let at = topicStart + ((buffer[bodyStart]! << 8) | buffer[bodyStart + 1]!);
    this.topicStart = topicStart;
    this.topicEnd = at;
    if (qos === 0) {
      this.packetId = 0;
      if (at > packetEnd) return TRUNCATED;
    } else {
      if (at + 2 > packetEnd) return TRUNCATED;
      const packetId = (buffer[at]! << 8) | buffer[at + 1]!;
      if (packetId === 0) return PACKET_ID_0;
      this.packetId = packetId;
      at += 2;
    }
    this.payloadEnd = packetEnd;
    if (version === 5) return this.readProperties(buffer, at, packetEnd);
    this.propertiesStart = at;
    this.propertiesEnd = at;
    this.payloadStart = at;
    return topicStart === this.topicEnd ? NO_TOPIC : null;
  }

  private readProperties(buffer: Buffer, lengthAt: number, packetEnd: number): Violation | null {
    if (lengthAt >= packetEnd) return TRUNCATED;
    let at = lengthAt + 1;
    let length = buffer[lengthAt]!;
    if (length >= 0x80) {
      length &= 0x7f;
      for (let shift = 7; ; shift += 7) {
        if (at >= packetEnd) return TRUNCATED;
        const byte = buffer[at++]!;
        length |= (byte & 0x7f) << shift;
        if (byte === 0) return VARIABLE_INTEGER;
        if (byte < 0x80) break;
        if (shift === 21) return VARIABLE_INTEGER;
      }
    }
    const end = at + length;
    if (end > packetEnd) return TRUNCATED;
    this.propertiesStart = at;
    this.propertiesEnd = end;
    this.payloadStart = end;
    this.topicAlias = 0;
    this.topicAliasAt = -1;
    this.messageExpirySeconds = -1;
    this.messageExpiryAt = -1;
    this.payloadFormat = -1;
    this.responseTopicStart = 0;
    this.responseTopicEnd = 0;
    this.forwardedBuffer = buffer;
    this.forwardedStart = at;
    this.forwardedEnd = end;
    if (length > 0) {
      const violation = this.readBlock(buffer, at, end);
      if (violation !== null) return violation;
      if (this.topicAliasAt >= 0 || this.messageExpiryAt >= 0) this.cutForwarded(buffer, at, end);
    }
    return this.topicStart === this.topicEnd && this.topicAlias === 0 ? NO_TOPIC_OR_ALIAS : null;
  }

  private readBlock(buffer: Buffer, start: number, end: number): Violation | null {
    let seen = 0;
    let at = start;
    while (at < end) {
      const identifier = buffer[at]!;
      const value = at + 1;
      if (identifier === PROPERTY.userProperty) {
        at = stringEnd(buffer, stringEnd(buffer, value, end), end);
        if (at < 0) return at === BAD_UTF8 ? STRING_PAIR : TRUNCATED;
        continue;
      }
      const bit = PUBLISH_PROPERTY_BIT[identifier]!;
      if (bit === 0) return identifier === PROPERTY.subscriptionId ? SUBSCRIPTION_ID : NOT_OF_PUBLISH;
      if ((seen & bit) !== 0) return TWICE;
      seen |= bit;
      at = value + FIXED_BYTES[identifier]!;
      if (at > end) return TRUNCATED;
      switch (identifier) {
        case PROPERTY.payloadFormat:
          if (buffer[value]! > 1) return PAYLOAD_FORMAT;
          this.payloadFormat = buffer[value]!;
          break;
        case PROPERTY.messageExpiry:
          this.messageExpirySeconds = buffer.readUInt32BE(value);
          this.messageExpiryAt = value;
          break;
        case PROPERTY.topicAlias:
          this.topicAlias = (buffer[value]! << 8) | buffer[value + 1]!;
          this.topicAliasAt = value;
          if (this.topicAlias === 0) return TOPIC_ALIAS_0;
          break;
        case PROPERTY.correlationData:
          at += (buffer[value]! << 8) | buffer[value + 1]!;
          if (at > end) return TRUNCATED;
          break;
        default: {
          at = stringEnd(buffer, value, end);
          if (at < 0) {
            if (at !== BAD_UTF8) return TRUNCATED;
            return identifier === PROPERTY.responseTopic ? RESPONSE_TOPIC_UTF8 : CONTENT_TYPE_UTF8;
          }
          if (identifier === PROPERTY.responseTopic) {
            this.responseTopicStart = value + 2;
            this.responseTopicEnd = at;
            if (at === value + 2) return RESPONSE_TOPIC_EMPTY;
            if (hasWildcard(buffer, value + 2, at)) return RESPONSE_TOPIC_WILDCARD;
          }
        }
      }
    }
    return null;
  }

  /** Leaves topic alias (3 bytes) and message expiry (5 bytes) out of what is forwarded. */
  private cutForwarded(buffer: Buffer, start: number, end: number): void {
    const alias = this.topicAliasAt - 1;
    const expiry = this.messageExpiryAt - 1;
    let from = start;
    let to = end;
    // Each round takes off the end it lies at; two rounds, since taking one may uncover the other.
    for (let round = 0; round < 2; round++) {
      if (alias === from) from += ALIAS_BYTES;
      if (expiry === from) from += EXPIRY_BYTES;
      if (alias >= from && alias + ALIAS_BYTES === to) to = alias;
      if (expiry >= from && expiry + EXPIRY_BYTES === to) to = expiry;
    }
    const inside = (at: number) => at >= from && at < to;
    if (inside(alias) || inside(expiry)) {
      const keep: number[] = [];
      for (let at = from; at < to; ) {
        if (at === alias) at += ALIAS_BYTES;
        else if (at === expiry) at += EXPIRY_BYTES;
        else keep.push(buffer[at++]!);
      }
      this.forwardedBuffer = Buffer.from(keep);
      from = 0;
      to = keep.length;
    }
    this.forwardedStart = from;
    this.forwardedEnd = to;
  }
}

/**
 * Whether the received bytes of `view` may be sent on to a receiver of `outVersion` that gets the message at `outQos`
 * with this RETAIN flag and no subscription identifier: at QoS 0 as they are, at QoS 1 and 2 once their first byte and
 * their packet id are the receiver's.
 */
export function canPassThrough(
  view: PublishView,
  outVersion: ProtocolVersion,
  outQos: number,
  retain: number,
): boolean {
  return (
    (view.qos === 0) === (outQos === 0) &&
    (outQos !== 0 || view.retain === retain) &&
    (view.version === 5) === (outVersion === 5) &&
    view.topicAlias === 0 &&
    view.messageExpiryAt < 0 &&
    isMinimalHeader(view)
  );
}

/** MQTT 3.1.1 lets a client write its remaining length in more bytes than needed; we never do. */
function isMinimalHeader(view: PublishView): boolean {
  const headerBytes = view.topicStart - 2 - view.packetStart;
  return headerBytes === 2 || view.buffer[view.packetStart + headerBytes - 1] !== 0;
}

const NOTHING: Buffer = Buffer.alloc(0);
const ALIAS_BYTES = 3;
const EXPIRY_BYTES = 5;
const OUT_OF_BOUNDS = -1;
const BAD_UTF8 = -2;

/** Where the string whose length stands at `at` ends; negative when it has no end or is not UTF-8, or `at` is negative. */
function stringEnd(buffer: Buffer, at: number, end: number): number {
  if (at < 0) return at;
  if (at + 2 > end) return OUT_OF_BOUNDS;
  const start = at + 2;
  const stop = start + ((buffer[at]! << 8) | buffer[at + 1]!);
  if (stop > end) return OUT_OF_BOUNDS;
  return isValidMqttUtf8(buffer, start, stop) ? stop : BAD_UTF8;
}

function hasWildcard(buffer: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    const byte = buffer[at]!;
    if (byte === 0x23 || byte === 0x2b) return true;
  }
  return false;
}

/** One bit for each property that a client's PUBLISH may carry at most once; 0 for all others. */
const PUBLISH_PROPERTY_BIT = new Uint8Array(256);
PUBLISH_PROPERTY_BIT[PROPERTY.payloadFormat] = 1;
PUBLISH_PROPERTY_BIT[PROPERTY.messageExpiry] = 2;
PUBLISH_PROPERTY_BIT[PROPERTY.contentType] = 4;
PUBLISH_PROPERTY_BIT[PROPERTY.responseTopic] = 8;
PUBLISH_PROPERTY_BIT[PROPERTY.correlationData] = 16;
PUBLISH_PROPERTY_BIT[PROPERTY.topicAlias] = 32;

/** Bytes of a property's value, or of its length where it varies. */
const FIXED_BYTES = new Uint8Array(256);
FIXED_BYTES[PROPERTY.payloadFormat] = 1;
FIXED_BYTES[PROPERTY.messageExpiry] = 4;
FIXED_BYTES[PROPERTY.contentType] = 2;
FIXED_BYTES[PROPERTY.responseTopic] = 2;
FIXED_BYTES[PROPERTY.correlationData] = 2;
FIXED_BYTES[PROPERTY.topicAlias] = 2;

const TRUNCATED = malformed('MQTT-4.13.1-1', 'a field ends after its packet');
const PACKET_ID_0 = illegal('MQTT-2.2.1-3', 'the packet identifier is 0');
const NO_TOPIC = malformed('MQTT-4.7.3-1', 'a topic name is empty');
const NO_TOPIC_OR_ALIAS = illegal('MQTT-3.3.2.1', 'a PUBLISH has neither topic name nor topic alias');
const VARIABLE_INTEGER = malformed('MQTT-1.5.5-1', 'a variable byte integer is too long');
const STRING_PAIR = malformed('MQTT-1.5.7-1', 'a user property is not UTF-8, or contains U+0000');
const SUBSCRIPTION_ID = illegal('MQTT-3.3.4-6', 'a client sends a subscription identifier in a PUBLISH');
const NOT_OF_PUBLISH = malformed('MQTT-2.2.2.2', 'a property does not belong in a PUBLISH');
const TWICE = illegal('MQTT-3.3.2.3', 'a property occurs twice');
const PAYLOAD_FORMAT = illegal('MQTT-3.3.2.3.2', 'the payload format indicator is neither 0 nor 1');
const RESPONSE_TOPIC_UTF8 = malformed('MQTT-3.3.2-13', 'the response topic is not UTF-8, or contains U+0000');
const RESPONSE_TOPIC_EMPTY = malformed('MQTT-4.7.3-1', 'the response topic is empty');
const RESPONSE_TOPIC_WILDCARD = illegal('MQTT-3.3.2-14', 'the response topic contains a wildcard');
const CONTENT_TYPE_UTF8 = malformed('MQTT-3.3.2-19', 'the content type is not UTF-8, or contains U+0000');
const TOPIC_ALIAS_0: Violation = {
  reasonCode: REASON.topicAliasInvalid,
  clause: 'MQTT-3.3.2-8',
  why: 'the topic alias is 0',
};
