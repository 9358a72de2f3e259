import { isValidMqttUtf8 } from '../base/utf8.js';
import {
  isLimitFault,
  TOPIC_FAULT,
  TOPIC_FAULT_TEXT,
  type TopicLimits,
  topicNameFault,
} from '../topic/topic.js';
import { REASON, type Violation } from './codec/packet.js';
import { canPassThrough, type PublishView } from './codec/publish-view.js';

/** What is wrong with a topic name, or null [MQTT-3.3.2-1], [MQTT-3.3.2-2], [MQTT-4.7.3-1]. */
export function topicViolation(
  bytes: Buffer,
  start: number,
  end: number,
  limits: TopicLimits,
): Violation | null {
  const fault = topicNameFault(bytes, start, end, limits);
  if (fault === TOPIC_FAULT.none) return null;
  const why = `the topic name ${TOPIC_FAULT_TEXT[fault]}`;
  if (fault === TOPIC_FAULT.illFormed)
    return { reasonCode: REASON.malformedPacket, clause: 'MQTT-3.3.2-1', why };
  return {
    reasonCode: REASON.topicNameInvalid,
    clause: isLimitFault(fault) ? BY_LIMIT : 'MQTT-3.3.2-2',
    why,
  };
}

/** The clause of a violation that is one of our settings only: the message is refused, the connection lives. */
export const BY_LIMIT = 'limits';

/** Whether a payload that is said to be UTF-8 is [MQTT-3.3.2-4]; U+0000 is legal in a payload. */
export function isUtf8Payload(view: PublishView): boolean {
  const { buffer, payloadStart, payloadEnd } = view;
  if (isValidMqttUtf8(buffer, payloadStart, payloadEnd)) return true;
  // The MQTT string rules are stricter than UTF-8: look again without the ban on U+0000.
  const payload = buffer.subarray(payloadStart, payloadEnd);
  return Buffer.from(payload.toString('utf8'), 'utf8').equals(payload);
}

/** Where the received packet ends if its bytes may be sent on, else 0. */
export function passThroughEnd(view: PublishView): number {
  return canPassThrough(view, view.version, view.qos, view.retain) ? view.packetEnd : 0;
}
