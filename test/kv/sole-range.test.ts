import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ByteWriter } from '../../src/base/bytes.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { writeMessage } from '../../src/contract/message.js';
import type { SnapshotEngine } from '../../src/kv/engine.js';
import { LmdbEngine, STORAGE_VERSION } from '../../src/kv/io/lmdb-engine.js';
import { copyOf, localPrefix, SERVICE } from '../../src/kv/keys.js';
import { FIRST_RANGE_ID } from '../../src/kv/kv.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import { CrashEngine } from './crash-engine.js';
import {
  inboxRoute,
  message,
  readAttached,
  readRoutes,
  StoreHarness,
  shardRoute,
  TENANT,
  writeAttach,
  writeInsert,
  writeRoutes,
  writeSubscriptions,
} from './store-harness.js';

const root = mkdtempSync(join(tmpdir(), 'shoal-sole-range-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

function attach(store: StoreHarness, clientId: string) {
  return readAttached(store.call(1, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId })));
}

function retain(store: StoreHarness, topic: string): number {
  return store
    .call(1, OP.RETAIN_SET, writer => writeMessage(writer.text(TENANT).u53(0), message(topic, 'x')))
    .u8();
}

function subscribe(store: StoreHarness, instance: number): void {
  const subscription = { filter: 'f/#', options: 1, subscriptionId: 0 };
  store.call(1, OP.INBOX_SUBSCRIBE, writer => writeSubscriptions(writer.u53(instance), [subscription]));
  store.call(1, OP.DIST_ADD, writer => writeRoutes(writer, [inboxRoute('f/#', 'c')]));
  store.ask(1, OP.INBOX_SETTLED, writer => writer.u53(instance).u32(1), false);
}

/** Sessions with a subscription and a message, a route, and retained messages; the sessions' instances. */
function fill(store: StoreHarness): number[] {
  const { instance } = attach(store, 'c');
  subscribe(store, instance);
  store.call(1, OP.INBOX_INSERT, writer => writeInsert(writer, message('f/a', 'kept'), [{ clientId: 'c' }]));
  for (const topic of ['a', 'b']) retain(store, topic);
  return [instance, attach(store, 'd').instance];
}

/** Finds all that `fill` made. */
function expectAll(store: StoreHarness, instances: readonly number[]): void {
  const attached = attach(store, 'c');
  expect(attached).toMatchObject({ present: true, instance: instances[0], nextSeq: 2 });
  expect(attached.subscriptions.map(({ filter }) => filter)).toEqual(['f/#']);
  expect(attach(store, 'd')).toMatchObject({ present: true, instance: instances[1] });
  // The counter goes on where it was.
  expect(attach(store, 'e').instance).toBe(instances[1]! + 1);
  expect(store.retain.messages).toBe(2);
  const callId = store.ask(1, OP.DIST_MATCH, writer => writer.text(TENANT).text('f/a'));
  expect(readRoutes(store.reply(callId)!)).toEqual([inboxRoute('f/#', 'c')]);
}

/** Everything of the stores' own: counters of ranges, and books. */
function locals(engine: SnapshotEngine): { key: Uint8Array; value: Uint8Array }[] {
  const found: { key: Uint8Array; value: Uint8Array }[] = [];
  engine.scan(Uint8Array.of(0x4c), Uint8Array.of(0x4d), (key, value) => {
    found.push({ key: copyOf(key), value: copyOf(value) });
    return true;
  });
  return found;
}

/** Leaves what a ShoalMQ of storage version 1 would have written: no books, and all ranges of the first id. */
function takeBooks(engine: SnapshotEngine): void {
  const found = locals(engine);
  engine.write(
    writer => {
      for (const { key, value } of found) {
        writer.remove(key);
        if (key[1] !== SERVICE.RETAIN && key[1] !== SERVICE.INBOX) continue;
        const former = localPrefix(new ByteWriter(16), key[1], FIRST_RANGE_ID);
        writer.put(former.u8(key[key.length - 1]!).view(), value);
      }
    },
    () => undefined,
  );
}

describe('data of a time when ranges had no books', () => {
  it('is taken over as it is, and is there ever after', () => {
    const engine = new MemoryEngine();
    const instances = fill(new StoreHarness({ mqttPeers: [1], engine }));
    takeBooks(engine);
    expect(locals(engine).map(({ key }) => Buffer.from(key).toString('hex'))).toEqual([
      expect.stringMatching(/^4c6900000001/),
      expect.stringMatching(/^4c7200000001/),
    ]);
    const store = new StoreHarness({ mqttPeers: [1], engine });
    expectAll(store, instances);
    const { replicas } = store.store.ranges.raft;
    const taken = [...replicas].map(({ descriptor }) => descriptor!);
    expect(taken.map(({ service }) => service).sort()).toEqual([SERVICE.DIST, SERVICE.INBOX, SERVICE.RETAIN]);
    expect(taken.some(({ pristine }) => pristine)).toBe(false);
    expect(retain(new StoreHarness({ mqttPeers: [1], engine }), 'a')).toBe(STATUS.OK);
    expect(new StoreHarness({ mqttPeers: [1], engine }).retain.messages).toBe(2);
  });

  it('is taken over from a database of that version, which an older program refuses then', async () => {
    const path = join(root, 'version-1');
    let engine = new LmdbEngine({ path, durability: 'flush' });
    const instances = fill(new StoreHarness({ mqttPeers: [1], engine }));
    takeBooks(engine);
    const physical = engine as unknown as {
      physicalPut(key: Uint8Array, value: Uint8Array): void;
      physicalGet(key: Uint8Array): Uint8Array;
    };
    engine.write(
      () => physical.physicalPut(FORMAT, Buffer.from('484f414c01000000', 'hex')),
      () => undefined,
    );
    await engine.close();
    engine = new LmdbEngine({ path, durability: 'flush' });
    expect(copyOf((engine as unknown as typeof physical).physicalGet(FORMAT))[4]).toBe(STORAGE_VERSION);
    expectAll(new StoreHarness({ mqttPeers: [1], engine }), instances);
    await engine.close();
  });

  it('is whole wherever the taking over is cut off', () => {
    for (let flushed = 0; flushed < 12; flushed++) {
      const memory = new MemoryEngine();
      const instances = fill(new StoreHarness({ mqttPeers: [1], engine: memory }));
      takeBooks(memory);
      new StoreHarness({ mqttPeers: [1], engine: new Reluctant(new CrashEngine(memory), flushed) });
      // What was not flushed is gone.
      expectAll(new StoreHarness({ mqttPeers: [1], engine: memory }), instances);
    }
  });
});

const FORMAT = Uint8Array.of(0, 0x66);

/** Flushes so many commits and no more. */
class Reluctant implements SnapshotEngine {
  private readonly engine: CrashEngine;
  private left: number;

  constructor(engine: CrashEngine, left: number) {
    this.engine = engine;
    this.left = left;
  }

  get: SnapshotEngine['get'] = key => this.engine.get(key);
  scan: SnapshotEngine['scan'] = (...range) => this.engine.scan(...range);
  write: SnapshotEngine['write'] = (...work) => this.engine.write(...work);
  hold: SnapshotEngine['hold'] = (...work) => this.engine.hold(...work);
  snapshot: SnapshotEngine['snapshot'] = () => this.engine.snapshot();

  flush(): void {
    if (this.left-- > 0) this.engine.flush();
  }

  close(): void {
    this.engine.close();
  }
}

describe('a turn', () => {
  /** Counts commits that have written something, and their keys. */
  class Counting extends MemoryEngine {
    written: number[] = [];

    override write(...[work, durable]: Parameters<MemoryEngine['write']>): void {
      let count = 0;
      super.write(
        writer =>
          work({
            get: key => writer.get(key),
            scan: (...range) => writer.scan(...range),
            put: (key, value) => {
              count++;
              writer.put(key, value);
            },
            remove: key => {
              count++;
              writer.remove(key);
            },
          }),
        durable,
      );
      this.written.push(count);
    }
  }

  it('is one commit, with one record more for each range that it changes', () => {
    const engine = new Counting();
    const store = new StoreHarness({ mqttPeers: [1], engine });
    const { raft } = store.store.ranges;
    retain(store, 'a');
    attach(store, 'c');
    engine.written = [];
    const before = [...raft.replicas].map(({ appliedIndex }) => appliedIndex);
    for (const topic of ['b', 'c', 'd'])
      store.ask(1, OP.RETAIN_SET, writer => writeMessage(writer.text(TENANT).u53(0), message(topic, 'x')));
    store.finish();
    // Three messages, their count, and how far the range is.
    expect(engine.written).toEqual([5]);
    expect([...raft.replicas].map(({ appliedIndex }, at) => appliedIndex - before[at]!).sort()).toEqual([
      ...[0, 0, 1],
    ]);
    engine.written = [];
    for (let second = 0; second < 20; second++) {
      store.store.tick(second * 1000);
      store.finish();
    }
    expect(engine.written).toEqual([]);
  });

  it('leaves a range alone that it changes in memory only', () => {
    const engine = new Counting();
    const store = new StoreHarness({ mqttPeers: [1], engine });
    engine.written = [];
    store.call(1, OP.DIST_ADD, writer => writeRoutes(writer, [shardRoute('live', 0)]));
    expect(engine.written).toEqual([0]);
    store.store.tick(0);
    store.finish();
    // The route, and how far the range is, which is not pristine any more.
    expect(engine.written).toEqual([0, 3]);
  });

  it('goes on in the range where it was, at the next start', () => {
    const engine = new MemoryEngine();
    let store = new StoreHarness({ mqttPeers: [1], engine });
    let index = 0;
    for (let start = 0; start < 3; start++) {
      for (const topic of ['a', 'b']) retain(store, topic);
      const replica = [...store.store.ranges.raft.replicas].find(
        ({ descriptor }) => descriptor!.service === SERVICE.RETAIN,
      )!;
      expect(replica.appliedIndex).toBeGreaterThan(index + 1);
      expect(replica.descriptor).toMatchObject({ pristine: false, epoch: 1 });
      expect(replica.raft.lastIndex).toBe(replica.appliedIndex);
      expect(replica.log.storedBytes).toBe(0);
      index = replica.appliedIndex;
      store = new StoreHarness({ mqttPeers: [1], engine });
    }
  });
});
