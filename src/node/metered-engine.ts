import { performance } from 'node:perf_hooks';
import { isStorageFull } from '../base/errors.js';
import {
  COMMIT_SECONDS,
  COMMITS,
  type CounterBlock,
  FLUSH_SECONDS,
  STORE_FAILURES,
} from '../base/metrics.js';
import type { EngineSnapshot, EntryVisitor, KvWriter, SnapshotEngine } from '../kv/engine.js';

/** Counts and times the commits of an engine. */
export class MeteredEngine implements SnapshotEngine {
  private readonly engine: SnapshotEngine;
  private readonly counters: CounterBlock;

  constructor(engine: SnapshotEngine, counters: CounterBlock) {
    this.engine = engine;
    this.counters = counters;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.engine.get(key);
  }

  scan(start: Uint8Array, end: Uint8Array, visit: EntryVisitor, reverse?: boolean): void {
    this.engine.scan(start, end, visit, reverse);
  }

  write(work: (writer: KvWriter) => void, durable: () => void): void {
    const startedMs = performance.now();
    let workedMs = startedMs;
    let isDurable = false;
    const { counters } = this;
    try {
      this.engine.write(
        writer => {
          work(writer);
          workedMs = performance.now();
        },
        () => {
          isDurable = true;
          counters.values[COMMITS]! += 1;
          counters.observe(COMMIT_SECONDS, (workedMs - startedMs) / 1000);
          counters.observe(FLUSH_SECONDS, (performance.now() - workedMs) / 1000);
          durable();
        },
      );
    } catch (error) {
      if (!isDurable && isStorageFull(error)) counters.values[STORE_FAILURES]! += 1;
      throw error;
    }
  }

  hold(work: (writer: KvWriter) => void, ended: (isDurable: boolean) => void): void {
    this.engine.hold(work, ended);
  }

  snapshot(): EngineSnapshot {
    return this.engine.snapshot();
  }

  close(): void | Promise<void> {
    return this.engine.close();
  }
}
