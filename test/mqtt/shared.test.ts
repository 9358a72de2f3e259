import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { Broker, type BrokerOptions } from './harness.js';
import type { TestClient } from './test-client.js';

let broker: Broker;
const open = (options: BrokerOptions = {}) => (broker = new Broker(options));
afterEach(() => broker.close());

const numbers = (count: number, first = 1) => Array.from({ length: count }, (_, i) => `${first + i}`);

function publishAll(
  publisher: TestClient,
  topic: string,
  payloads: readonly string[],
  qos: 0 | 1 | 2 = 1,
): void {
  for (const payload of payloads) publisher.publish(topic, payload, { qos });
}

describe('a shared group', () => {
  it('gives each message to one member, spread over all shards (4.8.2)', () => {
    open({ shards: 3 });
    const members = [0, 0, 1, 2, 2, 2].map(shard => broker.connect({ shard }));
    for (const member of members) member.subscribe('$share/g/t', { qos: 1 });
    const other = broker.connect({ shard: 1 });
    other.subscribe('$share/h/t', { qos: 1 });
    const sent = numbers(60);
    publishAll(broker.connect(), 't', sent);
    const received = members.map(member => member.receive());
    expect(received.flat().sort()).toEqual([...sent].sort());
    expect(received.map(({ length }) => length)).toEqual([10, 10, 10, 10, 10, 10]);
    expect(other.receive()).toEqual(sent);
  });

  it('spreads over shards also when every message has a topic of its own', () => {
    open({ shards: 3 });
    const members = [0, 1, 2].map(shard => broker.connect({ shard }));
    for (const member of members) member.subscribe('$share/g/t/#', { qos: 0 });
    const publisher = broker.connect();
    for (let i = 0; i < 60; i++) publisher.publish(`t/${i}`, 'x');
    for (const member of members) expect(member.receive()).toHaveLength(20);
  });

  it('passes over a member without room while another has room, on whatever shard', () => {
    open({ shards: 3 });
    const full = broker.connect({ shard: 0, properties: { receiveMaximum: 1 } });
    const alsoFull = broker.connect({ shard: 1, properties: { receiveMaximum: 1 } });
    const roomy = broker.connect({ shard: 2 });
    for (const member of [full, alsoFull, roomy]) member.subscribe('$share/g/t', { qos: 1 });
    const sent = numbers(30);
    publishAll(broker.connect(), 't', sent);
    expect(full.messages()).toHaveLength(1);
    expect(alsoFull.messages()).toHaveLength(1);
    expect(roomy.messages()).toHaveLength(28);
  });

  it.each([
    ['one', 1, 0],
    ['another', 2, 1],
  ])(
    'counts what is on its way to a persistent member against its room, on %s shard',
    (_name, shards, shard) => {
      for (const qos of [1, 2] as const) {
        for (const expiry of [undefined, 100]) {
          open({ shards });
          const slow = broker.connect({ shard, expiry: 100, properties: { receiveMaximum: 2 } });
          const roomy = broker.connect();
          for (const member of [slow, roomy]) member.subscribe('$share/g/t', { qos });
          const publisher = broker.connect({ version: expiry === undefined ? 4 : 5, expiry });
          for (let warm = 0; warm < 4; warm++) publisher.publish('t', 'warm', { qos });
          for (const member of [slow, roomy]) member.receive();
          for (let id = 1; id <= 30; id++) publisher.sendPublish('t', `${id}`, { qos, id });
          broker.pump();
          expect(slow.messages()).toHaveLength(2);
          expect(roomy.messages()).toHaveLength(28);
          broker.close();
        }
      }
    },
  );

  it('queues when no member has room', () => {
    open({ shards: 2 });
    const members = [0, 1].map(shard => broker.connect({ shard, properties: { receiveMaximum: 2 } }));
    for (const member of members) member.subscribe('$share/g/t', { qos: 1 });
    const sent = numbers(20);
    publishAll(broker.connect(), 't', sent);
    const received = members.flatMap(member => member.receive());
    expect(received.sort()).toEqual([...sent].sort());
  });

  it('gives to others what a member leaves unacknowledged or queued', () => {
    open({ shards: 3 });
    const leaver = broker.connect({ shard: 0, properties: { receiveMaximum: 3 } });
    leaver.subscribe('$share/g/t', { qos: 1 });
    const sent = numbers(10);
    publishAll(broker.connect({ shard: 1 }), 't', sent);
    expect(leaver.payloads()).toEqual(['1', '2', '3']);
    leaver.send({ cmd: 'puback', messageId: 1 });
    broker.pump();
    const heir = broker.connect({ shard: 2 });
    heir.subscribe('$share/g/t', { qos: 1 });
    leaver.cut();
    expect(heir.receive()).toEqual(numbers(9, 2));
  });

  it('gives to nobody else what may have arrived at QoS 2 [MQTT-4.8.2-5]', () => {
    open();
    const leaver = broker.connect({ properties: { receiveMaximum: 2 } });
    leaver.subscribe('$share/g/t', { qos: 2 });
    const publisher = broker.connect();
    publishAll(publisher, 't', ['1', '2', '3'], 2);
    expect(leaver.payloads()).toEqual(['1', '2']);
    const heir = broker.connect();
    heir.subscribe('$share/g/t', { qos: 2 });
    leaver.cut();
    expect(heir.receive()).toEqual(['3']); // it was still queued
  });

  it('goes to its persistent members while nobody is connected', () => {
    open({ shards: 2 });
    const keep = { expiry: 100, clean: false } as const;
    const members = ['m0', 'm1'].map((clientId, shard) => broker.connect({ clientId, shard, ...keep }));
    for (const member of members) member.subscribe('$share/g/t', { qos: 1 });
    for (const member of members) member.cut();
    const sent = numbers(10);
    publishAll(broker.connect(), 't', sent);
    const again = ['m0', 'm1'].map((clientId, i) => broker.connect({ clientId, shard: 1 - i, ...keep }));
    const received = again.map(member => member.receive());
    expect(received.map(({ length }) => length)).toEqual([5, 5]);
    expect(received.flat().sort()).toEqual([...sent].sort());
  });

  it('goes to the next persistent member when the one chosen is gone', () => {
    open();
    const ids = ['m0', 'm1'];
    for (const [i, clientId] of ids.entries()) {
      const member = broker.connect({ clientId, expiry: i === 0 ? 100 : 1, clean: false });
      member.subscribe('$share/g/t', { qos: 1 });
      member.cut();
    }
    const publisher = broker.connect();
    publisher.publish('t', 'warm', { qos: 1 });
    // Dist does not hear of the end of m1, so its route is still there.
    broker.matchEngine.held = true;
    broker.advance(3000);
    for (let i = 1; i <= 4; i++) publisher.sendPublish('t', `${i}`, { qos: 1, id: i });
    broker.pump();
    broker.matchEngine.release();
    broker.pump();
    const member = broker.connect({ clientId: 'm0', expiry: 100, clean: false });
    const received = member.receive().filter(text => text !== 'warm');
    expect(received.sort()).toEqual(['1', '2', '3', '4']);
    publisher.peer.packets.length = 0;
  });

  it('refuses one member more than the limit, and nothing of it stays', () => {
    open({ limits: { sharedGroupMembersMax: 1 } });
    broker.connect().subscribe('$share/g/t', { qos: 1 });
    for (const expiry of [undefined, 100]) {
      const second = broker.connect({ clientId: 'late', expiry, clean: false });
      expect(second.subscribe('$share/g/t', { qos: 1 })).toEqual([0x97]);
      second.cut();
      const again = broker.connect({ clientId: 'late', expiry, clean: false });
      expect(again.unsubscribe('$share/g/t').granted).toEqual([0x11]);
      again.disconnect({ properties: { sessionExpiryInterval: 0 } });
    }
  });

  it('takes QoS 2 of a persistent publisher to persistent members, once each', () => {
    open({ shards: 2 });
    const plain = broker.connect({ clientId: 'plain', expiry: 100 });
    plain.subscribe('t', { qos: 2 });
    const near = broker.connect({ clientId: 'near', expiry: 100 });
    near.subscribe('$share/near/t', { qos: 2 });
    const far = broker.connect({ clientId: 'far', expiry: 100, shard: 1 });
    far.subscribe('$share/far/t', { qos: 2 });
    const publisher = broker.connect({ expiry: 100 });
    const sent = numbers(5);
    publishAll(publisher, 't', sent, 2);
    for (const client of [plain, near, far]) expect(client.receive()).toEqual(sent);
  });
});

describe('an ordered group', () => {
  it('keeps one publisher with one member, in order, over shards', () => {
    open({ shards: 3 });
    const members = [0, 1, 2, 0, 1].map(shard => broker.connect({ shard }));
    for (const member of members) member.subscribe('$oshare/g/#', { qos: 1 });
    const publishers = Array.from({ length: 12 }, (_, i) => broker.connect({ shard: i % 3 }));
    for (let i = 1; i <= 5; i++)
      for (const [p, publisher] of publishers.entries()) publisher.publish(`t/${i}`, `${p}:${i}`, { qos: 1 });
    const received = members.map(member => member.receive());
    for (const p of publishers.keys()) {
      const holders = received.filter(list => list.some(text => text.startsWith(`${p}:`)));
      expect(holders).toHaveLength(1);
      expect(holders[0]!.filter(text => text.startsWith(`${p}:`))).toEqual(numbers(5).map(n => `${p}:${n}`));
    }
    expect(received.filter(list => list.length > 0).length).toBeGreaterThan(1);
  });
});

describe('no message of a shared group is lost or doubled', () => {
  it('while members come and go (property)', () => {
    const step = fc.record({
      act: fc.constantFrom('publish', 'publish', 'publish', 'join', 'leave'),
      at: fc.nat(5),
      turns: fc.array(fc.nat(5), { maxLength: 20 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), steps => {
        open({ shards: 3, pollFramesMax: 1 });
        const anchor = broker.connect({ shard: 1 });
        anchor.subscribe('$share/g/t', { qos: 1 });
        const publisher = broker.connect({ shard: 0 });
        const members: TestClient[] = [];
        const received: string[] = [];
        let sent = 0;
        for (const { act, at, turns } of steps) {
          if (act === 'publish') publisher.sendPublish('t', `${++sent}`, { qos: 1 });
          else if (act === 'join') {
            const member = broker.connect({ shard: at % 3 });
            member.sendSubscribe('$share/g/t', { qos: 1 });
            members.push(member);
          } else members.splice(at % Math.max(1, members.length), 1)[0]?.peer.cut(); // with all it had
          for (const pick of turns) broker.turn(broker.peers[pick % broker.peers.length]!);
        }
        broker.pump();
        for (const member of [anchor, ...members]) {
          member.peer.packets.splice(
            0,
            member.peer.packets.length,
            ...member.peer.packets.filter(({ cmd }) => cmd === 'publish'),
          );
          received.push(...member.receive());
        }
        expect(received.sort()).toEqual(numbers(sent).sort());
        expect(publisher.peer.packets.splice(0).filter(({ cmd }) => cmd === 'puback')).toHaveLength(sent);
        broker.close();
      }),
      { numRuns: 100 },
    );
  });
});
