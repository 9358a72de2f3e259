import { type Landscape, MEMBER, sharedOf, storesOf } from '../balance/landscape.js';
import type { Boundary } from '../range.js';

/** Where a range is, as far as is known here. */
export interface Place {
  readonly range: number;
  readonly epoch: number;
  readonly boundary: Boundary;
  readonly genesis: number;
  readonly pristine: boolean;
  /** Of the leader named; the later one is believed. */
  readonly term: number;
  /** Store that leads it; 0 while none is known. */
  readonly leader: number;
  /** Stores of its voters and learners, which may answer questions that need not be the newest truth. */
  readonly stores: readonly number[];
}

/** Places in the order of their keys, and whether they leave no gap. */
export interface Cover {
  readonly places: readonly Place[];
  readonly isWhole: boolean;
}

/**
 * Which range a key belongs to and who leads it: made from the landscape, corrected at once by what stores answer
 * (`wrong-range` and `not-leader` carry the newer place), and again by the landscape when that has caught up.
 *
 * Accounts contradict each other for a while after a split or merge. Of two that overlap, the higher epoch counts:
 * every change of a boundary raises the epoch of all ranges in it above those they come from. Of two key spaces that
 * overlap the one that holds data counts, and of two such the one of the lower genesis, for everybody alike.
 */
export class Route {
  private told = new Map<number, Place>();
  /** By range, the oldest correction first; at most {@link CORRECTIONS_MAX}. */
  private readonly corrections = new Map<number, Place>();
  /** Effective places, sorted, free of overlap. */
  private places: readonly Place[] = [];
  private isStale = false;
  private changes = 0;

  /** Raised whenever the effective places change. */
  get version(): number {
    this.settle();
    return this.changes;
  }

  /** The landscape is now this. */
  update(landscape: Landscape): void {
    this.told = placesOf(sharedOf(landscape));
    for (const [range, place] of this.corrections) {
      const told = this.told.get(range);
      if (told !== undefined && !isNewer(place, told)) this.corrections.delete(range);
    }
    this.isStale = true;
  }

  /** A store says that this is the place. False if something newer is known. */
  correct(place: Place): boolean {
    const known = this.corrections.get(place.range) ?? this.told.get(place.range);
    if (known !== undefined && !isNewer(place, known)) return false;
    this.corrections.delete(place.range);
    this.corrections.set(place.range, place);
    if (this.corrections.size > CORRECTIONS_MAX)
      this.corrections.delete(this.corrections.keys().next().value!);
    this.isStale = true;
    return true;
  }

  /** The place of a key; undefined while none is known: to be asked again after the next change. */
  find(key: Uint8Array): Place | undefined {
    this.settle();
    const at = this.at(key);
    const place = this.places[at];
    return place !== undefined && Buffer.compare(key, place.boundary.end) < 0 ? place : undefined;
  }

  /** The places of an interval, in order. */
  within({ start, end }: Boundary): Cover {
    this.settle();
    const places: Place[] = [];
    let covered = start;
    let isWhole = true;
    for (let at = Math.max(this.at(start), 0); at < this.places.length; at++) {
      const place = this.places[at]!;
      if (Buffer.compare(place.boundary.start, end) >= 0) break;
      if (Buffer.compare(place.boundary.end, start) <= 0) continue;
      if (Buffer.compare(place.boundary.start, covered) > 0) isWhole = false;
      covered = place.boundary.end;
      places.push(place);
    }
    return { places, isWhole: isWhole && Buffer.compare(covered, end) >= 0 };
  }

  /** Index of the last place that begins at `key` or before it; -1 if there is none. */
  private at(key: Uint8Array): number {
    let low = 0;
    let high = this.places.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (Buffer.compare(this.places[middle]!.boundary.start, key) <= 0) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Works out what is effective, once for all that was heard since the last question. */
  private settle(): void {
    if (!this.isStale) return;
    this.isStale = false;
    const known = [...new Map([...this.told, ...this.corrections]).values()].sort(byPrecedence);
    const placed: Place[] = [];
    for (const place of known) {
      const at = indexFor(placed, place);
      const before = placed[at - 1];
      const behind = placed[at];
      if (before !== undefined && Buffer.compare(before.boundary.end, place.boundary.start) > 0) continue;
      if (behind !== undefined && Buffer.compare(place.boundary.end, behind.boundary.start) > 0) continue;
      placed.splice(at, 0, place);
    }
    if (placed.length === this.places.length && placed.every((place, at) => isSame(place, this.places[at]!)))
      return;
    this.places = placed;
    this.changes++;
  }
}

/** Corrections that the landscape has not confirmed yet; the oldest goes. */
export const CORRECTIONS_MAX = 4096;

/** The newest account of each range that living stores give. */
function placesOf({ stores }: Landscape): Map<number, Place> {
  const places = new Map<number, Place>();
  for (const { store, alive, replicas } of stores) {
    if (!alive) continue;
    for (const { range, epoch, boundary, genesis, pristine, leads, term, members } of replicas) {
      const place: Place = {
        range,
        epoch,
        boundary,
        genesis,
        pristine,
        term,
        leader: leads ? store : 0,
        stores: [...storesOf(members, MEMBER.VOTER), ...storesOf(members, MEMBER.LEARNER)],
      };
      const known = places.get(range);
      if (known === undefined || isNewer(place, known)) places.set(range, place);
    }
  }
  return places;
}

/** A later epoch, then a later term; at the same ones, who knows the leader knows more. */
function isNewer(one: Place, other: Place): boolean {
  if (one.epoch !== other.epoch) return one.epoch > other.epoch;
  // A replica that fell behind may have heard of the latest term without knowing who leads in it.
  if (one.term !== other.term)
    return one.leader !== 0 ? one.term > other.term : other.leader === 0 && one.term > other.term;
  return one.leader !== 0 && other.leader === 0;
}

function byPrecedence(one: Place, other: Place): number {
  if (one.genesis !== other.genesis) {
    if (one.pristine !== other.pristine) return one.pristine ? 1 : -1;
    return one.genesis - other.genesis;
  }
  return other.epoch - one.epoch || other.term - one.term || one.range - other.range;
}

function indexFor(placed: readonly Place[], place: Place): number {
  let low = 0;
  let high = placed.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (Buffer.compare(placed[middle]!.boundary.start, place.boundary.start) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function isSame(one: Place, other: Place): boolean {
  return (
    one.range === other.range &&
    one.epoch === other.epoch &&
    one.term === other.term &&
    one.leader === other.leader &&
    one.stores.join() === other.stores.join()
  );
}
