import type { WillMessage } from './codec/packet.js';
import { Publication } from './publication.js';

/** The will as the message that it becomes. */
export function willOf(will: WillMessage, nowMs: number): Publication {
  const publication = new Publication();
  publication.topicBytes = Buffer.from(will.topic, 'utf8');
  publication.qos = will.qos;
  publication.retain = will.retain;
  publication.publishedAtMs = nowMs;
  publication.expirySeconds = will.messageExpirySeconds;
  publication.buffer = will.payload;
  publication.payloadEnd = will.payload.length;
  publication.properties = will.forwardedProperties;
  publication.propertiesEnd = will.forwardedProperties.length;
  return publication;
}
