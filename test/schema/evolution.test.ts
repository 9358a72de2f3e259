import { describe, expect, it } from 'vitest';
import { Alive } from '../../src/schema/gen/alive.js';
import { Answer } from '../../src/schema/gen/answer.js';
import { Gone } from '../../src/schema/gen/gone.js';
import { HostRecord } from '../../src/schema/gen/host-record.js';
import { Message } from '../../src/schema/gen/message.js';
import { Packet } from '../../src/schema/gen/packet.js';
import { Ping } from '../../src/schema/gen/ping.js';
import { MessageBuilder } from '../../src/schema/schema.js';
import { decodePacket, PROTOCOL } from '../../src/underlay/codec.js';

/**
 * Packets as a node of the next release (`next.fbs`) and of an earlier one would write them, built field by field:
 * slots beyond those that today's schema knows, or fewer.
 */

const header = { environment: 7, from: 11, incarnation: 2, hlc: 13, wallMs: 17 };

interface Part {
  readonly kind: number;
  readonly add: (builder: MessageBuilder) => number;
}

const ack: Part = { kind: Message.Ack, add: builder => Answer.createAnswer(builder, 3, 5) };
const ackRead = { kind: 'ack', sequence: 3, target: 5 };

function packetOf(parts: readonly Part[], options: { protocol?: number; isNext?: boolean } = {}): Uint8Array {
  const builder = new MessageBuilder(16);
  const offsets = parts.map(({ add }) => add(builder));
  const messages = Packet.createMessagesVector(builder, offsets);
  const kinds = Packet.createMessagesTypeVector(
    builder,
    parts.map(({ kind }) => kind),
  );
  const cluster = builder.createString('a field of the next release');
  builder.startObject(10);
  Packet.addFrom(builder, header.from);
  Packet.addHlc(builder, header.hlc);
  Packet.addWallMs(builder, header.wallMs);
  Packet.addEnvironment(builder, header.environment);
  Packet.addIncarnation(builder, header.incarnation);
  Packet.addMessages(builder, messages);
  Packet.addMessagesType(builder, kinds);
  Packet.addProtocol(builder, options.protocol ?? PROTOCOL);
  if (options.isNext) {
    builder.addFieldOffset(8, cluster, 0);
    builder.addFieldInt32(9, 1, 0);
  }
  builder.finish(builder.endObject());
  return builder.asUint8Array();
}

describe('a packet of the next release', () => {
  it('is read without its new fields', () => {
    const ping: Part = {
      kind: Message.Ping,
      add: builder => {
        builder.startObject(4);
        Ping.addSequence(builder, 1);
        Ping.addTarget(builder, 2);
        Ping.addSuspectedNext(builder, 4);
        builder.addFieldFloat64(3, 0.5, 0);
        return builder.endObject();
      },
    };
    const alive: Part = {
      kind: Message.Alive,
      add: builder => {
        const name = builder.createString('node');
        const zone = builder.createString('zone');
        builder.startVector(8, 1, 8);
        builder.addFloat64(1);
        const weights = builder.endVector();
        builder.startObject(9);
        HostRecord.addId(builder, 23);
        HostRecord.addName(builder, name);
        builder.addFieldOffset(7, zone, 0);
        builder.addFieldOffset(8, weights, 0);
        return Alive.createAlive(builder, builder.endObject());
      },
    };
    const record = {
      id: 23,
      incarnation: 0,
      name: 'node',
      address: '',
      version: '',
      startedMs: 0,
      agents: [],
    };
    expect(decodePacket(packetOf([ping, alive], { isNext: true }))).toEqual({
      ...header,
      messages: [
        { kind: 'ping', sequence: 1, target: 2, suspected: 3 },
        { kind: 'alive', record },
      ],
    });
  });

  it('is read without messages of new kinds, wherever they stand', () => {
    const rebalance: Part = {
      kind: Message.CrdtRepair + 1,
      add: builder => {
        const plan = builder.createString('p'.repeat(1_000));
        builder.startObject(2);
        builder.addFieldOffset(0, plan, 0);
        builder.addFieldFloat64(1, 1, 0);
        return builder.endObject();
      },
    };
    expect(decodePacket(packetOf([rebalance, ack, rebalance, ack, rebalance]))).toEqual({
      ...header,
      messages: [ackRead, ackRead],
    });
  });

  it('is read without messages whose meaning hangs on a new value', () => {
    const drained: Part = { kind: Message.Gone, add: builder => Gone.createGone(builder, 1, 2, 4, 3) };
    expect(decodePacket(packetOf([drained, ack]))).toEqual({ ...header, messages: [ackRead] });
  });

  it('of another protocol is refused whole', () => {
    expect(decodePacket(packetOf([ack], { protocol: PROTOCOL + 1 }))).toBeUndefined();
    expect(decodePacket(packetOf([ack], { protocol: 0 }))).toBeUndefined();
  });
});

describe('a packet of an earlier release', () => {
  it('is read with the default of each field that it lacks', () => {
    const ping: Part = {
      kind: Message.Ping,
      add: builder => {
        builder.startObject(1);
        Ping.addSequence(builder, 1);
        return builder.endObject();
      },
    };
    expect(decodePacket(packetOf([ping]))).toEqual({
      ...header,
      messages: [{ kind: 'ping', sequence: 1, target: 0, suspected: -1 }],
    });
  });
});
