import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AssertionError } from '../../src/base/assert.js';
import { createRing, RingReader, RingWriter } from '../../src/shard/ring.js';
import type { RingMemory } from '../../src/shard/shard.js';

const NOTHING = () => {};

function ringAt(capacityBytes: number, position: number, frameBytesMax?: number): RingMemory {
  const ring = createRing(capacityBytes, frameBytesMax);
  const header = new Int32Array(ring.memory);
  header[0] = position;
  header[32] = position;
  return ring;
}

function frame(seq: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = seq * 31 + i * 7;
  return bytes;
}

type Step =
  | { readonly kind: 'push'; readonly length: number; readonly offset: number }
  | { readonly kind: 'commit' }
  | { readonly kind: 'drain'; readonly frames: number; readonly bytes: number };

function steps(capacity: number): fc.Arbitrary<Step[]> {
  const length = fc.oneof(
    { weight: 6, arbitrary: fc.nat(40) },
    { weight: 3, arbitrary: fc.nat(capacity / 2) },
    { weight: 1, arbitrary: fc.nat(capacity * 3) },
  );
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('push'), length, offset: fc.nat(9) }) },
    { weight: 2, arbitrary: fc.constant({ kind: 'commit' }) },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('drain'),
        frames: fc.integer({ min: 1, max: 12 }),
        bytes: fc.integer({ min: 1, max: capacity * 2 }),
      }),
    },
  );
  return fc.array(step, { maxLength: 200 });
}

/** Runs the steps against a queue; what a full ring refuses is dropped, or finished first if it was begun. */
function check(ring: RingMemory, script: readonly Step[]): void {
  const writer = new RingWriter(ring);
  const reader = new RingReader(ring, NOTHING);
  const expected: Buffer[] = [];
  let begun: Buffer | undefined;
  let seq = 0;
  let drained = 0;
  const handler = (bytes: Buffer, start: number, end: number) => {
    const want = expected.shift();
    expect(want).toBeDefined();
    expect(want!.compare(bytes, start, end)).toBe(0);
    drained++;
  };
  for (const step of script) {
    if (step.kind === 'commit') writer.commit();
    else if (step.kind === 'drain') {
      const before = drained;
      const got = reader.drain(handler, step.frames, step.bytes);
      expect(got).toBe(drained - before);
      expect(got).toBeLessThanOrEqual(step.frames);
    } else {
      const bytes = begun ?? frame(seq++, step.length);
      const source = Buffer.concat([Buffer.alloc(step.offset), bytes, Buffer.alloc(3)]);
      const taken = writer.push(source, step.offset, step.offset + bytes.length);
      expect(taken && writer.partial).toBe(false);
      if (taken) expected.push(bytes);
      begun = writer.partial ? bytes : undefined;
      expect(writer.depthBytes).toBeLessThanOrEqual(ring.capacityBytes);
    }
  }
  for (let turns = 0; begun !== undefined || expected.length > 0 || reader.waits; turns++) {
    expect(turns).toBeLessThan(1000);
    if (begun !== undefined && writer.push(begun, 0, begun.length)) {
      expected.push(begun);
      begun = undefined;
    }
    writer.commit();
    reader.drain(handler, 1000);
  }
  expect(writer.depthBytes).toBe(0);
}

describe('ring', () => {
  const positions = fc.constantFrom(0, 8, 1000, 2 ** 31 - 64, -64, -2048, -(2 ** 31) + 8);

  it.each([64, 128, 1024, 16384])('behaves as a queue, capacity %i', capacity => {
    fc.assert(
      fc.property(positions, steps(capacity), (position, script) => {
        check(ringAt(capacity, position), script);
      }),
      { numRuns: 300 },
    );
  });

  it('hands over no byte before it is committed, unless a quarter of the ring has gathered', () => {
    const ring = createRing(1024);
    const writer = new RingWriter(ring);
    const reader = new RingReader(ring, NOTHING);
    const bytes = frame(1, 60);
    for (let i = 0; i < 3; i++) expect(writer.push(bytes, 0, 60)).toBe(true);
    expect(reader.drain(NOTHING, 10)).toBe(0);
    expect(writer.commit()).toBe(true);
    expect(writer.commit()).toBe(false);
    expect(reader.drain(NOTHING, 10)).toBe(3);
    for (let i = 0; i < 6; i++) expect(writer.push(bytes, 0, 60)).toBe(true);
    expect(reader.drain(NOTHING, 10)).toBe(4);
    expect(writer.commit()).toBe(true);
    expect(reader.drain(NOTHING, 10)).toBe(2);
  });

  it('takes nothing when full, and goes on after the reader made room', () => {
    let rooms = 0;
    const ring = createRing(1024);
    const writer = new RingWriter(ring);
    const reader = new RingReader(ring, () => rooms++);
    const bytes = frame(2, 60);
    let pushed = 0;
    while (writer.push(bytes, 0, 60)) pushed++;
    expect(pushed).toBe(16);
    expect(writer.starving).toBe(true);
    expect(reader.drain(NOTHING, 4)).toBe(4);
    expect(rooms).toBe(0);
    expect(reader.drain(NOTHING, 4)).toBe(4);
    expect(rooms).toBe(1);
    expect(writer.starving).toBe(false);
    expect(writer.push(bytes, 0, 60)).toBe(true);
  });

  it('continues a frame many times the ring, and lets no other frame in between', () => {
    const ring = createRing(256);
    const writer = new RingWriter(ring);
    const reader = new RingReader(ring, NOTHING);
    const large = frame(3, 10_000);
    const got: Buffer[] = [];
    expect(writer.push(large, 0, large.length)).toBe(false);
    expect(writer.partial).toBe(true);
    expect(() => writer.push(large, 0, 1)).toThrow(AssertionError);
    let turns = 0;
    do {
      expect(reader.drain((bytes, start, end) => got.push(Buffer.from(bytes.subarray(start, end))), 9)).toBe(
        0,
      );
    } while (!writer.push(large, 0, large.length) && turns++ < 1000);
    writer.commit();
    reader.drain((bytes, start, end) => got.push(Buffer.from(bytes.subarray(start, end))), 9);
    expect(got).toHaveLength(1);
    expect(got[0]!.equals(large)).toBe(true);
  });

  it('asserts on a frame over its bound', () => {
    const writer = new RingWriter(createRing(256, 1000));
    expect(() => writer.push(frame(0, 1001), 0, 1001)).toThrow(AssertionError);
    expect(() => createRing(1000)).toThrow(AssertionError);
  });

  it('counts what goes unread when it is closed, a begun frame included', () => {
    const ring = createRing(256);
    const writer = new RingWriter(ring);
    const reader = new RingReader(ring, NOTHING);
    for (let i = 0; i < 3; i++) writer.push(frame(i, 8), 0, 8);
    expect(writer.push(frame(9, 5000), 0, 5000)).toBe(false);
    writer.commit();
    expect(reader.drain(NOTHING, 1)).toBe(1);
    expect(reader.close()).toBe(3);
    expect(reader.drain(NOTHING, 10)).toBe(0);
  });

  it('takes a frame as read when its handler throws, and stays usable', () => {
    const ring = createRing(256);
    const writer = new RingWriter(ring);
    const reader = new RingReader(ring, NOTHING);
    writer.push(frame(1, 8), 0, 8);
    writer.push(frame(2, 9), 0, 9);
    writer.commit();
    const boom = () => {
      throw new Error('boom');
    };
    expect(() => reader.drain(boom, 10)).toThrow('boom');
    const lengths: number[] = [];
    expect(reader.drain((_, start, end) => lengths.push(end - start), 10)).toBe(1);
    expect(lengths).toEqual([9]);
  });

  it('gives views that Buffer methods can read, since they lie in shared memory', () => {
    const ring = createRing(256);
    const writer = new RingWriter(ring);
    const text = Buffer.from('größe');
    writer.push(text, 0, text.length);
    writer.commit();
    const seen: unknown[] = [];
    new RingReader(ring, NOTHING).drain((bytes, start, end) => {
      seen.push(bytes.toString('utf8', start, end), bytes.toString('latin1', start, start + 2));
      seen.push(Buffer.from(bytes.subarray(start, end)).equals(text), bytes.indexOf(0x72, start) - start);
    }, 1);
    expect(seen).toEqual(['größe', 'gr', true, 1]);
  });
});
