import { describe, expect, it } from 'vitest';
import { HostRecord } from '../../src/schema/gen/host-record.js';
import { Payload } from '../../src/schema/gen/payload.js';
import { CheckedBuffer, MALFORMED, MessageBuilder } from '../../src/schema/schema.js';

function payloadBytes(): Uint8Array {
  const builder = new MessageBuilder(16);
  const bytes = builder.createByteVector(new Uint8Array([1, 2, 3]));
  builder.finish(Payload.createPayload(builder, builder.createString('channel'), bytes));
  return builder.asUint8Array().slice();
}

describe('a checked buffer', () => {
  it('reads what a builder wrote', () => {
    const payload = Payload.getRootAsPayload(new CheckedBuffer().over(payloadBytes()));
    expect(payload.channel()).toBe('channel');
    expect([...payload.bytesArray()!]).toEqual([1, 2, 3]);
  });

  it('shows no memory beside the packet', () => {
    const bytes = payloadBytes();
    const pool = new Uint8Array(bytes.length + 1_000).fill(0x41);
    pool.set(bytes, 500);
    const at = bytes.findIndex(
      (byte, index) => byte === 3 && bytes[index + 4] === 1 && bytes[index + 5] === 2,
    );
    pool[500 + at] = 200;
    const buffer = new CheckedBuffer().over(pool.subarray(500, 500 + bytes.length));
    const payload = Payload.getRootAsPayload(buffer);
    expect(() => payload.bytesArray()).toThrow(MALFORMED);
  });

  it('pays once for each part, and no more than the packet is long', () => {
    const bytes = payloadBytes();
    const payload = Payload.getRootAsPayload(new CheckedBuffer().over(bytes));
    const readAgain = () => {
      for (let count = 0; count < bytes.length; count++) payload.channel();
    };
    expect(readAgain).toThrow(MALFORMED);
  });

  it('holds on to nothing after it is released', () => {
    const buffer = new CheckedBuffer().over(payloadBytes());
    buffer.release();
    expect(buffer.bytes()).toHaveLength(0);
    expect(() => Payload.getRootAsPayload(buffer)).toThrow(MALFORMED);
  });
});

describe('a message builder', () => {
  it('writes texts of any length and script', () => {
    const texts = [
      '',
      'a',
      'x'.repeat(24),
      'x'.repeat(25),
      'größe',
      '名前',
      '🐟'.repeat(9),
      'x'.repeat(70_000),
    ];
    const builder = new MessageBuilder(16);
    for (const text of texts) {
      builder.clear();
      const name = builder.createString(text);
      HostRecord.startHostRecord(builder);
      HostRecord.addName(builder, name);
      builder.finish(HostRecord.endHostRecord(builder));
      const buffer = new CheckedBuffer().over(builder.asUint8Array().slice());
      expect(HostRecord.getRootAsHostRecord(buffer).name()).toBe(text);
    }
  });
});
