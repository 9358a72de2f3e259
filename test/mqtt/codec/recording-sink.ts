import { Decoder, type DecoderLimits, type PacketSink } from '../../../src/mqtt/codec/decoder.js';
import type { ControlPacket, Violation } from '../../../src/mqtt/codec/packet.js';
import type { PublishView } from '../../../src/mqtt/codec/publish-view.js';

export type Recorded =
  | {
      kind: 'publish';
      qos: number;
      dup: number;
      retain: number;
      packetId: number;
      topic: string;
      properties: string;
      forwarded: string;
      payload: string;
      topicAlias: number;
      messageExpirySeconds: number;
      payloadFormat: number;
      responseTopic: string;
    }
  | { kind: 'ack'; type: number; packetId: number; reasonCode: number }
  | { kind: 'pingreq' }
  | { kind: 'control'; packet: ControlPacket }
  | { kind: 'violation'; violation: Violation };

/** Copies everything it is told, so that runs can be compared. Stops after `stopAfter` packets until told to go on. */
export class RecordingSink implements PacketSink {
  readonly events: Recorded[] = [];
  stopAfter = Number.POSITIVE_INFINITY;

  get stopped(): boolean {
    return this.events.length >= this.stopAfter;
  }

  onPublish(view: PublishView): void {
    const { buffer } = view;
    this.events.push({
      kind: 'publish',
      qos: view.qos,
      dup: view.dup,
      retain: view.retain,
      packetId: view.packetId,
      topic: buffer.toString('utf8', view.topicStart, view.topicEnd),
      properties: buffer.toString('hex', view.propertiesStart, view.propertiesEnd),
      forwarded: view.forwardedBuffer.toString('hex', view.forwardedStart, view.forwardedEnd),
      payload: buffer.toString('hex', view.payloadStart, view.payloadEnd),
      topicAlias: view.topicAlias,
      messageExpirySeconds: view.messageExpirySeconds,
      payloadFormat: view.payloadFormat,
      responseTopic: buffer.toString('utf8', view.responseTopicStart, view.responseTopicEnd),
    });
  }

  onAck(type: number, packetId: number, reasonCode: number): void {
    this.events.push({ kind: 'ack', type, packetId, reasonCode });
  }

  onPingreq(): void {
    this.events.push({ kind: 'pingreq' });
  }

  onPacket(packet: ControlPacket): void {
    this.events.push({ kind: 'control', packet });
  }

  onViolation(violation: Violation): void {
    this.events.push({ kind: 'violation', violation });
  }

  get violations(): Violation[] {
    return this.events.flatMap(event => (event.kind === 'violation' ? [event.violation] : []));
  }
}

export const LIMITS: DecoderLimits = { packetBytesMax: 1 << 20, connectBytesMax: 1 << 18 };

/** The shortest CONNECT of each version, with a clean session and the client id "c". */
export const CONNECT_BYTES = {
  3: Buffer.from('100f00064d514973647003020000000163', 'hex'),
  4: Buffer.from('100d00044d51545404020000000163', 'hex'),
  5: Buffer.from('100e00044d5154540502000000000163', 'hex'),
} as const;

/** A decoder and its sink after the CONNECT of `version`, which is not recorded; version 0 for none. */
export function connected(
  version: 0 | 3 | 4 | 5,
  limits: DecoderLimits = LIMITS,
): { decoder: Decoder; sink: RecordingSink } {
  const decoder = new Decoder(limits);
  const sink = new RecordingSink();
  if (version !== 0) decoder.receive(Buffer.from(CONNECT_BYTES[version]), sink);
  sink.events.length = 0;
  return { decoder, sink };
}

/** What a decoder makes of `bytes`, given in chunks that end at `cuts` (and at the end). */
export function decodeAll(version: 0 | 3 | 4 | 5, bytes: Buffer, cuts: readonly number[] = []): Recorded[] {
  const { decoder, sink } = connected(version);
  let from = 0;
  for (const cut of [...cuts, bytes.length]) {
    decoder.receive(Buffer.from(bytes.subarray(from, cut)), sink);
    from = cut;
  }
  return sink.events;
}
