import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameReader } from '../../../src/underlay/io/frame-reader.js';

function framed(bytes: Uint8Array): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(bytes.length, 0);
  return Buffer.concat([header, bytes]);
}

describe('frames', () => {
  it('come out whole however the stream is cut', () => {
    const cuts = fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 2_000 }), { maxLength: 12 }), cuts, (frames, sizes) => {
        const stream = Buffer.concat(frames.map(framed));
        const reader = new FrameReader(2_000);
        const taken: Buffer[] = [];
        for (let at = 0, turn = 0; at < stream.length; turn++) {
          const end = at + sizes[turn % sizes.length]!;
          const chunk = Buffer.from(stream.subarray(at, end));
          expect(reader.push(chunk, frame => taken.push(frame) > 0)).toBe(true);
          at = end;
        }
        // Compared at the end: no frame's memory is used again.
        expect(taken.map(frame => [...frame])).toEqual(frames.map(frame => [...frame]));
        expect(reader.pendingBytes).toBe(0);
      }),
    );
  });

  it('that are too long end the stream', () => {
    const reader = new FrameReader(100);
    expect(reader.push(framed(Buffer.alloc(100)), () => true)).toBe(true);
    expect(reader.push(framed(Buffer.alloc(101)).subarray(0, 4), () => true)).toBe(false);
  });

  it('that nobody wants end the stream', () => {
    const reader = new FrameReader(100);
    let taken = 0;
    const two = Buffer.concat([framed(Buffer.alloc(1)), framed(Buffer.alloc(1))]);
    expect(reader.push(two, () => ++taken > 1)).toBe(false);
    expect(taken).toBe(1);
  });
});
