import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ORDER_BYTES_MAX } from '../../../src/kv/balance/order.js';
import { VarintReader, VarintWriter } from '../../../src/kv/raft/varint.js';
import {
  type AttemptAnswer,
  readAnswer,
  readAttempt,
  writeAnswer,
  writeAttempt,
} from '../../../src/kv/remote/attempt-codec.js';
import { kvService, serverIdOf } from '../../../src/kv/remote/service.js';
import { OPEN_MAX, StoreCalls } from '../../../src/kv/remote/store-calls.js';
import { StoreLinks } from '../../../src/kv/remote/store-links.js';
import { type AttemptCaller, SERVED_OPEN_MAX, storeHandlers } from '../../../src/kv/remote/store-server.js';
import { OUTCOME } from '../../../src/kv/replicated/commands.js';
import { ASK, type Attempt } from '../../../src/kv/route/client.js';
import { type Node, World } from '../../rpc/world.js';

const id = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const bytes = fc.uint8Array({ maxLength: 50 });
const attempt: fc.Arbitrary<Attempt> = fc
  .record({
    range: id,
    epoch: id,
    ask: fc.constantFrom(ASK.MUTATE, ASK.QUERY),
    session: fc.constant(77),
    sequence: id,
    lowest: id,
    body: bytes,
  })
  .map(one => ({ ...one, lowest: Math.min(one.lowest, one.sequence) }));
const place = fc.record({
  range: id,
  epoch: id,
  boundary: fc
    .tuple(bytes, fc.uint8Array({ minLength: 1, maxLength: 9 }))
    .map(([start, more]) => ({ start, end: new Uint8Array([...start, ...more]) })),
  genesis: id,
  pristine: fc.boolean(),
  term: id,
  leader: id,
  stores: fc.array(id, { maxLength: 5 }),
});
const answer: fc.Arbitrary<AttemptAnswer> = fc.record({
  sequence: id,
  outcome: fc.integer({ min: 0, max: OUTCOME.FORGOTTEN }),
  output: bytes,
  places: fc.array(place, { maxLength: 3 }),
});

describe('attempts and answers', () => {
  it('are read as they were written', () => {
    fc.assert(
      fc.property(fc.array(attempt), fc.array(answer), (attempts, answers) => {
        const writer = new VarintWriter(16);
        for (const one of attempts) writeAttempt(writer, one);
        const reader = new VarintReader(writer.copy());
        expect(attempts.map(() => readAttempt(reader, 77))).toEqual(attempts);
        expect(reader.isDone).toBe(true);
        writer.reset();
        for (const one of answers) writeAnswer(writer, one);
        const other = new VarintReader(writer.copy());
        expect(answers.map(() => readAnswer(other))).toEqual(answers);
        expect(other.isDone).toBe(true);
      }),
    );
  });

  it('that are cut or changed are refused or well-formed, and what is made of them is bounded by their size', () => {
    const change = fc.array(fc.tuple(fc.nat(2000), fc.nat(255)), { maxLength: 4 });
    fc.assert(
      fc.property(fc.array(answer, { minLength: 1 }), change, fc.nat(2000), (answers, changes, length) => {
        const writer = new VarintWriter(16);
        for (const one of answers) writeAnswer(writer, one);
        const damaged = writer.copy();
        for (const [at, byte] of changes) damaged[at % damaged.length] = byte;
        for (const read of [readAnswer, (reader: VarintReader) => readAttempt(reader, 1)]) {
          const reader = new VarintReader(damaged, 0, Math.min(length, damaged.length));
          let count = 0;
          while (reader.remaining > 0 && read(reader) !== undefined) count++;
          expect(count).toBeLessThanOrEqual(damaged.length);
        }
      }),
    );
  });
});

/** A store that holds what it is asked until the test answers. */
class HeldStore {
  readonly frames: string[] = [];
  readonly held: { readonly attempt: Attempt; readonly caller: AttemptCaller }[] = [];
  readonly store: number;

  constructor(world: World, node: Node, store: number) {
    this.store = store;
    const handler = {
      frame: (frame: Uint8Array) => void this.frames.push(Buffer.from(frame).toString()),
      attempt: (one: Attempt, caller: AttemptCaller) => void this.held.push({ attempt: one, caller }),
      steer: (order: Uint8Array, answered: (answer: Uint8Array) => void) =>
        answered(Buffer.concat([Buffer.from('heard '), order])),
    };
    node.rpc.serve(
      kvService,
      storeHandlers(handler, run => world.after(0, run)),
      { id: serverIdOf(store) },
    );
  }

  answer(at: number, outcome: number = OUTCOME.DONE): void {
    const { attempt: one, caller } = this.held[at]!;
    caller.answer({ sequence: one.sequence, outcome, output: one.body, places: [] });
  }
}

function attemptOf(sequence: number, body = ''): Attempt {
  return { range: 1, epoch: 1, ask: ASK.MUTATE, session: 9, sequence, lowest: 1, body: Buffer.from(body) };
}

class Asker {
  readonly calls: StoreCalls;
  readonly heard: string[] = [];
  readonly begun: boolean[] = [];

  constructor(world: World, node: Node, watched: number) {
    this.calls = new StoreCalls(node.rpc.client(kvService), 9, run => world.after(0, run));
    this.calls.sink = {
      answered: (store, sequence, outcome, output) =>
        void this.heard.push(`${store} ${sequence} ${outcome} ${Buffer.from(output).toString()}`),
      lost: (store, hasBegun) => {
        this.heard.push(`lost ${store}`);
        this.begun.push(hasBegun(watched));
      },
    };
  }
}

function start(seed = 1) {
  const world = new World(seed);
  const [asking, serving] = [world.addNode(), world.addNode()];
  const store = new HeldStore(world, serving, 22);
  world.run(100);
  return { world, asking, serving, store };
}

describe('StoreCalls', () => {
  it('brings attempts of a turn in one message, in order, and answers in any', () => {
    const { world, asking, store } = start();
    const asker = new Asker(world, asking, 1);
    for (const sequence of [1, 2, 3])
      expect(asker.calls.send(22, attemptOf(sequence, `b${sequence}`))).toBe(true);
    world.run(50);
    expect(store.held.map(one => one.attempt)).toMatchObject([
      { sequence: 1 },
      { sequence: 2 },
      { sequence: 3 },
    ]);
    expect(store.held[0]!.attempt.session).toBe(9);
    store.answer(2);
    world.run(50);
    store.answer(0, OUTCOME.NOT_LEADER);
    world.run(50);
    expect(asker.heard).toEqual(['22 3 0 b3', '22 1 5 b1']);
  });

  it('says of an unknown store that nothing was begun', () => {
    const { world, asking } = start();
    const asker = new Asker(world, asking, 1);
    asker.calls.send(99, attemptOf(1));
    world.run(50);
    expect(asker.heard).toEqual(['lost 99']);
    expect(asker.begun).toEqual([false]);
  });

  it('says of a store that died that what was sent may have begun, and reaches its successor', () => {
    const { world, asking, serving, store } = start();
    const asker = new Asker(world, asking, 1);
    asker.calls.send(22, attemptOf(1));
    world.run(50);
    expect(store.held.length).toBe(1);
    world.kill(serving);
    world.run(10_000);
    expect(asker.heard).toEqual(['lost 22']);
    expect(asker.begun).toEqual([true]);
    const successor = new HeldStore(world, world.addNode(), 22);
    world.run(100);
    asker.calls.send(22, attemptOf(1, 'again'));
    world.run(100);
    successor.answer(0);
    world.run(50);
    expect(asker.heard).toEqual(['lost 22', '22 1 0 again']);
  });

  it('takes no more than its bound for a store that does not answer, and neither does that read more', () => {
    const { world, asking, store } = start();
    const asker = new Asker(world, asking, 1);
    let sequence = 0;
    while (asker.calls.send(22, attemptOf(++sequence))) if (sequence % 100 === 0) world.run(1);
    expect(sequence - 1).toBe(OPEN_MAX);
    world.run(1000);
    expect(store.held.length).toBe(SERVED_OPEN_MAX);
    store.answer(0);
    world.run(50);
    expect(asker.calls.send(22, attemptOf(sequence))).toBe(true);
    world.run(50);
    expect(store.held.length).toBe(SERVED_OPEN_MAX + 1);
  });

  it('keeps what a full stream does not take at once, up to a bound, in order; who never saw it has not begun it', () => {
    const { world, asking, serving, store } = start();
    const asker = new Asker(world, asking, 60);
    const body = 'x'.repeat(50_000);
    const one = (sequence: number) => asker.calls.send(22, attemptOf(sequence, body));
    for (let sequence = 1; sequence <= 60; sequence++) expect(one(sequence)).toBe(true);
    world.run(1000);
    const numbers = store.held.map(({ attempt: { sequence } }) => sequence);
    expect(numbers).toEqual(Array.from({ length: 60 }, (_, at) => at + 1));
    serving.isFrozen = true;
    let last = 60;
    while (one(last + 1)) last++;
    expect(last).toBeGreaterThan(100);
    expect(last).toBeLessThan(250);
    world.kill(serving);
    world.run(20_000);
    expect(asker.heard).toEqual(['lost 22']);
    expect(asker.begun).toEqual([true]);
    const late = new Asker(world, asking, 60);
    for (let sequence = 1; sequence <= 60; sequence++) late.calls.send(22, attemptOf(sequence, body));
    late.calls.close();
    expect(late.begun).toEqual([false]);
  });

  it('does not believe answers that are none', () => {
    const world = new World(3);
    const [asking, serving] = [world.addNode(), world.addNode()];
    serving.rpc.serve(
      kvService,
      {
        frames: () => ({ message: () => undefined }),
        steer: () => undefined,
        calls: writer => ({ message: () => void writer.send(Uint8Array.of(255, 255, 255)) }),
      },
      { id: serverIdOf(22) },
    );
    world.run(100);
    const asker = new Asker(world, asking, 1);
    asker.calls.send(22, attemptOf(1));
    world.run(100);
    expect(asker.heard).toEqual(['lost 22']);
  });
});

describe('storeHandlers', () => {
  it('ends the stream of a caller that speaks nonsense, and serves the others', () => {
    const { world, asking, store } = start();
    const over: string[] = [];
    const stream = asking.rpc.client(kvService).calls.open(
      { key: serverIdOf(22) },
      {
        message: () => over.push('message'),
        ended: () => over.push('ended'),
        failed: ({ kind }) => over.push(kind),
      },
    );
    stream.send(Uint8Array.of(0));
    world.run(100);
    expect(over).toEqual(['ended']);
    const asker = new Asker(world, asking, 1);
    asker.calls.send(22, attemptOf(1));
    world.run(100);
    expect(store.held.length).toBe(1);
  });
});

describe('steer', () => {
  it('brings an order to the store that is named, and its answer back', () => {
    const { world, asking } = start();
    const { steer } = asking.rpc.client(kvService);
    const answers: string[] = [];
    const ask = (store: number, order: Uint8Array) =>
      steer.call({ store, order }, {}, result =>
        answers.push(result.kind === 'ok' ? Buffer.from(result.value).toString() : result.kind),
      );
    ask(22, Buffer.from('split'));
    world.run(100);
    ask(23, Buffer.from('split'));
    ask(22, new Uint8Array(ORDER_BYTES_MAX + 1));
    world.run(100);
    expect(answers).toEqual(['heard split', 'server-not-found', 'aborted']);
  });

  it('reads no order out of noise', () => {
    const { request } = kvService.methods.steer;
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), bytes => {
        const read = request.decode(bytes);
        if (read === undefined) return;
        expect(Buffer.from(request.encode(read))).toEqual(Buffer.from(bytes));
        expect(read.store > 0 && Number.isSafeInteger(read.store)).toBe(true);
      }),
    );
    expect(request.decode(request.encode({ store: 7, order: Uint8Array.of(1) }))).toEqual({
      store: 7,
      order: Buffer.of(1),
    });
  });
});

describe('StoreLinks', () => {
  it('brings frames in order, and says who cannot be reached', () => {
    const { world, asking, serving, store } = start();
    const unreachable: number[] = [];
    const links = new StoreLinks(asking.rpc.client(kvService), gone => unreachable.push(gone));
    for (const text of ['a', 'b', 'c']) links.send(22, Buffer.from(text));
    world.run(50);
    expect(store.frames).toEqual(['a', 'b', 'c']);
    links.send(23, Buffer.from('x'));
    expect(unreachable).toEqual([]);
    world.run(50);
    expect(unreachable).toEqual([23]);
    world.kill(serving);
    world.run(10_000);
    expect(unreachable).toEqual([23, 22]);
    links.close();
  });

  it('keeps what a full stream does not take at once: the parts of a state come in a row', () => {
    const { world, asking, store } = start();
    const links = new StoreLinks(asking.rpc.client(kvService), () => undefined);
    for (const text of 'abcdefgh') links.send(22, Buffer.alloc(500 * 1024, text));
    world.run(1000);
    expect(store.frames.map(frame => frame[0]).join('')).toBe('abcdefgh');
    expect(links.dropped).toBe(0);
    links.close();
  });

  it('drops and counts what is more than may wait', () => {
    const { world, asking, serving, store } = start();
    const links = new StoreLinks(asking.rpc.client(kvService), () => undefined);
    serving.isFrozen = true;
    for (let i = 0; i < 200; i++) {
      links.send(22, new Uint8Array(64 * 1024));
      world.run(1);
    }
    expect(links.dropped).toBeGreaterThan(0);
    serving.isFrozen = false;
    world.run(1000);
    expect(store.frames.length).toBeLessThan(200);
    const before = store.frames.length;
    links.send(22, Buffer.from('fresh'));
    world.run(100);
    expect(store.frames.slice(before)).toEqual(['fresh']);
  });
});
