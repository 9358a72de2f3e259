import fc from 'fast-check';
import type { CrdtMessage } from '../../src/crdt/message.js';
import type { GoneReason, HostRecord, Message, Packet } from '../../src/underlay/message.js';

/** Any packet that a host may send, for the tests of all that carries packets. */

const u32 = fc.nat({ max: 0xffff_ffff });
const incarnation = fc.nat({ max: 0xffff_0000 });
const integer = fc.maxSafeNat();
const hostId = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const ms = fc.oneof(
  fc.maxSafeNat(),
  fc.double({ min: 0, max: 2 ** 50, noNaN: true, noDefaultInfinity: true }),
);
/** Strings of JavaScript may hold half a surrogate pair; no encoding of Unicode carries it. */
const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.string({ unit: 'binary', maxLength: 40 }),
);
const bytes = fc.uint8Array({ maxLength: 300 });
const reason = fc.constantFrom<GoneReason>('failed', 'left', 'replaced', 'evicted');

export const hostRecord: fc.Arbitrary<HostRecord> = fc.record({
  id: hostId,
  incarnation,
  name: text,
  address: text,
  version: text,
  startedMs: ms,
  agents: fc.array(text, { maxLength: 5 }),
});

const dots = fc
  .array(fc.tuple(hostId, fc.integer({ min: 1, max: 2 ** 40 })), { maxLength: 20 })
  .map(pairs => pairs.flat());
const dropped = fc
  .array(fc.tuple(hostId, fc.integer({ min: 1, max: 2 ** 40 }), fc.nat({ max: 1_000 })), { maxLength: 10 })
  .map(triples => triples.flatMap(([replica, from, more]) => [replica, from, from + more]));
const entries = fc.array(
  fc.record({ key: text, replica: hostId, counter: fc.integer({ min: 1, max: 2 ** 40 }), value: bytes }),
  { maxLength: 5 },
);
const hashRanges = fc.uniqueArray(u32, { maxLength: 10 }).map(bounds => {
  const ascending = bounds.sort((a, b) => a - b);
  return ascending.length % 2 === 0 ? ascending : ascending.slice(1);
});
const sequence = fc.integer({ min: 1, max: 2 ** 40 });

const crdtMessage: fc.Arbitrary<CrdtMessage> = fc.oneof(
  fc.record({ kind: fc.constant('delta' as const), seq: sequence, entries, dropped }),
  fc.record({ kind: fc.constant('ack' as const), seq: sequence }),
  fc.record({ kind: fc.constant('root' as const), low: u32, high: u32, count: u32 }),
  fc.record({
    kind: fc.constant('buckets' as const),
    digests: fc
      .constantFrom(16, 32, 64)
      .chain(count => fc.array(u32, { minLength: count, maxLength: count })),
    check: u32,
  }),
  fc.record({ kind: fc.constant('dots' as const), ranges: hashRanges, dots }),
  fc.record({ kind: fc.constant('repair' as const), entries, dropped, wanted: dots }),
);

const answer = (kind: 'ack' | 'nack' | 'mistaken'): fc.Arbitrary<Message> =>
  fc.record({ kind: fc.constant(kind), sequence: u32, target: hostId });

export const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({
    kind: fc.constant('ping' as const),
    sequence: u32,
    target: hostId,
    suspected: fc.oneof(fc.constant(-1), incarnation),
  }),
  fc.record({
    kind: fc.constant('ping-request' as const),
    sequence: u32,
    target: hostId,
    address: text,
    nackAfterMs: u32,
  }),
  answer('ack'),
  answer('nack'),
  answer('mistaken'),
  fc.record({
    kind: fc.constant('join' as const),
    record: hostRecord,
    expected: integer,
    reply: fc.boolean(),
    environment: text,
  }),
  fc.record({ kind: fc.constant('alive' as const), record: hostRecord }),
  fc.record({ kind: fc.constant('suspect' as const), id: hostId, incarnation, by: hostId }),
  fc.record({ kind: fc.constant('gone' as const), id: hostId, incarnation, reason, by: hostId }),
  fc.record({ kind: fc.constant('notice' as const), id: hostId, incarnation, reason }),
  fc.record({ kind: fc.constant('refused' as const), why: text }),
  fc.record({ kind: fc.constant('crdt' as const), map: text, message: crdtMessage }),
  fc.record({ kind: fc.constant('payload' as const), channel: text, bytes }),
);

export const packet: fc.Arbitrary<Packet> = fc.record({
  environment: u32,
  from: hostId,
  incarnation,
  hlc: integer,
  wallMs: ms,
  messages: fc.array(message, { maxLength: 8 }),
});
