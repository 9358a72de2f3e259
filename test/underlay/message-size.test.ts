import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodePacket } from '../../src/underlay/codec.js';
import { messageBytes, PACKET_BYTES } from '../../src/underlay/message-size.js';
import { message } from './arbitrary-packet.js';

const header = { environment: 1e9, from: 2 ** 52, incarnation: 3, hlc: 2 ** 52, wallMs: 1.7e12 };
const SEAL_BYTES = 34;

describe('the size of a message, estimated', () => {
  it('is near the truth for a packet of one', () => {
    fc.assert(
      fc.property(message, sent => {
        const bytes = encodePacket({ ...header, messages: [sent] }).length + SEAL_BYTES;
        const over = PACKET_BYTES + messageBytes(sent) - bytes;
        expect(over).toBeGreaterThan(-50);
        expect(over).toBeLessThan(90);
      }),
      { numRuns: 500 },
    );
  });

  it('is not far below the truth for many of a kind', () => {
    fc.assert(
      fc.property(message, sent => {
        const messages = Array.from({ length: 20 }, () => sent);
        const bytes = encodePacket({ ...header, messages }).length + SEAL_BYTES;
        expect(PACKET_BYTES + 20 * messageBytes(sent)).toBeGreaterThan(bytes * 0.9);
      }),
      { numRuns: 500 },
    );
  });
});
