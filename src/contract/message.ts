import type { ByteReader, ByteWriter } from '../base/bytes.js';

/**
 * A message as it crosses threads and lies in storage: everything that a receiver of any MQTT version needs,
 * nothing that belongs to one connection (packet id, DUP, topic alias).
 *
 * Layout, little-endian: u8 flags, u53 publishedAtMs, [u32 expirySeconds], u16 topic length, topic,
 * u32 property length, properties, u32 payload length, payload.
 * `properties` is the MQTT 5 property block that is forwarded unaltered [MQTT-3.3.2-4, -15, -16, -17, -18, -20],
 * without message expiry (counted down on delivery, [MQTT-3.3.2-6]), topic alias and subscription identifiers.
 */
export class Message {
  /** QoS at which it was published: 0, 1, 2. */
  qos = 0;
  /** RETAIN flag as published. */
  retain = false;
  /** Wall clock at arrival, milliseconds since 1970. */
  publishedAtMs = 0;
  /** Message expiry interval from arrival, seconds; -1 when none. */
  expirySeconds = -1;
  topic: Uint8Array = EMPTY;
  properties: Uint8Array = EMPTY;
  payload: Uint8Array = EMPTY;
}

const EMPTY = new Uint8Array(0);
const FLAG_RETAIN = 4;
const FLAG_EXPIRY = 8;

export function writeMessage(writer: ByteWriter, message: Message): void {
  const expires = message.expirySeconds >= 0;
  writer.u8(message.qos | (message.retain ? FLAG_RETAIN : 0) | (expires ? FLAG_EXPIRY : 0));
  writer.u53(message.publishedAtMs);
  if (expires) writer.u32(message.expirySeconds);
  writer.u16(message.topic.length).raw(message.topic);
  writer.blob(message.properties).blob(message.payload);
}

/** Reads into `into`; its arrays are views of the reader's bytes, so copy what is to be kept. */
export function readMessage(reader: ByteReader, into: Message): Message {
  const flags = reader.u8();
  into.qos = flags & 3;
  into.retain = (flags & FLAG_RETAIN) !== 0;
  into.publishedAtMs = reader.u53();
  into.expirySeconds = flags & FLAG_EXPIRY ? reader.u32() : -1;
  into.topic = reader.raw(reader.u16());
  into.properties = reader.blob();
  into.payload = reader.blob();
  return into;
}

/** Seconds of life left at `nowMs`; -1 when the message never expires, 0 when it has expired. */
export function remainingSeconds(message: Message, nowMs: number): number {
  if (message.expirySeconds < 0) return -1;
  const elapsedSeconds = Math.floor(Math.max(0, nowMs - message.publishedAtMs) / 1000);
  return Math.max(0, message.expirySeconds - elapsedSeconds);
}
