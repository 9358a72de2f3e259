import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodePacket, encodePacket, PACKET_MESSAGES_MAX } from '../../src/underlay/codec.js';
import { packet } from './arbitrary-packet.js';

/** Memory that a decoded value holds, roughly: what hostile bytes must not drive up. */
function weight(value: unknown): number {
  if (typeof value === 'string') return value.length;
  if (value instanceof Uint8Array) return value.length;
  if (typeof value !== 'object' || value === null) return 1;
  return Object.values(value).reduce<number>((sum, part) => sum + weight(part), 1);
}

/** An honest packet's worst: a message of a few fields from an 8-byte table. */
const WEIGHT_PER_BYTE = 4;

function decodeBounded(bytes: Uint8Array): void {
  const decoded = decodePacket(bytes);
  expect(weight(decoded)).toBeLessThanOrEqual(bytes.length * WEIGHT_PER_BYTE + 20);
}

describe('hostile packets', () => {
  it('of very many messages are refused', () => {
    const header = { environment: 1, from: 1, incarnation: 0, hlc: 0, wallMs: 0 };
    const packetOf = (count: number) =>
      encodePacket({
        ...header,
        messages: Array.from({ length: count }, () => ({ kind: 'ack' as const, sequence: 1, target: 1 })),
      });
    expect(decodePacket(packetOf(PACKET_MESSAGES_MAX))?.messages).toHaveLength(PACKET_MESSAGES_MAX);
    expect(decodePacket(packetOf(PACKET_MESSAGES_MAX + 1))).toBeUndefined();
  });

  it('of random bytes are refused or small', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), decodeBounded), { numRuns: 5_000 });
  });

  it('cut off at each offset are refused or small', () => {
    for (const sent of fc.sample(packet, { numRuns: 20, seed: 1 })) {
      const bytes = encodePacket(sent);
      for (let end = 0; end < bytes.length; end++) decodeBounded(bytes.subarray(0, end));
    }
  });

  it('with flipped bits are refused or small', () => {
    for (const sent of fc.sample(packet, { numRuns: 10, seed: 2 })) {
      const bytes = encodePacket(sent);
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        decodeBounded(bytes);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
      }
    }
  });

  it('with overwritten words are refused or small', () => {
    const words = fc.constantFrom(0, 1, 4, 8, 0x7fff_ffff, 0xffff_ffff, 0x8000_0000, 0x0001_0000, 100, 1_000);
    fc.assert(
      fc.property(packet, fc.nat(), words, fc.nat(), words, (sent, firstAt, first, secondAt, second) => {
        const bytes = encodePacket(sent);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        view.setUint32(firstAt % (bytes.length - 3), first, true);
        view.setUint32(secondAt % (bytes.length - 3), second, true);
        decodeBounded(bytes);
      }),
      { numRuns: 5_000 },
    );
  });

  it('that point to one part many times do not multiply it', () => {
    const why = 'x'.repeat(4_000);
    const one = encodePacket({
      environment: 1,
      from: 1,
      incarnation: 0,
      hlc: 0,
      wallMs: 0,
      messages: Array.from({ length: 500 }, () => ({ kind: 'refused' as const, why: '' })),
    });
    const long = encodePacket({
      environment: 1,
      from: 1,
      incarnation: 0,
      hlc: 0,
      wallMs: 0,
      messages: Array.from({ length: 500 }, (_, at) => ({
        kind: 'refused' as const,
        why: at === 0 ? why : '',
      })),
    });
    expect(decodePacket(one)?.messages).toHaveLength(500);
    expect(decodePacket(long)?.messages).toHaveLength(500);
    // The vector of messages is where 500 offsets stand in a row, each four bytes nearer to its table.
    const view = new DataView(long.buffer, long.byteOffset, long.length);
    let vector = 0;
    while (view.getInt32(vector, true) !== 500 || view.getInt32(vector + 8, true) <= 0) vector += 4;
    const target = vector + 4 + view.getInt32(vector + 4, true);
    for (let at = 1; at < 500; at++) {
      const place = vector + 4 + 4 * at;
      view.setInt32(place, target - place, true);
    }
    expect(decodePacket(long)).toBeUndefined();
  });
});
