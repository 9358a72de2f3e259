import { assert } from '../../base/assert.js';
import { checkAckProperties, parseControl } from './control.js';
import { HEADER_ACCEPTED, headerViolation } from './fixed-header.js';
import {
  type ControlPacket,
  illegal,
  malformed,
  PINGREQ,
  type ProtocolVersion,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  REASON,
  type Violation,
} from './packet.js';
import { PublishView } from './publish-view.js';

/**
 * From the bytes of one connection to calls on its sink.
 *
 * - PUBLISH, the acknowledgements and PINGREQ are read in place: no object, closure or copy per packet. The rest,
 *   which is rare, becomes typed data (control.ts).
 * - Bytes given to `receive` lie in memory that is used again unless somebody says that it keeps some of it
 *   (receive-memory.ts): the sink does so for what it holds on to, and for the decoder while that `holds` any.
 * - Only a packet that does not end in its chunk is copied, into memory of its own, which grows with what has
 *   arrived and not with what the header claims; each byte is copied a bounded number of times.
 * - After a violation, or after a CONNECT of an unknown version, nothing more is decoded, ever.
 * - While the sink is stopped nothing is decoded; what is there or still arrives is kept for `resume`. The transport
 *   is to stop reading then; `bufferedBytes` shows whether it did.
 * - Before CONNECT only CONNECT is accepted [MQTT-3.1.0-1], no longer than `connectBytesMax`, and later no second
 *   one [MQTT-3.1.0-2].
 *
 * Clauses are MQTT 5's unless marked; the rules that 3.1.1 shares are cited by MQTT 5's number.
 */

export interface PacketSink {
  /** One PUBLISH; the view is reused and is valid during the call. */
  onPublish(publish: PublishView): void;
  /** PUBACK, PUBREC, PUBREL or PUBCOMP, by its packet type number; the reason code is 0 before MQTT 5. */
  onAck(type: number, packetId: number, reasonCode: number): void;
  onPingreq(): void;
  onPacket(packet: ControlPacket): void;
  /** At most once, and nothing after it. */
  onViolation(violation: Violation): void;
  /** Looked at before every packet: true keeps the rest for `resume` (reading is paused, or the session ended). */
  readonly stopped: boolean;
}

export interface DecoderLimits {
  /** Of a whole packet with its fixed header, in bytes; longer ones are refused with 0x95. */
  readonly packetBytesMax: number;
  /** Of a CONNECT, in bytes, since its sender is not known yet. */
  readonly connectBytesMax: number;
}

/** What is reserved at first for a packet that arrives in parts, unless it is smaller. Bytes. */
const PARTIAL_BYTES_FIRST = 16 * 1024;
/** A fixed header has at most one type byte and four length bytes (MQTT 5, 2.1.4). */
const HEADER_BYTES_MAX = 5;

export class Decoder {
  /** 0 until a CONNECT was decoded. */
  version: ProtocolVersion | 0 = 0;
  /** Length of the packet that the sink is being told of, fixed header included; for counting. */
  packetBytes = 0;
  private readonly limits: DecoderLimits;
  private publish: PublishView | null = null;
  /** The beginning of a packet whose end has not arrived. */
  private partial: Buffer | null = null;
  private partialBytes = 0;
  /** Its whole length; 0 while its fixed header is not complete. */
  private partialTotal = 0;
  /** What waits for `resume`. */
  private held: Buffer[] | null = null;
  private heldBytes = 0;
  private ended = false;
  private running = false;
  /** Set by `readHeader`: where the variable header begins. */
  private bodyStart = 0;

  constructor(limits: DecoderLimits) {
    this.limits = limits;
  }

  /** Bytes that wait: of an unfinished packet, or for `resume`. */
  get bufferedBytes(): number {
    return this.partialBytes + this.heldBytes;
  }

  /** Some of what was given to `receive` waits for `resume`, in the memory in which it came. */
  get holds(): boolean {
    return this.held !== null;
  }

  /** Decodes what arrived in [start, end). While `holds`, those bytes must stay as they are. */
  receive(chunk: Buffer, sink: PacketSink, start = 0, end = chunk.length): void {
    if (this.ended || start === end) return;
    if (this.running || this.held !== null || sink.stopped) {
      this.held ??= [];
      this.held.push(chunk.subarray(start, end));
      this.heldBytes += end - start;
      return;
    }
    this.running = true;
    this.decodeChunk(chunk, start, end, sink);
    this.running = false;
    if (this.held !== null) this.resume(sink);
  }

  /** Goes on with what was kept while the sink was stopped. From within a call to the sink it changes nothing. */
  resume(sink: PacketSink): void {
    if (this.running) return;
    this.running = true;
    while (this.held !== null && !sink.stopped) {
      const chunk = this.held.shift()!;
      if (this.held.length === 0) this.held = null;
      this.heldBytes -= chunk.length;
      this.decodeChunk(chunk, 0, chunk.length, sink);
    }
    this.running = false;
  }

  /** Decodes nothing more and lets go of what was kept: the connection is being closed. */
  close(): void {
    this.ended = true;
    this.partial = null;
    this.partialBytes = 0;
    this.held = null;
    this.heldBytes = 0;
  }

  private decodeChunk(chunk: Buffer, start: number, end: number, sink: PacketSink): void {
    let at = start;
    if (this.partial !== null) at = this.completePartial(this.partial, chunk, at, end, sink);
    at = this.decode(chunk, at, end, sink);
    if (this.ended || at === end) return;
    if (!sink.stopped) {
      this.beginPartial(chunk, at, end);
      return;
    }
    this.held ??= [];
    this.held.unshift(chunk.subarray(at, end));
    this.heldBytes += end - at;
  }

  /** Keeps the beginning of a packet, so that the chunk which ends within it can go. */
  private beginPartial(chunk: Buffer, start: number, end: number): void {
    const have = end - start;
    const expected = this.partialTotal === 0 ? HEADER_BYTES_MAX : this.partialTotal;
    this.partial = Buffer.allocUnsafe(Math.max(have, Math.min(expected, PARTIAL_BYTES_FIRST)));
    chunk.copy(this.partial, 0, start, end);
    this.partialBytes = have;
  }

  /** Adds to the unfinished packet what `chunk` has of it, and decodes it when whole; returns where the rest begins. */
  private completePartial(
    partial: Buffer,
    chunk: Buffer,
    start: number,
    end: number,
    sink: PacketSink,
  ): number {
    let at = start;
    while (this.partialTotal === 0) {
      if (at === end) return at;
      partial[this.partialBytes++] = chunk[at++]!;
      this.partialTotal = this.readHeader(partial, 0, this.partialBytes, sink);
      if (this.ended) return at;
    }
    const total = this.partialTotal;
    const count = Math.min(total - this.partialBytes, end - at);
    const have = this.partialBytes + count;
    const packet = have > partial.length ? this.growPartial(partial, have, total) : partial;
    chunk.copy(packet, this.partialBytes, at, at + count);
    this.partialBytes = have;
    if (have === total) {
      this.partial = null;
      this.partialBytes = 0;
      this.partialTotal = 0;
      this.decode(packet, 0, total, sink);
    }
    return at + count;
  }

  /** Doubles, up to the packet's length: linear work, and never much more memory than bytes that came. */
  private growPartial(partial: Buffer, have: number, total: number): Buffer {
    const grown = Buffer.allocUnsafe(
      Math.min(total, Math.max(have, PARTIAL_BYTES_FIRST, partial.length * 2)),
    );
    partial.copy(grown, 0, 0, this.partialBytes);
    this.partial = grown;
    return grown;
  }

  /** Decodes whole packets of [start, end); returns where it ended: stopped, refused, or short of bytes. */
  private decode(buffer: Buffer, start: number, end: number, sink: PacketSink): number {
    let at = start;
    while (at < end && !this.ended && !sink.stopped) {
      const packetEnd = this.readHeader(buffer, at, end, sink);
      if (packetEnd === 0 || packetEnd > end) {
        this.partialTotal = packetEnd === 0 ? 0 : packetEnd - at;
        return at;
      }
      this.packetBytes = packetEnd - at;
      const type = buffer[at]! >> 4;
      if (type === PUBLISH) this.decodePublish(buffer, at, packetEnd, sink);
      else if (type >= PUBACK && type <= PUBCOMP) this.decodeAck(type, buffer, packetEnd, sink);
      else this.decodeOther(type, buffer, packetEnd, sink);
      at = packetEnd;
    }
    return at;
  }

  /**
   * Reads the fixed header at `at`. Returns where its packet ends, which may be past `end`; 0 if the header is not
   * complete or was refused.
   */
  private readHeader(buffer: Buffer, at: number, end: number, sink: PacketSink): number {
    const { version } = this;
    const headerByte = buffer[at]!;
    if (version === 0 || HEADER_ACCEPTED[headerByte] === 0) {
      const violation = headerViolation(headerByte, version);
      if (violation !== null) return this.violate(violation, sink);
    }
    let next = at + 1;
    if (next >= end) return 0;
    let byte = buffer[next++]!;
    let length = byte & 0x7f;
    for (let shift = 7; byte >= 0x80; shift += 7) {
      if (shift > 21) return this.violate(LENGTH_TOO_LONG, sink);
      if (next >= end) return 0;
      byte = buffer[next++]!;
      // MQTT 3.1 and 3.1.1 do not forbid leading zeroes.
      if (byte === 0 && version === 5) return this.violate(LENGTH_TOO_LONG, sink);
      length |= (byte & 0x7f) << shift;
    }
    const packetEnd = next + length;
    const bytesMax = version === 0 ? this.limits.connectBytesMax : this.limits.packetBytesMax;
    if (packetEnd - at > bytesMax) return this.violate(TOO_LARGE, sink);
    this.bodyStart = next;
    return packetEnd;
  }

  private decodePublish(buffer: Buffer, packetStart: number, packetEnd: number, sink: PacketSink): void {
    const { version } = this;
    assert(version !== 0, 'readHeader lets only CONNECT through before CONNECT');
    this.publish ??= new PublishView();
    const violation = this.publish.read(version, buffer, packetStart, this.bodyStart, packetEnd);
    if (violation === null) sink.onPublish(this.publish);
    else this.violate(violation, sink);
  }

  /** PUBACK, PUBREC, PUBREL, PUBCOMP (MQTT 5, 3.4 to 3.7). */
  private decodeAck(type: number, buffer: Buffer, end: number, sink: PacketSink): void {
    const start = this.bodyStart;
    const length = end - start;
    if (length < 2 || (length > 2 && this.version !== 5)) {
      this.violate(ACK_LENGTH, sink);
      return;
    }
    const packetId = (buffer[start]! << 8) | buffer[start + 1]!;
    if (packetId === 0) {
      this.violate(ACK_PACKET_ID_0, sink);
      return;
    }
    const reasonCode = length > 2 ? buffer[start + 2]! : 0;
    if (reasonCode !== 0 && (ACK_REASONS[reasonCode]! & (1 << type)) === 0) {
      this.violate(ACK_REASON, sink);
      return;
    }
    const violation = length > 3 ? checkAckProperties(buffer, start + 3, end) : null;
    if (violation === null) sink.onAck(type, packetId, reasonCode);
    else this.violate(violation, sink);
  }

  private decodeOther(type: number, buffer: Buffer, end: number, sink: PacketSink): void {
    if (type === PINGREQ) {
      if (end === this.bodyStart) sink.onPingreq();
      else this.violate(PINGREQ_LENGTH, sink);
      return;
    }
    const parsed = parseControl(type, this.version, buffer, this.bodyStart, end);
    if (parsed.kind === 'violation') {
      this.violate(parsed.violation, sink);
      return;
    }
    const { packet } = parsed;
    if (packet.kind === 'connect') this.version = packet.version;
    else if (packet.kind === 'unsupported-version') this.close();
    sink.onPacket(packet);
  }

  private violate(violation: Violation, sink: PacketSink): 0 {
    this.close();
    sink.onViolation(violation);
    return 0;
  }
}

/** A bit for each packet type (1 << type) that may carry the reason code (MQTT 5, tables 3-4, 3-5, 3-6, 3-7). */
const ACK_REASONS = new Uint8Array(256);
for (const reasonCode of [
  REASON.noMatchingSubscribers,
  REASON.unspecifiedError,
  REASON.implementationSpecificError,
  REASON.notAuthorized,
  REASON.topicNameInvalid,
  REASON.packetIdentifierInUse,
  REASON.quotaExceeded,
  REASON.payloadFormatInvalid,
]) {
  ACK_REASONS[reasonCode] = (1 << PUBACK) | (1 << PUBREC);
}
ACK_REASONS[REASON.packetIdentifierNotFound] = (1 << PUBREL) | (1 << PUBCOMP);

const LENGTH_TOO_LONG = malformed('MQTT-1.5.5-1', 'the remaining length is too long a number');
const TOO_LARGE: Violation = {
  reasonCode: REASON.packetTooLarge,
  clause: 'MQTT-3.2.2-15',
  why: 'a packet is larger than this server takes',
};
const ACK_LENGTH = malformed('MQTT-4.13.1-1', 'an acknowledgement has a wrong length');
const ACK_PACKET_ID_0 = illegal('MQTT-2.2.1-3', 'the packet identifier is 0');
const ACK_REASON = illegal('MQTT-3.4.2-1', 'an acknowledgement has a reason code that is not its own');
const PINGREQ_LENGTH = malformed('MQTT-4.13.1-1', 'a PINGREQ is not empty');
