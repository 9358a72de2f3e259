import { isStorageFull } from '../../base/errors.js';
import type { Engine, KvWriter } from '../engine.js';
import type { Replica } from './replica.js';
import type { ReplicaTable } from './replica-table.js';
import type { Share } from './turn.js';

/** The store, as far as a held turn needs it. */
export interface HeldHost {
  isCommitting: boolean;
  /** What the turn wants written. */
  write(writer: KvWriter): void;
  /** Nothing of the turn's transaction is in force, nor what was held. */
  failed(): void;
}

/**
 * What a store has applied and not flushed.
 *
 * A put in a group of several is on disk as an entry, on a majority, before it is committed. What applying it makes of
 * the state need not be on disk before its outcome is told: after a crash the entry, which no one can take back, is
 * applied again and makes the same. So a turn that has nothing but such entries to apply holds its transaction open
 * (`Engine.hold`), tells outcomes and lets reads run, and what it wrote is flushed with the next turn's entries: one flush
 * a put at the leader where there were two, and none at a follower that hears that what it has is committed.
 *
 * Held is only what commands make of the state: their records, sessions, how far the range is applied, and, in the same
 * transaction, what compaction removes. It is safe since
 * - the entries are in this store's own log, durably: a turn whose ready stores anything, an entry, a term, a vote, a
 *   received state, is written and flushed before anything of it leaves, as is that of a group of one, whose entries are
 *   committed by that alone;
 * - transactions become durable in order, so whatever this store says on the strength of a later one has this one with it;
 * - what is removed because of it (entries below `applied`) is removed by the transaction that it is a part of;
 * - what travels to others as a state is read from a snapshot, which has what is committed to disk and says how far;
 * - what changes ranges (splits, merges, members, tombstones) is flushed at once, so that no replica is spoken for that a
 *   crash would take away.
 *
 * A transaction without room takes what was held with it, whoever made it: then these replicas are opened again.
 */
export class Held {
  private readonly engine: Engine;
  private readonly around: ReplicaTable;
  private readonly host: HeldHost;
  private readonly replicas = new Set<Replica>();
  private turns = 0;
  private ticks = 0;
  /** Nothing came for a while that would have taken it along. */
  isDue = false;
  /** It came to nothing. */
  isLost = false;
  /** What the turn has to write is in the transaction that is open. */
  isWritten = false;

  constructor(engine: Engine, around: ReplicaTable, host: HeldHost) {
    this.engine = engine;
    this.around = around;
    this.host = host;
  }

  get isEmpty(): boolean {
    return this.replicas.size === 0;
  }

  /** Writes the turn's share and holds it. False: the turn must be flushed before anything of it leaves. */
  hold(share: Share): boolean {
    const { active } = share;
    if (!this.admits(share)) return false;
    const before = active.map(({ descriptor }) => descriptor);
    try {
      this.engine.hold(
        writer => this.host.write(writer),
        isDurable => this.ended(isDurable),
      );
    } catch (error) {
      if (!isStorageFull(error)) throw error;
      this.host.failed();
      return true;
    }
    this.host.isCommitting = false;
    for (const replica of active) this.replicas.add(replica);
    this.turns++;
    const areSame = active.every(
      ({ descriptor, isDestroyed }, at) => !isDestroyed && descriptor === before[at],
    );
    this.isWritten = !areSame || this.around.hasChanges;
    return !this.isWritten;
  }

  /** Whether the share may be held, as far as is known before it is written. */
  private admits({ active, doomed, founding }: Share): boolean {
    if (this.isDue || this.turns >= TURNS_MAX || doomed.length + founding.length > 0) return false;
    return this.around.garbage.isEmpty && active.every(onlyApplies);
  }

  private ended(isDurable: boolean): void {
    if (isDurable) {
      this.clear();
      return;
    }
    this.isLost = true;
    // Whoever has a part in the transaction says so by `failed`.
    if (!this.host.isCommitting) this.host.failed();
  }

  tick(): void {
    if (!this.isEmpty && ++this.ticks >= TICKS_MAX) this.isDue = true;
  }

  /** All of it is durable, or is given up. Gives whose it was. */
  clear(): readonly Replica[] {
    const replicas = [...this.replicas];
    this.replicas.clear();
    this.turns = this.ticks = 0;
    this.isDue = this.isLost = this.isWritten = false;
    return replicas;
  }
}

/** What it wants is to apply what is stored and committed. */
function onlyApplies({ ready, install, raft }: Replica): boolean {
  if (ready === undefined || install !== undefined || raft.isHeldBack) return false;
  return ready.hardState === undefined && ready.snapshot === undefined && ready.entries.length === 0;
}

/** Turns that one flush ends at the latest. */
const TURNS_MAX = 16;
/** Ticks after which it is flushed though nothing else is written. */
const TICKS_MAX = 2;
