import fc from 'fast-check';
import { generate, type Packet } from 'mqtt-packet';
import { describe, expect, it } from 'vitest';
import { Decoder } from '../../../src/mqtt/codec/decoder.js';
import { clientPacket, connectPacket } from './packet-arbitrary.js';
import { CONNECT_BYTES, connected, decodeAll, type Recorded, RecordingSink } from './recording-sink.js';

/** Hostile and torn input: nothing throws, nothing hangs, memory stays with what arrived, one violation at most. */

const VERSIONS = [3, 4, 5] as const;

/** A stream with every kind of packet, the same in each run. */
function corpus(version: 3 | 4 | 5): Packet[] {
  return [
    ...fc.sample(clientPacket(version), { numRuns: 40, seed: 7 }),
    // One whose remaining length takes two bytes.
    { cmd: 'publish', topic: 'long', payload: Buffer.alloc(200, 'x'), qos: 1, messageId: 5 } as Packet,
  ];
}

function encoded(version: 3 | 4 | 5): Buffer[] {
  return corpus(version).map(packet => generate(packet, { protocolVersion: version }));
}

function connects(version: 3 | 4 | 5): Buffer[] {
  return fc
    .sample(connectPacket(version), { numRuns: 12, seed: 7 })
    .map(packet => generate(packet, { protocolVersion: version }));
}

/** At most one violation, and nothing after it. */
function expectWellFormed(events: readonly Recorded[]): void {
  const first = events.findIndex(event => event.kind === 'violation');
  if (first >= 0) expect(first).toBe(events.length - 1);
}

function everyByte(bytes: Buffer): number[] {
  return Array.from({ length: bytes.length - 1 }, (_, i) => i + 1);
}

describe.each(VERSIONS)('version %i', version => {
  it('reads a stream alike wherever it is split', () => {
    const stream = Buffer.concat(encoded(version));
    const whole = decodeAll(version, stream);
    expect(whole).toHaveLength(corpus(version).length);
    for (let cut = 1; cut < stream.length; cut++) {
      const split = decodeAll(version, stream, [cut]);
      if (JSON.stringify(split) !== JSON.stringify(whole)) expect(split, `cut at ${cut}`).toEqual(whole);
    }
    expect(decodeAll(version, stream, everyByte(stream))).toEqual(whole);
    fc.assert(
      fc.property(fc.array(fc.nat(stream.length), { maxLength: 20 }), cuts => {
        const sorted = cuts.sort((a, b) => a - b);
        expect(decodeAll(version, stream, sorted)).toEqual(whole);
      }),
      { numRuns: 30 },
    );
  });

  it('reads a stream alike however often its sink stops', () => {
    const stream = Buffer.concat(encoded(version));
    const whole = decodeAll(version, stream);
    fc.assert(
      fc.property(
        fc.array(fc.nat(stream.length), { maxLength: 8 }),
        fc.integer({ min: 1, max: 5 }),
        (cuts, step) => {
          const { decoder, sink } = connected(version);
          sink.stopAfter = step;
          let from = 0;
          for (const cut of [...cuts.sort((a, b) => a - b), stream.length]) {
            decoder.receive(Buffer.from(stream.subarray(from, cut)), sink);
            from = cut;
          }
          for (let turn = 0; turn <= whole.length; turn++) {
            sink.stopAfter = sink.events.length + step;
            decoder.resume(sink);
          }
          expect(sink.events).toEqual(whole);
          expect(decoder.bufferedBytes).toBe(0);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('waits for the rest of a packet that is cut off at any byte', () => {
    for (const bytes of encoded(version)) {
      for (let cut = 1; cut < bytes.length; cut++) {
        const { decoder, sink } = connected(version);
        decoder.receive(Buffer.from(bytes.subarray(0, cut)), sink);
        expect(sink.events).toEqual([]);
        expect(decoder.bufferedBytes).toBe(cut);
      }
    }
    for (const bytes of connects(version)) {
      for (let cut = 1; cut < bytes.length; cut++) {
        expect(decodeAll(0, bytes.subarray(0, cut))).toEqual([]);
      }
    }
  });

  it('refuses, or reads otherwise, a packet whose length says that it ends at an earlier byte', () => {
    const shortened = (bytes: Buffer, cut: number) => {
      const head = bytes[1]! < 0x80 ? 2 : 3;
      const body = bytes.subarray(head, cut);
      const length = body.length < 0x80 ? [body.length] : [(body.length & 0x7f) | 0x80, body.length >> 7];
      return Buffer.concat([Buffer.from([bytes[0]!, ...length]), body]);
    };
    for (const bytes of encoded(version)) {
      for (let cut = 3; cut < bytes.length; cut++) {
        const events = decodeAll(version, shortened(bytes, cut));
        expect(events).toHaveLength(1);
      }
    }
    for (const bytes of connects(version)) {
      for (let cut = 3; cut < bytes.length; cut++) {
        const [event, ...others] = decodeAll(0, shortened(bytes, cut));
        expect(others).toEqual([]);
        // Only MQTT 3.1 lets the user name and password be missing.
        if (version !== 3) expect(event).toMatchObject({ kind: 'violation' });
      }
    }
  });

  it('survives every single flipped bit', () => {
    const check = (start: 0 | 3 | 4 | 5, bytes: Buffer) => {
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        const flipped = Buffer.from(bytes);
        flipped[bit >> 3]! ^= 1 << (bit & 7);
        const events = decodeAll(start, flipped);
        expectWellFormed(events);
        const torn = decodeAll(start, flipped, everyByte(flipped));
        if (JSON.stringify(torn) !== JSON.stringify(events)) expect(torn).toEqual(events);
      }
    };
    for (const bytes of encoded(version).slice(0, 20)) check(version, bytes);
    for (const bytes of connects(version).slice(0, 5)) check(0, bytes);
  });

  it('survives packets spliced from others', () => {
    const packets = encoded(version);
    const index = fc.nat(packets.length - 1);
    fc.assert(
      fc.property(index, index, fc.double({ min: 0, max: 1, noNaN: true }), (a, b, share) => {
        const head = packets[a]!.subarray(0, Math.ceil(packets[a]!.length * share));
        const tail = packets[b]!.subarray(Math.floor(packets[b]!.length * share));
        expectWellFormed(decodeAll(version, Buffer.concat([head, tail, ...packets])));
      }),
      { numRuns: 500 },
    );
  });
});

describe('random bytes', () => {
  const bytes = fc.uint8Array({ maxLength: 300 }).map(value => Buffer.from(value));
  const starts = fc.constantFrom<0 | 3 | 4 | 5>(0, 3, 4, 5);

  it('never throw, and what is kept is never more than what came', () => {
    fc.assert(
      fc.property(starts, bytes, fc.array(fc.nat(300), { maxLength: 5 }), (start, input, cuts) => {
        const { decoder, sink } = connected(start);
        let from = 0;
        for (const cut of [...cuts.sort((a, b) => a - b), input.length]) {
          decoder.receive(Buffer.from(input.subarray(from, cut)), sink);
          from = Math.min(cut, input.length);
          expect(decoder.bufferedBytes).toBeLessThanOrEqual(from);
        }
        expectWellFormed(sink.events);
      }),
      { numRuns: 3000 },
    );
  });

  it('behind a legal header never throw either', () => {
    const headers = fc.constantFrom(
      0x30,
      0x32,
      0x34,
      0x3d,
      0x40,
      0x50,
      0x62,
      0x70,
      0x82,
      0xa2,
      0xc0,
      0xe0,
      0xf0,
    );
    const body = fc.uint8Array({ maxLength: 120 }).map(value => Buffer.from(value));
    fc.assert(
      fc.property(fc.constantFrom(...VERSIONS), headers, body, (version, header, input) => {
        const packet = Buffer.concat([Buffer.from([header, input.length]), input]);
        const events = decodeAll(version, packet);
        expect(events).toHaveLength(1);
      }),
      { numRuns: 5000 },
    );
  });
});

describe('large packets', () => {
  const limits = { packetBytesMax: 268_435_460, connectBytesMax: 65_536 };

  it('are joined from small chunks in linear time', () => {
    const payload = Buffer.alloc(8 << 20, 'abcdefgh');
    const packet = generate({ cmd: 'publish', topic: 't', payload, qos: 0, dup: false, retain: false });
    const decoder = new Decoder(limits);
    const sink = new RecordingSink();
    decoder.receive(Buffer.from(CONNECT_BYTES[4]), sink);
    let equal = false;
    sink.onPublish = view => {
      equal = view.buffer.compare(payload, 0, payload.length, view.payloadStart, view.payloadEnd) === 0;
    };
    // Copying all again for each chunk would move half a terabyte here.
    for (let at = 0; at < packet.length; at += 61) decoder.receive(packet.subarray(at, at + 61), sink);
    expect(equal).toBe(true);
    expect(decoder.bufferedBytes).toBe(0);
  });

  it('take no memory for what they only claim', () => {
    const before = process.memoryUsage().arrayBuffers;
    const waiting: Decoder[] = [];
    for (let i = 0; i < 400; i++) {
      const { decoder, sink } = connected(4, limits);
      decoder.receive(Buffer.from('30ffffff7f0001', 'hex'), sink);
      decoder.receive(Buffer.alloc(2000), sink);
      waiting.push(decoder);
    }
    const grown = process.memoryUsage().arrayBuffers - before;
    expect(waiting[0]!.bufferedBytes).toBe(2007);
    // 400 of 256 MiB were claimed; 16 KiB each is what is reserved.
    expect(grown).toBeLessThan(400 * 20 * 1024);
  });

  it('release their memory when refused', () => {
    const { decoder, sink } = connected(4, { packetBytesMax: 1000, connectBytesMax: 1000 });
    decoder.receive(Buffer.from('30', 'hex'), sink);
    decoder.receive(Buffer.from('e8', 'hex'), sink);
    decoder.receive(Buffer.from('07', 'hex'), sink);
    expect(sink.violations).toMatchObject([{ reasonCode: 0x95 }]);
    expect(decoder.bufferedBytes).toBe(0);
  });
});
