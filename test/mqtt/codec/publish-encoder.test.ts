import fc from 'fast-check';
import { generate, type Packet } from 'mqtt-packet';
import { describe, expect, it } from 'vitest';
import type { ProtocolVersion } from '../../../src/mqtt/codec/packet.js';
import {
  OutgoingPublish,
  packetIdOffset,
  publishLength,
  writePublish,
} from '../../../src/mqtt/codec/publish-encoder.js';
import { canPassThrough, type PublishView } from '../../../src/mqtt/codec/publish-view.js';
import { outgoing, publishPacket, versions } from './packet-arbitrary.js';
import { connected } from './recording-sink.js';

/** Where the property block of a PUBLISH that mqtt-packet generated lies. */
function viewOf(version: 3 | 4 | 5, packet: Buffer): PublishView {
  const { decoder, sink } = connected(version);
  let seen: PublishView | null = null;
  sink.onPublish = view => {
    seen = view;
  };
  decoder.receive(packet, sink);
  expect(sink.events).toEqual([]);
  return seen!;
}

/** Encoded as mqtt-packet does: properties in its order, which is the order of the object's keys. */
function oracle(version: number, packet: Record<string, unknown>): Buffer {
  return generate({ cmd: 'publish', ...packet } as Packet, { protocolVersion: version });
}

describe('PUBLISH', () => {
  it('is, byte for byte, what mqtt-packet generates', () => {
    fc.assert(
      fc.property(versions, outgoing, fc.nat(9), (version, input, at) => {
        const bare = viewOf(
          5,
          oracle(5, { topic: 'x', payload: Buffer.alloc(0), properties: input.properties }),
        );
        const topic = Buffer.from(`..${input.topic}.`);
        const publish = Object.assign(new OutgoingPublish(), {
          version: version as ProtocolVersion,
          qos: input.qos,
          dup: Number(input.dup && input.qos > 0),
          retain: Number(input.retain),
          packetId: input.packetId,
          topic,
          topicStart: 2,
          topicEnd: topic.length - 1,
          properties: bare.forwardedBuffer,
          propertiesStart: bare.forwardedStart,
          propertiesEnd: bare.forwardedEnd,
          expirySeconds: input.expirySeconds,
          subscriptionIds: input.subscriptionIds,
          topicAlias: version === 5 ? input.topicAlias : 0,
          payload: input.payload,
          payloadStart: 0,
          payloadEnd: input.payload.length,
        });
        const length = publishLength(publish);
        const into = Buffer.alloc(at + length + 1, 0xee);
        expect(writePublish(publish, into, at)).toBe(at + length);
        expect(into[at + length]).toBe(0xee);
        const properties = {
          ...(input.topicAlias === 0 ? {} : { topicAlias: input.topicAlias }),
          ...(input.expirySeconds < 0 ? {} : { messageExpiryInterval: input.expirySeconds }),
          ...(input.subscriptionIds.length === 0 ? {} : { subscriptionIdentifier: input.subscriptionIds }),
          ...input.properties,
        };
        const expected = oracle(version, {
          topic: input.topic,
          payload: input.payload,
          qos: input.qos,
          dup: input.dup && input.qos > 0,
          retain: input.retain,
          messageId: input.packetId,
          properties,
        });
        expect(into.subarray(at, at + length)).toEqual(expected);
        if (input.qos > 0) expect(into.readUInt16BE(at + packetIdOffset(publish))).toBe(input.packetId);
      }),
      { numRuns: 1000 },
    );
  });

  it.each([0, 55, 56, 57, 127, 128, 16_383, 16_384, 70_000, 2_097_152])(
    'carries a payload of %i bytes',
    count => {
      const payload = Buffer.alloc(count, 'payload');
      const publish = new OutgoingPublish();
      publish.topic = Buffer.from('a');
      publish.topicEnd = 1;
      publish.payload = payload;
      publish.payloadEnd = count;
      const into = Buffer.alloc(publishLength(publish));
      writePublish(publish, into, 0);
      expect(into.equals(oracle(4, { topic: 'a', payload }))).toBe(true);
    },
  );

  it('with an alias may leave its topic out', () => {
    const publish = new OutgoingPublish();
    publish.version = 5;
    publish.topicAlias = 3;
    const into = Buffer.alloc(publishLength(publish));
    writePublish(publish, into, 0);
    expect(viewOf(5, into)).toMatchObject({ topicAlias: 3 });
  });
});

describe('canPassThrough', () => {
  const text = (version: 3 | 4 | 5, extra: Record<string, unknown> = {}) =>
    viewOf(version, oracle(version, { topic: 'a', payload: Buffer.from('b'), ...extra }));

  it('holds between versions of one wire form, at QoS 0 and the same RETAIN', () => {
    expect(canPassThrough(text(4), 4, 0, 0)).toBe(true);
    expect(canPassThrough(text(4), 3, 0, 0)).toBe(true);
    expect(canPassThrough(text(3), 4, 0, 0)).toBe(true);
    expect(canPassThrough(text(4), 5, 0, 0)).toBe(false);
    expect(canPassThrough(text(5), 4, 0, 0)).toBe(false);
    expect(canPassThrough(text(5), 5, 0, 0)).toBe(true);
    expect(canPassThrough(text(4, { retain: true }), 4, 0, 0)).toBe(false);
    expect(canPassThrough(text(4, { retain: true }), 4, 0, 1)).toBe(true);
    expect(canPassThrough(text(4, { qos: 1, messageId: 1 }), 4, 0, 0)).toBe(false);
    expect(canPassThrough(text(5, { properties: { contentType: 'x' } }), 5, 0, 0)).toBe(true);
    expect(canPassThrough(text(5, { properties: { topicAlias: 1 } }), 5, 0, 0)).toBe(false);
    expect(canPassThrough(text(5, { properties: { messageExpiryInterval: 0 } }), 5, 0, 0)).toBe(false);
  });

  it('holds between QoS 1 and 2 whatever RETAIN is, since the first byte is written anew', () => {
    const sure = text(4, { qos: 1, messageId: 1 });
    expect(canPassThrough(sure, 3, 1, 0)).toBe(true);
    expect(canPassThrough(sure, 4, 2, 1)).toBe(true);
    expect(canPassThrough(sure, 5, 1, 0)).toBe(false);
    expect(canPassThrough(text(4), 4, 1, 0)).toBe(false);
    expect(canPassThrough(text(5, { qos: 2, messageId: 1, properties: { topicAlias: 1 } }), 5, 2, 0)).toBe(
      false,
    );
  });

  it('does not for a remaining length with leading zeroes', () => {
    expect(canPassThrough(viewOf(4, Buffer.from('300400016162', 'hex')), 4, 0, 0)).toBe(true);
    expect(canPassThrough(viewOf(4, Buffer.from('30840000016162', 'hex')), 4, 0, 0)).toBe(false);
    const long = Buffer.concat([Buffer.from('3083010001', 'hex'), Buffer.alloc(129, 'a')]);
    expect(canPassThrough(viewOf(4, long), 4, 0, 0)).toBe(true);
  });

  it('where it holds, our own encoding is the very same bytes', () => {
    fc.assert(
      fc.property(
        versions.chain(version => fc.tuple(fc.constant(version), publishPacket(version))),
        ([version, packet]) => {
          const bytes = generate(packet, { protocolVersion: version });
          const view = viewOf(version, bytes);
          fc.pre(canPassThrough(view, version, view.qos, view.retain));
          const publish = Object.assign(new OutgoingPublish(), {
            version,
            qos: view.qos,
            dup: view.dup,
            packetId: view.packetId,
            retain: view.retain,
            topic: view.buffer,
            topicStart: view.topicStart,
            topicEnd: view.topicEnd,
            properties: view.forwardedBuffer,
            propertiesStart: view.forwardedStart,
            propertiesEnd: view.forwardedEnd,
            payload: view.buffer,
            payloadStart: view.payloadStart,
            payloadEnd: view.payloadEnd,
          });
          const into = Buffer.alloc(publishLength(publish));
          writePublish(publish, into, 0);
          expect(into).toEqual(bytes);
        },
      ),
    );
  });
});
