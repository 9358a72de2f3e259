import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeEntry,
  decodeLinkMessage,
  encodeEntry,
  encodeLinkMessage,
  type LinkMessage,
} from '../../src/overlay/codec.js';
import type { Message } from '../../src/underlay/message.js';
import { Cluster, type Host, text } from './cluster.js';

const count = fc.integer({ min: 1, max: 2 ** 53 - 1 });
const member = fc.string({ minLength: 1, maxLength: 20 });
const agentName = fc.constantFrom('kv', 'unknown', 'x');

const linkMessage: fc.Arbitrary<LinkMessage> = fc.oneof(
  fc.record({
    kind: fc.constant('data' as const),
    agent: agentName,
    target: count,
    epoch: count,
    sequence: count,
    isReliable: fc.boolean(),
    from: member,
    to: fc.oneof(fc.constant(''), member),
    bytes: fc.uint8Array({ maxLength: 40 }),
  }),
  fc.record({
    kind: fc.constant('ack' as const),
    agent: agentName,
    epoch: count,
    sequence: fc.nat(),
  }),
);

/** Bytes that are nearly a message. */
const damaged = fc
  .tuple(linkMessage, fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 4 }), fc.nat(400))
  .map(([message, changes, length]) => {
    const bytes = encodeLinkMessage(message);
    for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
    return length < bytes.length ? bytes.subarray(0, length) : bytes;
  });

const anyBytes = fc.oneof(fc.uint8Array({ maxLength: 200 }), damaged, linkMessage.map(encodeLinkMessage));

const entryName = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.constantFrom('/', '//', '/1/x', '!/1', '!/', 'map/', 'map/key', 'Map/key', '/zz/peer', '!/zz'),
);
const entryValue = fc.oneof(
  fc.uint8Array({ maxLength: 60 }),
  fc
    .tuple(fc.oneof(count, fc.double()), fc.boolean(), fc.uint8Array({ maxLength: 40 }))
    .map(([stamp, isOwned, bytes]) => encodeEntry(stamp, isOwned, bytes)),
);

const crdt: fc.Arbitrary<Message> = fc
  .record({
    key: entryName,
    value: entryValue,
    replica: fc.oneof(fc.constantFrom(35 * 36 + 35, 1), count),
    counter: fc.integer({ min: 1, max: 50 }),
    map: fc.constantFrom('@kv', '@', '@unknown', 'kv'),
    dropped: fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 2 }),
  })
  .map(({ key, value, replica, counter, map, dropped }) => ({
    kind: 'crdt',
    map,
    message: {
      kind: 'delta',
      seq: 2,
      entries: [{ key, value, replica, counter }],
      dropped: dropped.length === 2 ? [replica, Math.min(...dropped), Math.max(...dropped)] : [],
    },
  }));

const payload: fc.Arbitrary<Message> = fc
  .tuple(fc.constantFrom('@', 'rpc'), anyBytes)
  .map(([channel, bytes]) => ({ kind: 'payload', channel, bytes }));

function start(): { cluster: Cluster; hosts: Host[] } {
  const { cluster, hosts, agents } = Cluster.of(3, 'kv', 9);
  for (const [at, host] of hosts.entries())
    cluster.act(host, () => agents[at]!.register('peer', text(host.name)));
  cluster.runUntil(() => agents.every(agent => agent.members().length === 3), 5_000);
  return { cluster, hosts };
}

describe('the codec', () => {
  it('reads what it wrote', () => {
    fc.assert(
      fc.property(linkMessage, message => {
        const read = decodeLinkMessage(encodeLinkMessage(message));
        expect({ ...read, ...(read?.kind === 'data' ? { bytes: new Uint8Array(read.bytes) } : {}) }).toEqual(
          message,
        );
      }),
    );
    const entry = decodeEntry(encodeEntry(12_345, true, text('value')))!;
    expect([entry.stamp, entry.isOwned, Buffer.from(entry.bytes).toString()]).toEqual([
      12_345,
      true,
      'value',
    ]);
  });

  it('gives nothing for anything else', () => {
    fc.assert(
      fc.property(anyBytes, bytes => {
        const read = decodeLinkMessage(bytes);
        if (read?.kind === 'data') expect(read.bytes.length).toBeLessThanOrEqual(bytes.length);
        decodeEntry(bytes);
      }),
    );
    expect(decodeLinkMessage(new Uint8Array(0))).toBeUndefined();
    expect(decodeEntry(encodeEntry(0, true, text('')))).toBeUndefined();
    expect(decodeEntry(encodeEntry(2 ** 53 - 1, true, text('')))).toBeUndefined();
  });
});

describe('a host among liars', () => {
  it('throws for nothing, keeps little of it, and still does its work', () => {
    const { cluster, hosts } = start();
    const [liar, victim, honest] = hosts as [Host, Host, Host];
    const { environment, id } = liar;
    fc.assert(
      fc.property(fc.array(fc.oneof(payload, crdt), { maxLength: 5 }), messages => {
        const packet = { environment, from: id, incarnation: 0, hlc: 0, wallMs: 0, messages };
        cluster.act(victim, overlay => overlay.receive(packet, liar.address, 'datagram'));
      }),
      { numRuns: 2_000 },
    );
    // The lies end, and what they left does not stop anything.
    cluster.runFor(60_000);
    const agents = [victim, honest].map(host => host.overlay.host('kv'));
    victim.outputs.length = 0;
    cluster.act(honest, () => {
      agents[1]!.register('late', text(''));
      expect(agents[1]!.unicast('peer', victim.id, 'peer', text('hello'), 'reliable')).toBe('sent');
    });
    cluster.runFor(2_000);
    expect(victim.texts('peer')).toEqual(['hello']);
    expect(agents[0]!.members().some(({ host, name }) => host === honest.id && name === 'late')).toBe(true);
    victim.replay('kv').compare(agents[0]!);
    const { inLinks, outLinks, unacknowledged } = victim.overlay.entries();
    expect(inLinks! + outLinks!).toBeLessThan(8);
    expect(unacknowledged).toBe(0);
    expect(victim.overlay.malformed).toBeGreaterThan(0);
  });

  it('hands on what is not for it', () => {
    const { cluster, hosts } = start();
    const [one, other] = hosts as [Host, Host, Host];
    const messages: Message[] = [
      { kind: 'payload', channel: 'rpc', bytes: text('x') },
      { kind: 'crdt', map: 'traffic', message: { kind: 'ack', seq: 2 } },
    ];
    for (const message of messages)
      cluster.act(one, overlay => expect(overlay.send(other.id, 'stream', message as never)).toBe(true));
    cluster.runFor(100);
    expect(other.passed.flatMap(({ payloads }) => payloads.map(({ channel }) => channel))).toEqual(['rpc']);
    expect(other.passed.flatMap(({ crdt: maps }) => maps.map(({ map }) => map))).toEqual(['traffic']);
  });

  it('ignores messages that are for an earlier host at its address', () => {
    const { cluster, hosts } = start();
    const [one, other] = hosts as [Host, Host, Host];
    const data: LinkMessage = {
      kind: 'data',
      agent: 'kv',
      target: 4_711,
      epoch: 99,
      sequence: 1,
      isReliable: true,
      from: 'peer',
      to: 'peer',
      bytes: text('not yours'),
    };
    cluster.act(one, overlay =>
      overlay.send(other.id, 'stream', { kind: 'payload', channel: '@', bytes: encodeLinkMessage(data) }),
    );
    cluster.runFor(100);
    expect(other.texts('peer')).toEqual([]);
  });
});
