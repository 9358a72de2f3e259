import { assert } from '../../../src/base/assert.js';
import type { Configuration } from '../../../src/kv/raft/configuration.js';
import type { Entry, HardState, SnapshotMeta, StoredLog } from '../../../src/kv/raft/ready.js';
import { ENTRY_OVERHEAD_BYTES } from '../../../src/kv/raft/settings.js';

/** What a replica has on its disk, in memory. */
export class MemoryLog implements StoredLog {
  hardState: HardState = { term: 0, vote: 0, commit: 0 };
  snapshot: SnapshotMeta;
  applied = 0;
  private stored: Entry[] = [];

  constructor(configuration: Configuration) {
    this.snapshot = { index: 0, term: 0, configuration };
  }

  get lastIndex(): number {
    return this.snapshot.index + this.stored.length;
  }

  term(index: number): number | undefined {
    if (index === this.snapshot.index) return this.snapshot.term;
    return this.stored[index - this.snapshot.index - 1]?.term;
  }

  entries(from: number, to: number, bytesMax: number): readonly Entry[] {
    assert(from > this.snapshot.index && to <= this.lastIndex, 'entries are asked for that are stored');
    const all = this.stored.slice(from - this.snapshot.index - 1, to - this.snapshot.index);
    let bytes = 0;
    const end = all.findIndex(entry => (bytes += entry.data.length + ENTRY_OVERHEAD_BYTES) > bytesMax);
    return end < 0 ? all : all.slice(0, Math.max(1, end));
  }

  write(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    assert(first.index > this.snapshot.index && first.index <= this.lastIndex + 1, 'a log has no gap');
    this.stored.length = first.index - this.snapshot.index - 1;
    for (const entry of entries) this.stored.push(entry);
  }

  install(snapshot: SnapshotMeta): void {
    this.snapshot = snapshot;
    this.stored = [];
    this.applied = snapshot.index;
  }

  compact(index: number, configuration: Configuration): void {
    const term = this.term(index)!;
    this.stored = this.stored.slice(index - this.snapshot.index);
    this.snapshot = { index, term, configuration };
  }
}
