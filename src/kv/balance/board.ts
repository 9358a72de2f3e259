import type { Clock } from '../../base/env.js';
import {
  accountKey,
  decodeReplica,
  decodeStore,
  encodeReplica,
  encodeStore,
  type PublishedReplica,
  type PublishedStore,
  replicaKey,
  storeKey,
} from './account-codec.js';
import type { Landscape, RangeLoad, ReplicaAccount, StoreAccount } from './landscape.js';
import { decodeSteering, NO_STEERING, RULES_KEY, type Steering } from './rules-entry.js';

/** A change to make in the shared map; without bytes the key is to be deleted. */
export interface Publication {
  readonly key: string;
  readonly bytes: Uint8Array | undefined;
}

interface Known {
  store: PublishedStore | undefined;
  alive: boolean;
  sinceMs: number;
  /** By range. */
  readonly replicas: Map<number, ReplicaAccount>;
  /** Made of the above; undefined when that has changed. */
  account: StoreAccount | undefined;
}

/** What was published last of an own replica, and when. */
interface Published {
  /** The one that was looked at last, whose form is `form`. */
  account: ReplicaAccount;
  form: string;
  load: RangeLoad;
  atMs: number;
  /** The look that found the replica last. */
  look: number;
}

/**
 * The landscape as one store sees it: what the others wrote into the shared map, and what it knows of itself. A store is
 * alive while the underlay has the host that its entry names. Says what is to be published of its own: a change of
 * form at once, a change of figures when it is large enough and the last one some time ago.
 */
export class Board {
  /** 0 if there is no store here. */
  private readonly self: number;
  private readonly clock: Clock;
  private readonly known = new Map<number, Known>();
  private hosts: ReadonlySet<number> = new Set();
  private own: readonly ReplicaAccount[] = [];
  private ownStore: PublishedStore | undefined;
  /** By range. */
  private readonly published = new Map<number, Published>();
  private publishedStore = '';
  /** Ranges of own entries in the map that this board did not write. */
  private readonly leftBehind = new Set<number>();
  /** Something was said of the own entries, or the own account is another, since they were gone through. */
  private isStale = true;
  /** Until then figures that differ are not due. */
  private figuresDueMs = Number.POSITIVE_INFINITY;
  private looks = 0;
  private seen: Landscape | undefined;
  private latest = NO_STEERING;
  /** Of the entry that the map has. */
  private toldAtMs = 0;

  /** `own`: the store that it belongs to, if any. */
  constructor(clock: Clock, own?: { readonly id: number; readonly account: PublishedStore }) {
    this.clock = clock;
    this.self = own?.id ?? 0;
    this.ownStore = own?.account;
    if (own !== undefined) this.known.set(own.id, newKnown(clock.monotonicMs(), true));
  }

  /** An entry of the shared map is now this; undefined when it was deleted. False if it is none of ours, or malformed. */
  hear(key: string, bytes: Uint8Array | undefined): boolean {
    if (key === RULES_KEY) return this.hearSteering(bytes);
    const names = accountKey(key);
    if (names === undefined) return false;
    const { store, range } = names;
    if (store === this.self) {
      // Of an earlier life: what is not held any more has to go. Who took a living store for lost has deleted too much.
      if (bytes === undefined && range === 0) this.publishedStore = '';
      else if (bytes === undefined) this.published.delete(range);
      else if (range !== 0 && !this.published.has(range)) this.leftBehind.add(range);
      else return true;
      this.isStale = true;
      return true;
    }
    const nowMs = this.clock.monotonicMs();
    if (range === 0) {
      const entry = bytes && decodeStore(bytes);
      if (bytes !== undefined && entry === undefined) return false;
      const known = this.knownOf(store, nowMs);
      known.store = entry;
      this.judge(known, nowMs);
    } else if (bytes === undefined) this.known.get(store)?.replicas.delete(range);
    else {
      const entry = decodeReplica(bytes);
      if (entry === undefined) return false;
      this.knownOf(store, nowMs).replicas.set(range, this.replicaOf(range, entry, nowMs));
    }
    const known = this.known.get(store);
    if (known?.store === undefined && known?.replicas.size === 0) this.known.delete(store);
    if (known !== undefined) this.changed(known);
    return true;
  }

  private hearSteering(bytes: Uint8Array | undefined): boolean {
    const steering = bytes === undefined ? NO_STEERING : decodeSteering(bytes);
    if (steering === undefined) return false;
    this.toldAtMs = steering.atMs;
    return this.recall(steering);
  }

  /** This was heard once. False if something later was. */
  recall(steering: Steering): boolean {
    if (steering.atMs < this.latest.atMs) return false;
    this.latest = steering;
    return true;
  }

  /** What operators have changed; the same object until they change it again. */
  get steering(): Steering {
    return this.latest;
  }

  /** The map is behind that: it wants to be told. */
  get isSteeringLost(): boolean {
    return this.latest.atMs > this.toldAtMs;
  }

  private knownOf(store: number, nowMs: number): Known {
    let known = this.known.get(store);
    if (known === undefined) this.known.set(store, (known = newKnown(nowMs, false)));
    return known;
  }

  /** The hosts of the underlay's view are now these. */
  hostsAre(hosts: ReadonlySet<number>): void {
    this.hosts = hosts;
    const nowMs = this.clock.monotonicMs();
    for (const [store, known] of this.known) if (store !== this.self) this.judge(known, nowMs);
  }

  private judge(known: Known, nowMs: number): void {
    const alive = known.store !== undefined && this.hosts.has(known.store.host);
    if (alive === known.alive) return;
    known.alive = alive;
    known.sinceMs = nowMs;
    this.changed(known);
  }

  private changed(known: Known): void {
    known.account = undefined;
    this.seen = undefined;
  }

  private replicaOf(range: number, entry: PublishedReplica, nowMs: number): ReplicaAccount {
    const ageMs = Math.max(0, this.clock.wallMs() - entry.load.epochSinceMs);
    return { ...entry, range, load: { ...entry.load, epochSinceMs: nowMs - ageMs }, silent: [] };
  }

  /** This store's own account is now this, in the order of the ranges. The same objects as before are no news. */
  ownIs(store: PublishedStore, replicas: readonly ReplicaAccount[]): void {
    if (store === this.ownStore && replicas === this.own) return;
    this.ownStore = store;
    this.own = replicas;
    this.isStale = true;
    const known = this.known.get(this.self);
    if (known !== undefined) this.changed(known);
  }

  /** The same object as before if nothing has changed. */
  landscape(): Landscape {
    this.seen ??= {
      stores: [...this.known].map(([id, known]) => (known.account ??= this.accountOf(id, known))).sort(byId),
    };
    return this.seen;
  }

  private accountOf(id: number, known: Known): StoreAccount {
    const isSelf = id === this.self;
    const store = isSelf ? this.ownStore : known.store;
    return {
      store: id,
      alive: known.alive,
      sinceMs: known.sinceMs,
      draining: store?.draining ?? false,
      cores: store?.cores ?? 1,
      name: store?.name ?? '',
      services: store?.services ?? [],
      replicas: isSelf ? this.own : [...known.replicas.values()].sort((a, b) => a.range - b.range),
    };
  }

  /** What has to be deleted for a store that is gone for good to be forgotten. */
  forgetting(store: number): readonly Publication[] {
    const replicas = [...(this.known.get(store)?.replicas.keys() ?? [])];
    const keys = [storeKey(store), ...replicas.map(range => replicaKey(store, range))];
    return keys.map(key => ({ key, bytes: undefined }));
  }

  /** What of the own account is to be published now. Without news it is not gone through. */
  publications(): readonly Publication[] {
    const nowMs = this.clock.monotonicMs();
    if (this.ownStore === undefined || (!this.isStale && nowMs < this.figuresDueMs)) return NO_PUBLICATIONS;
    this.isStale = false;
    this.figuresDueMs = Number.POSITIVE_INFINITY;
    const look = ++this.looks;
    const changes: Publication[] = [];
    const form = JSON.stringify(this.ownStore);
    if (form !== this.publishedStore)
      changes.push({ key: storeKey(this.self), bytes: encodeStore(this.ownStore) });
    this.publishedStore = form;
    for (const replica of this.own) {
      if (!this.isDue(replica, nowMs, look)) continue;
      const key = replicaKey(this.self, replica.range);
      changes.push({ key, bytes: encodeReplica(this.publishedOf(replica, nowMs)) });
    }
    for (const [range, { look: found }] of this.published) {
      if (found === look) this.leftBehind.delete(range);
      else {
        this.published.delete(range);
        this.leftBehind.add(range);
      }
    }
    for (const range of this.leftBehind)
      changes.push({ key: replicaKey(this.self, range), bytes: undefined });
    this.leftBehind.clear();
    return changes;
  }

  /** Whether an own replica is to be published; then it counts as published. */
  private isDue(account: ReplicaAccount, nowMs: number, look: number): boolean {
    const { range, load } = account;
    const before = this.published.get(range);
    if (before === undefined) {
      this.published.set(range, { account, form: formOf(account), load, atMs: nowMs, look });
      return true;
    }
    before.look = look;
    const form = before.account === account ? before.form : formOf(account);
    before.account = account;
    if (form === before.form) {
      if (!differs(before.load, load)) return false;
      const dueMs = before.atMs + FIGURES_MS;
      if (nowMs < dueMs) {
        this.figuresDueMs = Math.min(this.figuresDueMs, dueMs);
        return false;
      }
    }
    before.form = form;
    before.load = load;
    before.atMs = nowMs;
    return true;
  }

  private publishedOf(
    { range: _range, silent: _silent, ...rest }: ReplicaAccount,
    nowMs: number,
  ): PublishedReplica {
    const epochSinceMs = Math.max(0, Math.round(this.clock.wallMs() - (nowMs - rest.load.epochSinceMs)));
    return { ...rest, load: { ...rest.load, epochSinceMs } };
  }
}

/** Figures of a range are published no more often than this. */
export const FIGURES_MS = 5000;
/** Nor when none of them has changed by more than this share, or is small. */
const FIGURES_SHARE = 0.1;
const FIGURES_FLOOR = 100;

const NO_PUBLICATIONS: readonly Publication[] = [];

function newKnown(nowMs: number, alive: boolean): Known {
  return { store: undefined, alive, sinceMs: nowMs, replicas: new Map(), account: undefined };
}

function byId(one: StoreAccount, other: StoreAccount): number {
  return one.store - other.store;
}

/** All of an account that is not a figure. */
function formOf(replica: ReplicaAccount): string {
  const { range: _range, silent: _silent, load, boundary, ...rest } = replica;
  const keys = [boundary.start, boundary.end, load.splitKey].map(key => Buffer.from(key).toString('latin1'));
  return JSON.stringify([rest, keys, load.epochSinceMs]);
}

function differs(one: RangeLoad, other: RangeLoad): boolean {
  return (
    isOther(one.bytes, other.bytes) ||
    isOther(one.writesPerSecond, other.writesPerSecond) ||
    isOther(one.queriesPerSecond, other.queriesPerSecond) ||
    isOther(one.queryMicros, other.queryMicros) ||
    isOther(one.fanOut, other.fanOut)
  );
}

function isOther(one: number, other: number): boolean {
  return Math.abs(one - other) > Math.max(FIGURES_FLOOR, FIGURES_SHARE * Math.max(one, other));
}
