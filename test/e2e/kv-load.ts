/** Operations on registers, one after another by each worker, all written down. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ASK } from '../../src/kv/route/client.js';
import type { KvAccess } from '../../src/node/kv-access.js';
import { OPERATION } from '../sim/linearizability.js';
import { type HistoryWriter, sharedMs } from './kv-history.js';
import { encodeWanted, registerKey, type Wanted } from './kv-registers.js';
import type { KvLoadOptions } from './kv-words.js';

interface Watch {
  readonly sinceMs: number;
  readonly tell: (endedAt: number) => void;
}

const READS = 0.4;
const WRITES = 0.35;

export class KvLoad {
  private readonly access: KvAccess;
  private readonly history: HistoryWriter;
  private readonly options: KvLoadOptions;
  private readonly random: () => number;
  private readonly known = new Map<number, number>();
  private readonly workers: Promise<void>[];
  private watches: Watch[] = [];
  private last = 0;
  private isOver = false;

  constructor(access: KvAccess, history: HistoryWriter, options: KvLoadOptions, random: () => number) {
    this.access = access;
    this.history = history;
    this.options = options;
    this.random = random;
    this.workers = Array.from({ length: options.workers }, () => this.work());
  }

  async rest(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.workers);
  }

  /** When the first write that begins after that is answered. */
  answered(sinceMs: number): Promise<number> {
    return new Promise(tell => this.watches.push({ sinceMs, tell }));
  }

  /** Whatever was acknowledged and is lost, the history cannot explain then. False if some register has no answer. */
  async reread(): Promise<boolean> {
    let isWhole = true;
    for (let key = 0; key < this.options.registers; key++)
      isWhole &&= await this.once({ kind: OPERATION.READ, key, value: 0, expected: 0 });
    return isWhole;
  }

  private async work(): Promise<void> {
    while (!this.isOver) {
      await this.once(this.next());
      await sleep(this.random() * 2 * this.options.pauseMs);
    }
  }

  private tellWatches(beganMs: number): void {
    this.watches = this.watches.filter(({ sinceMs, tell }) => {
      if (beganMs >= sinceMs) tell(sharedMs());
      return beganMs < sinceMs;
    });
  }

  private next(): Wanted {
    const key = Math.floor(this.random() * this.options.registers);
    const draw = this.random();
    if (draw < READS) return { kind: OPERATION.READ, key, value: 0, expected: 0 };
    const value = this.options.base + ++this.last;
    if (draw < READS + WRITES) return { kind: OPERATION.WRITE, key, value, expected: 0 };
    return { kind: OPERATION.SWAP, key, value, expected: this.known.get(key) ?? 0 };
  }

  /** Whether it was done. */
  private once(wanted: Wanted): Promise<boolean> {
    const { access, history, known } = this;
    const { padding, deadlineMs } = this.options;
    const { kind, key, value } = wanted;
    const ask = kind === OPERATION.READ ? ASK.QUERY : ASK.MUTATE;
    const body = encodeWanted(wanted, kind === OPERATION.READ ? 0 : padding);
    return new Promise(ended => {
      const beganMs = sharedMs();
      const id = history.begin(wanted);
      const isTaken = access.call(ask, registerKey(key), body, deadlineMs, {
        done: output => {
          const seen = output === undefined ? undefined : Buffer.from(output).readDoubleLE(0);
          if (seen !== undefined) known.set(key, kind === OPERATION.WRITE ? value : seen);
          history.done(id, seen);
          if (kind !== OPERATION.READ) this.tellWatches(beganMs);
          ended(true);
        },
        notDone: () => {
          history.notDone(id);
          ended(false);
        },
        unknown: () => ended(false),
      });
      if (!isTaken) throw new Error('more calls than there are workers');
    });
  }
}
