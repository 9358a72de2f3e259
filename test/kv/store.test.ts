import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ShoalError } from '../../src/base/errors.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { INSERT_RESULT } from '../../src/contract/inbox.js';
import { writeMessage } from '../../src/contract/message.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import { CrashEngine } from './crash-engine.js';
import {
  inboxRoute,
  message,
  readAttached,
  readPushes,
  readRoutes,
  StoreHarness,
  shardRoute,
  TENANT,
  writeAttach,
  writeInsert,
  writeRoutes,
  writeSubscriptions,
} from './store-harness.js';

/** What the store has said is done, by its replies. */
interface Acknowledged {
  queued: string[];
  finished: Set<string>;
  retained: Map<string, string>;
  routes: Set<string>;
}

type Step =
  | { kind: 'insert'; qos2: boolean }
  | { kind: 'retain'; topic: number }
  | { kind: 'route'; filter: number }
  | { kind: 'ack'; upTo: number }
  | { kind: 'turn' }
  | { kind: 'flush' }
  | { kind: 'crash' };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('insert' as const), qos2: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('retain' as const), topic: fc.nat(4) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('route' as const), filter: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('ack' as const), upTo: fc.nat(10) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('turn' as const) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('flush' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash' as const) }) },
);

/** A subscriber, a QoS 2 publisher and the store between them, over crashes. */
class World {
  engine = new CrashEngine();
  store = new StoreHarness({ engine: this.engine, mqttPeers: [1] });
  private subscriber = 0;
  private publisher = 0;
  private packetId = 0;
  private count = 0;
  private insertsAsked: { callId: number; payload: string }[] = [];
  private readonly retainsAsked: { callId: number; topic: string; payload: string }[] = [];
  private readonly routesAsked: { callId: number; filter: string }[] = [];
  private lastRetained = new Map<string, string>();
  readonly done: Acknowledged = { queued: [], finished: new Set(), retained: new Map(), routes: new Set() };
  /** Sent and not known to be done: may be there or not. */
  readonly maybe = new Set<string>();

  constructor() {
    this.attachBoth();
  }

  private attachBoth(): void {
    const attach = (clientId: string, connection: number) => {
      const callId = this.store.ask(1, OP.INBOX_ATTACH, writer =>
        writeAttach(writer, { clientId, connection }),
      );
      this.store.store.endTurn();
      this.engine.flush();
      return readAttached(this.store.reply(callId)!);
    };
    this.subscriber = attach('sub', 1).instance;
    this.publisher = attach('pub', 2).instance;
  }

  run(action: Step): void {
    switch (action.kind) {
      case 'insert': {
        const payload = `${++this.count}`;
        this.maybe.add(payload);
        this.packetId = (this.packetId % 65_535) + 1;
        const source = action.qos2 ? this.publisher : 0;
        const callId = this.store.ask(1, OP.INBOX_INSERT, writer =>
          writeInsert(
            writer,
            message('t', payload),
            [{ clientId: 'sub' }],
            source,
            action.qos2 ? this.packetId : 0,
          ),
        );
        this.insertsAsked.push({ callId, payload });
        break;
      }
      case 'retain': {
        const topic = `r/${action.topic}`;
        const payload = `${++this.count}`;
        const callId = this.store.ask(1, OP.RETAIN_SET, writer =>
          writeMessage(writer.text(TENANT).u53(0), message(topic, payload)),
        );
        this.retainsAsked.push({ callId, topic, payload });
        this.lastRetained.set(topic, payload);
        break;
      }
      case 'route': {
        const filter = `f/${action.filter}`;
        const callId = this.store.ask(1, OP.DIST_ADD, writer =>
          writeRoutes(writer, [inboxRoute(filter, 'sub')]),
        );
        this.routesAsked.push({ callId, filter });
        break;
      }
      case 'ack': {
        const acked = this.done.queued
          .filter(payload => !this.done.finished.has(payload))
          .slice(0, action.upTo);
        this.ackAll(acked);
        break;
      }
      case 'turn':
        this.store.store.endTurn();
        break;
      case 'flush':
        this.engine.flush();
        break;
      case 'crash':
        this.crash();
    }
    this.listen();
  }

  private ackAll(payloads: string[]): void {
    const seqs = this.read()
      .filter(({ payload }) => payloads.includes(payload))
      .map(({ seq }) => seq);
    for (const payload of payloads) this.done.finished.add(payload);
    this.store.ask(
      1,
      OP.INBOX_ACKED,
      writer => {
        writer.u53(this.subscriber).u32(seqs.length);
        for (const seq of seqs) writer.u53(seq);
      },
      false,
    );
  }

  /** Takes note of the replies that came. */
  private listen(): void {
    const answered = (callId: number) => this.store.reply(callId);
    this.insertsAsked = this.insertsAsked.filter(({ callId, payload }) => {
      const reply = answered(callId);
      if (reply === undefined) return true;
      expect([reply.u8(), reply.u32(), reply.u8()]).toEqual([STATUS.OK, 1, INSERT_RESULT.QUEUED]);
      this.done.queued.push(payload);
      return false;
    });
    for (const { callId, topic, payload } of this.retainsAsked.splice(0)) {
      const reply = answered(callId);
      if (reply === undefined) this.retainsAsked.push({ callId, topic, payload });
      else this.done.retained.set(topic, payload);
    }
    for (const { callId, filter } of this.routesAsked.splice(0)) {
      if (answered(callId) === undefined) this.routesAsked.push({ callId, filter });
      else this.done.routes.add(filter);
    }
  }

  crash(): void {
    this.engine = this.engine.crashed();
    this.store = new StoreHarness({ engine: this.engine, mqttPeers: [1] });
    this.insertsAsked = [];
    this.retainsAsked.length = 0;
    this.routesAsked.length = 0;
    this.store.inbox.start(0);
    this.store.dist.purgeNode();
    this.store.store.endTurn();
    this.engine.flush();
    this.check();
    this.attachBoth();
  }

  private read(): { seq: number; payload: string }[] {
    const out: { seq: number; payload: string }[] = [];
    this.engine.scan(Buffer.from('i'), Buffer.from('j'), (key, value) => {
      const text = Buffer.from(key).toString('latin1');
      const kind = text.indexOf('\0') + 1;
      if (text[kind] === 'd' && text[kind + 8] === 'q')
        out.push({
          seq: key.at(-1)! + key.at(-2)! * 256,
          payload: Buffer.from(value.subarray(3 + 9 + 2 + 1 + 4 + 4)).toString(),
        });
      return true;
    });
    return out;
  }

  check(): void {
    const found = this.read().map(({ payload }) => payload);
    const owed = this.done.queued.filter(payload => !this.done.finished.has(payload));
    expect(owed.filter(payload => !found.includes(payload))).toEqual([]);
    expect(found.filter(payload => !this.maybe.has(payload))).toEqual([]);
    expect(new Set(found).size).toBe(found.length);
    expect([...found].sort((a, b) => Number(a) - Number(b))).toEqual(found);
    for (const [topic, payload] of this.done.retained) {
      const callId = this.store.ask(1, OP.RETAIN_SCAN, writer =>
        writer.text(TENANT).text(topic).u53(0).u32(10).u32(1000).u32(0),
      );
      this.store.store.endTurn();
      this.engine.flush();
      const reply = this.store.reply(callId)!;
      expect([reply.u8(), reply.u32()]).toEqual([STATUS.OK, 1]);
      // A later one may have become durable without its reply having gone out.
      const kept = Number(
        Buffer.from(reply.bytes.subarray(5))
          .toString('latin1')
          .match(/(\d+)\0*$/)?.[1] ?? '-1',
      );
      expect(kept).toBeGreaterThanOrEqual(Number(payload));
      this.done.retained.set(topic, `${kept}`);
    }
    for (const filter of this.done.routes) {
      const callId = this.store.ask(1, OP.DIST_MATCH, writer => writer.text(TENANT).text(filter));
      expect(readRoutes(this.store.reply(callId)!)).toEqual([inboxRoute(filter, 'sub')]);
    }
  }
}

describe('the store and crashes', () => {
  it('loses nothing that it has acknowledged, keeps the order, and doubles nothing', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), steps => {
        const world = new World();
        for (const action of steps) world.run(action);
        world.crash();
      }),
      { numRuns: 150 },
    );
  });

  it('answers and pushes nothing before the commit is durable', () => {
    const engine = new CrashEngine();
    const store = new StoreHarness({ engine, mqttPeers: [1] });
    const attaching = store.ask(1, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' }));
    store.store.endTurn();
    expect(store.sent).toEqual([]);
    engine.flush();
    const { instance } = readAttached(store.reply(attaching)!);
    store.ask(1, OP.INBOX_PULL, writer => writer.u53(instance).u53(1).u32(10), false);
    store.ask(1, OP.INBOX_INSERT, writer => writeInsert(writer, message('t', 'x'), [{ clientId: 'c' }]));
    store.ask(1, OP.RETAIN_SET, writer => writeMessage(writer.text(TENANT).u53(0), message('t', 'x')));
    store.ask(1, OP.DIST_ADD, writer => writeRoutes(writer, [inboxRoute('f', 'c')]));
    store.store.endTurn();
    // Telling the caches early is no promise; it only costs them a look-up.
    expect(store.sent.filter(({ op }) => op !== OP.DIST_INVALIDATE)).toEqual([]);
    // What comes meanwhile waits for the next transaction.
    store.ask(1, OP.INBOX_INSERT, writer => writeInsert(writer, message('t', 'y'), [{ clientId: 'c' }]));
    store.store.endTurn();
    engine.flush();
    expect(store.take(OP.REPLY)).toHaveLength(3);
    expect(readPushes(store.take(OP.INBOX_MESSAGES)).map(({ seq }) => seq)).toEqual([1]);
    store.store.endTurn();
    engine.flush();
    expect(store.take(OP.REPLY)).toHaveLength(1);
  });
});

/** Has room for a while. */
class FullEngine extends MemoryEngine {
  full = false;

  override write(...[work, durable]: Parameters<MemoryEngine['write']>): void {
    super.write(writer => {
      work(writer);
      if (this.full) throw new ShoalError('SHOAL_STORAGE_FULL', 'no room');
    }, durable);
  }
}

describe('a store without room', () => {
  it('says so to everyone in the turn, leaves nothing behind, and goes on when there is room', () => {
    const engine = new FullEngine();
    const store = new StoreHarness({ engine, mqttPeers: [1] });
    const { instance } = readAttached(
      store.call(1, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' })),
    );
    store.ask(1, OP.INBOX_PULL, writer => writer.u53(instance).u53(1).u32(10), false);
    store.ask(1, OP.DIST_ADD, writer => writeRoutes(writer, [shardRoute('live', 0)]));
    store.store.endTurn();
    store.sent.length = 0;

    engine.full = true;
    const asked = [
      store.ask(1, OP.INBOX_INSERT, writer => writeInsert(writer, message('t', 'lost'), [{ clientId: 'c' }])),
      store.ask(1, OP.RETAIN_SET, writer => writeMessage(writer.text(TENANT).u53(0), message('t', 'x'))),
      store.ask(1, OP.DIST_ADD, writer => writeRoutes(writer, [inboxRoute('f', 'c')])),
      store.ask(1, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'd' })),
      store.ask(1, OP.INBOX_SUBSCRIBE, writer =>
        writeSubscriptions(writer.u53(instance), [{ filter: 'f', options: 1, subscriptionId: 0 }]),
      ),
    ];
    store.store.endTurn();
    expect(asked.map(callId => store.reply(callId)?.u8())).toEqual(asked.map(() => STATUS.UNAVAILABLE));
    expect(store.take(OP.INBOX_MESSAGES)).toEqual([]);
    expect(store.inbox.attached).toBe(1);
    expect(store.retain.messages).toBe(0);

    engine.full = false;
    const match = (topic: string) => {
      const callId = store.ask(1, OP.DIST_MATCH, writer => writer.text(TENANT).text(topic));
      return readRoutes(store.reply(callId)!);
    };
    expect(match('f')).toEqual([]);
    expect(match('live')).toEqual([shardRoute('live', 0)]);
    store.call(1, OP.INBOX_INSERT, writer => writeInsert(writer, message('t', 'kept'), [{ clientId: 'c' }]));
    const pushed = readPushes(store.take(OP.INBOX_MESSAGES));
    expect(pushed.map(({ seq, message: { payload } }) => `${seq}:${payload}`)).toEqual(['1:kept']);
    store.store.tick(0);
    store.store.endTurn();
    const restarted = new StoreHarness({ engine });
    const callId = restarted.ask(1, OP.DIST_MATCH, writer => writer.text(TENANT).text('live'));
    expect(readRoutes(restarted.reply(callId)!)).toHaveLength(1);
  });
});

describe('a turn', () => {
  const set = (store: StoreHarness, topic: string, payload = 'x', peer = 1) =>
    store.ask(peer, OP.RETAIN_SET, writer =>
      writeMessage(writer.text(TENANT).u53(0), message(topic, payload)),
    );

  /** How many of the calls have been answered after each turn. */
  function answered(store: StoreHarness, calls: readonly number[]): number[] {
    const out: number[] = [];
    let count = 0;
    while (store.store.pending) {
      store.store.endTurn();
      count += calls.filter(callId => store.reply(callId) !== undefined).length;
      out.push(count);
    }
    return out;
  }

  it('applies so many requests at most, in order, and leaves the rest to the next', () => {
    const store = new StoreHarness({ turn: { weightMax: 24 } });
    const calls = ['a', 'b', 'c', 'd', 'a', 'b', 'c'].map((topic, i) => set(store, topic, `${i}`));
    store.store.endTurn();
    expect(calls.map(callId => store.reply(callId) !== undefined)).toEqual([
      ...[true, true, true],
      ...[false, false, false, false],
    ]);
    expect(store.retain.messages).toBe(3);
    expect(answered(store, calls)).toEqual([3, 4]);
    expect(store.retain.messages).toBe(4);
  });

  it('applies so many bytes at most, but always one request', () => {
    const store = new StoreHarness({ turn: { bytesMax: 1000 } });
    const calls = ['a', 'b', 'c', 'd', 'e', 'f'].map((topic, i) =>
      set(store, topic, 'x'.repeat(i < 2 ? 5000 : 400)),
    );
    expect(answered(store, calls)).toEqual([1, 2, 5, 6]);
  });

  it('applies for so long at most, but always one request', () => {
    const store = new StoreHarness({ turn: { durationMsMax: 10 } });
    store.msPerLook = 4;
    const calls = ['a', 'b', 'c', 'd'].map(topic => set(store, topic));
    expect(answered(store, calls)).toEqual([3, 4]);
    store.msPerLook = 100;
    expect(answered(store, [set(store, 'e'), set(store, 'f')])).toEqual([1, 2]);
  });

  it('without room ends badly for those in it, and not for those in the next', () => {
    const engine = new FullEngine();
    const store = new StoreHarness({ engine, turn: { weightMax: 16 } });
    const calls = ['a', 'b', 'c'].map(topic => set(store, topic));
    engine.full = true;
    store.store.endTurn();
    engine.full = false;
    store.store.endTurn();
    expect(calls.map(callId => store.reply(callId)?.u8())).toEqual([
      STATUS.UNAVAILABLE,
      STATUS.UNAVAILABLE,
      STATUS.OK,
    ]);
    expect(store.retain.messages).toBe(1);
  });

  it('does first what a dead thread leaves, and none of what it had still asked', () => {
    const store = new StoreHarness({ turn: { weightMax: 16 } });
    const attach = (peer: number, clientId: string) =>
      store.ask(peer, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId }));
    const attached = attach(1, 'a');
    store.finish();
    const { instance } = readAttached(store.reply(attached)!);
    const others = [set(store, 'x', 'x', 2), set(store, 'y', 'x', 2), set(store, 'z', 'x', 2)];
    const unheard = attach(1, 'b');
    store.store.peerLost(1, 5000);
    // Of its successor, whose connections are numbered anew.
    const again = attach(1, 'a');
    store.finish();
    expect(readAttached(store.reply(again)!)).toMatchObject({ instance, present: true });
    expect(store.reply(unheard)).toBeUndefined();
    expect(others.every(callId => store.reply(callId)?.u8() === STATUS.OK)).toBe(true);
    expect(store.inbox.attached).toBe(1);
  });
});
