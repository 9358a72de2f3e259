import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { at, Bench } from './kv-store.js';

export interface SnapshotFigures {
  readonly seconds: number;
  /** What a put at the sending store waits while the state travels, in milliseconds. */
  readonly putP50Ms: number;
  readonly putMaxMs: number;
  /** The longest turn of the receiving store. */
  readonly turnMaxMs: number;
  /** By which the sending store's file has grown, megabytes. */
  readonly grownMegabytes: number;
  /** The most that both stores held in memory, the files' pages aside, more than before: megabytes. */
  readonly heldMegabytes: number;
}

const BATCH = 2000;
const STATE_VALUE_BYTES = 1000;
const TICK_MS = 100;
const TRAVEL_MS_MAX = 300_000;
const MEGABYTE = 1e6;

/**
 * A range of so many megabytes gets a second replica, both stores in this process: a put at a time is done meanwhile.
 * Counted against a put is also what the sending store did for the state since the one before; what the receiving one
 * did is not, which would have a process of its own.
 */
export async function measureSnapshot(megabytes: number): Promise<SnapshotFigures> {
  const root = mkdtempSync(path.join(tmpdir(), 'shoal-perf-kv-'));
  const pair = new Pair(root, Math.ceil((megabytes * MEGABYTE) / STATE_VALUE_BYTES));
  try {
    return pair.travel(path.join(root, '0', 'data.mdb'));
  } finally {
    await pair.close();
    rmSync(root, { recursive: true, force: true });
  }
}

class Pair {
  private readonly queue: { to: Bench; from: Bench; frame: Uint8Array }[] = [];
  private readonly all: Bench[] = [];
  private readonly keys: number;

  constructor(root: string, keys: number) {
    this.keys = keys;
    for (const index of [0, 1]) {
      const send = (store: number, frame: Uint8Array) => {
        const to = this.all.find(bench => bench.store.id === store);
        if (to !== undefined) this.queue.push({ to, from: this.all[index]!, frame });
      };
      const directory = path.join(root, `${index}`);
      this.all.push(new Bench(directory, { order: 'ordered', keys, send, valueBytes: STATE_VALUE_BYTES }));
    }
  }

  travel(file: string): SnapshotFigures {
    const [sender, receiver] = this.all as [Bench, Bench];
    sender.foundWhole();
    for (let done = 0; done < this.keys; done += BATCH) sender.put(BATCH);
    const bytes = statSync(file).size;
    const heldBefore = held();
    let heldMax = 0;
    const waits: number[] = [];
    let turnMaxMs = 0;
    const startMs = performance.now();
    let tickedMs = 0;
    sender.store.configure(
      1,
      1,
      1,
      this.all.map(({ store }) => ({ store: store.id, role: store === sender.store ? 0 : 1 })),
    );
    while (receiver.store.replica(1)?.state === undefined) {
      const nowMs = performance.now();
      if (nowMs - startMs > TRAVEL_MS_MAX) throw new Error('the state does not arrive');
      const isTick = nowMs - tickedMs >= TICK_MS;
      if (isTick) {
        tickedMs = nowMs;
        heldMax = Math.max(heldMax, held());
        receiver.store.tick();
      }
      const receiverMs = this.deliver(receiver);
      const workMs = performance.now();
      if (isTick) sender.store.tick();
      this.deliver(sender);
      sender.put(1);
      waits.push(performance.now() - workMs);
      turnMaxMs = Math.max(turnMaxMs, receiverMs);
    }
    waits.sort((a, b) => a - b);
    return {
      seconds: (performance.now() - startMs) / 1000,
      putP50Ms: at(waits, 0.5),
      putMaxMs: waits.at(-1)!,
      turnMaxMs,
      grownMegabytes: (statSync(file).size - bytes) / MEGABYTE,
      heldMegabytes: (heldMax - heldBefore) / MEGABYTE,
    };
  }

  /** What has come for a store, and its turn; gives how long that took. */
  private deliver(to: Bench): number {
    const startMs = performance.now();
    const frames = this.queue.filter(one => one.to === to);
    for (const one of frames) {
      this.queue.splice(this.queue.indexOf(one), 1);
      to.store.step(one.from.store.id, one.frame);
    }
    if (to.store.pending) to.store.turn();
    return performance.now() - startMs;
  }

  async close(): Promise<void> {
    for (const bench of this.all) await bench.close();
  }
}

/** On and off the heap. */
function held(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
