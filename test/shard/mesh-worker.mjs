// One thread of a mesh under test; threads.test.ts says what it is to do.
import { parentPort, workerData } from 'node:worker_threads';
import { AsyncBell } from '../../dist/src/shard/io/async-bell.js';
import { TurnLoop } from '../../dist/src/shard/io/loop.js';
import { Mesh } from '../../dist/src/shard/mesh.js';
import { Sink, Source } from './pattern.mjs';

const { part, job } = workerData;
const { self } = part;

/** Sends `job.frames` frames to each peer of `job.peers`, and checks as many from each. */
function stress() {
  const peers = job.peers;
  const sinks = new Map(peers.map(peer => [peer, new Sink(peer, job.largest)]));
  const sources = new Map(peers.map(peer => [peer, new Source(self, job.largest)]));
  let random = self + 1;
  let paused = false;
  let done = false;
  const mesh = new Mesh(part, new AsyncBell(part), (peer, bytes, start, end) => {
    sinks.get(peer).take(bytes, start, end);
  });
  const produce = () => {
    for (const [peer, source] of sources) {
      const until = Math.min(job.frames, source.seq + 500);
      while (source.seq < until && !mesh.port(peer).congested)
        mesh.send(peer, source.bytes, 0, source.next());
    }
    random = (Math.imul(random, 1664525) + 1013904223) | 0;
    // Now and then the thread stops sending, so that readers fall asleep, or blocks, so that writers fill up.
    if (!paused && job.pauses && random >>> 24 < 4) {
      paused = true;
      setTimeout(() => {
        paused = false;
        loop.schedule();
      }, 2);
    } else if (job.pauses && random >>> 24 < 6) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
    }
  };
  const loop = new TurnLoop(mesh, () => {
    if (!paused) produce();
    const sending = [...sources.values()].some(source => source.seq < job.frames);
    if (sending && !paused && !mesh.congested) loop.schedule();
    if (!done && !sending && [...sinks.values()].every(sink => sink.seq === job.frames)) {
      done = true;
      const stalls = peers.reduce((sum, peer) => sum + mesh.port(peer).fullStalls, 0);
      parentPort.postMessage({ kind: 'done', stalls, wakes: mesh.wakes });
    }
  });
  mesh.onDrained = () => loop.schedule();
  parentPort.on('message', () => {
    // The others are done too: what this thread sent has been read.
    loop.close();
    mesh.close();
    parentPort.close();
  });
}

/** Returns each frame to its sender, at once or after a busy moment, so that sleep and ring meet at any time. */
function echo() {
  let random = 7;
  const mesh = new Mesh(part, new AsyncBell(part), (peer, bytes, start, end) => {
    random = (Math.imul(random, 1664525) + 1013904223) | 0;
    for (let spin = (random >>> 24) * job.spin; spin > 0; spin--) Atomics.load(spun, 0);
    mesh.send(peer, bytes, start, end);
  });
  const spun = new Int32Array(1);
  const loop = new TurnLoop(mesh, () => {});
  parentPort.on('message', () => {
    loop.close();
    mesh.close();
    parentPort.close();
  });
  parentPort.postMessage({ kind: 'ready' });
}

if (job.kind === 'stress') stress();
else echo();
