import { parser } from 'mqtt-packet';
import { beforeEach, describe, expect, it } from 'vitest';
import { CounterBlock, DELIVERIES, DROP, DROPS } from '../../src/base/metrics.js';
import { type Extent, Outbox } from '../../src/mqtt/outbox.js';
import { Publication } from '../../src/mqtt/publication.js';
import { type Receiver, Sender } from '../../src/mqtt/sender.js';
import type { Peer } from '../../src/mqtt/transport.js';

const NOW_MS = 1_700_000_000_000;

class Client implements Receiver {
  readonly version: 3 | 4 | 5;
  packetBytesMax = 0xffff_ffff;
  aliases: Map<string, number> | null = null;
  aliasMax = 0;
  tail: Extent | null = null;
  starved = false;
  blocked = false;
  readonly written: Buffer[] = [];
  peer = {
    write: (bytes: Buffer) => {
      this.written.push(bytes);
      return 0;
    },
  } as unknown as Peer | null;

  constructor(version: 3 | 4 | 5) {
    this.version = version;
  }

  onBlocked(): void {}
  onRoom(): void {}

  // biome-ignore lint/suspicious/noExplicitAny: packets are compared field by field.
  get packets(): any[] {
    const found: unknown[] = [];
    const reader = parser({ protocolVersion: this.version });
    reader.on('packet', packet => found.push(packet));
    for (const bytes of this.written) reader.parse(Buffer.from(bytes));
    return found;
  }
}

let outbox: Outbox;
let sender: Sender;
let counters: CounterBlock;

beforeEach(() => {
  outbox = new Outbox(() => {});
  counters = new CounterBlock();
  sender = new Sender(outbox, counters);
  sender.nowMs = NOW_MS;
});

function message(topic: string, payload: string): Publication {
  const publication = new Publication();
  publication.topicBytes = Buffer.from(topic);
  publication.buffer = Buffer.from(payload);
  publication.payloadEnd = payload.length;
  publication.publishedAtMs = NOW_MS;
  return publication;
}

describe('sender', () => {
  it('encodes once for receivers with the same wants, and again for others', () => {
    const publication = message('t', 'x');
    const clients = [new Client(5), new Client(5), new Client(4), new Client(3), new Client(5)];
    for (const [i, client] of clients.entries())
      sender.send(publication, client, 1, i === 4 ? 8 : 7, 0, 0, null);
    outbox.flush();
    const [a, b, c, d, e] = clients.map(({ written }) => written[0]!);
    expect(a).toBe(b); // joined once, shared
    expect(c).toBe(d); // MQTT 3.1 and 3.1.1 have one form
    expect(a).not.toBe(c);
    for (const [i, client] of clients.entries())
      expect(client.packets).toMatchObject([
        {
          topic: 't',
          payload: Buffer.from('x'),
          qos: 1,
          dup: false,
          retain: false,
          messageId: i === 4 ? 8 : 7,
        },
      ]);
    expect(e).not.toBe(a);
  });

  it('tells identifiers apart by what they are, not by which array', () => {
    const publication = message('t', 'x');
    const clients = [new Client(5), new Client(5), new Client(5)];
    sender.send(publication, clients[0]!, 0, 0, 0, 0, [1, 2]);
    sender.send(publication, clients[1]!, 0, 0, 0, 0, [1, 2]);
    sender.send(publication, clients[2]!, 0, 0, 0, 0, [1, 3]);
    outbox.flush();
    expect(clients[0]!.written[0]).toBe(clients[1]!.written[0]);
    expect(clients[2]!.packets[0].properties.subscriptionIdentifier).toEqual([1, 3]);
  });

  it('passes a QoS 0 packet on in the bytes in which it came, to those who can read it so', () => {
    const packet = Buffer.from([0x30, 5, 0, 1, 0x74, 0x68, 0x69]);
    const publication = message('t', 'hi');
    publication.buffer = packet;
    publication.payloadStart = 5;
    publication.payloadEnd = publication.passEnd = 7;
    const [old, recent, retaining] = [new Client(4), new Client(5), new Client(4)];
    sender.send(publication, old, 0, 0, 0, 0, null);
    sender.send(publication, recent, 0, 0, 0, 0, null);
    sender.send(publication, retaining, 0, 0, 0, 1, null);
    outbox.flush();
    expect(old.written[0]!.buffer).toBe(packet.buffer);
    expect(recent.packets).toMatchObject([{ topic: 't', payload: Buffer.from('hi') }]);
    expect(retaining.packets).toMatchObject([{ retain: true, payload: Buffer.from('hi') }]);
    expect(counters.values[DELIVERIES]).toBe(3);
  });

  it('passes a QoS 1 or 2 packet on in its own bytes, once, with the packet id of the first receiver', () => {
    const publication = message('t', 'hi');
    const came = Buffer.from([0x3d, 7, 0, 1, 0x74, 0x12, 0x34, 0x68, 0x69]); // DUP, QoS 2, RETAIN, id 0x1234
    const packet = Buffer.from(came);
    Object.assign(publication, { buffer: packet, qos: 2, retain: true, passIdAt: 5 });
    publication.payloadStart = 7;
    publication.payloadEnd = publication.passEnd = 9;
    const [first, recent, same, other, plain] = [4, 5, 3, 4, 4].map(
      version => new Client(version as 3 | 4 | 5),
    );
    sender.send(publication, recent!, 2, 7, 0, 0, null);
    expect(packet).toEqual(came); // MQTT 5 has another form
    sender.send(publication, first!, 1, 0xabcd, 0, 0, null);
    sender.send(publication, same!, 1, 0xabcd, 0, 0, null);
    sender.send(publication, other!, 2, 9, 1, 1, null);
    sender.send(publication, plain!, 0, 0, 0, 0, null);
    outbox.flush();
    expect(first!.written[0]!.buffer).toBe(packet.buffer);
    expect(same!.written[0]!.buffer).toBe(packet.buffer);
    expect(packet).toEqual(Buffer.from([0x32, 7, 0, 1, 0x74, 0xab, 0xcd, 0x68, 0x69]));
    const hi = { topic: 't', payload: Buffer.from('hi') };
    expect(first!.packets).toMatchObject([{ ...hi, qos: 1, dup: false, retain: false, messageId: 0xabcd }]);
    expect(recent!.packets).toMatchObject([{ ...hi, qos: 2, messageId: 7 }]);
    expect(other!.packets).toMatchObject([{ ...hi, qos: 2, dup: true, retain: true, messageId: 9 }]);
    expect(plain!.packets).toMatchObject([{ ...hi, qos: 0 }]);
  });

  it('sets an alias once and then stands by it, as many as the client takes [MQTT-3.1.2-26]', () => {
    const client = new Client(5);
    client.aliases = new Map();
    client.aliasMax = 1;
    for (const topic of ['a', 'a', 'b', 'a']) sender.send(message(topic, topic), client, 0, 0, 0, 0, null);
    outbox.flush();
    expect(client.packets.map(({ topic, properties }) => [topic, properties?.topicAlias])).toEqual([
      ['a', 1],
      ['', 1],
      ['b', undefined],
      ['', 1],
    ]);
  });

  it('sets no alias with a packet that is too large to be sent [MQTT-3.1.2-24] [MQTT-3.1.2-25]', () => {
    const client = new Client(5);
    client.aliases = new Map();
    client.aliasMax = 5;
    client.packetBytesMax = 20;
    expect(sender.send(message('topic', 'x'.repeat(50)), client, 0, 0, 0, 0, null)).toBe(false);
    expect(sender.send(message('topic', 'x'), client, 0, 0, 0, 0, null)).toBe(true);
    outbox.flush();
    expect(client.packets).toMatchObject([{ topic: 'topic', properties: { topicAlias: 1 } }]);
    expect(counters.values[DROPS + DROP.TOO_LARGE]).toBe(1);
  });

  it('counts expiry down, drops what has expired, and completes what was sent', () => {
    const publication = message('t', 'x');
    publication.expirySeconds = 10;
    const client = new Client(5);
    sender.nowMs = NOW_MS + 3999;
    expect(sender.send(publication, client, 1, 1, 0, 0, null)).toBe(true);
    sender.nowMs = NOW_MS + 10_000;
    expect(sender.send(publication, client, 1, 2, 0, 0, null)).toBe(false);
    expect(sender.send(publication, client, 1, 1, 1, 0, null)).toBe(true);
    outbox.flush();
    expect(
      client.packets.map(({ messageId, properties }) => [messageId, properties.messageExpiryInterval]),
    ).toEqual([
      [1, 7],
      [1, 0],
    ]);
    expect(counters.values[DROPS + DROP.EXPIRED]).toBe(1);
  });
});
