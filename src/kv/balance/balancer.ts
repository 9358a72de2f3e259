import type { ReplicaId } from '../raft/configuration.js';
import type { Boundary } from '../range.js';
import type { Landscape } from './landscape.js';
import type { Rules } from './rules.js';

/**
 * Folder `balance`: what keeps ranges where they should be. Each balancer is a pure function from what a store knows to
 * at most one command for that store; `Governor` asks them in turn and has one command under way at a time.
 *
 * | balancer | does |
 * | --- | --- |
 * | bootstrap.ts | makes the first range of a service that has none anywhere |
 * | dead-replica.ts | takes a member out whose store lives but does not hold it, or was lost for long |
 * | replica-count.ts | keeps voters and learners at the number that the rules want |
 * | leader-spread.ts | evens the number of ranges that stores lead; empties stores that drain |
 * | placement.ts | moves a replica from the store with the highest cost to the one with the lowest |
 * | split.ts | divides what is too large, too busy, too slow, or fans out too far |
 * | merge.ts | joins cold neighbours; brings them to the same stores and under one leader first |
 * | redundant.ts | retires replicas that nobody counts on any more, and empty twins of a key space |
 *
 * board.ts hears what stores say of themselves (account-codec.ts) and what operators changed (rules-entry.ts), steward.ts acts
 * for one store, order.ts and obedience.ts are what an operator tells it to do.
 *
 * ## Who decides
 *
 * A store gives commands only for ranges that it leads itself, or about replicas that it holds itself. So two stores
 * never steer the same range at once but around a change of leaders, and then the range's own log decides: every
 * command names the epoch (or the members' index) that it was decided on, and is refused if that has passed.
 *
 * ## Nothing newer is ever deleted
 *
 * BifroMQ keeps the range of the oldest epoch and removes younger ones that overlap it, so a node that comes back
 * with old data can win over what was written since. Here age decides nothing. A replica's data goes only
 *   - when the range's own log says so: its id is not in a configuration that the range's leader confirms as committed
 *     (ids are never given again, so it can never be asked for again), or its range was merged into another, which that
 *     one's log holds; or
 *   - when there is nothing in it: a whole range that is pristine while another range of another genesis covers keys of
 *     it; of two such that are both pristine, the one of the lower genesis stays.
 * Two key spaces that both hold data are both kept, and the doctor and the metrics say so; only an operator ends that.
 */
export interface Balancer {
  readonly name: string;
  decide(sight: Sight): Decision;
}

/** What a balancer may look at. Two calls with equal sights give equal decisions. */
export interface Sight {
  /** The store that asks. */
  readonly self: number;
  readonly landscape: Landscape;
  readonly rules: Rules;
  readonly nowMs: number;
  /** The key space to be covered: the boundaries of all services. */
  readonly services: readonly Boundary[];
  /** A number in [0, 1) that stays the same for this store and process: for delays that should differ. */
  readonly spread: number;
}

export type Decision = Command | Later | Content;

/** Nothing to do before `atMs`, unless the landscape changes. */
export interface Later {
  readonly kind: 'later';
  readonly atMs: number;
}

export interface Content {
  readonly kind: 'content';
}

export const CONTENT: Content = { kind: 'content' };

export type Command = Bootstrap | Change | Transfer | Split | Merge | Retire | Discard;

/** Make the first range over `boundary`, with this store as its only voter. */
export interface Bootstrap {
  readonly kind: 'bootstrap';
  readonly boundary: Boundary;
}

/** Make these stores its voters and learners, and nobody else. */
export interface Change {
  readonly kind: 'change';
  readonly range: number;
  /** Refused if the members were changed since. */
  readonly membersAt: number;
  readonly voters: readonly number[];
  readonly learners: readonly number[];
}

export interface Transfer {
  readonly kind: 'transfer';
  readonly range: number;
  readonly term: number;
  /** A store that holds a voter. */
  readonly to: number;
}

export interface Split {
  readonly kind: 'split';
  readonly range: number;
  readonly epoch: number;
  /** The first key of the upper half. */
  readonly key: Uint8Array;
}

/** Both are led by this store and held by the same stores; `upper` begins where `range` ends, and goes into it. */
export interface Merge {
  readonly kind: 'merge';
  readonly range: number;
  readonly epoch: number;
  readonly upper: number;
  readonly upperEpoch: number;
}

/** Remove this store's replica, once the range's leader has confirmed that it counts no more. */
export interface Retire {
  readonly kind: 'retire';
  readonly range: number;
  readonly replica: ReplicaId;
}

/** Remove a range in which nothing was ever written; refused by a replica that is not pristine when it comes to it. */
export interface Discard {
  readonly kind: 'discard';
  readonly range: number;
  readonly genesis: number;
}

/** The earlier of two times to look again. */
export function sooner(one: Decision, other: Later): Later {
  return one.kind === 'later' && one.atMs < other.atMs ? one : other;
}
