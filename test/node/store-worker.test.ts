import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from '../../src/base/bytes.js';
import { COMMITS, CounterBlock } from '../../src/base/metrics.js';
import { OP, STATUS } from '../../src/contract/contract.js';
import { writeMessage } from '../../src/contract/message.js';
import { decodeStore, storeKey } from '../../src/kv/balance/account-codec.js';
import { decodeAnswer, encodeOrder } from '../../src/kv/balance/order.js';
import { LmdbEngine } from '../../src/kv/io/lmdb-engine.js';
import { SERVICE } from '../../src/kv/keys.js';
import { MapCoprocessor } from '../../src/kv/map/map.js';
import { encodePut } from '../../src/kv/map/map-codec.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import { defaultConfig } from '../../src/node/config.js';
import { runStoreWorker, type StoreReport } from '../../src/node/store-worker.js';
import { AsyncBell } from '../../src/shard/io/async-bell.js';
import { TurnLoop } from '../../src/shard/io/loop.js';
import { createMesh, Mesh } from '../../src/shard/mesh.js';
import { Cluster } from '../kv/replicated/cluster.js';
import { inboxRoute, message, readAttached, TENANT, writeAttach, writeRoutes } from '../kv/store-harness.js';

const root = mkdtempSync(join(tmpdir(), 'shoal-worker-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** The two store workers and one mqtt thread's end of the mesh, all in this thread but as in separate ones. */
class Node {
  readonly counters = [new CounterBlock(), new CounterBlock()];
  private readonly memory = createMesh(3, 1 << 16);
  private readonly mesh: Mesh;
  private readonly loop: TurnLoop;
  private readonly ports: MessagePort[] = [];
  private readonly runs: Promise<void>[] = [];
  private readonly waiting = new Map<number, (body: ByteReader) => void>();
  /** Frames of store threads that are no replies. */
  readonly told: { readonly peer: number; readonly op: number; readonly body: ByteReader }[] = [];
  private callId = 0;

  constructor(dataDir: string) {
    const part = this.memory.part(0);
    this.mesh = new Mesh(part, new AsyncBell(part), (peer, bytes, start, end) => {
      const body = new ByteReader(Buffer.from(bytes.subarray(start, end)));
      const op = body.u8();
      const callId = body.u32();
      if (op === OP.REPLY) this.waiting.get(callId)?.(body);
      else this.told.push({ peer, op, body });
    });
    this.loop = new TurnLoop(this.mesh, () => undefined);
    const config = defaultConfig();
    config.node.dataDir = dataDir;
    config.node.name = 'node-a';
    for (const [i, role] of (['match', 'apply'] as const).entries()) {
      const { port1, port2 } = new MessageChannel();
      this.ports.push(port1);
      const run = runStoreWorker({
        config,
        role,
        index: 0,
        part: this.memory.part(1 + i),
        mqttPeers: [0],
        metrics: this.counters[i]!.memory,
        hashSeed: 1,
        cpu: -1,
        tellRoutes: false,
        port: port2,
      });
      this.runs.push(run);
    }
  }

  ask(peer: number, op: number, fill: (writer: ByteWriter) => void): Promise<ByteReader> {
    const callId = ++this.callId;
    const writer = new ByteWriter().u8(op).u32(callId);
    fill(writer);
    this.mesh.send(peer, writer.bytes, 0, writer.length);
    this.loop.schedule();
    return new Promise(resolve => this.waiting.set(callId, resolve));
  }

  tell(peer: number, op: number, fill: (writer: ByteWriter) => void): void {
    const writer = new ByteWriter().u8(op).u32(0);
    fill(writer);
    this.mesh.send(peer, writer.bytes, 0, writer.length);
    this.loop.schedule();
  }

  /** The next frame of that kind from `peer`, which is there or comes. */
  async next(peer: number, op: number): Promise<ByteReader> {
    for (;;) {
      const at = this.told.findIndex(told => told.peer === peer && told.op === op);
      if (at >= 0) return this.told.splice(at, 1)[0]!.body;
      await new Promise(resolve => setTimeout(resolve, 5));
    }
  }

  async stop(): Promise<void> {
    for (const port of this.ports) port.postMessage({ kind: 'stop' });
    await Promise.all(this.runs);
    for (const port of this.ports) port.close();
    this.loop.close();
    this.mesh.close();
  }
}

/** A store's data as a thread leaves it that ends while a state of a shared range is put in place. */
async function leaveHalfPlaced(dataDir: string): Promise<void> {
  mkdirSync(dataDir);
  const engine = new LmdbEngine({ path: join(dataDir, 'apply-0'), durability: 'flush' });
  const cluster = new Cluster({
    engines: index => (index === 2 ? engine : new MemoryEngine()),
    service: { id: SERVICE.MAP, coprocessor: range => new MapCoprocessor(range) },
    store: { limits: { logBytesMax: 600, tailBytesMax: 100 }, snapshots: { chunkBytesMax: 200 } },
  });
  const put = (key: string) => cluster.command(5, encodePut({ key, value: Buffer.alloc(100), nowMs: 1 }));
  cluster.found(5);
  put('first');
  cluster.run(1000);
  cluster.cut(2);
  for (let i = 0; i < 40; i++) put(`key ${i}`);
  cluster.cuts.clear();
  cluster.filter = from => {
    if (from === 2 && cluster.hosts[2]!.store.replica(5)?.install?.isCommitted === true)
      throw new Error('ends');
    return true;
  };
  expect(() => cluster.run(60_000)).toThrow('ends');
  await engine.close();
}

const MATCH = 1;
const APPLY = 2;

describe('store workers', () => {
  it('take up at their start what was under way at their end, and say so', async () => {
    await leaveHalfPlaced(join(root, 'half-placed'));
    const node = new Node(join(root, 'half-placed'));
    await node.next(APPLY, OP.KV_FRAME);
    await node.next(APPLY, OP.KV_OPEN);
    await node.stop();
  });

  it('serve over the mesh, and find everything again after a stop', async () => {
    const node = new Node(join(root, 'a'));
    const added = await node.ask(MATCH, OP.DIST_ADD, writer => writeRoutes(writer, [inboxRoute('a/#', 'c')]));
    expect(added.u8()).toBe(STATUS.OK);
    const attached = readAttached(
      await node.ask(APPLY, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' })),
    );
    expect(attached.present).toBe(false);
    const set = await node.ask(APPLY, OP.RETAIN_SET, writer =>
      writeMessage(writer.text(TENANT).u53(0), message('a/b', 'x'.repeat(200_000))),
    );
    expect(set.u8()).toBe(STATUS.OK);
    expect(node.counters[0]!.values[COMMITS]).toBeGreaterThan(0);
    await node.stop();

    const again = new Node(join(root, 'a'));
    const matched = await again.ask(MATCH, OP.DIST_MATCH, writer => writer.text(TENANT).text('a/b'));
    expect([matched.u8(), matched.u32()]).toEqual([STATUS.OK, 1]);
    const back = readAttached(
      await again.ask(APPLY, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' })),
    );
    expect(back).toMatchObject({ present: true, instance: attached.instance });
    const found = await again.ask(APPLY, OP.RETAIN_SCAN, writer =>
      writer
        .text(TENANT)
        .text('#')
        .u53(0)
        .u32(10)
        .u32(1 << 20)
        .u32(0),
    );
    expect([found.u8(), found.u32()]).toEqual([STATUS.OK, 1]);
    await again.stop();
  });

  it('are stores of the cluster, which tell main of themselves and do what it says', async () => {
    const node = new Node(join(root, 'kv'));
    for (const [peer, name, ranges] of [
      [MATCH, 'match-0@node-a', 1],
      [APPLY, 'apply-0@node-a', 2],
    ] as const) {
      const opened = await node.next(peer, OP.KV_OPEN);
      const store = opened.f64();
      // It is in no cluster, so it takes ranges of no service.
      expect(opened.u8()).toBe(0);
      node.tell(peer, OP.KV_STANDING, writer => writer.u8(0).f64(1).u32(1).f64(1).u8(0));
      const published = await node.next(peer, OP.KV_PUBLISH);
      expect(published.u32()).toBe(1 + ranges);
      expect([published.text(), published.u8()]).toEqual([storeKey(store), 1]);
      expect(decodeStore(Buffer.from(published.blob()))).toMatchObject({ name, host: 1, services: [] });
      const answer = await node.ask(peer, OP.KV_STEER, writer => writer.raw(encodeOrder({ kind: 'drain' })));
      expect(answer.u8()).toBe(STATUS.OK);
      expect(decodeAnswer(answer.raw(answer.remaining))).toEqual({ kind: 'done' });
    }
    await node.stop();
  });

  it('rejects when its database cannot be opened', async () => {
    const { port1, port2 } = new MessageChannel();
    const config = defaultConfig();
    config.node.dataDir = '/dev/null';
    const run = runStoreWorker({
      config,
      role: 'apply',
      index: 0,
      part: createMesh(2).part(1),
      mqttPeers: [0],
      metrics: new CounterBlock().memory,
      hashSeed: 1,
      cpu: -1,
      tellRoutes: false,
      port: port2,
    });
    await expect(run).rejects.toMatchObject({ code: 'SHOAL_DATA_DIR_UNUSABLE' });
    port1.close();
    port2.close();
  });

  it('stays idle where it has no range, and says so', async () => {
    const { port1, port2 } = new MessageChannel();
    const reports: StoreReport[] = [];
    port1.on('message', (report: StoreReport) => reports.push(report));
    const run = runStoreWorker({
      config: defaultConfig(),
      role: 'match',
      index: 1,
      part: createMesh(2).part(1),
      mqttPeers: [0],
      metrics: new CounterBlock().memory,
      hashSeed: 1,
      cpu: -1,
      tellRoutes: false,
      port: port2,
    });
    port1.postMessage({ kind: 'stop' });
    await run;
    expect(reports).toContainEqual({
      kind: 'log',
      level: 'warn',
      fields: { 'threads.match': 'auto' },
      message: 'only the first match thread has work until ranges split; the others stay idle',
    });
    port1.close();
  });
});
