import type { ReplicaId } from '../../src/kv/raft/configuration.js';
import { ReplicaStorage, type Write } from './kv-storage.js';
import type { SeededRandom } from './random.js';
import type { World } from './world.js';

/** What one turn of a store has written; it is on the disk whole or not at all. */
interface Transaction {
  readonly writes: readonly Write[];
  readonly durable: () => void;
}

/** How long a flush takes, milliseconds: uniform, but for some that hang. */
export interface DiskSettings {
  readonly flushMsMin: number;
  readonly flushMsMax: number;
  readonly hanging: number;
  readonly hangMsMax: number;
}

export const GOOD_DISK: DiskSettings = { flushMsMin: 0.3, flushMsMax: 3, hanging: 0.001, hangMsMax: 50 };

/**
 * A store's disk: transactions are seen at once and are durable after a flush, which takes along all that was written
 * before it began. A crash keeps any prefix of those that no flush had told: more than was promised, or the promise
 * exactly. What it was writing then has a torn tail; its checksum tells, so it counts as not written.
 */
export class Disk {
  settings = GOOD_DISK;
  /** As a reader of the running store sees it. */
  seen = new Map<ReplicaId, ReplicaStorage>();
  readonly #durable = new Map<ReplicaId, ReplicaStorage>();
  readonly #world: World;
  readonly #random: SeededRandom;
  readonly #becameDurable: (write: Write) => void;
  #pending: Transaction[] = [];
  #isFlushing = false;
  /** Counts crashes: a flush of an earlier life tells nothing. */
  #life = 0;

  constructor(world: World, random: SeededRandom, becameDurable: (write: Write) => void) {
    this.#world = world;
    this.#random = random;
    this.#becameDurable = becameDurable;
  }

  get pendingCount(): number {
    return this.#pending.length;
  }

  /** What a crash would leave at least. */
  durable(replica: ReplicaId): ReplicaStorage | undefined {
    return this.#durable.get(replica);
  }

  /** To what is seen; a transaction that contains it must follow in the same turn. */
  see(write: Write): void {
    change(this.seen, write);
  }

  /** `writes` have been seen. */
  commit(writes: readonly Write[], durable: () => void): void {
    this.#pending.push({ writes, durable });
    if (!this.#isFlushing) this.#flush();
  }

  /** How many transactions of those not flushed survived. */
  crash(): { readonly survived: number; readonly lost: number } {
    this.#life += 1;
    this.#isFlushing = false;
    const pending = this.#pending;
    this.#pending = [];
    const survived = this.#random.chance(0.5)
      ? this.#random.pick([0, pending.length])
      : this.#random.below(pending.length + 1);
    for (const transaction of pending.slice(0, survived)) this.#settle(transaction);
    this.seen = new Map([...this.#durable].map(([replica, storage]) => [replica, storage.clone()]));
    return { survived, lost: pending.length - survived };
  }

  #flush(): void {
    const count = this.#pending.length;
    if (count === 0) return;
    const { flushMsMin, flushMsMax, hanging, hangMsMax } = this.settings;
    let takesMs = this.#random.between(flushMsMin, flushMsMax);
    if (this.#random.chance(hanging)) takesMs += this.#random.between(0, hangMsMax);
    const life = this.#life;
    this.#isFlushing = true;
    this.#world.after(takesMs, () => {
      if (life !== this.#life) return;
      this.#isFlushing = false;
      const flushed = this.#pending.splice(0, count);
      for (const transaction of flushed) this.#settle(transaction);
      this.#flush();
      for (const { durable } of flushed) durable();
    });
  }

  #settle({ writes }: Transaction): void {
    for (const write of writes) {
      change(this.#durable, write);
      this.#becameDurable(write);
    }
  }
}

function change(storages: Map<ReplicaId, ReplicaStorage>, write: Write): void {
  if (write.kind === 'create')
    storages.set(write.replica, new ReplicaStorage(write.replica, write.group, write.state));
  else if (write.kind === 'destroy') storages.delete(write.replica);
  else storages.get(write.replica)!.write(write);
}
