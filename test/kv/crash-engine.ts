import type { EngineSnapshot, EntryVisitor, KvWriter, SnapshotEngine } from '../../src/kv/engine.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import { WriteBatch } from '../../src/kv/write-batch.js';

/** An engine whose commits become durable only at `flush`; a crash leaves what had been flushed. */
export class CrashEngine implements SnapshotEngine {
  private readonly current: MemoryEngine;
  private readonly onDisk: MemoryEngine;
  private unflushed: { batch: WriteBatch; durable: () => void; isHeld: boolean }[] = [];

  constructor(onDisk = new MemoryEngine()) {
    this.onDisk = onDisk;
    this.current = new MemoryEngine();
    copy(onDisk, this.current);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.current.get(key);
  }

  scan(start: Uint8Array, end: Uint8Array, visit: EntryVisitor, reverse?: boolean): void {
    this.current.scan(start, end, visit, reverse);
  }

  write(work: (writer: KvWriter) => void, durable: () => void): void {
    const batch = new WriteBatch();
    this.current.write(
      writer => work(recorded(writer, batch)),
      () => undefined,
    );
    this.unflushed.push({ batch, durable, isHeld: false });
  }

  hold(work: (writer: KvWriter) => void, ended: (isDurable: boolean) => void): void {
    const batch = new WriteBatch();
    this.current.write(
      writer => work(recorded(writer, batch)),
      () => undefined,
    );
    this.unflushed.push({ batch, durable: () => ended(true), isHeld: true });
  }

  /** Makes the oldest commit durable, with what was held before it. */
  flush(): void {
    const count = 1 + this.unflushed.findIndex(({ isHeld }) => !isHeld);
    const flushed = this.unflushed.splice(0, count);
    this.onDisk.write(
      writer => {
        for (const { batch } of flushed) batch.replay(writer);
      },
      () => undefined,
    );
    for (const { durable } of flushed) durable();
  }

  /** The engine that the next process finds. */
  crashed(): CrashEngine {
    return new CrashEngine(this.onDisk);
  }

  snapshot(): EngineSnapshot {
    return this.current.snapshot();
  }

  close(): void {
    this.current.close();
  }
}

function copy(from: MemoryEngine, to: MemoryEngine): void {
  to.write(
    writer =>
      from.scan(Uint8Array.of(0), Uint8Array.of(255), (key, value) => {
        writer.put(key, value);
        return true;
      }),
    () => undefined,
  );
}

/** Writes through, and keeps what is written. */
export function recorded(writer: KvWriter, batch: WriteBatch): KvWriter {
  return {
    get: key => writer.get(key),
    scan: (start, end, visit, reverse) => writer.scan(start, end, visit, reverse),
    put: (key, value) => {
      batch.put(key, value);
      writer.put(key, value);
    },
    remove: key => {
      batch.remove(key);
      writer.remove(key);
    },
  };
}
