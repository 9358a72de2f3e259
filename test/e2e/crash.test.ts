import { describe, expect, it } from 'vitest';
import { type Broker, useBroker } from './broker.js';
import { connect, cutAllClients, sleep } from './client/client.js';
import { eventually, Member, Publisher, Subscriber } from './crash-load.js';

const ROUNDS = Number(process.env.CRASH_ROUNDS ?? 55);
const SEED = Number(process.env.CRASH_SEED ?? Math.floor(Math.random() * 2 ** 31));
const CHECK_EVERY = 11;
const DRAIN_TIMEOUT_MS = 20_000;

/** mulberry32: a small generator, so that a seed gives the same kills again. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Load {
  readonly flow: Publisher[];
  readonly kept: Publisher[];
  readonly subscribers: Subscriber[];
  readonly members: Member[];
  /** What the members of the shared group have got together, of each publisher. */
  readonly group: Map<string, Set<number>>;
}

function faultsOf({ flow, kept, subscribers, members }: Load): string[] {
  return [...flow, ...kept, ...subscribers, ...members].flatMap(client => client.faults).slice(0, 20);
}

/** A new subscriber sees of each retained topic the last acknowledged value, or one sent after it. */
async function checkRetained(broker: Broker, kept: Publisher[], where: string): Promise<void> {
  for (const publisher of kept) {
    if (publisher.acknowledged < 0) continue;
    const reader = await connect(broker, { version: 5 });
    await reader.subscribe(publisher.topic, { qos: 1 });
    const message = await reader.receive({ retain: true });
    const index = Number(message.payload.toString().split(' ')[1]);
    expect(index, `${where}: retained value of ${publisher.topic}`).toBeGreaterThanOrEqual(
      publisher.acknowledged,
    );
    expect(index).toBeLessThan(publisher.sent);
    await reader.disconnect();
  }
}

/** Everything is acknowledged and has arrived everywhere, in order, and what is QoS 2 once. */
async function settleAll(broker: Broker, load: Load, where: string): Promise<void> {
  const publishers = [...load.flow, ...load.kept];
  for (const publisher of publishers) publisher.pause();
  for (const subscriber of [...load.subscribers, ...load.members])
    if (!subscriber.isOnline) await subscriber.connect(broker);
  await eventually(() => publishers.every(publisher => publisher.isIdle), DRAIN_TIMEOUT_MS);
  const owing = publishers.filter(publisher => !publisher.isIdle).map(publisher => publisher.owed);
  expect([...owing, ...faultsOf(load)], `${where}: every message is acknowledged in the end`).toEqual([]);
  const shared = ({ name }: Publisher) => load.group.get(name)?.size ?? 0;
  const complete = () =>
    load.flow.every(publisher => shared(publisher) === publisher.sent) &&
    load.subscribers.every(subscriber =>
      load.flow.every(publisher => subscriber.count(publisher.name) === publisher.sent),
    );
  await eventually(complete, DRAIN_TIMEOUT_MS);
  const missing = load.subscribers.flatMap(subscriber =>
    load.flow
      .filter(publisher => subscriber.count(publisher.name) !== publisher.sent)
      .map(({ name, sent }) => `${subscriber.name} has ${subscriber.count(name)} of ${sent} from ${name}`),
  );
  for (const publisher of load.flow)
    if (shared(publisher) !== publisher.sent)
      missing.push(`the group has ${shared(publisher)} of ${publisher.sent} from ${publisher.name}`);
  expect(missing, `${where}: what was acknowledged arrives`).toEqual([]);
  expect(faultsOf(load), where).toEqual([]);
}

describe('kill -9', () => {
  const broker = useBroker({
    set: { 'limits.queueMessagesMax': 1_000_000, 'limits.queueBytesMax': 1_000_000_000 },
  });

  it(`${ROUNDS} times: nothing acknowledged is lost, order holds, QoS 2 comes once (seed ${SEED})`, {
    timeout: 280_000,
  }, async () => {
    const random = generator(SEED);
    const group = new Map<string, Set<number>>();
    const load: Load = {
      flow: [
        new Publisher('one', 1),
        new Publisher('two', 2),
        new Publisher('uno', 1),
        new Publisher('due', 2),
      ],
      kept: [new Publisher('keep1', 1, true), new Publisher('keep2', 2, true)],
      subscribers: [
        new Subscriber('always', 'crash/flow/+'),
        new Subscriber('sometimes', 'crash/#'),
        new Subscriber('rarely', 'crash/flow/#'),
      ],
      members: ['left', 'right'].map(name => new Member(name, '$share/pair/crash/flow/+', group)),
      group,
    };
    const subscribers = [...load.subscribers, ...load.members];
    for (const subscriber of subscribers) await subscriber.connect(broker);
    load.subscribers[2]!.leave();
    for (let round = 1; round <= ROUNDS; round++) {
      const where = `seed ${SEED}, round ${round}`;
      for (const publisher of [...load.flow, ...load.kept]) {
        await publisher.connect(broker);
        publisher.run();
      }
      await sleep(Math.floor(20 + random() * 350));
      await broker.kill9();
      for (const publisher of [...load.flow, ...load.kept]) publisher.pause();
      for (const subscriber of subscribers) subscriber.leave();
      cutAllClients();
      await broker.launch();
      await checkRetained(broker, load.kept, where);
      await load.subscribers[0]!.connect(broker);
      if (random() < 0.5) await load.subscribers[1]!.connect(broker);
      if (random() < 0.1) await load.subscribers[2]!.connect(broker);
      for (const member of load.members) if (random() < 0.5) await member.connect(broker);
      expect(faultsOf(load), where).toEqual([]);
      if (round % CHECK_EVERY !== 0) continue;
      for (const publisher of [...load.flow, ...load.kept]) await publisher.connect(broker);
      await settleAll(broker, load, where);
      for (const publisher of [...load.flow, ...load.kept]) expect(publisher.sent, where).toBeGreaterThan(0);
      cutAllClients();
      for (const subscriber of subscribers) subscriber.leave();
      for (const subscriber of load.subscribers.slice(0, 2)) await subscriber.connect(broker);
    }
    const total = load.flow.reduce((sum, publisher) => sum + publisher.sent, 0);
    console.log(`crash: seed ${SEED}, ${ROUNDS} kills, ${total} messages to ${subscribers.length} sessions`);
  });
});
