import type { Timed } from './deadline-heap.js';
import type { Member } from './members.js';
import type { HostId } from './message.js';
import type { UnderlayTiming } from './underlay.js';

/** Suspicion time-out of a small cluster in probe intervals; grows with the logarithm of the size. */
const SUSPICION_MULTIPLIER = 4;

/** How much longer a suspicion lasts that nobody else confirms. */
const MAX_FACTOR = 6;

/** Independent confirmations that bring the time-out down to its minimum (Lifeguard's k). */
export const CONFIRMATIONS = 2;

/**
 * A suspect is reminded each so many probe intervals, for the first accusation may have gone into a cut: more often in
 * small clusters, where few do so.
 */
const REMIND_INTERVALS_MIN = 2;
const REMIND_INTERVALS_MAX = 5;
const HOSTS_PER_INTERVAL = 4;

/** Hosts that remind a suspect the first time, in a cluster of any size; each time it is so many times more. */
const REMINDERS = 16;
const REMINDERS_GROWTH = 4;

/** The last reminders come so many probe time-outs before the end. */
const LAST_REMINDERS: readonly number[] = [3, 1.5];

/** Accusers that are remembered for one suspicion, the first one included. */
const ACCUSERS_MAX = CONFIRMATIONS + 1;

/** Shortest time from suspicion to failure, for a cluster of `hosts`, milliseconds (memberlist's scale: log10). */
function suspicionMinMs(hosts: number, probeIntervalMs: number): number {
  return SUSPICION_MULTIPLIER * Math.max(1, Math.log10(hosts)) * probeIntervalMs;
}

/**
 * One host under suspicion: its time-out shrinks from six times the minimum to the minimum as independent hosts
 * accuse it, logarithmically, so that the first confirmation tells most (Lifeguard, section 4.2). A slow host that
 * is alone with its suspicion therefore waits long enough to hear the refutation.
 *
 * Nobody is given up without having been reminded at the end, by a ping that says that it is suspected: the suspicion
 * may stem from a time when this host, or the suspect, was cut off. Who reminds a suspect and hears nothing confirms the
 * suspicion; so that of a host that is really dead soon has all its confirmations, also when half the cluster died.
 */
export class Suspicion implements Timed {
  readonly member: Member;
  /** The newest incarnation that is accused; a newer one of the host itself refutes. */
  incarnation: number;
  dueMs = 0;
  heapIndex = -1;
  private readonly timing: UnderlayTiming;
  private startMs: number;
  private remindedMs: number;
  private reminders = 0;
  private lastReminders = 0;
  /** It was reminded, and whether it answered has not been looked at yet. */
  private isAsked = false;
  private readonly remindEachMs: number;
  private readonly minMs: number;
  /** Confirmations that can be had: fewer than {@link CONFIRMATIONS} when there are not enough healthy hosts. */
  private wanted: number;
  private readonly accusers: HostId[];

  constructor(
    member: Member,
    incarnation: number,
    by: HostId,
    startMs: number,
    hosts: number,
    wanted: number,
    timing: UnderlayTiming,
  ) {
    this.member = member;
    this.incarnation = incarnation;
    this.accusers = [by];
    this.timing = timing;
    this.startMs = startMs;
    this.remindedMs = startMs;
    this.minMs = suspicionMinMs(hosts, timing.probeIntervalMs);
    this.wanted = wanted;
    const intervals = Math.max(REMIND_INTERVALS_MIN, hosts / HOSTS_PER_INTERVAL);
    this.remindEachMs = timing.probeIntervalMs * Math.min(REMIND_INTERVALS_MAX, intervals);
  }

  /** False when the accuser is known or there are enough. */
  confirm(by: HostId): boolean {
    if (this.accusers.length >= ACCUSERS_MAX || this.accusers.includes(by)) return false;
    this.accusers.push(by);
    return true;
  }

  /** There are at most this many hosts left that could confirm. False when that changes nothing. */
  limitConfirmations(possible: number): boolean {
    if (possible >= this.wanted) return false;
    this.wanted = possible;
    return true;
  }

  /** Time in which this host was not awake does not count. */
  postpone(byMs: number): void {
    this.startMs += byMs;
    this.remindedMs += byMs;
  }

  /** When the suspect is to be judged, reminded, or given up if {@link isOver} then. */
  nextMs(): number {
    const { probeTimeoutMs } = this.timing;
    if (this.isAsked) return this.remindedMs + probeTimeoutMs;
    const endMs = this.endMs();
    const last = LAST_REMINDERS[this.lastReminders];
    if (last === undefined) return Math.max(endMs, this.remindedMs + probeTimeoutMs);
    const lastMs = Math.max(endMs - last * probeTimeoutMs, this.remindedMs + probeTimeoutMs);
    return Math.min(lastMs, this.remindedMs + this.remindEachMs);
  }

  /** True when the suspect was reminded to the last and did not answer. */
  isOver(nowMs: number): boolean {
    return !this.isAsked && this.lastReminders === LAST_REMINDERS.length && nowMs >= this.nextMs();
  }

  /** True, once, when it was reminded and has not been heard since; `heardMs`: when it was heard last. */
  isSilent(nowMs: number, heardMs: number): boolean {
    if (!this.isAsked || nowMs < this.nextMs()) return false;
    this.isAsked = false;
    return heardMs < this.remindedMs;
  }

  /** A reminder is due. True when it is one of the last, which are never left out. */
  isEnding(nowMs: number): boolean {
    const last = LAST_REMINDERS[this.lastReminders];
    return last !== undefined && nowMs >= this.endMs() - last * this.timing.probeTimeoutMs;
  }

  /**
   * Of how many hosts this one is to remind the suspect now. A fresh suspicion is held by all, so some will do; one that
   * goes on is perhaps held here only, by who missed the refutation.
   */
  get remindersWanted(): number {
    return REMINDERS * REMINDERS_GROWTH ** this.reminders;
  }

  /** `isAsked`: this host was among those that did remind the suspect. */
  onReminded(nowMs: number, isAsked: boolean): void {
    if (this.isEnding(nowMs)) this.lastReminders += 1;
    this.isAsked = isAsked;
    this.remindedMs = nowMs;
    this.reminders += 1;
  }

  /** When it becomes a failure, on the monotonic clock. */
  private endMs(): number {
    const { minMs, wanted } = this;
    const confirmed = this.accusers.length - 1;
    if (confirmed >= wanted) return this.startMs + minMs;
    const share = Math.log(confirmed + 1) / Math.log(wanted + 1);
    return this.startMs + minMs * (MAX_FACTOR - (MAX_FACTOR - 1) * share);
  }
}
