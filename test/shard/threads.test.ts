import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { AsyncBell } from '../../src/shard/io/async-bell.js';
import { TurnLoop } from '../../src/shard/io/loop.js';
import { pinThread } from '../../src/shard/io/pin.js';
import { createMesh, Mesh, type MeshMemory } from '../../src/shard/mesh.js';

const WORKER = new URL('./mesh-worker.mjs', import.meta.url);
const threads: Worker[] = [];
const failures: unknown[] = [];

function start(memory: MeshMemory, self: number, job: object): Worker {
  const worker = new Worker(WORKER, { workerData: { part: memory.part(self), job } });
  worker.on('error', error => failures.push(error));
  threads.push(worker);
  return worker;
}

/** Resolves with the worker's next message; rejects when it fails first. */
async function message(worker: Worker): Promise<Record<string, unknown>> {
  const [value] = await Promise.race([
    once(worker, 'message'),
    once(worker, 'exit').then(() => Promise.reject(failures[0] ?? new Error('a worker ended early'))),
  ]);
  return value;
}

/** Tells a worker to close its mesh; it must then end by itself, with nothing left that holds it. */
async function end(worker: Worker): Promise<void> {
  const exit = once(worker, 'exit');
  worker.postMessage('end');
  expect((await exit)[0]).toBe(0);
}

afterEach(async () => {
  // Only a failed test leaves a thread here.
  await Promise.all(threads.splice(0).map(worker => worker.terminate()));
  expect(failures.splice(0)).toEqual([]);
});

describe('between threads, no frame is lost, torn, repeated or out of order', () => {
  async function stress(count: number, ringBytes: number, job: object) {
    const memory = createMesh(count + 1, ringBytes);
    const selves = Array.from({ length: count }, (_, i) => i + 1);
    const workers = selves.map(self =>
      start(memory, self, { kind: 'stress', peers: selves.filter(peer => peer !== self), ...job }),
    );
    const results = await Promise.all(workers.map(message));
    for (const worker of workers) await end(worker);
    return results;
  }

  it('two threads, 1.5 million frames each way, up to three rings long', { timeout: 30_000 }, async () => {
    const results = await stress(2, 1 << 16, { frames: 1_500_000, largest: 200_000, pauses: true });
    for (const { kind, stalls, wakes } of results) {
      expect(kind).toBe('done');
      // The paths that matter were taken: rings full, and readers asleep.
      expect(stalls).toBeGreaterThan(0);
      expect(wakes).toBeGreaterThan(0);
    }
  });

  it('two threads, a ring of 256 bytes', { timeout: 30_000 }, async () => {
    const results = await stress(2, 256, { frames: 20_000, largest: 5000, pauses: false });
    expect(results.map(result => result.kind)).toEqual(['done', 'done']);
  });

  it('four threads, all to all', { timeout: 30_000 }, async () => {
    const results = await stress(4, 1 << 14, { frames: 100_000, largest: 60_000, pauses: true });
    expect(results.map(result => result.kind)).toEqual(['done', 'done', 'done', 'done']);
  });
});

describe('wake-ups', () => {
  /** Sends a frame, waits for its echo, and so on: one lost wake-up on either side, and it never ends. */
  async function pingPong(rounds: number, spin: number): Promise<number> {
    const memory = createMesh(2, 4096);
    const worker = start(memory, 1, { kind: 'echo', spin });
    await message(worker);
    const bytes = Buffer.alloc(16);
    let left = rounds;
    let finish: () => void = () => {};
    const finished = new Promise<void>(resolve => {
      finish = resolve;
    });
    const part = memory.part(0);
    const mesh = new Mesh(part, new AsyncBell(part), () => {
      if (--left === 0) finish();
      else mesh.send(1, bytes, 0, 16);
    });
    const loop = new TurnLoop(mesh, () => {});
    mesh.send(1, bytes, 0, 16);
    await finished;
    const wakes = mesh.wakes;
    loop.close();
    mesh.close();
    await end(worker);
    return wakes;
  }

  it('are never lost when both sides sleep between frames', { timeout: 30_000 }, async () => {
    expect(await pingPong(20_000, 0)).toBeGreaterThan(1000);
  });

  it('are never lost when frames meet the sleeper at any moment', { timeout: 30_000 }, async () => {
    expect(await pingPong(10_000, 8)).toBeGreaterThan(1000);
  });
});

describe('a thread that is killed', () => {
  it('is replaced while the others go on undisturbed', { timeout: 30_000 }, async () => {
    const memory = createMesh(3, 4096);
    const victim = start(memory, 1, { kind: 'echo', spin: 0 });
    const bystander = start(memory, 2, { kind: 'echo', spin: 0 });
    await Promise.all([message(victim), message(bystander)]);
    const echoes = [0, 0, 0];
    let onEcho: (peer: number) => void = () => {};
    const part = memory.part(0);
    const mesh = new Mesh(part, new AsyncBell(part), peer => {
      echoes[peer]!++;
      onEcho(peer);
    });
    const loop = new TurnLoop(mesh, () => {});
    const bytes = Buffer.alloc(20_000, 1);
    const send = (peer: number, length: number) => {
      mesh.send(peer, bytes, 0, length);
      loop.schedule();
    };
    const echoed = (peer: number, count: number) =>
      new Promise<void>(resolve => {
        onEcho = () => echoes[peer]! >= count && resolve();
        onEcho(peer);
      });

    for (let i = 0; i < 200; i++) send(1, 20_000);
    send(2, 10);
    await echoed(1, 1);
    await victim.terminate();
    expect(mesh.congested).toBe(true);
    expect(mesh.remove(1).outgoing).toBeGreaterThan(0);
    expect(mesh.congested).toBe(false);
    send(2, 10);
    await echoed(2, 2);
    expect(echoes[2]).toBe(2);
    const before = echoes[1]!;

    memory.renew(1);
    mesh.replace(1, memory.link(0, 1));
    const successor = start(memory, 1, { kind: 'echo', spin: 0 });
    send(1, 20_000);
    await echoed(1, before + 1);
    send(2, 10);
    await echoed(2, 3);
    expect(echoes[2]).toBe(3);
    loop.close();
    mesh.close();
    await end(successor);
    await end(bystander);
  });
});

describe('pinning', () => {
  it('says what it did, and never throws', async () => {
    const result = await pinThread(0);
    if (result.kind === 'pinned') {
      expect(result).toMatchObject({ cpu: 0 });
      expect(result.threadId).toBeGreaterThan(0);
    } else expect(result.reason).not.toBe('');
    expect(await pinThread(100_000)).toMatchObject({ kind: 'not-pinned' });
  });
});
