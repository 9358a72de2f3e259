import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { type AuthDecision, acceptAll } from '../../src/plugin/plugin.js';
import { Broker, type BrokerOptions, type HeldEngine } from './harness.js';
import type { TestClient } from './test-client.js';

let broker: Broker;
const open = (options: BrokerOptions = {}) => (broker = new Broker(options));
afterEach(() => broker.close());

const SAME = { clientId: 'same', expiry: 1000, clean: false } as const;

describe('a second connection with a client id', () => {
  it('ends the first, on whatever shard, and goes on with its session [MQTT-3.1.4-3]', () => {
    open({ shards: 3 });
    let former = broker.connect(SAME);
    former.subscribe('t', { qos: 1 });
    const publisher = broker.connect();
    for (let i = 1; i <= 6; i++) {
      const next = broker.connect({ ...SAME, shard: i % 3 });
      former.take('disconnect', { reasonCode: 0x8e });
      expect(former.closed).toBe(true);
      expect(next.connack.sessionPresent).toBe(true);
      publisher.publish('t', `${i}`, { qos: 1 });
      expect(next.receive()).toEqual([`${i}`]);
      former = next;
    }
  });

  it('waits until the first has left its inbox', () => {
    open({ shards: 2 });
    const first = broker.connect(SAME);
    broker.applyEngine.held = true;
    const second = broker.socket(1);
    second.sendConnect(SAME);
    broker.pump();
    first.take('disconnect', { reasonCode: 0x8e });
    second.expectNothing();
    broker.applyEngine.release();
    broker.pump();
    second.take('connack', { sessionPresent: true });
  });

  it('waits also for a first that is leaving by itself', () => {
    open({ shards: 2 });
    const first = broker.connect(SAME);
    broker.applyEngine.held = true;
    first.cut();
    const second = broker.socket(1);
    second.sendConnect(SAME);
    broker.pump();
    second.expectNothing();
    expect(broker.dict.size).toBe(1);
    broker.applyEngine.release();
    broker.pump();
    second.take('connack', { sessionPresent: true });
  });

  it('comes behind all that the first has acknowledged, however full its ring was', () => {
    open({ shards: 2, ringBytes: 4096 });
    const first = broker.connect(SAME);
    first.subscribe('t', { qos: 1 });
    const filler = broker.connect({ version: 4 });
    filler.publish('t', 'x', { qos: 1 });
    filler.publish('fill', 'warm');
    expect(first.payloads()).toEqual(['x']);
    const others = broker.peers.filter(peer => peer !== broker.applyPeer);
    const turn = () => {
      for (let i = 0; i < 50; i++) for (const peer of others) broker.turn(peer);
    };
    for (let i = 0; i < 30; i++) filler.sendPublish('fill', 'y'.repeat(400), { retain: true });
    turn();
    first.send({ cmd: 'puback', messageId: 1 });
    turn();
    first.peer.cut();
    const second = broker.socket(1);
    second.sendConnect(SAME);
    turn();
    broker.pump();
    second.take('connack', { sessionPresent: true });
    second.expectNothing();
  });

  it('with a clean start finds nothing, and the routes of the old session are gone', () => {
    open({ shards: 2 });
    const first = broker.connect(SAME);
    first.subscribe(['t', '$share/g/t'], { qos: 1 });
    const second = broker.connect({ ...SAME, clean: true, shard: 1 });
    expect(second.connack.sessionPresent).toBe(false);
    expect(broker.dist.size).toBe(0);
    broker.connect().publish('t', 'x', { qos: 1 });
    second.expectNothing();
  });
});

describe('a client that goes while its CONNECT is under way', () => {
  const stages: [string, (run: () => void) => void][] = [
    ['before the directory answers', run => run()],
    [
      'while its inbox is attached',
      run => {
        broker.applyEngine.held = true;
        broker.pump();
        run();
        broker.pump();
        broker.applyEngine.release();
      },
    ],
    [
      'while its routes are added',
      run => {
        broker.matchEngine.held = true;
        broker.pump();
        run();
        broker.pump();
        broker.matchEngine.release();
      },
    ],
  ];
  for (const [name, at] of stages) {
    for (const clean of [false, true]) {
      it(`leaves nothing behind: ${name}, ${clean ? 'clean start' : 'resumed'}`, () => {
        open({ shards: 2 });
        const first = broker.connect(SAME);
        first.subscribe(['t', '$share/g/t'], { qos: 1 });
        first.cut();
        const quitter = broker.socket(1);
        quitter.sendConnect({ ...SAME, clean });
        at(() => quitter.peer.cut());
        broker.pump();
        expect(broker.dict.size).toBe(0);
        expect(broker.inbox.attached).toBe(0);
        const routes = clean && name !== 'before the directory answers' ? 0 : 2;
        expect(broker.dist.size).toBe(routes);
        broker.connect().publish('t', 'x', { qos: 1 });
        const again = broker.connect(SAME);
        expect(again.receive()).toEqual(routes === 0 ? [] : ['x', 'x']);
      });
    }
  }

  it.each([
    ['its inbox is being attached', broker => broker.applyEngine],
    ['its routes are being added', broker => broker.matchEngine],
  ] as [string, (broker: Broker) => HeldEngine][])(
    'keeps its client id until what was under way is undone: %s',
    (_what, engineOf) => {
      open({ shards: 2 });
      const first = broker.connect(SAME);
      first.subscribe(['t', 'u'], { qos: 1 });
      first.cut();
      expect(broker.dict.size).toBe(0);
      const engine = engineOf(broker);
      engine.held = true;
      const quitter = broker.socket(0);
      quitter.sendConnect(SAME);
      broker.pump();
      quitter.expectNothing();
      broker.applyEngine.held = true;
      quitter.cut();
      expect(broker.dict.size, 'the client id is not let go').toBe(1);
      const next = broker.socket(1);
      next.sendConnect(SAME);
      broker.pump();
      next.expectNothing();
      expect(broker.inbox.attached, 'sessions attached').toBeLessThanOrEqual(1);
      broker.applyEngine.release();
      engine.release();
      broker.pump();
      next.take('connack', { sessionPresent: true });
      expect(broker.dict.size).toBe(1);
      broker.connect().publish('t', 'x', { qos: 1 });
      expect(next.receive()).toEqual(['x']);
    },
  );

  it('keeps its client id until its inbox is detached for good', () => {
    open({ shards: 2 });
    broker.connect(SAME).cut();
    const { applyEngine } = broker;
    applyEngine.held = true;
    const quitter = broker.socket(0);
    quitter.sendConnect(SAME);
    broker.pump();
    quitter.cut();
    applyEngine.release(); // the ATTACH is answered, so DETACH follows
    applyEngine.held = true;
    broker.pump();
    expect(broker.dict.size, 'the client id is not let go').toBe(1);
    applyEngine.release();
    broker.pump();
    expect(broker.dict.size).toBe(0);
  });

  it('takes no client id when it goes during its authentication', async () => {
    let answer: (decision: AuthDecision) => void = () => {};
    const authenticate = () => new Promise<AuthDecision>(resolve => (answer = resolve));
    open({ shards: 2, authenticator: { ...acceptAll, authenticate } });
    const owner = broker.socket(1);
    owner.sendConnect(SAME);
    broker.pump();
    answer({ kind: 'accept', tenant: 'default', user: '' });
    await broker.settle();
    owner.take('connack', { sessionPresent: false });
    const quitter = broker.socket(0);
    quitter.sendConnect(SAME);
    broker.pump();
    quitter.cut();
    answer({ kind: 'accept', tenant: 'default', user: '' });
    await broker.settle();
    owner.expectNothing();
    expect(owner.closed, 'who has the client id keeps it').toBe(false);
    expect(broker.dict.size).toBe(1);
  });

  it('is overtaken in order', () => {
    open({ shards: 2 });
    broker.applyEngine.held = true;
    const sockets = [0, 1, 0, 1].map(shard => broker.socket(shard));
    for (const socket of sockets) {
      socket.sendConnect(SAME);
      broker.pump();
    }
    broker.applyEngine.release();
    broker.pump();
    expect(sockets.map(({ closed }) => closed)).toEqual([true, true, true, false]);
    sockets[3]!.take('connack');
  });
});

describe('one session', () => {
  it('has one connection at most, and loses nothing, whatever the threads do when (property)', () => {
    const step = fc.record({
      act: fc.constantFrom('connect', 'connect', 'cut', 'publish', 'publish', 'read'),
      at: fc.nat(5),
      turns: fc.array(fc.nat(5), { maxLength: 25 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), steps => {
        open({ shards: 3, pollFramesMax: 1 });
        const first = broker.connect(SAME);
        first.subscribe('t', { qos: 2 });
        const publisher = broker.connect();
        const sockets: TestClient[] = [first];
        const received: string[] = [];
        /** Ids of messages received and not released: a repetition of one of them is no message. */
        const seen = new Set<number>();
        const read = (client: TestClient) => {
          for (const { cmd, messageId, payload } of client.peer.packets.splice(0)) {
            if (cmd === 'publish' && !seen.has(messageId)) received.push(String(payload));
            if (cmd === 'publish') seen.add(messageId);
            if (cmd === 'publish' && !client.closed) client.send({ cmd: 'pubrec', messageId });
            if (cmd === 'pubrel') seen.delete(messageId);
            if (cmd === 'pubrel' && !client.closed) client.send({ cmd: 'pubcomp', messageId });
          }
        };
        let sent = 0;
        for (const { act, at, turns } of steps) {
          if (act === 'connect') {
            const socket = broker.socket(at % 3);
            socket.sendConnect(SAME);
            sockets.push(socket);
          } else if (act === 'cut') sockets[at % sockets.length]!.peer.cut();
          else if (act === 'publish') publisher.sendPublish('t', `${++sent}`, { qos: 2 });
          else for (const socket of sockets) read(socket);
          for (const pick of turns) {
            broker.turn(broker.peers[pick % broker.peers.length]!);
            const live = broker.shards.flatMap(shard => [...shard.router.tenant('default').sessions.keys()]);
            expect(live.filter(id => id === 'same').length).toBeLessThanOrEqual(1);
          }
        }
        broker.pump();
        for (const socket of sockets) read(socket);
        const last = broker.connect(SAME);
        for (let i = 0; i < 3 * sent + 3; i++) {
          read(last);
          broker.pump();
        }
        expect(received).toEqual(Array.from({ length: sent }, (_, i) => `${i + 1}`));
        for (const { cmd, messageId } of publisher.peer.packets.splice(0))
          if (cmd === 'pubrec') publisher.send({ cmd: 'pubrel', messageId });
        broker.pump();
        broker.close();
      }),
      { numRuns: 120 },
    );
  });
});
