import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from '../../src/base/bytes.js';
import { ShoalError } from '../../src/base/errors.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { writeMessage } from '../../src/contract/message.js';
import type { KvWriter } from '../../src/kv/engine.js';
import { SERVICE } from '../../src/kv/keys.js';
import { MapCoprocessor } from '../../src/kv/map/map.js';
import { decodeMapAnswer, encodeGet, encodePut } from '../../src/kv/map/map-codec.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import { wholeService } from '../../src/kv/range.js';
import { OUTCOME } from '../../src/kv/replicated/commands.js';
import { type Descriptor, ROLE } from '../../src/kv/replicated/descriptor.js';
import type { RangeSink } from '../../src/kv/replicated/replica.js';
import type { SharedRanges } from '../../src/kv/sole-range.js';
import { CrashEngine } from './crash-engine.js';
import { message, StoreHarness, TENANT } from './store-harness.js';

const RANGE = 4711;
const TICK_MS = 100;
let sessions = 0;

/** A broker's store with one range that it may share, and what became of what was asked of that. */
class Beside {
  readonly harness: StoreHarness;
  readonly outcomes = new Map<number, number>();
  readonly sent: number[] = [];
  private readonly session = ++sessions;
  private sequence = 0;

  constructor(engine: NonNullable<ConstructorParameters<typeof StoreHarness>[0]>['engine']) {
    const sink: RangeSink = {
      outcome: (_range, _session, sequence, outcome) => this.outcomes.set(sequence, outcome),
      readable: () => undefined,
      readRefused: () => undefined,
      changed: () => undefined,
    };
    const shared: SharedRanges = {
      sink,
      send: store => this.sent.push(store),
      coprocessors: new Map([[SERVICE.MAP, (id: number) => new MapCoprocessor(id)]]),
    };
    this.harness = new StoreHarness({ ...(engine && { engine }), mqttPeers: [1], shared });
  }

  get raft() {
    return this.harness.store.ranges.raft;
  }

  /** With voters on this store and on so many others, which nobody has ever heard of. */
  found(others = 0): void {
    const stores = [this.raft.id, ...Array.from({ length: others }, (_, at) => 900 + at)];
    const descriptor: Descriptor = {
      ...{ id: RANGE, genesis: 1, service: SERVICE.MAP, epoch: 1, boundary: wholeService(SERVICE.MAP) },
      members: stores.map((store, at) => ({ replica: at + 1, store, role: ROLE.VOTER })),
      ...{ membersAt: 1, changing: false, nextReplica: stores.length + 1 },
      ...{ merging: undefined, absorbed: [], pristine: true },
    };
    this.raft.found(descriptor);
    this.harness.finish();
  }

  put(key: string, value = 'x'): number {
    const sequence = ++this.sequence;
    const body = encodePut({ key, value: Buffer.from(value), nowMs: 1 });
    this.raft.propose(RANGE, 1, this.session, sequence, body);
    return sequence;
  }

  get(key: string): string | undefined {
    const output = new ByteWriter();
    expect(this.raft.query(RANGE, 1, new ByteReader(encodeGet(key)), output)).toBe(true);
    const answer = decodeMapAnswer(output.view());
    return answer.kind === 'found' ? Buffer.from(answer.value).toString() : undefined;
  }

  set(topic: string, payload = 'x'): number {
    return this.harness.ask(1, OP.RETAIN_SET, writer =>
      writeMessage(writer.text(TENANT).u53(0), message(topic, payload)),
    );
  }

  /** The status of a request, if it is answered. */
  statusOf(callId: number): number | undefined {
    return this.harness.reply(callId)?.u8();
  }

  tick(ms: number): void {
    for (let passed = 0; passed < ms; passed += TICK_MS) {
      this.harness.nowMs += TICK_MS;
      this.raft.tick();
      this.harness.finish();
    }
  }
}

/** Counts transactions, and has no room for some. */
class PickyEngine extends MemoryEngine {
  commits = 0;
  refused = 0;
  refuses: (key: Uint8Array) => boolean = () => false;

  override write(...[work, durable]: Parameters<MemoryEngine['write']>): void {
    super.write(writer => work(this.picky(writer)), durable);
    this.commits++;
  }

  override hold(...[work, ended]: Parameters<MemoryEngine['hold']>): void {
    super.hold(writer => work(this.picky(writer)), ended);
  }

  private picky(writer: KvWriter): KvWriter {
    return {
      get: key => writer.get(key),
      scan: (...range) => writer.scan(...range),
      remove: key => writer.remove(key),
      put: (key, value) => {
        if (this.refuses(key)) {
          this.refused++;
          throw new ShoalError('SHOAL_STORAGE_FULL', 'on purpose');
        }
        writer.put(key, value);
      },
    };
  }
}

const isMap = (key: Uint8Array) => key[0] === SERVICE.MAP;
const isRetain = (key: Uint8Array) => key[0] === SERVICE.RETAIN;

describe('a range that is shared, beside a broker’s own', () => {
  it('is written in the transaction of the broker’s turn', () => {
    const engine = new PickyEngine();
    const one = new Beside(engine);
    one.found();
    const { commits } = engine;
    const set = one.set('a');
    const puts = ['a', 'b'].map(key => one.put(key));
    one.harness.finish();
    expect(engine.commits).toBe(commits + 1);
    expect(one.statusOf(set)).toBe(STATUS.OK);
    expect(puts.map(put => one.outcomes.get(put))).toEqual([OUTCOME.DONE, OUTCOME.DONE]);
    expect(one.get('b')).toBe('x');
  });

  it('has transactions of its own while the broker has nothing to do, and none if it has nothing either', () => {
    const engine = new PickyEngine();
    const one = new Beside(engine);
    one.found();
    const { commits } = engine;
    one.put('a');
    one.harness.finish();
    expect(engine.commits).toBe(commits + 1);
    one.tick(60_000);
    expect(engine.commits).toBe(commits + 1);
    expect(one.raft.needsTicks).toBe(false);
  });

  it('without a quorum holds up nobody', () => {
    const one = new Beside(new MemoryEngine());
    one.found(2);
    for (let round = 0; round < 20; round++) {
      const set = one.set(`t/${round}`);
      const put = one.put('a');
      one.harness.store.endTurn();
      expect(one.harness.store.isReady).toBe(true);
      expect(one.statusOf(set)).toBe(STATUS.OK);
      one.tick(1000);
      expect(one.outcomes.get(put)).not.toBe(OUTCOME.DONE);
    }
    one.tick(15_000);
    expect(new Set(one.outcomes.values())).not.toContain(OUTCOME.DONE);
    expect(one.outcomes.size).toBe(20);
    expect(one.sent.length).toBeGreaterThan(0);
  });

  it('that finds no room costs the broker one turn at the most', () => {
    const engine = new PickyEngine();
    const one = new Beside(engine);
    one.found();
    one.tick(10_000);
    engine.refuses = isMap;
    const answers: (number | undefined)[] = [];
    for (let round = 0; round < 50; round++) {
      one.put(`k${round}`);
      const set = one.set(`t/${round}`);
      one.harness.finish();
      answers.push(one.statusOf(set));
      one.tick(500);
    }
    expect(answers[0]).toBe(STATUS.UNAVAILABLE);
    expect(new Set(answers.slice(1))).toEqual(new Set([STATUS.OK]));
    expect(engine.refused).toBeGreaterThan(10);
    expect([...one.outcomes.values()]).not.toContain(OUTCOME.DONE);
    engine.refuses = () => false;
    one.tick(5000);
    const put = one.put('last');
    one.harness.finish();
    expect(one.outcomes.get(put)).toBe(OUTCOME.DONE);
    expect(one.harness.retain.messages).toBe(49);
  });

  it('goes on when it is the broker that finds none', () => {
    const engine = new PickyEngine();
    const one = new Beside(engine);
    one.found();
    one.tick(10_000);
    engine.refuses = isRetain;
    let done = 0;
    for (let round = 0; round < 20; round++) {
      const put = one.put(`k${round}`);
      const set = one.set(`t/${round}`);
      one.harness.finish();
      expect(one.statusOf(set)).toBe(STATUS.UNAVAILABLE);
      one.tick(500);
      if (one.outcomes.get(put) === OUTCOME.DONE) done++;
    }
    expect(done).toBeGreaterThan(3);
    expect(one.raft.replica(RANGE)?.isLeader).toBe(true);
  });

  it('is there again at the next start, where what is its own is as well', () => {
    const engine = new MemoryEngine();
    const one = new Beside(engine);
    one.found();
    one.put('a', 'kept');
    one.set('t');
    one.harness.finish();
    const again = new Beside(engine);
    again.harness.finish();
    expect(again.harness.store.isReady).toBe(true);
    expect(again.get('a')).toBe('kept');
    expect(again.harness.retain.messages).toBe(1);
  });

  it('of a service that nobody knows is refused at the start, by name', () => {
    const engine = new MemoryEngine();
    new Beside(engine).found();
    expect(() => new StoreHarness({ engine, mqttPeers: [1] })).toThrow(
      expect.objectContaining({
        code: 'SHOAL_STORAGE_VERSION',
        message: expect.stringContaining('0x6d'),
      }),
    );
  });
});

/** Durable only at `flush`, and without room when it is told so. */
class FullCrashEngine extends CrashEngine {
  isFull = false;

  override write(...[work, durable]: Parameters<CrashEngine['write']>): void {
    const { isFull } = this;
    super.write(writer => {
      work(writer);
      if (isFull) throw new ShoalError('SHOAL_STORAGE_FULL', 'on purpose');
    }, durable);
  }

  override crashed(): FullCrashEngine {
    const next = new FullCrashEngine();
    next.write(
      writer =>
        super.crashed().scan(Uint8Array.of(0x10), Uint8Array.of(0xff), (key, value) => {
          writer.put(key, value);
          return true;
        }),
      () => undefined,
    );
    next.flush();
    return next;
  }
}

type Step = 'set' | 'put' | 'turn' | 'flush' | 'tick' | 'full' | 'free' | 'crash';

const step: fc.Arbitrary<Step> = fc.oneof(
  ...(
    [
      ['set', 4],
      ['put', 4],
      ['turn', 6],
      ['flush', 6],
      ['tick', 3],
      ['full', 1],
      ['free', 3],
      ['crash', 1],
    ] as const
  ).map(([kind, weight]) => ({ weight, arbitrary: fc.constant(kind) })),
);

/** What both have said is done is there after a crash, whatever was in between. */
class World {
  private engine = new FullCrashEngine();
  private one = new Beside(this.engine);
  private count = 0;
  private readonly asked = new Map<number, string>();
  private readonly proposed = new Map<number, string>();
  readonly sets = new Set<string>();
  readonly puts = new Set<string>();

  constructor() {
    this.found();
  }

  private found(): void {
    if (this.one.raft.replica(RANGE) === undefined) this.one.found();
    for (let turn = 0; turn < 20; turn++) this.run('tick');
  }

  run(kind: Step): void {
    const { one, engine } = this;
    if (kind === 'set') this.asked.set(one.set(`t${++this.count};`), `t${this.count};`);
    else if (kind === 'put') this.proposed.set(one.put(`k/${++this.count}`), `k/${this.count}`);
    else if (kind === 'turn') one.harness.store.endTurn();
    else if (kind === 'flush') engine.flush();
    else if (kind === 'full') engine.isFull = true;
    else if (kind === 'free') engine.isFull = false;
    else if (kind === 'crash') this.crash();
    else {
      one.harness.nowMs += 500;
      one.raft.tick();
      one.harness.store.endTurn();
      engine.flush();
    }
    this.listen();
  }

  private listen(): void {
    for (const [callId, topic] of this.asked) {
      const status = this.one.statusOf(callId);
      if (status === undefined) continue;
      this.asked.delete(callId);
      if (status === STATUS.OK) this.sets.add(topic);
    }
    for (const [sequence, key] of this.proposed) {
      const outcome = this.one.outcomes.get(sequence);
      if (outcome === undefined) continue;
      this.proposed.delete(sequence);
      if (outcome === OUTCOME.DONE) this.puts.add(key);
    }
  }

  crash(): void {
    this.engine = this.engine.crashed();
    this.one = new Beside(this.engine);
    this.asked.clear();
    this.proposed.clear();
    this.found();
    const keys: string[] = [];
    this.engine.scan(Uint8Array.of(SERVICE.RETAIN), Uint8Array.of(SERVICE.RETAIN + 1), key => {
      keys.push(Buffer.from(key).toString('latin1'));
      return true;
    });
    for (const topic of this.sets) expect(keys.some(key => key.includes(topic))).toBe(true);
    for (const key of this.puts) expect(this.one.get(key)).toBe('x');
    expect(this.one.harness.retain.messages).toBe(keys.length);
  }

  /** Once there is room both take commands again. */
  recover(): void {
    this.run('free');
    for (let at = 0; at < 20; at++) this.run('tick');
    const { size } = this.sets;
    const before = this.puts.size;
    this.run('set');
    this.run('put');
    for (let at = 0; at < 5; at++) this.run('tick');
    expect([this.sets.size, this.puts.size]).toEqual([size + 1, before + 1]);
  }
}

describe('a broker’s store with a shared range', () => {
  it('loses nothing of either, over crashes and disks without room', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), steps => {
        const world = new World();
        for (const kind of steps) world.run(kind);
        world.recover();
        world.crash();
        world.recover();
      }),
      { numRuns: 100 },
    );
  });
});
