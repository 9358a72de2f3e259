import { describe, expect, it } from 'vitest';
import { decodeEntry, decodeLinkMessage } from '../../src/overlay/codec.js';
import { AgentBody } from '../../src/schema/gen/agent-body.js';
import { AgentData } from '../../src/schema/gen/agent-data.js';
import { AgentEntry } from '../../src/schema/gen/agent-entry.js';
import { AgentMessage } from '../../src/schema/gen/agent-message.js';
import { MessageBuilder } from '../../src/schema/schema.js';

/** Messages as a node of the next release may write them: slots beyond those that today's schema knows. */
function message(kind: number, body: (builder: MessageBuilder) => number): Uint8Array {
  const builder = new MessageBuilder(64);
  const offset = body(builder);
  const trace = builder.createString('trace');
  builder.startObject(3);
  AgentMessage.addBodyType(builder, kind);
  AgentMessage.addBody(builder, offset);
  builder.addFieldOffset(2, trace, 0);
  builder.finish(builder.endObject());
  return builder.asUint8Array();
}

/** All fields that today's schema has, and two more. */
function data(builder: MessageBuilder): number {
  const [agent, from, to, more] = ['kv', 'a', 'b', 'more'].map(text => builder.createString(text));
  const bytes = AgentData.createBytesVector(builder, [1, 2]);
  builder.startObject(10);
  AgentData.addAgent(builder, agent!);
  AgentData.addTarget(builder, 5);
  AgentData.addEpoch(builder, 6);
  AgentData.addSequence(builder, 7);
  AgentData.addReliable(builder, true);
  AgentData.addFrom(builder, from!);
  AgentData.addTo(builder, to!);
  AgentData.addBytes(builder, bytes);
  builder.addFieldOffset(8, more!, 0);
  builder.addFieldFloat64(9, 0.5, 0);
  return builder.endObject();
}

describe('what a node of the next release says', () => {
  it('is read without its new fields', () => {
    expect(decodeLinkMessage(message(AgentBody.AgentData, data))).toEqual({
      kind: 'data',
      agent: 'kv',
      target: 5,
      epoch: 6,
      sequence: 7,
      isReliable: true,
      from: 'a',
      to: 'b',
      bytes: Uint8Array.of(1, 2),
    });
    const builder = new MessageBuilder(64);
    const bytes = AgentEntry.createBytesVector(builder, [3]);
    builder.startObject(4);
    AgentEntry.addStamp(builder, 9);
    AgentEntry.addOwned(builder, true);
    AgentEntry.addBytes(builder, bytes);
    builder.addFieldInt32(3, 1, 0);
    builder.finish(builder.endObject());
    const entry = { stamp: 9, isOwned: true, bytes: Uint8Array.of(3) };
    expect(decodeEntry(builder.asUint8Array())).toEqual(entry);
  });

  it('is passed over when it is of a kind that this one does not know', () => {
    expect(decodeLinkMessage(message(AgentBody.AgentAck + 1, data))).toBeUndefined();
  });
});

describe('what a node of an earlier release says', () => {
  it('is read with the default of each field that it lacks', () => {
    const builder = new MessageBuilder(64);
    builder.startObject(1);
    AgentEntry.addStamp(builder, 9);
    builder.finish(builder.endObject());
    const entry = { stamp: 9, isOwned: false, bytes: new Uint8Array(0) };
    expect(decodeEntry(builder.asUint8Array())).toEqual(entry);
  });
});
