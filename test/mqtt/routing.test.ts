import fc from 'fast-check';
import { generate } from 'mqtt-packet';
import { afterEach, describe, expect, it } from 'vitest';
import { Broker, type BrokerOptions } from './harness.js';
import type { TestClient } from './test-client.js';

let broker: Broker;
const open = (options: BrokerOptions = {}) => (broker = new Broker(options));
afterEach(() => broker.close());

describe('routing', () => {
  it('reaches every shard, each session once, at the lower QoS of the two [MQTT-3.8.4-8]', () => {
    open({ shards: 3 });
    const clients = [0, 1, 2, 0, 1, 2].map(shard => broker.connect({ shard }));
    clients.forEach((client, i) => {
      client.subscribe(['a/b', 'a/+', '#'], { qos: (i % 3) as 0 | 1 | 2 });
    });
    clients[0]!.publish('a/b', 'x', { qos: 2 });
    clients.forEach((client, i) => {
      expect(client.messages().map(({ qos }) => qos)).toEqual([i % 3]);
    });
  });

  it('passes on all identifiers of overlapping subscriptions, and none of others [MQTT-3.3.4-4]', () => {
    open();
    const transient = broker.connect();
    const persistent = broker.connect({ expiry: 10 });
    for (const client of [transient, persistent]) {
      client.subscribe('a/+', { qos: 1, id: 7 });
      client.subscribe('a/#', { qos: 2, id: 9 });
      client.subscribe('b', { qos: 2, id: 11 });
      client.subscribe('+/b', { qos: 0 });
    }
    broker.connect().publish('a/b', 'x', { qos: 2 });
    for (const client of [transient, persistent]) {
      const [message, ...others] = client.messages();
      expect(others).toEqual([]);
      expect(message.qos).toBe(2);
      expect([...message.properties.subscriptionIdentifier].sort()).toEqual([7, 9]);
    }
  });

  it('knows the topic of each message, however like the last one it is and however they come together', () => {
    const topics = ['abc', 'abd', 'abcd', 'abce', 'abcdefgh', 'abcdefgi', 'bbcdefgh', 'a'];
    const reads = fc.array(fc.array(fc.constantFrom(...topics), { maxLength: 6 }), { maxLength: 6 });
    fc.assert(
      fc.property(reads, fc.boolean(), (chunks, inOneTurn) => {
        open();
        const subscriber = broker.connect();
        subscriber.subscribe('#');
        const publisher = broker.connect({ version: 4 });
        for (const topic of topics) publisher.publish(topic, topic, { qos: 1 });
        for (const chunk of chunks) {
          const packets = chunk.map(topic =>
            generate({ cmd: 'publish', topic, payload: topic, qos: 0, dup: false, retain: false }),
          );
          publisher.peer.send(Buffer.concat(packets));
          if (!inOneTurn) broker.pump();
        }
        broker.pump();
        const got = subscriber.messages().slice(topics.length);
        expect(got.map(({ topic }) => topic)).toEqual(chunks.flat());
        expect(got.map(({ payload }) => String(payload))).toEqual(chunks.flat());
        broker.close();
      }),
      {
        numRuns: 60,
        // In the second read another name lies just where the first one's was.
        examples: [
          [
            [
              ['abcd', 'abcd'],
              ['abcd', 'abce'],
            ],
            false,
          ],
        ],
      },
    );
  });

  it('takes what a transport gathered into the turn that ends, and asks for no other', () => {
    open();
    const subscriber = broker.connect({ version: 4 });
    subscriber.subscribe('t');
    const publisher = broker.connect({ version: 4 });
    publisher.publish('t', 'warm', { qos: 1 });
    subscriber.messages();
    const packet = generate({ cmd: 'publish', topic: 't', payload: 'x', qos: 0, dup: false, retain: false });
    const { handler } = publisher.peer;
    let asked = 0;
    handler!.onGathering({
      deliverGathered: () => {
        asked++;
        const start = handler!.memory.take(packet, packet.length);
        handler!.onData(handler!.memory.bytes, start, start + packet.length);
      },
    });
    expect(asked).toBe(0);
    broker.turn(1);
    expect(asked).toBe(1);
    expect(subscriber.receive()).toEqual(['x']);
    broker.pump();
    expect(asked).toBe(1);
  });

  it('keeps up to 255 identifiers for a persistent session, however many filters match', () => {
    open();
    const client = broker.connect({ expiry: 10 });
    const levels = 9;
    for (let bits = 0; bits < 2 ** levels; bits++) {
      const filter = Array.from({ length: levels }, (_, i) => (bits & (1 << i) ? '+' : 'x')).join('/');
      client.subscribe(filter, { qos: 1, id: bits + 1 });
    }
    broker.connect().publish(Array(levels).fill('x').join('/'), 'x', { qos: 1 });
    const [message] = client.messages();
    expect(message.properties.subscriptionIdentifier).toHaveLength(255);
  });

  it('spares the publisher its own with No Local, but only by that subscription [MQTT-3.8.3-3]', () => {
    open();
    const transient = broker.connect();
    const persistent = broker.connect({ expiry: 10 });
    for (const client of [transient, persistent]) {
      client.subscribe('own/#', { qos: 1, nl: true });
    }
    for (const client of [transient, persistent]) {
      client.publish('own/a', 'no', { qos: 1 });
      client.publish('own/a', 'no', { qos: 0 });
    }
    expect(transient.receive()).toEqual(['no', 'no']); // of the other one
    expect(persistent.receive().sort()).toEqual(['no', 'no']);
    for (const client of [transient, persistent]) {
      client.subscribe('own/+', { qos: 1 });
    }
    transient.publish('own/b', 'yes', { qos: 1 });
    expect(transient.receive()).toEqual(['yes']);
    expect(persistent.receive()).toEqual(['yes']);
  });

  it('forgets what a filter no longer matches', () => {
    open({ shards: 2 });
    const [near, far] = [broker.connect({ shard: 0 }), broker.connect({ shard: 1 })];
    const publisher = broker.connect({ shard: 0 });
    for (let i = 0; i < 3; i++) {
      near.subscribe('t');
      far.subscribe('+');
      publisher.publish('t', 'x');
      expect([near.payloads(), far.payloads()]).toEqual([['x'], ['x']]);
      near.unsubscribe('t');
      far.unsubscribe('+');
      publisher.publish('t', 'x');
      expect([near.payloads(), far.payloads()]).toEqual([[], []]);
    }
  });

  it('works with a cache of topics that is far too small', () => {
    open({ shards: 2, limits: { topicCacheEntriesMax: 2 } });
    const subscriber = broker.connect({ shard: 1 });
    subscriber.subscribe('#', { qos: 1 });
    const publisher = broker.connect();
    const sent = Array.from({ length: 50 }, (_, i) => `${i}`);
    for (const [i, payload] of sent.entries())
      publisher.sendPublish(`t/${i % 7}`, payload, { qos: 1, id: i + 1 });
    broker.pump();
    expect(subscriber.receive()).toEqual(sent);
    expect(publisher.peer.packets.splice(0)).toHaveLength(50);
  });

  it('delivers nothing to a session before its CONNACK [MQTT-3.2.0-1]', () => {
    open({ shards: 2 });
    const first = broker.connect({ clientId: 'c', expiry: 100, clean: false });
    first.subscribe('t', { qos: 0 });
    first.cut();
    const publisher = broker.connect();
    publisher.publish('t', 'offline');
    broker.matchEngine.held = true; // its routes take time
    const again = broker.socket(0);
    again.sendConnect({ clientId: 'c', expiry: 100, clean: false });
    broker.pump();
    publisher.publish('t', 'meanwhile');
    again.expectNothing();
    broker.matchEngine.release();
    broker.pump();
    expect(again.take('connack')).toMatchObject({ sessionPresent: true });
    publisher.publish('t', 'then');
    expect(again.payloads()).toEqual(['then']);
  });
});

/** Turns of single threads in the order that the schedule says, one frame each. */
function run(schedule: readonly number[]): void {
  const { peers } = broker;
  for (const pick of schedule) broker.turn(peers[pick % peers.length]!);
}

describe('a PUBLISH sent after a SUBACK', () => {
  const schedule = fc.array(fc.nat(5), { maxLength: 60 });
  const client = fc.record({ shard: fc.nat(2), expiry: fc.constantFrom(undefined, 100) });

  it('reaches the subscriber, whatever the threads do when (property)', () => {
    const round = fc.record({
      subscriber: fc.nat(3),
      publisher: fc.nat(3),
      filter: fc.constantFrom('a/b', 'a/+', '#', '+/b', 'a/#'),
      qos: fc.constantFrom(0, 1, 2) as fc.Arbitrary<0 | 1 | 2>,
      noise: fc.array(fc.nat(3), { maxLength: 3 }),
      before: schedule,
      after: schedule,
      unsubscribes: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.array(client, { minLength: 4, maxLength: 4 }),
        fc.array(round, { maxLength: 6 }),
        (who, rounds) => {
          open({ shards: 3, pollFramesMax: 1 });
          const clients = who.map(options => broker.connect(options));
          let sent = 0;
          for (const { subscriber, publisher, filter, qos, noise, before, after, unsubscribes } of rounds) {
            const receiver = clients[subscriber]!;
            const sender = clients[publisher]!;
            for (const at of noise) clients[at]!.sendPublish('a/b', 'noise');
            run(before);
            receiver.sendSubscribe(filter, { qos: 1 });
            for (let turns = 0; !receiver.peer.packets.some(({ cmd }) => cmd === 'suback'); turns++) {
              run([...before, ...broker.peers]);
              expect(turns, 'turns until the SUBACK').toBeLessThan(1000);
            }
            // From here on the promise holds, although nothing else has settled.
            const payload = `${++sent}`;
            const id = sender.sendPublish('a/b', payload, { qos });
            run(after);
            broker.pump();
            if (qos === 2) sender.send({ cmd: 'pubrel', messageId: id });
            broker.pump();
            expect(receiver.payloads().filter(text => text === payload)).toEqual([payload]);
            if (unsubscribes) receiver.sendUnsubscribe(filter);
            for (const { peer } of clients) {
              for (const packet of peer.packets.splice(0)) {
                if (packet.cmd === 'publish' && packet.qos === 1)
                  peer.sendPacket({ cmd: 'puback', messageId: packet.messageId });
              }
            }
          }
          broker.pump();
          broker.close();
        },
      ),
      { numRuns: 60 },
    );
  });

  it('keeps the order of a publisher under changes of routes (property)', () => {
    const act = fc.oneof(
      { weight: 3, arbitrary: fc.constant('publish') },
      { weight: 1, arbitrary: fc.constantFrom('subscribe', 'unsubscribe') },
    );
    fc.assert(
      fc.property(
        fc.array(fc.tuple(act, schedule), { maxLength: 25 }),
        fc.constantFrom(undefined, 100),
        (steps, expiry) => {
          open({ shards: 3, pollFramesMax: 1 });
          const listener: TestClient = broker.connect({ shard: 2, expiry });
          listener.subscribe('o/#', { qos: 1 });
          const changer = broker.connect({ shard: 1 });
          const publisher = broker.connect({ shard: 0 });
          const sent: string[] = [];
          for (const [what, turns] of steps) {
            if (what === 'publish') {
              sent.push(`${sent.length}`);
              publisher.sendPublish('o/t', sent.at(-1)!, { qos: 1 });
            } else if (what === 'subscribe') changer.sendSubscribe('o/+');
            else changer.sendUnsubscribe('o/+');
            run(turns);
          }
          broker.pump();
          expect(listener.receive()).toEqual(sent);
          expect(publisher.peer.packets.splice(0).map(({ cmd }) => cmd)).toEqual(sent.map(() => 'puback'));
          broker.close();
        },
      ),
      { numRuns: 60 },
    );
  });
});
