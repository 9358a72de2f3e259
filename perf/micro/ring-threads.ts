/**
 * Frames from one thread to another, as the broker sends them: meshes on two event loops, a 1 MiB ring, congestion.
 * `node dist/perf/micro/ring-threads.js [frames] [bytes]`. Both threads are busy, so it needs two free cores.
 *
 * Seven runs of 5 million 64-byte frames on 2 x86-64 virtual cores, Node 20.20, while other work kept the load average
 * at 3.5: median 10.2 million frames/s (8.2 to 12.2), 84 ns of CPU a frame for both threads together. With the
 * cores nearly free, up to 16.9. One run each of larger frames: 256 bytes 6.0 million, 1 KiB 2.0, 16 KiB 0.11.
 */
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { AsyncBell } from '../../src/shard/io/async-bell.js';
import { TurnLoop } from '../../src/shard/io/loop.js';
import { createMesh, Mesh } from '../../src/shard/mesh.js';
import type { MeshPart } from '../../src/shard/shard.js';

interface Job {
  readonly frames: number;
  readonly part: MeshPart;
}

function receive(job: Job): void {
  let seen = 0;
  let sum = 0;
  const handler = (bytes: Buffer, start: number, end: number) => {
    sum += bytes[start]! + end - start;
    seen++;
  };
  const finish = () => parentPort!.postMessage({ seen, sum });
  const mesh = new Mesh(job.part, new AsyncBell(job.part), (_peer, bytes, start, end) =>
    handler(bytes, start, end),
  );
  const loop = new TurnLoop(mesh, () => {
    if (seen < job.frames) return;
    loop.close();
    mesh.close();
    finish();
  });
  // Holds the thread, which an armed bell does not.
  parentPort!.on('message', () => {});
  parentPort!.postMessage('ready');
}

/** As the broker's threads do: until the port is congested, then again when it is drained. */
function send(job: Job, bytes: Buffer, part: MeshPart): () => void {
  const mesh = new Mesh(part, new AsyncBell(part), () => {});
  let sent = 0;
  const loop = new TurnLoop(mesh, () => {
    const until = Math.min(job.frames, sent + 4096);
    while (sent < until && !mesh.congested) {
      mesh.send(1, bytes, 0, bytes.length);
      sent++;
    }
    if (sent < job.frames && !mesh.congested) loop.schedule();
  });
  mesh.onDrained = () => loop.schedule();
  return () => {
    loop.close();
    mesh.close();
  };
}

async function run(frames: number, frameBytes: number): Promise<void> {
  const memory = createMesh(2);
  const job: Job = { frames, part: memory.part(1) };
  const worker = new Worker(new URL(import.meta.url), { workerData: job });
  await once(worker, 'message');
  const done = once(worker, 'message');
  const bytes = Buffer.alloc(frameBytes, 1);
  const cpu = process.cpuUsage();
  const from = performance.now();
  const close = send(job, bytes, memory.part(0));
  const [result] = await done;
  const seconds = (performance.now() - from) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  close();
  if (result.seen !== frames || result.sum !== frames * (1 + frameBytes)) throw new Error('frames were lost');
  const rate = (frames / seconds / 1e6).toFixed(2);
  const cost = (((user + system) * 1000) / frames).toFixed(0);
  console.log(`${rate} million frames/s of ${frameBytes} bytes, ${cost} ns of CPU a frame, both threads`);
  await worker.terminate();
}

if (isMainThread) {
  const frames = Number(process.argv[2] ?? 5_000_000);
  const frameBytes = Number(process.argv[3] ?? 64);
  await run(frames, frameBytes);
} else {
  receive(workerData as Job);
}
