import Benchmark from 'benchmark';
import { createRing, RingReader, RingWriter } from '../../src/shard/ring.js';

const BATCH = 64;

/**
 * Push, commit and drain in one thread, 64 frames a turn: the cost of both ends without another core's caches.
 * Frames per second is `64 × hz`. Across threads: ring-threads.ts.
 */
export function suite(): Benchmark.Suite {
  const benchmarks = new Benchmark.Suite('ring');
  for (const frameBytes of [16, 64, 128, 256, 1024, 16_384]) {
    const ring = createRing(1 << 22);
    const writer = new RingWriter(ring);
    const reader = new RingReader(ring, () => {});
    // Not the whole of its buffer, as frames are: `copy` may not take the shortcut for whole arrays.
    const source = Buffer.alloc(frameBytes + 16, 0x5a);
    let sum = 0;
    const handler = (bytes: Buffer, start: number) => {
      sum += bytes[start]!;
    };
    benchmarks.add(`${BATCH} frames of ${frameBytes} bytes through one ring`, () => {
      for (let i = 0; i < BATCH; i++) writer.push(source, 8, 8 + frameBytes);
      writer.commit();
      if (reader.drain(handler, BATCH) !== BATCH || sum === 0) throw new Error('frames were lost');
    });
  }
  return benchmarks;
}
