import type { Env } from '../base/env.js';
import { rendezvousPick } from '../base/rendezvous.js';
import { Replicator } from '../crdt/anti-entropy.js';
import { meshNeighbours } from '../crdt/mesh.js';
import type { CrdtMessage } from '../crdt/message.js';
import { OrMap } from '../crdt/or-map.js';
import { jittered } from './chance.js';
import type { Context } from './context.js';
import { isHostId } from './host-record.js';
import { MEMBERS_MAX, TOMBSTONES_MAX } from './members.js';
import type { HostId, HostRecord } from './message.js';
import type { Outbox } from './outbox.js';
import type { OwnRecord } from './own-record.js';
import { decodeRecord, encodeRecord } from './record-bytes.js';
import { SortedIds } from './sorted-ids.js';
import type { UnderlayCounters } from './underlay.js';
import type { View } from './view.js';

/** Evictions that the map remembers; the one that writes another removes the oldest. */
const EVICTIONS_MAX = 256;

/** Hosts with which records are compared directly after a join, and for how long, milliseconds. */
const CONTACTS_MAX = 8;
const CONTACT_MS = 15_000;

/** The mesh follows the view at most this often: joins and failures come in bursts. */
const MESH_DELAY_MS = 250;

/** Every so often a few records of hosts that are gone are looked for: who should have removed them may be gone, too. */
const SWEEP_MS = 5_000;
const SWEPT_AT_ONCE = 64;

const NEVER = Number.POSITIVE_INFINITY;

export interface HostMapObserver {
  /** The map has a record of a host that is held as gone: it may be alive and not know it. */
  onDisbelieved(record: HostRecord): void;
  /** The record of a host of the view was removed by somebody who holds it as gone. */
  onVanished(id: HostId): void;
}

/**
 * The replicated map of host records, and how it and the view keep each other right. `h:<id>` holds a record, written
 * by that host alone; `e:<id>` an eviction. The map repairs what rumours missed, and carries the bulk when hosts join.
 *
 * A record that is missing never takes a host out of the view: after a cut both halves have removed each other's
 * records, so the joined map lacks those of hosts that live. A host that misses its own writes it again, with a higher
 * incarnation, which beats the other half's tombstones.
 */
export class HostMap {
  private readonly own: OwnRecord;
  private readonly view: View;
  private readonly outbox: Outbox;
  private readonly env: Env;
  private readonly counters: UnderlayCounters;
  private readonly observer: HostMapObserver;
  private readonly replicator: Replicator;
  private readonly ids = new SortedIds();
  /** Until when each is a contact, the one that ends first first. */
  private readonly contacts = new Map<HostId, number>();
  private isOwnDirty = true;
  private isWithdrawn = false;
  private isReplicatorTouched = true;
  private isUnsettled = false;
  private dueMs = NEVER;
  private meshMs = NEVER;
  private sweepMs = NEVER;
  private swept: Iterator<HostId> | undefined;

  constructor({ own, outbox, env, counters }: Context, view: View, observer: HostMapObserver) {
    this.own = own;
    this.view = view;
    this.outbox = outbox;
    this.env = env;
    this.counters = counters;
    this.observer = observer;
    const map = new OrMap(own.id, { keysMax: 2 * MEMBERS_MAX, dormantMax: TOMBSTONES_MAX });
    this.replicator = new Replicator(map, env.random);
    this.ids.add(own.id);
  }

  get nextMs(): number {
    return Math.min(this.meshMs, this.sweepMs, this.replicatorMs());
  }

  /** Asking the replicator costs a walk over its neighbours, so it is asked once after each change. */
  private replicatorMs(): number {
    if (this.isReplicatorTouched) {
      this.isReplicatorTouched = false;
      this.dueMs = this.ids.ids.length > 1 ? this.replicator.nextDeadlineMs() : NEVER;
    }
    return this.dueMs;
  }

  entries(): Record<string, number> {
    const { replicator, contacts } = this;
    return {
      mapKeys: replicator.map.size,
      mapOrigins: replicator.map.originCount,
      mapNews: replicator.newsHeld,
      contacts: contacts.size,
    };
  }

  private touch(): void {
    this.isReplicatorTouched = true;
    this.isUnsettled = true;
  }

  // -- The view has changed ----------------------------------------------------------------------------------

  onAdded(id: HostId): void {
    this.ids.add(id);
    this.planMesh();
  }

  onGone(id: HostId): void {
    this.ids.delete(id);
    this.contacts.delete(id);
    this.planMesh();
    this.removeIfMine(id);
    if (this.sweepMs === NEVER) this.planSweep();
  }

  /** The own record has changed. */
  onRenewed(): void {
    this.isOwnDirty = true;
  }

  /** A join went through: compare maps with that host for some time, whether or not it is a neighbour of the mesh. */
  addContact(id: HostId): void {
    const { contacts } = this;
    contacts.delete(id);
    contacts.set(id, this.env.clock.monotonicMs() + CONTACT_MS);
    if (contacts.size > CONTACTS_MAX) contacts.delete(contacts.keys().next().value!);
    this.meshMs = 0;
  }

  evict(id: HostId): void {
    const { replicator } = this;
    this.touch();
    const evicted = [...replicator.map.keys()].filter(key => key.startsWith('e:'));
    if (evicted.length >= EVICTIONS_MAX) replicator.remove(evicted[0]!);
    replicator.set(`e:${id.toString(36)}`, Buffer.from(this.own.id.toString(36)));
    replicator.remove(recordKey(id));
  }

  /** Goodbye: the own record is removed and not written again. */
  withdraw(): void {
    this.isWithdrawn = true;
    this.isOwnDirty = false;
    this.touch();
    this.replicator.remove(recordKey(this.own.id));
  }

  // -- Inputs ----------------------------------------------------------------------------------------------

  receive(from: HostId, message: CrdtMessage, nowMs: number): void {
    this.touch();
    this.replicator.receive(from, message, nowMs);
  }

  tick(nowMs: number): void {
    if (nowMs >= this.meshMs) this.renewMesh(nowMs);
    if (nowMs >= this.sweepMs) this.sweep();
    if (nowMs < this.replicatorMs()) return;
    this.touch();
    this.replicator.tick(nowMs);
  }

  /** Brings map and view together, and what the replicator has to say into the outbox. At the end of each turn. */
  settle(): void {
    if (!this.isUnsettled && !this.isOwnDirty) return;
    const { replicator, view } = this;
    this.isUnsettled = false;
    for (const key of replicator.takeChanges()) this.onChange(key);
    if (this.isOwnDirty && !this.isWithdrawn) {
      this.isOwnDirty = false;
      this.touch();
      replicator.set(recordKey(this.own.id), encodeRecord(this.own.record));
    }
    this.count();
    for (const { to, message } of replicator.takeSends()) {
      const member = view.members.get(to);
      if (member === undefined) continue;
      const isSmall = message.kind === 'root' || message.kind === 'delta' || message.kind === 'ack';
      this.outbox.push(member.record.address, to, isSmall ? 'datagram' : 'stream', {
        kind: 'crdt',
        map: '',
        message,
      });
    }
  }

  private count(): void {
    const { counters, replicator } = this;
    counters.mapRepairs = replicator.repairs;
    counters.mapResends = replicator.resends;
    counters.mapMalformed = replicator.malformed;
  }

  // -- Changes of the map ----------------------------------------------------------------------------------

  private onChange(key: string): void {
    const id = Number.parseInt(key.slice(2), 36);
    if (!isHostId(id)) return;
    if (key.startsWith('h:')) this.onRecord(id, key);
    else if (key.startsWith('e:')) this.onEviction(id, key);
  }

  private onRecord(id: HostId, key: string): void {
    const values = this.replicator.map.values(key);
    if (id === this.own.id) this.onOwn(values);
    else if (values.length === 0) this.observer.onVanished(id);
    for (const value of values) {
      const record = decodeRecord(value);
      if (record === undefined || record.id !== id || id === this.own.id) continue;
      if (this.view.alive(record, false) !== 'disbelieved') continue;
      this.observer.onDisbelieved(record);
      this.removeIfMine(id);
    }
  }

  private onOwn(values: readonly Uint8Array[]): void {
    if (this.isWithdrawn) return;
    if (values.length === 0 && !this.isOwnDirty) {
      this.view.renew(0);
      return;
    }
    const record = values.length === 1 ? decodeRecord(values[0]!) : undefined;
    if (record !== this.own.record) this.isOwnDirty = true;
  }

  private onEviction(id: HostId, key: string): void {
    const [value] = this.replicator.map.values(key);
    if (value === undefined) return;
    const by = Number.parseInt(Buffer.from(value).toString('latin1'), 36);
    this.view.gone(id, 0, 'evicted', isHostId(by) ? by : id);
  }

  /** Exactly one survivor removes the record of a host that is gone, as long as all have the same view. */
  private removeIfMine(id: HostId): void {
    const key = recordKey(id);
    if (!this.replicator.map.has(key)) return;
    if (rendezvousPick(id, this.ids.ids) !== this.own.id) return;
    this.touch();
    this.replicator.remove(key);
  }

  private sweep(): void {
    const { members } = this.view;
    if (members.tombstones === 0) {
      this.sweepMs = NEVER;
      return;
    }
    this.planSweep();
    this.swept ??= members.tombstoneIds();
    for (let left = Math.min(SWEPT_AT_ONCE, members.tombstones); left > 0; left--) {
      const { value, done } = this.swept.next();
      if (done === true) {
        this.swept = undefined;
        return;
      }
      this.removeIfMine(value);
    }
  }

  private planSweep(): void {
    this.sweepMs = this.env.clock.monotonicMs() + jittered(this.env.random, SWEEP_MS);
  }

  // -- Neighbours ------------------------------------------------------------------------------------------

  private planMesh(): void {
    if (this.meshMs === NEVER) this.meshMs = this.env.clock.monotonicMs() + MESH_DELAY_MS;
  }

  private renewMesh(nowMs: number): void {
    this.meshMs = NEVER;
    const neighbours = new Set(meshNeighbours(this.ids.ids, this.own.id));
    for (const [id, untilMs] of this.contacts) {
      if (untilMs <= nowMs) this.contacts.delete(id);
      else {
        neighbours.add(id);
        this.meshMs = Math.min(this.meshMs, untilMs);
      }
    }
    this.touch();
    this.replicator.setNeighbours([...neighbours]);
  }
}

function recordKey(id: HostId): string {
  return `h:${id.toString(36)}`;
}
