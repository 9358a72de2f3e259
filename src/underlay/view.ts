import type { Env } from '../base/env.js';
import { below } from './chance.js';
import type { Context } from './context.js';
import { DeadlineHeap } from './deadline-heap.js';
import { isHostId, isHostRecord, isIncarnation, isLater, isLeap } from './host-record.js';
import { MEMBERS_MAX, type Member, Members, outranks, resurrects } from './members.js';
import type { GoneReason, HostId, HostRecord } from './message.js';
import type { OwnRecord } from './own-record.js';
import { Rumours } from './rumours.js';
import { CONFIRMATIONS, Suspicion } from './suspicion.js';
import type { HostEvent, UnderlayCounters, UnderlayTiming } from './underlay.js';

/**
 * What came of the word that a host is alive: `new` and `newer` changed the view, `known` was no news, `disbelieved`
 * needs a higher incarnation, `own` was about this host, `invalid` cannot be kept.
 */
export type AliveOutcome = 'new' | 'newer' | 'known' | 'disbelieved' | 'own' | 'invalid';

/** Suspicions that are under way at once. Hosts beyond that are suspected at a later probe. */
const SUSPICIONS_MAX = 4_096;

/** Less than the shortest time from the death of a host to its failure. */
const HEARD_INTERVALS = 2.5;

/** What the rest of the machine does about a change of the view. */
export interface ViewObserver {
  onAdded(member: Member): void;
  /** By others; what this host finds out itself is no news to it. */
  onSuspectedByOthers(member: Member): void;
  onGone(record: HostRecord, reason: GoneReason): void;
  /** More is known about a host that was gone already. */
  onReason(id: HostId, reason: GoneReason): void;
  /** This host has a new record, which is on its way as a rumour already. */
  onRenewed(): void;
  onSelfEvicted(by: HostId): void;
}

/**
 * The rules by which accounts of hosts replace each other (SWIM, section 4.2), and what follows from a change: one
 * event, one rumour. For one host, the account with the higher incarnation wins, at the same incarnation alive <
 * suspect < gone; an eviction beats everything. So the order in which accounts arrive does not matter.
 */
export class View {
  readonly members = new Members();
  readonly rumours = new Rumours();
  readonly suspicions = new DeadlineHeap<Suspicion>();
  events: HostEvent[] = [];
  /** A host that says goodbye does not contradict those who hold it as gone. */
  isLeaving = false;
  private readonly own: OwnRecord;
  private readonly env: Env;
  private readonly timing: UnderlayTiming;
  private readonly counters: UnderlayCounters;
  private readonly observer: ViewObserver;

  constructor({ own, env, timing, counters }: Context, observer: ViewObserver) {
    this.own = own;
    this.env = env;
    this.timing = timing;
    this.counters = counters;
    this.observer = observer;
  }

  /** Hosts of the view, this one included. */
  get hosts(): number {
    return this.members.size + 1;
  }

  // -- Alive -----------------------------------------------------------------------------------------------

  /** `isSpread`: whether it is passed on as a rumour; not needed for what came by the host map. */
  alive(record: HostRecord, isSpread: boolean): AliveOutcome {
    const { members } = this;
    if (record.id === this.own.id) return this.heardOwn(record);
    const member = members.get(record.id);
    if (member !== undefined && record.incarnation <= member.record.incarnation) {
      if (isSpread) this.rumours.heardAgain(record.id, this.hosts);
      return 'known';
    }
    const tombstone = members.tombstone(record.id);
    if (tombstone !== undefined && !resurrects(record.incarnation, tombstone)) return 'disbelieved';
    if (!isHostRecord(record)) return 'invalid';
    if (member !== undefined && isLeap(record.incarnation, member.record.incarnation)) return 'invalid';
    if (!this.claimAddress(record)) return 'disbelieved';
    if (member === undefined) return this.add(record, isSpread);
    this.renewMember(member, record);
    if (isSpread) this.rumours.add(record.id, { kind: 'alive', record }, this.hosts, true);
    else this.rumours.drop(record.id);
    return 'newer';
  }

  private add(record: HostRecord, isSpread: boolean): AliveOutcome {
    if (this.members.size >= MEMBERS_MAX) return 'invalid';
    const member = this.members.add(record, this.env.clock.wallMs());
    this.events.push({ kind: 'joined', host: record });
    if (isSpread) this.rumours.add(record.id, { kind: 'alive', record }, this.hosts, true);
    else this.rumours.drop(record.id);
    this.observer.onAdded(member);
    return 'new';
  }

  private renewMember(member: Member, record: HostRecord): void {
    const { suspicion } = member;
    this.members.update(member, record);
    if (suspicion === null || record.incarnation <= suspicion.incarnation) {
      this.events.push({ kind: 'updated', host: record });
      return;
    }
    this.suspicions.delete(suspicion);
    member.suspicion = null;
    member.sinceMs = this.env.clock.wallMs();
    this.events.push({ kind: 'trusted', host: record });
  }

  /** Two identities at one address: the earlier one has been restarted. False when that is the one in question. */
  private claimAddress(record: HostRecord): boolean {
    const own = this.own.record;
    if (record.address === own.address) {
      this.gone(record.id, record.incarnation, 'replaced', own.id);
      if (isLater(record, own)) {
        this.own.outlive(record.startedMs);
        this.renew(0);
      }
      return false;
    }
    const rival = this.members.rival(record);
    if (rival === undefined) return true;
    const loser = rival.isLater ? record : rival.member.record;
    this.gone(loser.id, loser.incarnation, 'replaced', own.id);
    return !rival.isLater;
  }

  private heardOwn(record: HostRecord): AliveOutcome {
    // Only a host that lost its memory of itself could meet this; the id is random, so it is a forgery or a fault.
    const { incarnation } = record;
    if (incarnation > this.own.incarnation && isIncarnation(incarnation)) this.refute(incarnation);
    return 'own';
  }

  /** A new record of this host: told to all. */
  renew(claimed: number): void {
    this.own.renew(claimed);
    this.tellOwn();
  }

  /** Passes the own record on after it was changed. */
  tellOwn(): void {
    this.rumours.add(this.own.id, { kind: 'alive', record: this.own.record }, this.hosts, false);
    this.observer.onRenewed();
  }

  // -- Suspect ---------------------------------------------------------------------------------------------

  /** True when this host itself had to contradict. */
  suspect(id: HostId, incarnation: number, by: HostId): boolean {
    if (!isIncarnation(incarnation)) return false;
    if (id === this.own.id) return this.refute(incarnation);
    const member = this.members.get(id);
    if (member === undefined || incarnation < member.record.incarnation) return false;
    if (isLeap(incarnation, member.record.incarnation)) return false;
    const { suspicion } = member;
    if (suspicion === null) {
      this.startSuspicion(member, incarnation, by);
      if (by !== this.own.id) this.observer.onSuspectedByOthers(member);
    } else {
      const isNewer = incarnation > suspicion.incarnation;
      if (isNewer) suspicion.incarnation = incarnation;
      // Each of the first accusers is passed on, since it shortens the others' time-outs, too.
      if (suspicion.confirm(by) || isNewer) {
        this.suspicions.set(suspicion, suspicion.nextMs());
        this.rumours.add(
          id,
          { kind: 'suspect', id, incarnation: suspicion.incarnation, by },
          this.hosts,
          false,
        );
      }
    }
    return false;
  }

  private startSuspicion(member: Member, incarnation: number, by: HostId): void {
    if (this.suspicions.size >= SUSPICIONS_MAX) return;
    const { id } = member.record;
    const possible = Math.min(CONFIRMATIONS, Math.max(0, this.members.size - this.suspicions.size - 1));
    const suspicion = new Suspicion(
      member,
      incarnation,
      by,
      this.env.clock.monotonicMs(),
      this.hosts,
      possible,
      this.timing,
    );
    member.suspicion = suspicion;
    member.sinceMs = this.env.clock.wallMs();
    this.suspicions.set(suspicion, suspicion.nextMs());
    this.counters.suspicions += 1;
    this.events.push({ kind: 'suspected', host: member.record });
    this.rumours.add(id, { kind: 'suspect', id, incarnation, by }, this.hosts, false);
    this.limitConfirmations();
  }

  /** Suspects cannot confirm: when nearly everybody is one, the others' time-outs must not wait for them. */
  private limitConfirmations(): void {
    const healthy = this.members.size - this.suspicions.size;
    if (healthy >= CONFIRMATIONS) return;
    for (const suspicion of [...this.suspicions.all()]) {
      if (suspicion.limitConfirmations(healthy)) this.suspicions.set(suspicion, suspicion.nextMs());
    }
  }

  private refute(incarnation: number): boolean {
    if (this.isLeaving || incarnation < this.own.incarnation || isLeap(incarnation, this.own.incarnation))
      return false;
    this.counters.refutations += 1;
    this.renew(incarnation);
    return true;
  }

  /** Suspicions whose time is up become failures; other suspects are due to be reminded. */
  tendSuspicions(
    nowMs: number,
    onFailed: (host: HostRecord) => void,
    remind: (suspect: Member) => void,
  ): void {
    const { suspicions } = this;
    for (let due = suspicions.takeDue(nowMs); due; due = suspicions.takeDue(nowMs)) {
      const { member } = due;
      if (due.isSilent(nowMs, member.link?.heardMs ?? Number.NEGATIVE_INFINITY)) {
        this.suspicions.set(due, due.nextMs());
        this.suspect(member.record.id, due.incarnation, this.own.id);
      } else if (due.isOver(nowMs)) {
        this.counters.failures += 1;
        this.gone(member.record.id, due.incarnation, 'failed', this.own.id);
        onFailed(member.record);
      } else {
        const isAsked = due.isEnding(nowMs) || this.isAmong(due.remindersWanted);
        due.onReminded(nowMs, isAsked);
        suspicions.set(due, due.nextMs());
        if (isAsked) remind(member);
      }
    }
  }

  /** True for about so many of all hosts that are well. */
  private isAmong(wanted: number): boolean {
    const healthy = this.members.size - this.suspicions.size + 1;
    return healthy <= wanted || below(this.env.random, healthy) < wanted;
  }

  /** This host did not run for a while: nobody else is to blame for what it did not hear. */
  postpone(byMs: number): void {
    for (const suspicion of this.suspicions.all()) suspicion.postpone(byMs);
    this.suspicions.postpone(byMs);
  }

  // -- Gone ------------------------------------------------------------------------------------------------

  /**
   * True when this host itself had to contradict. That a host failed is not taken on another's word while it is heard
   * here: the word may come from behind a cut that has just ended. It is a suspicion then.
   */
  gone(id: HostId, incarnation: number, reason: GoneReason, by: HostId): boolean {
    if (!isIncarnation(incarnation)) return false;
    if (id === this.own.id) {
      if (reason !== 'evicted') return this.refute(incarnation);
      this.observer.onSelfEvicted(by);
      return false;
    }
    const { members } = this;
    const member = members.get(id);
    if (member !== undefined) {
      if (incarnation < member.record.incarnation && reason !== 'evicted') return false;
      if (isLeap(incarnation, member.record.incarnation)) return false;
      if (reason === 'failed' && by !== this.own.id && this.isHeard(member))
        return this.suspect(id, incarnation, by);
      this.bury(member, incarnation, reason);
    } else {
      const known = members.tombstone(id);
      if (known !== undefined && !outranks(incarnation, reason, known)) return false;
      if (!isHostId(id)) return false;
      members.setTombstone(id, { incarnation, reason });
      this.observer.onReason(id, reason);
    }
    if (members.size > 0)
      this.rumours.add(id, { kind: 'gone', id, incarnation, reason, by }, this.hosts, false);
    return false;
  }

  /** Whether it spoke to this host lately: more lately than a host that failed could have. */
  isHeard(member: Member): boolean {
    const { link } = member;
    if (link === null) return false;
    return this.env.clock.monotonicMs() - link.heardMs < HEARD_INTERVALS * this.timing.probeIntervalMs;
  }

  private bury(member: Member, incarnation: number, reason: GoneReason): void {
    const { record, suspicion } = member;
    if (suspicion !== null) {
      this.suspicions.delete(suspicion);
      member.suspicion = null;
    }
    this.members.bury(member, { incarnation, reason });
    this.limitConfirmations();
    if (this.members.size === 0) this.rumours.clear();
    this.events.push({ kind: 'gone', host: record, reason });
    this.observer.onGone(record, reason);
  }
}
