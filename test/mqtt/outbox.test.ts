import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Extent, Outbox, type Writer } from '../../src/mqtt/outbox.js';
import type { Peer } from '../../src/mqtt/transport.js';

class Sink implements Writer {
  tail: Extent | null = null;
  starved = false;
  rooms = 0;
  blocks = 0;
  pending = 0;
  /** What the kernel took at once is copied, as the kernel does; what waits stays where it is. */
  copies = true;
  readonly written: Buffer[] = [];
  peer = {
    write: (bytes: Buffer) => {
      this.written.push(this.pending === 0 && this.copies ? Buffer.from(bytes) : bytes);
      return this.pending;
    },
  } as unknown as Peer | null;

  get blocked(): boolean {
    return this.pending > 0 && this.blocks > 0;
  }

  onBlocked(): void {
    this.blocks++;
  }

  onRoom(): void {
    this.rooms++;
    this.starved = false;
  }

  get text(): string {
    return Buffer.concat(this.written).toString();
  }
}

const slab = Buffer.from('abcdefghijklmnopqrstuvwxyz');

describe('outbox', () => {
  it('asks for the end of the turn once, and writes each connection once', () => {
    let scheduled = 0;
    const outbox = new Outbox(() => scheduled++);
    const sinks = [new Sink(), new Sink()];
    for (const sink of sinks) {
      outbox.append(sink, slab, 0, 2);
      outbox.append(sink, slab, 10, 12);
    }
    expect(scheduled).toBe(1);
    outbox.flush();
    expect(sinks.map(({ written }) => written.length)).toEqual([1, 1]);
    expect(sinks.map(({ text }) => text)).toEqual(['abkl', 'abkl']);
    expect(outbox.writes).toBe(2);
    expect(outbox.bytes).toBe(8);
    outbox.append(sinks[0]!, slab, 3, 4);
    expect(scheduled).toBe(2);
  });

  it('joins the bytes of connections with equal output once', () => {
    const outbox = new Outbox(() => {});
    const sinks = Array.from({ length: 50 }, () => new Sink());
    for (const sink of sinks) sink.copies = false;
    const one = Buffer.from('one');
    const two = Buffer.from('two');
    for (const sink of sinks) outbox.append(sink, one, 0, 3);
    for (const sink of sinks) outbox.append(sink, two, 0, 3);
    outbox.flush();
    expect(new Set(sinks.map(({ written }) => written[0])).size).toBe(1);
    expect(sinks[49]!.text).toBe('onetwo');
  });

  it('sends extents that touch each other as the very bytes that they are', () => {
    const outbox = new Outbox(() => {});
    const sink = new Sink();
    sink.copies = false;
    outbox.append(sink, slab, 0, 3);
    outbox.append(sink, slab, 3, 5);
    outbox.append(sink, slab, 5, 9);
    outbox.flush();
    expect(sink.text).toBe('abcdefghi');
    expect(sink.written[0]!.buffer).toBe(slab.buffer);
    expect(sink.written[0]!.byteOffset).toBe(slab.byteOffset);
  });

  it('leaves the shorter queue alone when a longer one grows over it', () => {
    const outbox = new Outbox(() => {});
    const short = new Sink();
    const long = new Sink();
    outbox.append(short, slab, 0, 3);
    outbox.append(long, slab, 0, 3);
    outbox.append(long, slab, 3, 6);
    outbox.append(short, slab, 20, 21);
    outbox.flush();
    expect([short.text, long.text]).toEqual(['abcu', 'abcdef']);
  });

  it('writes one connection ahead of the turn, and what comes later in its place', () => {
    const outbox = new Outbox(() => {});
    const sink = new Sink();
    outbox.append(sink, slab, 0, 1);
    outbox.flushOne(sink);
    expect(sink.text).toBe('a');
    outbox.append(sink, slab, 1, 2);
    expect(sink.tail!.total).toBe(1);
    outbox.flush();
    outbox.flush();
    expect(sink.text).toBe('ab');
    expect(sink.written).toHaveLength(2);
  });

  it('writes nothing to a connection that closed', () => {
    const outbox = new Outbox(() => {});
    const sink = new Sink();
    outbox.append(sink, slab, 0, 1);
    sink.peer = null;
    outbox.flush();
    expect(sink.written).toEqual([]);
    expect(sink.tail).toBe(null);
  });

  it('tells a connection of what the kernel did not take, and of room when somebody waits for it', () => {
    const outbox = new Outbox(() => {});
    const sink = new Sink();
    sink.pending = 7;
    sink.starved = true;
    outbox.append(sink, slab, 0, 1);
    outbox.flush();
    expect([sink.blocks, sink.rooms]).toEqual([1, 0]);
    sink.pending = 0;
    outbox.append(sink, slab, 0, 1);
    outbox.flush();
    outbox.append(sink, slab, 0, 1);
    outbox.flush();
    expect([sink.blocks, sink.rooms]).toEqual([1, 1]);
  });

  it('keeps what is appended while it writes for the next turn', () => {
    let scheduled = 0;
    const outbox = new Outbox(() => scheduled++);
    const sink = new Sink();
    sink.starved = true;
    sink.onRoom = () => {
      sink.starved = false;
      outbox.append(sink, slab, 1, 2);
    };
    outbox.append(sink, slab, 0, 1);
    outbox.flush();
    expect(sink.text).toBe('a');
    expect(scheduled).toBe(2);
    outbox.flush();
    expect(sink.text).toBe('ab');
  });

  it('leaves bytes alone that the kernel has not taken, turn after turn, and bounds what they hold', () => {
    const outbox = new Outbox(() => {});
    const sinks = Array.from({ length: 40 }, () => new Sink());
    const expected = sinks.map((_, at) => Buffer.alloc(20_000, at));
    for (const [at, sink] of sinks.entries()) {
      sink.pending = 1;
      outbox.append(sink, expected[at]!, 0, 10_000);
      outbox.append(sink, slab, 0, 3);
      outbox.append(sink, expected[at]!, 10_000, 20_000);
      outbox.flush();
    }
    for (const [at, { written }] of sinks.entries()) {
      expect(written[0]!.subarray(0, 10_000).equals(expected[at]!.subarray(0, 10_000))).toBe(true);
      expect(written[0]!.toString('latin1', 10_000, 10_003)).toBe('abc');
    }
    const held = new Set(sinks.map(({ written }) => written[0]!.buffer));
    const bytes = [...held].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(bytes).toBeLessThan(8 * 1024 * 1024 + 40 * 32_768);
  });

  it('sends to each what was appended to it, in order, whatever they share (property)', () => {
    const buffers = [slab, Buffer.from('0123456789'.repeat(20)), Buffer.from('-')];
    const append = fc.record({
      sink: fc.nat(3),
      buffer: fc.nat(2),
      start: fc.nat(150),
      length: fc.integer({ min: 1, max: 60 }),
      all: fc.boolean(),
      end: fc.constantFrom('none', 'none', 'none', 'flush', 'flushOne'),
      pending: fc.constantFrom(0, 0, 1),
    });
    fc.assert(
      fc.property(fc.array(append, { maxLength: 80 }), appends => {
        const outbox = new Outbox(() => {});
        const sinks = Array.from({ length: 4 }, () => new Sink());
        const expected = ['', '', '', ''];
        for (const { sink, buffer, start, length, all, end, pending } of appends) {
          sinks[sink]!.pending = pending;
          const bytes = buffers[buffer]!;
          const from = start % bytes.length;
          const to = Math.min(bytes.length, from + length);
          for (const at of all ? [0, 1, 2, 3] : [sink]) {
            outbox.append(sinks[at]!, bytes, from, to);
            expected[at] += bytes.toString('latin1', from, to);
          }
          if (end === 'flush') outbox.flush();
          if (end === 'flushOne') outbox.flushOne(sinks[sink]!);
        }
        outbox.flush();
        expect(sinks.map(({ text }) => text)).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });
});
