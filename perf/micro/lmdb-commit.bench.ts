import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Benchmark from 'benchmark';
import { LmdbEngine } from '../../src/kv/io/lmdb-engine.js';

const VALUE = Buffer.alloc(100, 7);
const nothing = () => undefined;

/** Group commits on a real disk: how many puts one flush is worth. Puts per second is `batch × hz`. */
export function suite(): Benchmark.Suite {
  const root = mkdtempSync(join(tmpdir(), 'shoal-commit-'));
  const engines: LmdbEngine[] = [];
  const benchmarks = new Benchmark.Suite('LMDB commit');
  for (const durability of ['flush', 'async'] as const) {
    const engine = new LmdbEngine({ path: join(root, durability), durability });
    engines.push(engine);
    for (const batch of [1, 16, 64, 1024]) {
      const key = Buffer.from('k0000000');
      let next = 0;
      benchmarks.add(`commit of ${batch} puts of 100 bytes, ${durability}`, () => {
        engine.write(writer => {
          for (let i = 0; i < batch; i++) {
            // Keys come round, so that the file stays small.
            key.writeUInt32BE(next++ % 100_000, 4);
            writer.put(key, VALUE);
          }
        }, nothing);
      });
    }
    const key = Buffer.from('k0000000');
    let next = 0;
    benchmarks.add(`get of 100 bytes with its checksum, ${durability}`, () => {
      key.writeUInt32BE(next++ % 100_000, 4);
      engine.get(key);
    });
  }
  benchmarks.on('complete', () => {
    for (const engine of engines) void engine.close();
    rmSync(root, { recursive: true, force: true });
  });
  return benchmarks;
}
