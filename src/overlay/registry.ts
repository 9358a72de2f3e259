import { rendezvousPick } from '../base/rendezvous.js';
import { Replicator } from '../crdt/anti-entropy.js';
import { OrMap } from '../crdt/or-map.js';
import type { HostId } from '../underlay/message.js';
import { Absentees } from './absentees.js';
import { encodeEntry } from './codec.js';
import type { Context } from './context.js';
import {
  type Found,
  isLater,
  keyOfHost,
  MEMBERS,
  readDots,
  splitName,
  type Visible,
  WITHDRAWN,
} from './entry.js';
import { ENTRIES_MAX } from './limits.js';
import { decodeWithdrawn, isWithdrawn, Withdrawals, type Withdrawn } from './withdrawals.js';

/** More than entries of maps, which several hosts may write at once: members always find room. */
const KEYS_MAX = 4 * ENTRIES_MAX;

/** Origins without a live entry that the map remembers. */
const DORMANT_MAX = 4_096;

/** Rounds in which our own writes are looked at in one go. They answer to what others did, so the second is empty. */
const ROUNDS_MAX = 8;

/** What is missing is seen for so long, milliseconds: its owner is here and has had time to write it again. */
const HOLD_MS = 10_000;

/** A hold that ends so late did so while this host did not run, and heard nothing: it begins again. */
const LATE_MS = 1_000;

export interface RegistryObserver {
  /** Exactly one of them may be undefined: not there before, not there any more. */
  onEntry(before: Visible | undefined, after: Visible | undefined): void;
}

interface Registration {
  readonly stamp: number;
  readonly encoded: Uint8Array;
}

/** One name: what is seen under it, and whose owned entries stand there. */
interface Slot {
  visible: Visible | undefined;
  /** What was seen last, perhaps not any more: older writes of its owner are not news, but left over. */
  latest: Visible | undefined;
  owners: readonly HostId[];
}

/**
 * The replicated entries of one agent: members, and all its maps. One replicator for all of them, so that they cost
 * one digest exchange. What is seen is not what the replicated map holds, but follows from it and from the landscape,
 * by the rules at the room's door.
 */
export class Registry {
  readonly replicator: Replicator;
  private readonly context: Context;
  private readonly observer: RegistryObserver;
  /** Hosts that carry the agent, without this one. */
  private readonly landscape: ReadonlySet<HostId>;
  private readonly slots = new Map<string, Slot>();
  private readonly maps = new Map<string, Map<string, Visible>>();
  /** What this host has registered and not withdrawn. */
  private readonly registrations = new Map<string, Registration>();
  private readonly ownedNames = new Map<HostId, Set<string>>();
  /** What other hosts have withdrawn, and the stamp of that account. */
  private readonly withdrawn = new Map<HostId, Withdrawn & { readonly stamp: number }>();
  private readonly withdrawals = new Withdrawals();
  /** Names under which something is seen that is missing, and until when; the one that ends first first. */
  private readonly holds = new Map<string, number>();
  private readonly absentees: Absentees;
  private wasClosed = false;
  /** The latest stamp of a write of this host. */
  private drawn = 0;

  constructor(context: Context, landscape: ReadonlySet<HostId>, observer: RegistryObserver) {
    this.context = context;
    this.landscape = landscape;
    this.observer = observer;
    this.absentees = new Absentees(context.env);
    const map = new OrMap(context.own, { keysMax: KEYS_MAX, dormantMax: DORMANT_MAX });
    this.replicator = new Replicator(map, context.env.random);
  }

  get sweepMs(): number {
    return Math.min(this.absentees.nextMs, this.holds.values().next().value ?? Number.POSITIVE_INFINITY);
  }

  entries(): Readonly<Record<string, number>> {
    const { replicator, slots, registrations, withdrawn, holds, absentees } = this;
    return {
      agentKeys: replicator.map.size,
      agentOrigins: replicator.map.originCount,
      agentNews: replicator.newsHeld,
      slots: slots.size,
      registrations: registrations.size,
      withdrawn: withdrawn.size,
      holds: holds.size,
      absentees: absentees.size,
    };
  }

  // -- What is seen ------------------------------------------------------------------------------------------

  get(map: string, key: string): Visible | undefined {
    return this.maps.get(map)?.get(key);
  }

  of(map: string): ReadonlyMap<string, Visible> {
    return this.maps.get(map) ?? NOTHING;
  }

  // -- What this host writes ---------------------------------------------------------------------------------

  /** False: the agent has too many entries. */
  set(map: string, key: string, bytes: Uint8Array, isOwned: boolean): boolean {
    const name = `${map}/${key}`;
    const before = this.slots.get(name);
    if (before === undefined && map !== MEMBERS && this.slots.size >= ENTRIES_MAX) return false;
    const stamp = this.nextStamp(before?.visible?.stamp ?? 0);
    const encoded = encodeEntry(stamp, isOwned, bytes);
    if (!this.replicator.set(name, encoded)) return false;
    if (isOwned) this.registrations.set(name, { stamp, encoded });
    else this.withdraw(name);
    this.settle();
    return true;
  }

  /** Another host's entry stays. */
  delete(map: string, key: string): void {
    const name = `${map}/${key}`;
    const owner = this.slots.get(name)?.visible?.owner ?? 0;
    this.withdraw(name);
    if (owner === 0 || owner === this.context.own) this.replicator.remove(name);
    this.settle();
  }

  /** Later than all this host has drawn or seen, and than what is overwritten. */
  private nextStamp(overwritten: number): number {
    const { clock, env } = this.context;
    this.drawn = Math.max(clock.next(env.clock.wallMs()), overwritten + 1, this.drawn + 1);
    return this.drawn;
  }

  private withdraw(name: string): void {
    const registration = this.registrations.get(name);
    if (registration === undefined) return;
    this.registrations.delete(name);
    this.withdrawals.add(registration.stamp, this.context.env.clock.monotonicMs());
    this.tellWithdrawals();
  }

  /** So that others know what is missing by this host's own will. */
  private tellWithdrawals(): void {
    const name = `${WITHDRAWN}/${keyOfHost(this.context.own)}`;
    const stamp = this.nextStamp(this.registrations.get(name)?.stamp ?? 0);
    const encoded = encodeEntry(stamp, true, this.withdrawals.encode());
    this.registrations.set(name, { stamp, encoded });
    this.replicator.set(name, encoded);
  }

  // -- The agent is carried, or not any more -----------------------------------------------------------------

  /** Nothing is seen any more, and nothing of this host remains registered. */
  close(): void {
    this.wasClosed = true;
    this.replicator.setNeighbours([]);
    this.replicator.takeSends();
    this.registrations.clear();
    this.slots.clear();
    this.maps.clear();
    this.ownedNames.clear();
    this.withdrawn.clear();
    this.holds.clear();
    this.absentees.clear();
  }

  /** When carried again, others may not have noticed that it was not, so all that is missing is withdrawn. */
  open(): void {
    if (!this.wasClosed) return;
    this.withdrawals.addAll(this.nextStamp(0));
    this.tellWithdrawals();
    for (const name of [...this.replicator.map.keys()]) this.look(name);
    this.settle();
  }

  // -- Inputs ------------------------------------------------------------------------------------------------

  /** A host has joined or left the landscape. */
  onHost(host: HostId): void {
    const isHere = this.isHere(host);
    if (isHere) this.absentees.delete(host);
    for (const name of [...(this.ownedNames.get(host) ?? NO_NAMES)]) this.look(name);
    if (!isHere) this.withdrawn.delete(host);
    this.settle();
  }

  tick(nowMs: number): void {
    this.replicator.tick(nowMs);
  }

  /** Looks at all that has changed. After each call into the replicator. */
  settle(): void {
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const names = this.replicator.takeChanges();
      if (names.length === 0) return;
      for (const name of names) this.look(name);
    }
  }

  /**
   * Removes entries of hosts that are not in the landscape, where that is this host's turn; and gives up what is seen
   * and was not written again.
   */
  sweep(nowMs: number, ids: readonly HostId[]): void {
    for (const host of this.absentees.takeDue(nowMs, id => this.ownedNames.has(id))) {
      if (rendezvousPick(host, ids) !== this.context.own) {
        this.absentees.again(host, nowMs);
        continue;
      }
      this.absentees.done(host, nowMs);
      for (const name of this.ownedNames.get(host)!) {
        const found = readDots(name, this.replicator.map.entries(name));
        if (found.some(({ owner }) => owner === host)) this.replicator.removeOf(name, host);
      }
    }
    for (const [name, untilMs] of this.holds) {
      if (untilMs > nowMs) break;
      if (nowMs - untilMs > LATE_MS) this.holds.delete(name);
      this.look(name);
    }
    this.settle();
  }

  private isHere(host: HostId): boolean {
    return host === this.context.own || this.landscape.has(host);
  }

  // -- One name ----------------------------------------------------------------------------------------------

  /** Brings what is seen under a name up to date, and sees to our own registration. */
  private look(name: string): void {
    const found = readDots(name, this.replicator.map.entries(name));
    const { map, key } = splitName(name);
    if (map === WITHDRAWN) this.lookAtWithdrawn(name, key, found);
    const slot = this.slots.get(name);
    const before = slot?.visible;
    const best = this.bestOf(name, found, slot?.latest);
    const after =
      map === WITHDRAWN ? undefined : (this.held(name, before, best) ?? seen(map, key, before, best));
    this.keep(name, slot, found, after);
    this.attend(name, found, best);
    if (after === before) return;
    this.index(map, key, after);
    this.observer.onEntry(before, after);
  }

  /** The latest write by somebody who is here. Own ones count as long as they are registered. */
  private bestOf(name: string, found: readonly Found[], latest: Visible | undefined): Found | undefined {
    const { clock, env, own } = this.context;
    let best: Found | undefined;
    for (const one of found) {
      if (one.stamp > clock.last) clock.observe(one.stamp, env.clock.wallMs());
      if (latest !== undefined && one.owner === latest.owner && one.stamp < latest.stamp && one.owner !== 0)
        continue;
      const isSeen =
        one.owner === own
          ? this.registrations.get(name)?.stamp === one.stamp
          : one.owner === 0 || this.landscape.has(one.owner);
      if (isSeen && (best === undefined || isLater(one, best))) best = one;
    }
    return best;
  }

  /** What is missing in the replicated map and was not withdrawn by its owner, who is here: seen for a while. */
  private held(name: string, before: Visible | undefined, best: Found | undefined): Visible | undefined {
    const isHeld =
      before !== undefined &&
      before.owner !== 0 &&
      (best === undefined || isLater(before, best)) &&
      this.mayHold(name, before);
    if (isHeld) return before;
    this.holds.delete(name);
    return undefined;
  }

  private mayHold(name: string, { owner, stamp }: Visible): boolean {
    if (owner === this.context.own) return this.registrations.get(name)?.stamp === stamp;
    if (!this.landscape.has(owner) || isWithdrawn(this.withdrawn.get(owner), stamp)) return false;
    const nowMs = this.context.env.clock.monotonicMs();
    const untilMs = this.holds.get(name);
    if (untilMs !== undefined) return nowMs < untilMs;
    this.holds.set(name, nowMs + HOLD_MS);
    return true;
  }

  /** What is registered and missing is written again, unless somebody has taken its place; what is not, is removed. */
  private attend(name: string, found: readonly Found[], best: Found | undefined): void {
    const { own } = this.context;
    const registration = this.registrations.get(name);
    const isThere = found.some(({ owner }) => owner === own);
    if (registration === undefined) {
      if (isThere) this.replicator.remove(name);
    } else if (!isThere) {
      const { stamp, encoded } = registration;
      const isTaken =
        best !== undefined && isLater(best, { stamp, writer: own, owner: own, bytes: NO_BYTES });
      if (isTaken) this.withdraw(name);
      else this.replicator.set(name, encoded);
    }
  }

  private lookAtWithdrawn(name: string, key: string, found: readonly Found[]): void {
    const host = Number.parseInt(key, 36);
    if (host === this.context.own) return;
    const [account] = found;
    if (account === undefined) {
      if (!this.isHere(host)) this.withdrawn.delete(host);
      return;
    }
    const { stamp, bytes } = account;
    if (stamp <= (this.withdrawn.get(host)?.stamp ?? 0)) return;
    this.withdrawn.set(host, { ...decodeWithdrawn(bytes), stamp });
    for (const held of this.holds.keys())
      if (this.slots.get(held)?.visible?.owner === host && held !== name) this.look(held);
  }

  /** Keeps track of whose entries stand, or are held, under a name. */
  private keep(
    name: string,
    slot: Slot | undefined,
    found: readonly Found[],
    visible: Visible | undefined,
  ): void {
    const owners = ownersOf(found, visible);
    for (const owner of slot?.owners ?? []) if (!owners.includes(owner)) this.disown(owner, name);
    for (const owner of owners) {
      let names = this.ownedNames.get(owner);
      if (names === undefined) this.ownedNames.set(owner, (names = new Set()));
      names.add(name);
      if (!this.isHere(owner)) this.absentees.add(owner);
    }
    if (found.length === 0 && visible === undefined) this.slots.delete(name);
    else if (slot === undefined) this.slots.set(name, { visible, latest: visible, owners });
    else {
      slot.visible = visible;
      slot.latest = visible ?? slot.latest;
      slot.owners = owners;
    }
  }

  private disown(owner: HostId, name: string): void {
    const names = this.ownedNames.get(owner);
    if (names?.delete(name) && names.size === 0) this.ownedNames.delete(owner);
  }

  private index(map: string, key: string, visible: Visible | undefined): void {
    let entries = this.maps.get(map);
    if (visible === undefined) {
      entries?.delete(key);
      if (entries?.size === 0) this.maps.delete(map);
      return;
    }
    if (entries === undefined) this.maps.set(map, (entries = new Map()));
    entries.set(key, visible);
  }
}

const NOTHING: ReadonlyMap<string, Visible> = new Map();
const NO_NAMES: ReadonlySet<string> = new Set();
const NO_BYTES = new Uint8Array(0);

function seen(
  map: string,
  key: string,
  before: Visible | undefined,
  best: Found | undefined,
): Visible | undefined {
  if (best === undefined) return undefined;
  const isSame =
    before !== undefined &&
    before.stamp === best.stamp &&
    before.writer === best.writer &&
    before.owner === best.owner;
  return isSame ? before : { map, key, ...best };
}

function ownersOf(found: readonly Found[], visible: Visible | undefined): readonly HostId[] {
  const owners: HostId[] = [];
  for (const { owner } of found) if (owner !== 0 && !owners.includes(owner)) owners.push(owner);
  if (visible !== undefined && visible.owner !== 0 && !owners.includes(visible.owner))
    owners.push(visible.owner);
  return owners;
}
