import { ShoalError } from '../../src/base/errors.js';
import type { EngineSnapshot, EntryVisitor, KvWriter, SnapshotEngine } from '../../src/kv/engine.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import { WriteBatch } from '../../src/kv/write-batch.js';
import { recorded } from '../kv/crash-engine.js';
import { type DiskSettings, GOOD_DISK } from './kv-disk.js';
import type { SeededRandom } from './random.js';
import type { World } from './world.js';

interface Transaction {
  readonly batch: WriteBatch;
  readonly durable: () => void;
  readonly isHeld: boolean;
}

/** A transaction without room fails within so many changes, or when it is committed. */
const ROOM_CHANGES = 20;

/** What outlives the processes of a store: a crash keeps any prefix of the transactions that were not flushed. */
export class RangeDisk {
  settings: DiskSettings = GOOD_DISK;
  /** Chance that a transaction finds no room. */
  full = 0;
  readonly world: World;
  readonly random: SeededRandom;
  #engine: DiskEngine | undefined;
  readonly #durable = new MemoryEngine();

  constructor(world: World, random: SeededRandom) {
    this.world = world;
    this.random = random;
  }

  /** For the process that begins now. `run` has what the disk tells done by the process. */
  open(run: (tell: () => void) => void): SnapshotEngine {
    this.#engine = new DiskEngine(this, this.#durable, run);
    return this.#engine;
  }

  crash(): void {
    this.#engine?.crash();
    this.#engine = undefined;
  }
}

class DiskEngine implements SnapshotEngine {
  readonly #disk: RangeDisk;
  readonly #durable: MemoryEngine;
  readonly #current = new MemoryEngine();
  readonly #run: (tell: () => void) => void;
  #pending: Transaction[] = [];
  #isFlushing = false;
  #isDead = false;

  constructor(disk: RangeDisk, durable: MemoryEngine, run: (tell: () => void) => void) {
    this.#disk = disk;
    this.#durable = durable;
    this.#run = run;
    const all: [Uint8Array, Uint8Array][] = [];
    durable.scan(Uint8Array.of(0), Uint8Array.of(255), (key, value) => all.push([key, value]) > 0);
    this.#current.write(
      writer => {
        for (const [key, value] of all) writer.put(key, value);
      },
      () => undefined,
    );
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.#current.get(key);
  }

  scan(start: Uint8Array, end: Uint8Array, visit: EntryVisitor, reverse?: boolean): void {
    this.#current.scan(start, end, visit, reverse);
  }

  snapshot(): EngineSnapshot {
    return this.#current.snapshot();
  }

  write(work: (writer: KvWriter) => void, durable: () => void): void {
    const batch = new WriteBatch();
    this.#current.write(this.#bounded(work, batch), () => undefined);
    this.#pending.push({ batch, durable, isHeld: false });
    if (!this.#isFlushing) this.#flush();
  }

  /** Waits for the next write's flush; a crash may keep it all the same, or what was held before it. */
  hold(work: (writer: KvWriter) => void, ended: (isDurable: boolean) => void): void {
    const batch = new WriteBatch();
    const transaction = { batch, durable: () => ended(true), isHeld: true };
    this.#current.hold(this.#bounded(work, batch), isKept => {
      if (isKept) return;
      this.#pending = this.#pending.filter(other => other !== transaction);
      ended(false);
    });
    this.#pending.push(transaction);
  }

  /** There may be no more room at any of its changes, or at the commit. */
  #bounded(work: (writer: KvWriter) => void, batch: WriteBatch): (writer: KvWriter) => void {
    const { random, full } = this.#disk;
    let room = random.chance(full) ? random.below(ROOM_CHANGES) : Number.POSITIVE_INFINITY;
    const change = () => {
      if (room-- <= 0) throw new ShoalError('SHOAL_STORAGE_FULL', 'the simulated disk is full');
    };
    return writer => {
      const inner = recorded(writer, batch);
      work({
        get: key => inner.get(key),
        scan: (start, end, visit, reverse) => inner.scan(start, end, visit, reverse),
        put: (key, value) => {
          change();
          inner.put(key, value);
        },
        remove: key => {
          change();
          inner.remove(key);
        },
      });
      if (room < ROOM_CHANGES) throw new ShoalError('SHOAL_STORAGE_FULL', 'the simulated disk is full');
    };
  }

  #flush(): void {
    const count = 1 + this.#pending.findLastIndex(({ isHeld }) => !isHeld);
    if (count === 0) return;
    const { flushMsMin, flushMsMax, hanging, hangMsMax } = this.#disk.settings;
    const { random, world } = this.#disk;
    let takesMs = random.between(flushMsMin, flushMsMax);
    if (random.chance(hanging)) takesMs += random.between(0, hangMsMax);
    this.#isFlushing = true;
    world.after(takesMs, () => {
      if (this.#isDead) return;
      this.#isFlushing = false;
      const flushed = this.#pending.splice(0, count);
      for (const transaction of flushed) this.#settle(transaction);
      this.#run(() => {
        for (const { durable } of flushed) durable();
      });
      this.#flush();
    });
  }

  #settle({ batch }: Transaction): void {
    this.#durable.write(
      writer => batch.replay(writer),
      () => undefined,
    );
  }

  crash(): void {
    this.#isDead = true;
    const { random } = this.#disk;
    const all = this.#pending.length;
    const survived = random.chance(0.5) ? random.pick([0, all]) : random.below(all + 1);
    for (const transaction of this.#pending.slice(0, survived)) this.#settle(transaction);
    this.#pending = [];
  }

  close(): void {
    this.#isDead = true;
  }
}
