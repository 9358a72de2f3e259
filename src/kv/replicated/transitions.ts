import type { ByteReader } from '../../base/bytes.js';
import { copyOf } from '../keys.js';
import type { Configuration } from '../raft/configuration.js';
import { union } from '../range.js';
import { COMMAND, OUTCOME, type Place, readKey, readPlaces } from './commands.js';
import {
  ABSORBED_MAX,
  BOUNDARY_KEY_BYTES_MAX,
  type Descriptor,
  MEMBERS_MAX,
  type Member,
  ROLE,
  sameConfiguration,
  storesOf,
  wantedConfiguration,
} from './descriptor.js';
import { localSpan } from './spans.js';
import type { RangeState } from './state.js';
import { type Turn, WAITS } from './turn.js';

/**
 * What ranges do to each other and to themselves, as applied entries. All of a step is in the transaction that marks
 * its entry as applied, so a crash leaves it done or to be done again, on each store by itself; and what is decided
 * depends on the range's own applied entries alone, so all replicas decide alike.
 *
 * Split. One entry of the parent. Every replica of it makes the child's from its own state: the same bytes, as it is
 * at the same index. The child begins as a group that has applied entry 1 of term 1 and lost it to compaction, on the
 * same stores, under the same replica ids. No key is in both: the parent's boundary ends where the child's begins, in
 * one transaction. No command is lost or done in the wrong half: one that was proposed before has the old epoch and is
 * answered WRONG_RANGE by both, and what the parent applied stays known to the child, which takes a copy of the
 * sessions. A child's replica may be heard of before the parent's has come as far, when others have: messages do not
 * make one while something here holds its keys (replica-table.ts).
 *
 * Merge, of a source into a target with the same stores.
 *   1. PREPARE_MERGE in the source's log at index i, its epoch e becoming e + 1, names the target and the target's
 *      epoch t. From i on nothing in the source's log changes data or members.
 *   2. The source's leader waits until all its followers have the log up to i, durably.
 *   3. COMMIT_MERGE in the target's log, applied only if the target's epoch is still t and its members are those of then,
 *      on the same stores. On each store it applies the source's log up to i, which is there by 2, takes over boundary, data and
 *      sessions, and removes the source's replica for ever, in one transaction. The epoch becomes one more than both.
 *   4. Otherwise: the target's epoch goes past t (a split, another merge, or FENCE for this very purpose), or its members
 *      change, after which no COMMIT_MERGE of this preparation can ever be applied; whoever leads the source sees that at
 *      the target's replica on its store, or that this has ended while the source's has not, and proposes
 *      ROLL_BACK_MERGE, which lets the source go on at another epoch.
 * So which of the two happens is decided at one place, by the first entry in the target's log that moves either.
 * A key is lost by neither: until the target has applied 3, the source's replica holds it and is not removed; and it
 * is held twice by neither, as one transaction gives and takes. Nothing written is lost: what was acknowledged by the
 * source was committed before i, and the target takes commands for those keys only once it has applied all up to i.
 * A stale read is not possible: the source's leader had applied PREPARE_MERGE when it let COMMIT_MERGE be proposed, and
 * whoever leads it later has that entry in its log and reads only after having applied it (replica.ts).
 * A replica of the target that is made later gets a state which is past 3 or has the members without it; for as long
 * as the member is joining, 3 is refused.
 */
export interface Surroundings {
  /** Makes this store's replica of `child`, whose data is in place. */
  beget(child: Descriptor, configuration: Configuration, parent: RangeState, turn: Turn): void;
  /**
   * This store's replica of the source with everything up to `preparedAt` applied; 'waits' while its state is being put
   * in place.
   */
  preparedSource(source: number, preparedAt: number, turn: Turn): RangeState | 'waits';
  /** The range is over. A command that was committed before would have been seen: it has no data to be lost. */
  discard(state: RangeState, turn: Turn): void;
  /** The source's replica ends here for ever; its data stays. */
  buryAbsorbed(source: RangeState, target: Descriptor, turn: Turn): void;
}

/** One of OUTCOME, or WAITS. */
export function applyTransition(
  state: RangeState,
  command: number,
  body: ByteReader,
  index: number,
  turn: Turn,
  around: Surroundings,
): number {
  switch (command) {
    case COMMAND.SPLIT:
      return split(state, body.u53(), readKey(body), turn, around);
    case COMMAND.CONFIGURE:
      return configure(state, body.u53(), readPlaces(body), index);
    case COMMAND.PREPARE_MERGE:
      return prepareMerge(state, body, index);
    case COMMAND.COMMIT_MERGE:
      return commitMerge(state, body, turn, around);
    case COMMAND.FENCE:
      if (state.descriptor.merging !== undefined) return OUTCOME.REFUSED;
      state.change({ epoch: state.descriptor.epoch + 1 });
      return OUTCOME.DONE;
    case COMMAND.ROLL_BACK_MERGE:
      return rollBackMerge(state, body.u53());
    case COMMAND.RECOVER:
      return recover(state, index);
    case COMMAND.DISCARD:
      if (!state.descriptor.pristine || state.descriptor.merging !== undefined) return OUTCOME.REFUSED;
      around.discard(state, turn);
      return OUTCOME.DONE;
    default:
      // Of a newer version: all replicas must be able to apply it, so nobody proposes it before they are.
      return OUTCOME.REFUSED;
  }
}

function isJoint({ outgoing }: Configuration): boolean {
  return outgoing.length > 0;
}

function split(state: RangeState, child: number, key: Uint8Array, turn: Turn, around: Surroundings): number {
  const { descriptor, configuration } = state;
  const { boundary, epoch } = descriptor;
  if (descriptor.merging !== undefined || isJoint(configuration)) return OUTCOME.REFUSED;
  const isInside = Buffer.compare(boundary.start, key) < 0 && Buffer.compare(key, boundary.end) < 0;
  if (!isInside || key.length > BOUNDARY_KEY_BYTES_MAX || child === 0 || child === descriptor.id)
    return OUTCOME.REFUSED;
  turn.settle(state.coprocessor);
  state.sessions.finish(turn.writer);
  state.change({ epoch: epoch + 1, boundary: { start: boundary.start, end: key } });
  const roles = (member: Member): Member[] => {
    const { replica, store } = member;
    if (configuration.voters.includes(replica)) return [{ replica, store, role: ROLE.VOTER }];
    if (configuration.learners.includes(replica)) return [{ replica, store, role: ROLE.LEARNER }];
    return [];
  };
  const born: Descriptor = {
    ...descriptor,
    id: child,
    epoch: epoch + 1,
    boundary: { start: key, end: boundary.end },
    // What the parent is changing to is the parent's affair.
    members: descriptor.members.flatMap(roles),
    membersAt: 1,
    changing: false,
  };
  const bornConfiguration = wantedConfiguration(born);
  copyLocal(descriptor, child, turn);
  const lower = state.descriptor.boundary;
  state.coprocessor.divide?.({ lower, upper: born.boundary, child }, turn.writer);
  around.beget(born, bornConfiguration, state, turn);
  state.coprocessor.reset(lower, turn.writer);
  return OUTCOME.DONE;
}

/** The child's own counters begin as the parent's are. */
function copyLocal({ service, id }: Descriptor, child: number, turn: Turn): void {
  const from = localSpan(service, id);
  const to = localSpan(service, child);
  const copies: { key: Uint8Array; value: Uint8Array }[] = [];
  turn.writer.scan(from.start, from.end, (key, value) => {
    const rest = key.subarray(from.start.length);
    copies.push({ key: Buffer.concat([to.start, rest]), value: copyOf(value) });
    return true;
  });
  for (const { key, value } of copies) turn.writer.put(key, value);
}

function configure(state: RangeState, membersAt: number, places: readonly Place[], index: number): number {
  const { descriptor } = state;
  if (descriptor.merging !== undefined || descriptor.membersAt !== membersAt) return OUTCOME.REFUSED;
  const stores = new Set(places.map(({ store }) => store));
  if (stores.size !== places.length || !places.some(({ role }) => role === ROLE.VOTER))
    return OUTCOME.REFUSED;
  if (places.some(({ store, role }) => role >= ROLE.LEAVING || store === 0)) return OUTCOME.REFUSED;
  let { nextReplica } = descriptor;
  const members: Member[] = descriptor.members.map(member => {
    // One that was to leave and is still there may as well stay: nobody was told that it is gone.
    const place = places.find(({ store }) => store === member.store);
    return { ...member, role: place?.role ?? ROLE.LEAVING };
  });
  for (const { store, role } of places)
    if (!members.some(member => member.store === store))
      members.push({ replica: nextReplica++, store, role });
  if (members.length > MEMBERS_MAX) return OUTCOME.REFUSED;
  const wanted = wantedConfiguration({ members });
  const changing =
    !sameConfiguration(state.configuration, wanted) || members.some(({ role }) => role === ROLE.LEAVING);
  state.change({ members, nextReplica, membersAt: index, changing });
  return OUTCOME.DONE;
}

function isSettled({ descriptor, configuration }: RangeState): boolean {
  return !descriptor.changing && !isJoint(configuration) && descriptor.merging === undefined;
}

function prepareMerge(state: RangeState, body: ByteReader, at: number): number {
  const merging = { target: body.u53(), targetEpoch: body.u53(), targetMembersAt: body.u53(), at };
  if (!isSettled(state) || merging.target === state.descriptor.id) return OUTCOME.REFUSED;
  state.change({ epoch: state.descriptor.epoch + 1, merging });
  return OUTCOME.DONE;
}

function rollBackMerge(state: RangeState, preparedAt: number): number {
  if (state.descriptor.merging?.at !== preparedAt) return OUTCOME.REFUSED;
  state.change({ epoch: state.descriptor.epoch + 1, merging: undefined });
  return OUTCOME.DONE;
}

function commitMerge(state: RangeState, body: ByteReader, turn: Turn, around: Surroundings): number {
  const membersAt = body.u53();
  const range = body.u53();
  const sourceEpoch = body.u53();
  const preparedAt = body.u53();
  const stores: number[] = [];
  for (let left = body.u16(); left > 0; left--) stores.push(body.u53());
  const sourceBoundary = { start: readKey(body), end: readKey(body) };
  const { descriptor } = state;
  // All of this is the same at every replica: the entry says what the source is, not this store.
  if (!isSettled(state) || descriptor.membersAt !== membersAt) return OUTCOME.REFUSED;
  if (storesOf(descriptor) !== stores.join()) return OUTCOME.REFUSED;
  const boundary = union(descriptor.boundary, sourceBoundary);
  if (boundary === undefined) return OUTCOME.REFUSED;
  const source = around.preparedSource(range, preparedAt, turn);
  if (source === 'waits') return WAITS;
  turn.settle(state.coprocessor);
  turn.settle(source.coprocessor);
  source.sessions.finish(turn.writer);
  const absorbed = [
    ...descriptor.absorbed,
    ...source.descriptor.absorbed,
    { range, epoch: sourceEpoch },
  ].slice(-ABSORBED_MAX);
  const epoch = Math.max(descriptor.epoch, sourceEpoch) + 1;
  const pristine = descriptor.pristine && source.descriptor.pristine;
  state.change({ boundary, epoch, absorbed, pristine });
  state.sessions.merge(source.sessions, turn.writer);
  state.coprocessor.absorb?.(boundary, range, turn.writer);
  around.buryAbsorbed(source, state.descriptor, turn);
  state.coprocessor.reset(boundary, turn.writer);
  return OUTCOME.DONE;
}

/** So far ahead that no id and epoch which the lost majority may have given is given again. */
export const RECOVERY_STEP = 2 ** 20;

/** A quorum was given up: those that are in the configuration by force are the members. */
function recover(state: RangeState, index: number): number {
  const { descriptor, configuration } = state;
  const inForce = [...configuration.voters, ...configuration.learners];
  const members = descriptor.members
    .filter(({ replica }) => inForce.includes(replica))
    .map(member => ({
      ...member,
      role: configuration.voters.includes(member.replica) ? ROLE.VOTER : ROLE.LEARNER,
    }));
  state.change({
    members,
    membersAt: index,
    changing: false,
    nextReplica: descriptor.nextReplica + RECOVERY_STEP,
    epoch: descriptor.epoch + RECOVERY_STEP,
  });
  return OUTCOME.DONE;
}
