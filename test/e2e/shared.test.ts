import { describe, expect, it } from 'vitest';
import { useBroker } from './broker.js';
import { connect, sleep, type TestClient, unique, VERSIONS } from './client/client.js';

/** Payloads that have come to each client and were not taken, in order; QoS 1 is acknowledged. */
function drain(clients: TestClient[]): string[][] {
  return clients.map(client => {
    const texts: string[] = [];
    for (const item of client.unread) {
      if (item.cmd !== 'publish') continue;
      texts.push(item.payload.toString());
      if (item.qos === 1) client.send({ cmd: 'puback', messageId: item.messageId! });
    }
    client.unread.length = 0;
    return texts;
  });
}

async function drainUntil(clients: TestClient[], count: number): Promise<string[][]> {
  const all: string[][] = clients.map(() => []);
  for (let wait = 0; wait < 200; wait++) {
    const part = drain(clients);
    for (const [index, texts] of part.entries()) all[index]!.push(...texts);
    if (all.flat().length >= count) break;
    await sleep(25);
  }
  await sleep(50);
  for (const [index, texts] of drain(clients).entries()) all[index]!.push(...texts);
  return all;
}

const range = (count: number) => Array.from({ length: count }, (_, index) => `${index}`);
const numeric = (texts: string[]) => [...texts].sort((left, right) => Number(left) - Number(right));

describe.each([
  ['one mqtt thread', 1],
  ['three mqtt threads', 3],
])('shared subscriptions with %s', (_name, threads) => {
  const broker = useBroker({ set: { 'threads.mqtt': threads } });

  it.each([0, 1, 2] as const)(
    'each message goes to one member, and all members get some, QoS %i (4.8.2)',
    async qos => {
      const topic = unique('s');
      const members = await Promise.all([1, 2, 3, 4].map(() => connect(broker, { version: 5 })));
      for (const member of members)
        expect(await member.subscribe(`$share/g/${topic}`, { qos: 1 })).toEqual([1]);
      const publisher = await connect(broker, { version: 5 });
      for (let index = 0; index < 200; index++) await publisher.publish(topic, `${index}`, { qos });
      const got = await drainUntil(members, 200);
      expect(numeric(got.flat())).toEqual(range(200));
      for (const texts of got) expect(texts.length).toBeGreaterThan(10);
    },
  );

  it.each(VERSIONS)('level %i may subscribe to it as well', async version => {
    const topic = unique('s');
    const members = [await connect(broker, { version }), await connect(broker, { version })];
    for (const member of members) await member.subscribe(`$share/g/${topic}/#`, { qos: 1 });
    const publisher = await connect(broker);
    for (let index = 0; index < 40; index++) await publisher.publish(`${topic}/x`, `${index}`, { qos: 1 });
    expect(numeric((await drainUntil(members, 40)).flat())).toEqual(range(40));
  });

  it('two groups and a plain subscriber each get everything', async () => {
    const topic = unique('s');
    const clients = await Promise.all([1, 2, 3].map(() => connect(broker)));
    await clients[0]!.subscribe(`$share/g1/${topic}`, { qos: 1 });
    await clients[1]!.subscribe(`$share/g2/${topic}`, { qos: 1 });
    await clients[2]!.subscribe(topic, { qos: 1 });
    const publisher = await connect(broker);
    for (let index = 0; index < 30; index++) await publisher.publish(topic, `${index}`, { qos: 1 });
    for (const texts of await drainUntil(clients, 90)) expect(texts).toEqual(range(30));
  });

  it('one client with a plain and a shared subscription gets a copy of each (4.8.2)', async () => {
    const topic = unique('s');
    const client = await connect(broker, { version: 5 });
    await client.subscribe(topic, { id: 1 });
    await client.subscribe(`$share/g/${topic}`, { id: 2 });
    await client.publish(topic, 'x');
    const ids = [await client.receive(), await client.receive()].map(
      message => message.properties?.subscriptionIdentifier,
    );
    expect(ids.sort()).toEqual([1, 2]);
  });

  it('a member that goes is no longer chosen, a member that leaves the group neither', async () => {
    const topic = unique('s');
    const members = await Promise.all([1, 2, 3].map(() => connect(broker)));
    for (const member of members) await member.subscribe(`$share/g/${topic}`, { qos: 1 });
    await members[0]!.disconnect();
    await members[1]!.unsubscribe(`$share/g/${topic}`);
    const publisher = await connect(broker);
    for (let index = 0; index < 30; index++) await publisher.publish(topic, `${index}`, { qos: 1 });
    expect((await drainUntil([members[2]!, members[1]!], 30))[0]).toEqual(range(30));
  });

  it('a member whose cable is cut loses nothing for those that stay', async () => {
    const topic = unique('s');
    const members = await Promise.all([1, 2].map(() => connect(broker)));
    for (const member of members) await member.subscribe(`$share/g/${topic}`, { qos: 1 });
    members[0]!.drop();
    await sleep(200);
    const publisher = await connect(broker);
    for (let index = 0; index < 30; index++) await publisher.publish(topic, `${index}`, { qos: 1 });
    expect((await drainUntil([members[1]!], 30))[0]).toEqual(range(30));
  });

  it('a member over its window is passed over while another has room', async () => {
    const topic = unique('s');
    const stuck = await connect(broker, { version: 5, properties: { receiveMaximum: 2 } });
    const lively = await connect(broker, { version: 5 });
    for (const member of [stuck, lively]) await member.subscribe(`$share/g/${topic}`, { qos: 1 });
    const publisher = await connect(broker);
    for (let index = 0; index < 60; index++) await publisher.publish(topic, `${index}`, { qos: 1 });
    const taken = (await drainUntil([lively], 58))[0]!;
    expect(stuck.unread.length).toBeLessThanOrEqual(2);
    expect(taken.length).toBeGreaterThanOrEqual(58);
  });

  it('offline persistent members get what comes while no member is online', async () => {
    const topic = unique('s');
    const clientId = unique('member');
    const member = await connect(broker, { clientId, clean: false });
    await member.subscribe(`$share/g/${topic}`, { qos: 1 });
    await member.disconnect();
    const publisher = await connect(broker);
    for (let index = 0; index < 10; index++) await publisher.publish(topic, `${index}`, { qos: 1 });
    const back = await connect(broker, { clientId, clean: false });
    expect((await drainUntil([back], 10))[0]).toEqual(range(10));
    await back.disconnect();
  });

  it('retained messages are not sent to a new shared subscription (4.8.2)', async () => {
    const topic = unique('s');
    const client = await connect(broker, { version: 5 });
    await client.publish(topic, 'kept', { retain: true, qos: 1 });
    await client.subscribe(`$share/g/${topic}`);
    await client.expectNothing();
    await client.publish(topic, '', { retain: true, qos: 1 });
  });

  it('no-local on a shared subscription is a protocol error [MQTT-3.8.3-4]', async () => {
    const client = await connect(broker, { version: 5 });
    client.send({
      cmd: 'subscribe',
      messageId: 1,
      subscriptions: [{ topic: '$share/g/a', qos: 0, nl: true, rap: false, rh: 0 }],
    });
    await client.expectRefused(0x82);
  });

  it.each(['$share/', '$share/g', '$share/g/', '$share//a', '$share/g+/a', '$share/#/a', '$share/g/a#'])(
    '%s is not a shared subscription and is refused [MQTT-4.8.2-1] [MQTT-4.8.2-2]',
    async filter => {
      const client = await connect(broker, { version: 5 });
      client.send({
        cmd: 'subscribe',
        messageId: 1,
        subscriptions: [{ topic: filter, qos: 0, nl: false, rap: false, rh: 0 }],
      });
      const answer = await client.expect('suback');
      expect((answer.granted as number[])[0]).toBeGreaterThanOrEqual(0x80);
    },
  );

  it('a slash at the start of the shared filter belongs to the filter', async () => {
    const topic = unique('/s');
    const client = await connect(broker);
    await client.subscribe(`$share/g/${topic}`, { qos: 1 });
    await client.publish(topic, 'x', { qos: 1 });
    await client.receive({ topic });
  });

  it('an ordered group gives all messages of a publisher to one member, in order', async () => {
    const topic = unique('o');
    const members = await Promise.all([1, 2, 3].map(() => connect(broker)));
    for (const member of members) await member.subscribe(`$oshare/g/${topic}`, { qos: 1 });
    const publishers = await Promise.all(range(8).map(() => connect(broker)));
    for (let index = 0; index < 20; index++) {
      await Promise.all(
        publishers.map((publisher, which) => publisher.publish(topic, `${which}:${index}`, { qos: 1 })),
      );
    }
    const got = await drainUntil(members, 160);
    expect(got.flat().length).toBe(160);
    for (let which = 0; which < 8; which++) {
      const holders = got.filter(texts => texts.some(text => text.startsWith(`${which}:`)));
      expect(holders.length).toBe(1);
      const own = holders[0]!.filter(text => text.startsWith(`${which}:`));
      expect(own).toEqual(range(20).map(index => `${which}:${index}`));
    }
  });
});
