import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodePacket, encodePacket } from '../../src/underlay/codec.js';
import { decodeHostRecord, encodeHostRecord, INCARNATION_MAX } from '../../src/underlay/codec-parts.js';
import type { Message, Packet } from '../../src/underlay/message.js';
import { hostRecord, packet } from './arbitrary-packet.js';

const header = { environment: 1, from: 2, incarnation: 3, hlc: 4, wallMs: 5 };
const sample: Packet = {
  ...header,
  messages: [
    { kind: 'ping', sequence: 7, target: 2 ** 53 - 1, suspected: 0 },
    { kind: 'suspect', id: 9, incarnation: 1, by: 10 },
  ],
};

describe('packets', () => {
  it('come out as they went in', () => {
    fc.assert(
      fc.property(packet, sent => {
        expect(decodePacket(encodePacket(sent))).toEqual(sent);
      }),
      { numRuns: 500 },
    );
  });

  it('belong to nobody else', () => {
    const bytes = encodePacket(sample);
    const again = encodePacket(sample);
    expect(again.buffer).not.toBe(bytes.buffer);
    const payload: Message = { kind: 'payload', channel: 'c', bytes: new Uint8Array([1, 2, 3]) };
    const carrier = encodePacket({ ...header, messages: [payload] });
    const decoded = decodePacket(carrier);
    carrier.fill(0);
    expect(decoded?.messages).toEqual([payload]);
  });

  it('are read at any place in a larger buffer', () => {
    const bytes = encodePacket(sample);
    for (let shift = 0; shift < 8; shift++) {
      const pool = new Uint8Array(bytes.length + 16).fill(0xff);
      pool.set(bytes, shift);
      expect(decodePacket(pool.subarray(shift, shift + bytes.length))).toEqual(sample);
    }
  });

  it('hold the largest number where a number is too large', () => {
    const decoded = decodePacket(
      encodePacket({
        ...header,
        incarnation: 2 ** 40,
        messages: [{ kind: 'ping', sequence: 2 ** 40, target: 1, suspected: 2 ** 40 }],
      }),
    );
    expect(decoded).toMatchObject({
      incarnation: INCARNATION_MAX,
      messages: [{ sequence: 2 ** 32 - 1, suspected: INCARNATION_MAX }],
    });
  });

  it('carry ids and clocks below 2^53 only', () => {
    const refused = [
      { ...sample, from: 0 },
      { ...sample, from: -1 },
      { ...sample, from: 1.5 },
      { ...sample, from: 2 ** 53 },
      { ...sample, hlc: Number.NaN },
      { ...sample, wallMs: Number.POSITIVE_INFINITY },
      { ...sample, messages: [{ kind: 'suspect', id: 0, incarnation: 0, by: 1 }] },
      { ...sample, messages: [{ kind: 'crdt', map: '', message: { kind: 'ack', seq: 0 } }] },
    ] as Packet[];
    for (const sent of refused) expect(decodePacket(encodePacket(sent))).toBeUndefined();
  });
});

describe('host records', () => {
  it('of impossible times stay readable', () => {
    const record = {
      id: 1,
      incarnation: 2 ** 40,
      name: '',
      address: '',
      version: '',
      startedMs: 2 ** 60,
      agents: [],
    };
    const { startedMs, incarnation } = decodeHostRecord(encodeHostRecord(record))!;
    expect([startedMs, incarnation]).toEqual([Number.MAX_SAFE_INTEGER, INCARNATION_MAX]);
  });

  it('come out as they went in', () => {
    fc.assert(
      fc.property(hostRecord, record => {
        expect(decodeHostRecord(encodeHostRecord(record))).toEqual(record);
      }),
    );
  });

  it('are undefined for other bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), bytes => {
        const record = decodeHostRecord(bytes);
        expect(record === undefined || record.id >= 1).toBe(true);
      }),
      { numRuns: 1_000 },
    );
    expect(decodeHostRecord(new Uint8Array(0))).toBeUndefined();
  });
});
