import { describe, expect, it } from 'vitest';
import { Broker } from '../mqtt/harness.js';
import type { TestClient } from '../mqtt/test-client.js';

const MEMBER = { clientId: 'member', expiry: 1000, clean: false } as const;
const PUBLISHER = { clientId: 'publisher', expiry: 1000, clean: false } as const;
const PLAIN = { clientId: 'plain', expiry: 1000, clean: false } as const;
/** More than a PUBLISH of QoS 2 takes until its PUBREC. */
const TURNS = 60;

function opened(memberStays: boolean): { broker: Broker; publisher: TestClient } {
  const broker = new Broker({ shards: 1, pollFramesMax: 1, ringBytes: 1 << 16 });
  const member = broker.connect(MEMBER);
  member.subscribe('$share/g/t', { qos: 2 });
  if (!memberStays) member.cut();
  const plain = broker.connect(PLAIN);
  plain.subscribe('t', { qos: 2 });
  plain.cut();
  const publisher = broker.connect(PUBLISHER);
  publisher.publish('t', 'warm', { qos: 2 });
  if (memberStays) member.receive();
  return { broker, publisher };
}

/**
 * What a shared group's persistent member is given and the mark that the packet id has been received are one
 * transaction: the publisher's repetition after a crash is then known, or nothing of the first attempt is there.
 */
describe('a QoS 2 message of a persistent publisher to a persistent member of a shared group', () => {
  it.each([
    ['offline', false],
    ['online', true],
  ])('comes once, whenever the process dies (%s)', (_what, memberStays) => {
    const repeated: boolean[] = [];
    for (let turns = 0; turns < TURNS; turns++) {
      const { broker, publisher } = opened(memberStays);
      publisher.sendPublish('t', 'x', { qos: 2, id: 5 });
      for (let i = 0; i < turns; i++) broker.turn(broker.peers[i % broker.peers.length]!);
      const acknowledged = publisher.peer.packets.some(({ cmd }) => cmd === 'pubrec');
      repeated.push(!acknowledged);
      const successor = broker.crashed();
      const again = successor.connect(PUBLISHER);
      if (!acknowledged) again.publish('t', 'x', { qos: 2, id: 5, dup: true });
      for (const kept of [MEMBER, PLAIN]) {
        const received = successor.connect(kept).receive();
        expect(
          received.filter(text => text === 'x'),
          `${kept.clientId}, a crash after ${turns} turns`,
        ).toEqual(['x']);
      }
    }
    expect(repeated).toContain(true);
    expect(repeated).toContain(false);
  });
});
