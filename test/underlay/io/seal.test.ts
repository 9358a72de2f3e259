import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  REPLAY_SENDERS_MAX,
  REPLAY_WINDOW_PACKETS,
  ReplayWindow,
} from '../../../src/underlay/io/replay-window.js';
import { FRESH_MS, Seal } from '../../../src/underlay/io/seal.js';

const NOW = 1_800_000_000_000;
const A = randomBytes(32).toString('base64');
const B = randomBytes(32).toString('base64');
const packet = Buffer.from('a packet');
const opened = (bytes: Uint8Array) => ({ kind: 'ok', bytes: Buffer.from(bytes) });

describe('keys', () => {
  it('seal and open, by base64 and by pass phrase', () => {
    for (const key of [A, ` ${A}\n`, 'sixteen letters!', 'ein längerer Satz, mit Umlauten']) {
      const sealed = new Seal([key]).seal(packet, 'datagram', NOW);
      expect(new Seal([key]).open(sealed, NOW)).toEqual(opened(packet));
      expect(Buffer.from(sealed).includes(packet)).toBe(false);
    }
  });

  it('that differ do not open', () => {
    for (const [key, other] of [
      [A, B],
      [A, 'sixteen letters!'],
      ['sixteen letters!', 'sixteen letters?'],
    ] as const) {
      const sealed = new Seal([key]).seal(packet, 'datagram', NOW);
      expect(new Seal([other]).open(sealed, NOW)).toEqual({ kind: 'key' });
    }
  });

  it('are two during a rotation: the first seals, each opens', () => {
    const [old, both, next] = [new Seal([A]), new Seal([B, A]), new Seal([B])];
    expect(both.open(old.seal(packet, 'stream', NOW), NOW).kind).toBe('ok');
    expect(both.open(next.seal(packet, 'stream', NOW), NOW).kind).toBe('ok');
    expect(next.open(both.seal(packet, 'stream', NOW), NOW).kind).toBe('ok');
    expect(old.open(both.seal(packet, 'stream', NOW), NOW).kind).toBe('key');
  });

  it('are renewed in use, and those of before stay when the new ones cannot be used', () => {
    const [host, old, next] = [new Seal([A]), new Seal([A]), new Seal([B])];
    const early = old.seal(packet, 'stream', NOW);
    expect(host.open(early, NOW).kind).toBe('ok');
    host.renew([B, A]);
    expect(next.open(host.seal(packet, 'stream', NOW), NOW).kind).toBe('ok');
    expect(host.open(old.seal(packet, 'stream', NOW), NOW).kind).toBe('ok');
    expect(host.open(early, NOW).kind).toBe('replay');
    expect(() => host.renew([B, 'too short'])).toThrow(
      expect.objectContaining({ code: 'SHOAL_CLUSTER_KEY' }),
    );
    expect(host.open(old.seal(packet, 'stream', NOW), NOW).kind).toBe('ok');
    host.renew([B]);
    expect(host.open(old.seal(packet, 'stream', NOW), NOW).kind).toBe('key');
    expect(() => new Seal([]).renew([A])).toThrow('where there are some');
  });

  it('that are too short are refused in words', () => {
    for (const key of ['', 'secret', 'fifteen letters']) {
      expect(() => new Seal([key])).toThrow(expect.objectContaining({ code: 'SHOAL_CLUSTER_KEY' }));
    }
  });

  it('tell sealed packets from clear ones in both directions', () => {
    const [open, closed] = [new Seal([]), new Seal([A])];
    expect(open.open(open.seal(packet, 'datagram', NOW), NOW)).toEqual(opened(packet));
    expect(open.open(closed.seal(packet, 'datagram', NOW), NOW)).toEqual({ kind: 'key' });
    expect(closed.open(open.seal(packet, 'datagram', NOW), NOW)).toEqual({ kind: 'key' });
  });
});

describe('a sealed packet', () => {
  it('is taken once by each host', () => {
    const [sender, receiver, other] = [new Seal([A]), new Seal([A]), new Seal([A])];
    const sealed = sender.seal(packet, 'datagram', NOW);
    expect(receiver.open(sealed, NOW).kind).toBe('ok');
    expect(receiver.open(sealed, NOW)).toEqual({ kind: 'replay' });
    expect(other.open(sealed, NOW).kind).toBe('ok');
  });

  it('may be overtaken by a window of others, on its own path', () => {
    const [sender, receiver] = [new Seal([A]), new Seal([A])];
    const [early, late] = [sender.seal(packet, 'datagram', NOW), sender.seal(packet, 'datagram', NOW)];
    const stream = sender.seal(packet, 'stream', NOW);
    for (let count = 0; count < REPLAY_WINDOW_PACKETS - 1; count++) {
      expect(receiver.open(sender.seal(packet, 'datagram', NOW), NOW).kind).toBe('ok');
    }
    expect(receiver.open(late, NOW).kind).toBe('ok');
    expect(receiver.open(early, NOW).kind).toBe('replay');
    expect(receiver.open(stream, NOW).kind).toBe('ok');
  });

  it('is of no use to a host that starts later', () => {
    const sealed = new Seal([A]).seal(packet, 'datagram', NOW);
    expect(new Seal([A]).open(sealed, NOW + FRESH_MS - 1_000).kind).toBe('ok');
    expect(new Seal([A]).open(sealed, NOW + FRESH_MS + 1_000)).toEqual({ kind: 'stale' });
    expect(new Seal([A]).open(sealed, NOW - FRESH_MS - 1_000)).toEqual({ kind: 'stale' });
  });

  it('never has a nonce twice', () => {
    const nonces = new Set<string>();
    for (let start = 0; start < 20; start++) {
      const seal = new Seal([A]);
      for (let count = 0; count < 50; count++) {
        for (const path of ['datagram', 'stream'] as const) {
          nonces.add(Buffer.from(seal.seal(packet, path, NOW)).toString('hex', 6, 18));
        }
      }
    }
    expect(nonces.size).toBe(2_000);
  });

  it('is authentic to the last bit, header included', () => {
    const sealed = new Seal([A]).seal(packet, 'datagram', NOW);
    const receiver = new Seal([A]);
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const forged = Uint8Array.from(sealed);
      forged[bit >> 3]! ^= 1 << (bit & 7);
      expect(receiver.open(forged, NOW).kind).not.toBe('ok');
    }
    expect(receiver.senders).toBe(0);
    expect(receiver.open(sealed, NOW).kind).toBe('ok');
  });

  it('that is cut off is refused', () => {
    const sealed = new Seal([A]).seal(packet, 'datagram', NOW);
    const receiver = new Seal([A]);
    for (let end = 0; end < sealed.length; end++) {
      expect(receiver.open(sealed.subarray(0, end), NOW).kind).not.toBe('ok');
    }
  });

  it('of random bytes is refused and leaves nothing behind', () => {
    const receiver = new Seal([A]);
    const sealed = new Seal([A]).seal(packet, 'datagram', NOW);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat({ max: 18 }), (bytes, honest) => {
        bytes.set(sealed.subarray(0, Math.min(honest, bytes.length)));
        expect(receiver.open(bytes, NOW).kind).not.toBe('ok');
      }),
      { numRuns: 2_000 },
    );
    expect(receiver.senders).toBe(0);
  });
});

describe('the replay window', () => {
  it('agrees with a set of all that was taken', () => {
    const steps = fc.array(fc.oneof(fc.nat({ max: 5_000 }), fc.nat({ max: 2 ** 32 - 1 })), {
      maxLength: 300,
    });
    fc.assert(
      fc.property(steps, counters => {
        const window = new ReplayWindow();
        const taken = new Set<number>();
        let highest = -1;
        for (const counter of counters) {
          const isOld = counter <= highest - REPLAY_WINDOW_PACKETS;
          expect(window.has('x', counter)).toBe(isOld || taken.has(counter));
          if (isOld || taken.has(counter)) continue;
          window.add('x', counter, NOW);
          taken.add(counter);
          highest = Math.max(highest, counter);
        }
      }),
    );
  });

  it('knows all of an unbroken run, wherever in a word it ends', () => {
    for (let end = 3 * REPLAY_WINDOW_PACKETS; end < 3 * REPLAY_WINDOW_PACKETS + 33; end++) {
      const window = new ReplayWindow();
      for (let counter = 0; counter < end; counter++) window.add('x', counter, NOW);
      const unknown = [];
      for (let counter = 0; counter < end; counter++) if (!window.has('x', counter)) unknown.push(counter);
      expect(unknown).toEqual([]);
    }
  });

  it('slides over the counters that were never seen', () => {
    const window = new ReplayWindow();
    for (const counter of [0, 31, 32, 2_047, 2_048, 4_200, 2_153, 9_000]) {
      expect(window.has('x', counter)).toBe(false);
      window.add('x', counter, NOW);
      expect(window.has('x', counter)).toBe(true);
    }
    expect([6_952, 6_953, 8_999].map(counter => window.has('x', counter))).toEqual([true, false, false]);
  });

  it('remembers a bounded number of senders, those heard last', () => {
    const window = new ReplayWindow();
    for (let sender = 0; sender < REPLAY_SENDERS_MAX; sender++) window.add(`${sender}`, 0, NOW);
    window.add('0', 1, NOW + 2_000);
    window.add('new', 0, NOW + 2_000);
    expect(window.size).toBe(REPLAY_SENDERS_MAX);
    expect([window.has('0', 0), window.has('1', 0), window.has('new', 0)]).toEqual([true, false, true]);
  });
});
