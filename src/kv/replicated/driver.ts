import type { ReplicaId } from '../raft/configuration.js';
import { isJoint } from '../raft/configuration.js';
import { FEED } from '../raft/progress.js';
import type { Raft } from '../raft/raft.js';
import {
  commitMergeCommand,
  fenceCommand,
  OUTCOME,
  recoverCommand,
  rollBackMergeCommand,
} from './commands.js';
import { type Descriptor, type Merging, storesOf, wantedConfiguration } from './descriptor.js';
import type { RangeSink, Replica } from './replica.js';
import type { ReplicaTable } from './replica-table.js';
import type { RangeState } from './state.js';
import { RECOVERY_STEP } from './transitions.js';

export interface DriverTiming {
  /** How often a step that has no effect yet is asked for again. */
  readonly retryMs: number;
  /** A merge that is not committed after this long is given up. */
  readonly mergeTimeoutMs: number;
}

export const DRIVER_TIMING: DriverTiming = { retryMs: 500, mergeTimeoutMs: 10_000 };

/** Entries that a learner may be behind when it is made a voter. */
const CATCH_UP_ENTRIES_MAX = 100;

interface Errand {
  /** What it is for: a new one begins when this changes. */
  readonly purpose: string;
  readonly sinceMs: number;
  sequence: number;
  askedMs: number;
  /** Which range was asked last. */
  asked: number;
  /** The target will never commit it: give it up. */
  isHopeless: boolean;
}

/**
 * Brings about what descriptors say is to be: members that are wanted and not there yet, merges that are prepared. Runs
 * at the store of a range's leader. It keeps nothing that matters: whoever leads next reads the same descriptor.
 */
export class Driver {
  /** Under which the driver proposes; its outcomes go to `outcome`. */
  readonly session: number;
  private readonly timing: DriverTiming;
  private readonly table: ReplicaTable;
  private readonly asked: (replica: Replica) => void;
  private readonly errands = new Map<number, Errand>();
  /** Ranges whose quorum was given up, and their epoch then. */
  private readonly recovering = new Map<number, number>();
  private readonly hopeless = new Set<number>();
  private sequence = 0;

  /** `asked` is called for each replica that the driver gave something to do. */
  constructor(session: number, timing: DriverTiming, table: ReplicaTable, asked: (replica: Replica) => void) {
    this.session = session;
    this.timing = timing;
    this.table = table;
    this.asked = asked;
  }

  /** The operator gave up a merge. */
  giveUpMerge(source: number): void {
    this.hopeless.add(source);
  }

  /**
   * The replica leads by force: its members are to follow. That becomes durable with the configuration that says so, or a
   * crash between the two could leave a range that listens to those who were given up.
   */
  recover(replica: Replica): void {
    const { epoch } = replica.descriptor!;
    this.recovering.set(replica.rangeId, epoch);
    this.propose(replica, recoverCommand(epoch));
  }

  /** Something that is asked for once, and asked again by whoever wants it if it does not come about. */
  propose(replica: Replica, data: Uint8Array): void {
    replica.proposeCommand(this.session, ++this.sequence, data);
    this.asked(replica);
  }

  /** Looks at a replica that may have something to be driven; true if it has. */
  drive(replica: Replica, nowMs: number): boolean {
    const { state, rangeId } = replica;
    const isOurs = state !== undefined && replica.isLeader && !replica.isDestroyed;
    const isWanted =
      isOurs &&
      (state.descriptor.changing || state.descriptor.merging !== undefined || this.recovering.has(rangeId));
    if (!isWanted) {
      this.errands.delete(rangeId);
      this.hopeless.delete(rangeId);
      if (!isOurs) this.recovering.delete(rangeId);
      return false;
    }
    if (this.recovering.has(rangeId)) this.driveRecovery(replica, state, nowMs);
    else if (state.descriptor.merging !== undefined)
      this.driveMerge(replica, state.descriptor, state.descriptor.merging, nowMs);
    else this.driveChange(replica, state);
    return true;
  }

  /** Of a proposal of the driver's own. */
  outcome(range: number, sequence: number, outcome: number): void {
    for (const errand of this.errands.values()) {
      if (errand.sequence !== sequence || errand.asked !== range) continue;
      // Refused or at another epoch: this commit has come to nothing for good.
      const isFinal = outcome === OUTCOME.REFUSED || outcome === OUTCOME.WRONG_RANGE;
      if (isFinal && errand.purpose.startsWith('merge')) errand.isHopeless = true;
      // Another attempt gets another number, unless this one may still be applied.
      if (outcome !== OUTCOME.UNKNOWN) errand.sequence = ++this.sequence;
    }
  }

  private errand(range: number, purpose: string, nowMs: number): Errand {
    let errand = this.errands.get(range);
    if (errand?.purpose !== purpose) {
      const sequence = ++this.sequence;
      errand = {
        ...{ purpose, sinceMs: nowMs, sequence },
        ...{ askedMs: Number.NEGATIVE_INFINITY, asked: 0, isHopeless: false },
      };
      this.errands.set(range, errand);
    }
    return errand;
  }

  private ask(errand: Errand, replica: Replica, data: Uint8Array, nowMs: number): void {
    if (nowMs - errand.askedMs < this.timing.retryMs) return;
    errand.askedMs = nowMs;
    errand.asked = replica.rangeId;
    replica.proposeCommand(this.session, errand.sequence, data);
    this.asked(replica);
  }

  // -- Members -------------------------------------------------------------------------------------------------

  /**
   * Newcomers are learners first, so that no quorum ever waits for one without a log. Nothing is changed while the log
   * holds a configuration that is not applied: `members` would be older than it.
   */
  private driveChange(replica: Replica, { descriptor, configuration }: RangeState): void {
    const { raft, log, appliedIndex } = replica;
    if (isJoint(raft.configuration) || log.lastChange > appliedIndex) return;
    if (log.term(log.applied) !== raft.term || raft.configuration !== raft.configurationAt(appliedIndex))
      return;
    const wanted = wantedConfiguration(descriptor);
    const { voters, learners } = configuration;
    const isReady = (id: ReplicaId) => voters.includes(id) || (learners.includes(id) && isCaughtUp(raft, id));
    if (wanted.voters.every(isReady)) raft.change(wanted, 0, 0);
    else {
      const joining = [...wanted.voters, ...wanted.learners].filter(
        id => !voters.includes(id) && !learners.includes(id),
      );
      if (joining.length === 0) return;
      raft.change({ voters, learners: [...learners, ...joining] }, 0, 0);
    }
    this.asked(replica);
  }

  private driveRecovery(replica: Replica, { descriptor }: RangeState, nowMs: number): void {
    const { rangeId, log, raft, appliedIndex } = replica;
    if (log.lastChange > appliedIndex || log.term(log.applied) !== raft.term) return;
    if (descriptor.epoch - this.recovering.get(rangeId)! >= RECOVERY_STEP) {
      this.recovering.delete(rangeId);
      return;
    }
    const errand = this.errand(rangeId, 'recover', nowMs);
    this.ask(errand, replica, recoverCommand(descriptor.epoch), nowMs);
  }

  // -- Merges --------------------------------------------------------------------------------------------------

  /** Step 2 to 4 of a merge, see transitions.ts. `source` leads, its preparation is applied here. */
  private driveMerge(source: Replica, descriptor: Descriptor, merging: Merging, nowMs: number): void {
    const target = this.table.byRange.get(merging.target);
    const held = target?.descriptor;
    const { rangeId } = source;
    const { targetEpoch, targetMembersAt } = merging;
    const isPast =
      held === undefined
        ? target === undefined && this.table.wasHere(merging.target)
        : held.epoch > targetEpoch || held.membersAt > targetMembersAt;
    if (isPast) {
      // Nobody can commit it any more, and it was not committed: the source would not be here.
      const back = this.errand(rangeId, `back ${merging.at}`, nowMs);
      this.ask(back, source, rollBackMergeCommand(descriptor.epoch, merging.at), nowMs);
      return;
    }
    // The target's replica here has not come as far: it will show whether the merge is committed.
    if (target === undefined || held === undefined) return;
    if (held.epoch < targetEpoch || held.membersAt < targetMembersAt) return;
    if (!this.hopeless.has(rangeId)) {
      const errand = this.errand(rangeId, `merge ${merging.at}`, nowMs);
      const isLate = nowMs - errand.sinceMs >= this.timing.mergeTimeoutMs;
      if (!errand.isHopeless && !isLate) {
        if (storesOf(held) !== storesOf(descriptor) || !everyoneHas(source, merging.at)) return;
        this.ask(errand, target, commitMergeCommand(descriptor, merging), nowMs);
        return;
      }
      this.hopeless.add(rangeId);
    }
    const fence = this.errand(rangeId, `fence ${merging.at}`, nowMs);
    this.ask(fence, target, fenceCommand(targetEpoch), nowMs);
  }
}

/** What goes to `outer`, but for the driver's own outcomes; the store hears first what has changed. */
export function besideDriver(
  outer: RangeSink,
  driver: () => Driver,
  changed: (range: number) => void,
): RangeSink {
  return {
    outcome: (range, session, sequence, outcome, bytes, start, end) => {
      if (session === driver().session) driver().outcome(range, sequence, outcome);
      else outer.outcome(range, session, sequence, outcome, bytes, start, end);
    },
    readable: (range, context) => outer.readable(range, context),
    readRefused: (range, context, reason, store) => outer.readRefused(range, context, reason, store),
    changed: range => {
      changed(range);
      outer.changed(range);
    },
  };
}

/** It has a state, and nearly all of the log behind it. */
function isCaughtUp({ progress, lastIndex }: Raft, id: ReplicaId): boolean {
  const follower = progress.get(id);
  if (follower === undefined || follower.match === 0 || follower.feed === FEED.SNAPSHOT) return false;
  return follower.match + CATCH_UP_ENTRIES_MAX >= lastIndex;
}

/** All replicas of the group have the log up to `index`, durably. */
function everyoneHas({ raft, id, log }: Replica, index: number): boolean {
  if (log.lastIndex < index) return false;
  for (const [follower, { match }] of raft.progress) if (follower !== id && match < index) return false;
  return true;
}
