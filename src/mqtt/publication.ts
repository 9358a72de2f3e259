import type { Message } from '../contract/message.js';
import type { Topic } from './tenant.js';

const NO_BYTES = Buffer.alloc(0);
/** What the objects around a queued message take. */
const OBJECT_BYTES = 256;

/**
 * One message on its way through the shard, from whatever source: a client's PUBLISH, a will, another shard, a
 * retained message, an inbox. Bytes are extents of buffers that nobody writes again.
 *
 * A shard has one Publication that it fills anew for each PUBLISH; only a message that must wait (for its topic's
 * receivers, for durability, in a queue) keeps the object, and the shard makes itself another.
 */
export class Publication {
  topic: Topic | null = null;
  topicBytes: Buffer = NO_BYTES;
  qos = 0;
  retain = false;
  publishedAtMs = 0;
  /** Seconds from publishedAtMs; -1 for none. */
  expirySeconds = -1;
  buffer: Buffer = NO_BYTES;
  payloadStart = 0;
  payloadEnd = 0;
  /** MQTT 5 properties that are forwarded unaltered. */
  properties: Buffer = NO_BYTES;
  propertiesStart = 0;
  propertiesEnd = 0;
  /** The PUBLISH as received, where it may be sent on in these bytes; passEnd 0 when not. */
  passStart = 0;
  passEnd = 0;
  /** Where its packet id is, to be overwritten with the receiver's; 0 for one of QoS 0. */
  passIdAt = 0;
  passIsV5 = false;

  /** Packet id of a QoS 1 or 2 PUBLISH that is to be acknowledged; 0 none. */
  packetId = 0;
  /** Answers still wanted before the acknowledgement may go. */
  waits = 0;
  /** Receivers found. */
  receivers = 0;
  dispatched = false;
  /** A STATUS other than OK: a store did not take it, so the acknowledgement must not go as a success. */
  failure = 0;
  /** The persistent session whose QoS 2 packet id is to be marked received; 0 none. */
  markInstance = 0;
  /** The mark follows when what is waited for is settled. */
  marksLater = false;
  /** For this shared group alone: a message taken back from a member that went. */
  onlyGroup: string | null = null;
  /** The request that this message came with is to be answered when it is published; replyPeer -1 when none. */
  replyPeer = -1;
  replyLife = 0;
  replyCall = 0;

  /** Last encoding: the same bytes serve every receiver with the same wants. */
  memoKey = -1;
  memoId = 0;
  memoAlias = 0;
  memoExpiry = -1;
  memoSubscriptions: readonly number[] | null = null;
  memoBuffer: Buffer = NO_BYTES;
  memoStart = 0;
  memoEnd = 0;
  /** A compact copy for queues, made once. */
  private keptCopy: Publication | null = null;

  get payloadBytes(): number {
    return this.payloadEnd - this.payloadStart;
  }

  /** Memory that a queued copy holds, roughly. */
  get costBytes(): number {
    return (
      this.topicBytes.length + (this.propertiesEnd - this.propertiesStart) + this.payloadBytes + OBJECT_BYTES
    );
  }

  /** A store said no. */
  refuse(status: number): void {
    this.failure = status;
  }

  /** Forgets what is derived, when the object is filled anew. */
  renew(): void {
    this.waits = 0;
    this.receivers = 0;
    this.dispatched = false;
    this.failure = 0;
    this.markInstance = 0;
    this.marksLater = false;
    this.onlyGroup = null;
    this.memoKey = -1;
    this.memoSubscriptions = null;
    this.keptCopy = null;
  }

  /** Seconds to live at `nowMs`: -1 for ever, 0 expired. */
  remainingSeconds(nowMs: number): number {
    if (this.expirySeconds < 0) return -1;
    const elapsed = Math.floor(Math.max(0, nowMs - this.publishedAtMs) / 1000);
    return Math.max(0, this.expirySeconds - elapsed);
  }

  /** A copy in memory of its own, so that a queue never holds a socket's whole read buffer. */
  kept(): Publication {
    if (this.keptCopy !== null) return this.keptCopy;
    const topicLength = this.topicBytes.length;
    const propertiesLength = this.propertiesEnd - this.propertiesStart;
    const bytes = Buffer.allocUnsafeSlow(topicLength + propertiesLength + this.payloadBytes);
    this.topicBytes.copy(bytes, 0);
    this.properties.copy(bytes, topicLength, this.propertiesStart, this.propertiesEnd);
    this.buffer.copy(bytes, topicLength + propertiesLength, this.payloadStart, this.payloadEnd);
    const copy = new Publication();
    copy.topicBytes = bytes.subarray(0, topicLength);
    copy.buffer = copy.properties = bytes;
    copy.propertiesStart = topicLength;
    copy.propertiesEnd = copy.payloadStart = topicLength + propertiesLength;
    copy.payloadEnd = bytes.length;
    copy.takeQualities(this);
    copy.keptCopy = copy;
    this.keptCopy = copy;
    return copy;
  }

  /** The same message, to be published once more. */
  again(): Publication {
    const copy = new Publication();
    copy.topicBytes = this.topicBytes;
    copy.buffer = this.buffer;
    copy.payloadStart = this.payloadStart;
    copy.payloadEnd = this.payloadEnd;
    copy.properties = this.properties;
    copy.propertiesStart = this.propertiesStart;
    copy.propertiesEnd = this.propertiesEnd;
    copy.takeQualities(this);
    return copy;
  }

  private takeQualities(from: Publication): void {
    this.qos = from.qos;
    this.retain = from.retain;
    this.publishedAtMs = from.publishedAtMs;
    this.expirySeconds = from.expirySeconds;
  }

  /** From a frame or record; the bytes are copied, since they lie in a ring. */
  static of(message: Message): Publication {
    const publication = new Publication();
    const topicLength = message.topic.length;
    const propertiesLength = message.properties.length;
    const bytes = Buffer.allocUnsafeSlow(topicLength + propertiesLength + message.payload.length);
    bytes.set(message.topic, 0);
    bytes.set(message.properties, topicLength);
    bytes.set(message.payload, topicLength + propertiesLength);
    publication.topicBytes = bytes.subarray(0, topicLength);
    publication.buffer = publication.properties = bytes;
    publication.propertiesStart = topicLength;
    publication.propertiesEnd = publication.payloadStart = topicLength + propertiesLength;
    publication.payloadEnd = bytes.length;
    publication.qos = message.qos;
    publication.retain = message.retain;
    publication.publishedAtMs = message.publishedAtMs;
    publication.expirySeconds = message.expirySeconds;
    return publication;
  }

  /** As plain data for a frame; views, valid until this object is filled anew. */
  toMessage(into: Message): Message {
    into.qos = this.qos;
    into.retain = this.retain;
    into.publishedAtMs = this.publishedAtMs;
    into.expirySeconds = this.expirySeconds;
    into.topic = this.topicBytes;
    into.properties = this.properties.subarray(this.propertiesStart, this.propertiesEnd);
    into.payload = this.buffer.subarray(this.payloadStart, this.payloadEnd);
    return into;
  }
}
