import { assert } from '../../base/assert.js';
import { variableIntegerBytes, writeVariableInteger } from './encoder.js';
import { type ProtocolVersion, PUBLISH } from './packet.js';
import { PROPERTY } from './properties.js';

/**
 * One PUBLISH to be sent. The caller owns one, fills every field that differs from the last time, and writes it;
 * nothing is allocated. Ranges are byte positions in the buffer named before them.
 */
export class OutgoingPublish {
  version: ProtocolVersion = 4;
  qos = 0;
  /** 0 or 1; must be 0 at QoS 0 [MQTT-3.3.1-2]. */
  dup = 0;
  /** 0 or 1. */
  retain = 0;
  /** Not 0 where QoS is not 0 [MQTT-2.2.1-4]. May be patched afterwards at {@link packetIdOffset}. */
  packetId = 0;
  topic: Uint8Array = NOTHING;
  topicStart = 0;
  topicEnd = 0;
  /** Encoded properties that are forwarded unaltered, without their length; looked at for MQTT 5 only. */
  properties: Uint8Array = NOTHING;
  propertiesStart = 0;
  propertiesEnd = 0;
  /** What is left of the message expiry interval, seconds; -1 for none [MQTT-3.3.2-6]. MQTT 5 only. */
  expirySeconds = -1;
  /** One for each matching subscription that has one, 1 to 268,435,455 [MQTT-3.3.4-3]. MQTT 5 only. */
  subscriptionIds: readonly number[] = NO_IDS;
  /** 0 for none. With an empty topic range it stands for the topic, else it sets the alias. MQTT 5 only. */
  topicAlias = 0;
  payload: Uint8Array = NOTHING;
  payloadStart = 0;
  payloadEnd = 0;
}

/** Bytes that {@link writePublish} will write. */
export function publishLength(publish: OutgoingPublish): number {
  const remaining = remainingLength(publish, propertyBlockBytes(publish));
  return 1 + variableIntegerBytes(remaining) + remaining;
}

/** Where in the written packet, counted from its first byte, the two bytes of the packet id lie (QoS 1 and 2). */
export function packetIdOffset(publish: OutgoingPublish): number {
  const remaining = remainingLength(publish, propertyBlockBytes(publish));
  return 1 + variableIntegerBytes(remaining) + 2 + publish.topicEnd - publish.topicStart;
}

/** Writes the packet at `at` of `into`, which has {@link publishLength} bytes there; returns where it ends. */
export function writePublish(publish: OutgoingPublish, into: Buffer, at: number): number {
  const { topicStart, topicEnd } = publish;
  const propertyBytes = propertyBlockBytes(publish);
  const remaining = remainingLength(publish, propertyBytes);
  assert(remaining <= REMAINING_MAX, 'a PUBLISH is longer than MQTT can say');
  into[at] = (PUBLISH << 4) | (publish.dup << 3) | (publish.qos << 1) | publish.retain;
  let next = writeVariableInteger(into, at + 1, remaining);
  next = writeU16(into, next, topicEnd - topicStart);
  next = copyBytes(publish.topic, topicStart, topicEnd, into, next);
  if (publish.qos > 0) next = writeU16(into, next, publish.packetId);
  if (publish.version === 5) {
    next = writeVariableInteger(into, next, propertyBytes);
    if (propertyBytes > 0) next = writeProperties(publish, into, next);
  }
  return copyBytes(publish.payload, publish.payloadStart, publish.payloadEnd, into, next);
}

function remainingLength(publish: OutgoingPublish, propertyBytes: number): number {
  let bytes = 2 + publish.topicEnd - publish.topicStart + publish.payloadEnd - publish.payloadStart;
  if (publish.qos > 0) bytes += 2;
  return publish.version === 5 ? bytes + variableIntegerBytes(propertyBytes) + propertyBytes : bytes;
}

/** Of the property block without its length; 0 before MQTT 5. */
function propertyBlockBytes(publish: OutgoingPublish): number {
  if (publish.version !== 5) return 0;
  let bytes = publish.propertiesEnd - publish.propertiesStart;
  if (publish.expirySeconds >= 0) bytes += 5;
  if (publish.topicAlias !== 0) bytes += 3;
  const { subscriptionIds } = publish;
  for (let i = 0; i < subscriptionIds.length; i++) bytes += 1 + variableIntegerBytes(subscriptionIds[i]!);
  return bytes;
}

function writeProperties(publish: OutgoingPublish, into: Buffer, at: number): number {
  const { expirySeconds, topicAlias, subscriptionIds } = publish;
  let next = at;
  if (topicAlias !== 0) {
    into[next] = PROPERTY.topicAlias;
    next = writeU16(into, next + 1, topicAlias);
  }
  if (expirySeconds >= 0) {
    into[next] = PROPERTY.messageExpiry;
    next = into.writeUInt32BE(expirySeconds, next + 1);
  }
  for (let i = 0; i < subscriptionIds.length; i++) {
    into[next] = PROPERTY.subscriptionId;
    next = writeVariableInteger(into, next + 1, subscriptionIds[i]!);
  }
  return copyBytes(publish.properties, publish.propertiesStart, publish.propertiesEnd, into, next);
}

function writeU16(into: Buffer, at: number, value: number): number {
  into[at] = value >> 8;
  into[at + 1] = value;
  return at + 2;
}

/** Copies [start, end); below this many bytes a loop is faster than a call (perf/micro/codec.bench.ts). */
const LOOP_BYTES_MAX = 56;

function copyBytes(from: Uint8Array, start: number, end: number, into: Buffer, at: number): number {
  const count = end - start;
  if (count <= LOOP_BYTES_MAX) {
    for (let i = 0; i < count; i++) into[at + i] = from[start + i]!;
  } else {
    into.set(from.subarray(start, end), at);
  }
  return at + count;
}

const NOTHING: Uint8Array = Buffer.alloc(0);
const NO_IDS: readonly number[] = [];
const REMAINING_MAX = 268_435_455;
