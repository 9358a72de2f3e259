import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Bench, VALUE_BYTES } from './kv-store.js';

export interface SnapshotFigures {
  readonly megabytes: number;
  readonly seconds: number;
  /** A put at the sending store while the state travels, in milliseconds. */
  readonly putP50Ms: number;
  readonly putMaxMs: number;
  /** The longest turn of the receiving store. */
  readonly turnMaxMs: number;
}

/**
 * A range of so many megabytes gets a second replica, both stores in this process: a put at a time is done meanwhile,
 * and one that waits for the receiver's turn waits longer than it would with a process of its own for each.
 */
export async function measureSnapshot(megabytes: number): Promise<SnapshotFigures> {
  const root = mkdtempSync(path.join(tmpdir(), 'shoal-perf-kv-'));
  const queue: { to: Bench; from: Bench; frame: Uint8Array }[] = [];
  const all: Bench[] = [];
  const sendFrom = (index: number) => (store: number, frame: Uint8Array) => {
    const to = all.find(bench => bench.store.id === store);
    if (to !== undefined) queue.push({ to, from: all[index]!, frame });
  };
  const keys = Math.ceil((megabytes * 1e6) / (VALUE_BYTES + 9));
  for (const index of [0, 1]) {
    const options = { order: 'ordered', keys, send: sendFrom(index) } as const;
    all.push(new Bench(path.join(root, `${index}`), options));
  }
  const [sender, receiver] = all as [Bench, Bench];
  try {
    sender.foundWhole();
    for (let done = 0; done < keys; done += 2000) sender.put(2000);
    const puts: number[] = [];
    let turnMaxMs = 0;
    const startMs = performance.now();
    let tickedMs = 0;
    sender.store.configure(
      1,
      1,
      1,
      all.map(({ store }) => ({ store: store.id, role: store === sender.store ? 0 : 1 })),
    );
    while (receiver.store.replica(1)?.state === undefined) {
      const nowMs = performance.now();
      sender.put(1);
      puts.push(performance.now() - nowMs);
      if (nowMs - tickedMs >= 100) {
        tickedMs = nowMs;
        for (const { store } of all) store.tick();
      }
      for (const { to, from, frame } of queue.splice(0)) to.store.step(from.store.id, frame);
      if (receiver.store.pending) {
        const turnMs = performance.now();
        receiver.store.turn();
        turnMaxMs = Math.max(turnMaxMs, performance.now() - turnMs);
      }
      if (nowMs - startMs > 600_000) throw new Error('the state does not arrive');
    }
    puts.sort((a, b) => a - b);
    const seconds = (performance.now() - startMs) / 1000;
    return { megabytes, seconds, putP50Ms: puts[puts.length >> 1]!, putMaxMs: puts.at(-1)!, turnMaxMs };
  } finally {
    for (const bench of all) await bench.close();
    rmSync(root, { recursive: true, force: true });
  }
}
