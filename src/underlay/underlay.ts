import type { Env } from '../base/env.js';
import type { CrdtMessage } from '../crdt/message.js';
import { below } from './chance.js';
import { type Context, newCounters } from './context.js';
import { Detector } from './detector.js';
import { Gossip } from './gossip.js';
import { LocalHealth } from './health.js';
import { HostMap } from './host-map.js';
import { Joins } from './joins.js';
import { Departure } from './leave.js';
import { hostView, type Member } from './members.js';
import type { Address, GoneReason, HostId, HostRecord, Message, Packet, Path } from './message.js';
import { Outbox } from './outbox.js';
import { OwnRecord } from './own-record.js';
import { Reception } from './reception.js';
import { Refusals } from './refusals.js';
import { View } from './view.js';

/**
 * Room `underlay`: which hosts there are, and how to speak to them. No registry, no leader, no quorum.
 *
 * | file | abstraction |
 * | --- | --- |
 * | message.ts | what hosts say to each other: the message table stands there |
 * | transport.ts, codec.ts | `Transport`: bytes between addresses, by io/ or the simulator; packets to bytes and back |
 * | members.ts, view.ts | who is alive, suspect, gone; the rules of precedence; one event for each change |
 * | rumours.ts, gossip.ts | news, told a bounded number of times, in its own packets and in the space left in others |
 * | detector.ts, probe-list.ts, relays.ts, health.ts, suspicion.ts | SWIM's failure detector with Lifeguard |
 * | reception.ts, outbox.ts | packets taken apart, and put together by destination |
 * | joins.ts, seeds.ts, healer.ts | how hosts come into the view, and back into it after a cut |
 * | host-map.ts | the replicated map that repairs what rumours missed |
 * | refusals.ts, leave.ts | who was turned away and why; the goodbye |
 *
 * `Underlay` is the machine: it takes packets, ticks and orders, and `ready()` returns what to send and to tell. It
 * never waits or throws, and has no clock of its own; one thread can run a thousand of them (test/sim).
 *
 * ## One truth
 *
 * The member table is the view. It is fed by rumours, probes, joins and the host map, all through the rules in
 * `view.ts`: for one host the higher incarnation wins; at equal incarnations alive < suspect < gone; among the gone
 * failed < replaced < left; evicted beats everything. So the order in which accounts arrive does not matter.
 *
 * ## Invariants
 *
 * - A host is in the view, or has a tombstone, never both. No two hosts of the view share an address.
 * - Exactly one event for each change of the view; replaying the events gives the view. `trusted` and `updated` carry
 *   the new record.
 * - Only the host itself raises its incarnation. It does so when it is suspected, held as gone, or finds its record
 *   missing from the host map.
 * - Absence from the host map takes nobody out of the view. After a cut both halves have removed each other's records.
 * - A host that was gone is taken back at a higher incarnation only. It raises it when it hears a notice, which proves
 *   that it can be reached: over a link that works in one direction nobody comes and goes.
 * - Same address, other id: the earlier start is gone at once, `replaced`. A wrong clock can make that the living one;
 *   it then hears so, and gives itself a later start.
 * - Time in which this host did not run counts for nobody: a tick that comes late abandons the probes under way and
 *   postpones suspicions, and counts against this host's own health.
 * - Nobody is declared failed without a last ping that says so, and nobody's word that a host failed is taken while that
 *   host is heard here: cuts end, and what was true behind them is told afterwards.
 *
 * ## Limits
 *
 * Hosts in the view `MEMBERS_MAX`, gone `TOMBSTONES_MAX`, lost `LOST_MAX` (no limit in time), seeds `SEEDS_MAX` (never
 * given up), rumours `RUMOURS_MAX`, suspicions, relayed probes, notices, refusals: each file names its own. Work per
 * turn is bounded by the packet that caused it; idle, a host does one probe in an interval and nothing else.
 *
 * ## Where it differs from BifroMQ, and why
 *
 * - Lost hosts and seeds are looked for without a limit in time (there 24 h and 30 hosts, 30 min): a cut that lasts
 *   longer must heal as well. Cluster-wide the probes are a constant number a second.
 * - Acks of indirect probes go to the asker's own address (there to the asker's host at the target's port).
 * - Being suspected counts against the local health; a nack is expected from relays (Lifeguard, both in full). Missing
 *   nacks count once a probe: in half of a cluster half of the relays are cut off, and nobody is slow for that.
 * - The ping is sent again by both paths beside indirect probes: lost datagrams alone make nobody suspect.
 * - Suspects are reminded by a few hosts, and silence confirms, instead of taking turns in the round of probes: halves of
 *   1,000 hosts see themselves alone after 40 s, where the round alone took seven minutes (test/sim, halves).
 * - Where round trips are long, a probe ends after the next one has begun (test/sim, wan: no suspicions at 150 ms).
 * - An operator can evict a host, and it stays out until its process starts again.
 * - The interval is 1 s, and a confirmation is enough with three hosts: a dead one of three is gone in 5 to 9 s.
 */

/** Settings of one host; times in milliseconds. */
export interface UnderlayOptions {
  readonly id: HostId;
  readonly name: string;
  readonly address: Address;
  readonly version: string;
  readonly environment: string;
  readonly timing: UnderlayTiming;
}

export interface UnderlayTiming {
  /** One probe in each; the detection time is bounded by it (default 1,000). */
  readonly probeIntervalMs: number;
  /** Direct answer expected within, before indirect probes go out (500). */
  readonly probeTimeoutMs: number;
  readonly gossipIntervalMs: number;
  readonly healIntervalMs: number;
  /** First pause between two joins to a seed that does not answer; grows to `seedRetryMaxMs`, never given up. */
  readonly seedRetryMs: number;
  readonly seedRetryMaxMs: number;
}

/** One host as this host sees it. */
export interface HostView {
  readonly record: HostRecord;
  readonly state: 'alive' | 'suspect';
  /** Wall clock of the last change of `state` or of joining, milliseconds since 1970. */
  readonly sinceMs: number;
  /** Smoothed round-trip time of probes by datagram, milliseconds; -1 while none comes back. */
  readonly roundTripMs: number;
  /** Its clock minus ours when last heard from, milliseconds, network delay included; 0 when never heard from. */
  readonly clockSkewMs: number;
  /** True when probes reach it only through others while its own packets arrive here, or the other way round. */
  readonly oneWay: boolean;
}

/** Exactly one for each change of the view. The host itself is in its own view from the start, without an event. */
export type HostEvent =
  | { readonly kind: 'joined'; readonly host: HostRecord }
  | { readonly kind: 'updated'; readonly host: HostRecord }
  | { readonly kind: 'suspected'; readonly host: HostRecord }
  | { readonly kind: 'trusted'; readonly host: HostRecord }
  | { readonly kind: 'gone'; readonly host: HostRecord; readonly reason: GoneReason }
  /** This host was evicted by an operator: it is silent from now on and stays out until its process starts again. */
  | { readonly kind: 'self-evicted'; readonly by: HostId };

/** Messages of one turn for one destination; the driver makes one packet of them (more if they do not fit). */
export interface Send {
  readonly to: Address;
  readonly path: Path;
  readonly messages: readonly Message[];
}

/** What a turn has brought: plain data for the driver to obey. Taking it empties it. */
export interface Ready {
  readonly sends: readonly Send[];
  readonly events: readonly HostEvent[];
  /** Messages for the layers above. */
  readonly payloads: readonly {
    readonly from: HostId;
    readonly channel: string;
    readonly bytes: Uint8Array;
  }[];
  /** Anti-entropy of maps other than the host map. */
  readonly crdt: readonly { readonly from: HostId; readonly map: string; readonly message: CrdtMessage }[];
}

/** The machine: everything that the layers above and the driver use. `Underlay` implements it. */
export interface UnderlayMachine {
  readonly self: HostRecord;
  /** A packet that the driver has opened and decoded. Never throws, whatever is in it. */
  receive(packet: Packet, from: Address, path: Path): void;
  /** A packet could not be opened: other key, forged or replayed. Counted, and told in words once a minute. */
  receiveSealed(from: Address, why: 'key' | 'replay' | 'malformed'): void;
  unreachable(to: Address, path: Path): void;
  /** To be called at or after `nextDeadlineMs()` of the monotonic clock; calls at other times do no harm. */
  tick(): void;
  nextDeadlineMs(): number;
  ready(): Ready;
  /** The seeds as resolved now; may be called again whenever names resolve differently. Own address is ignored. */
  setSeeds(seeds: readonly Address[]): void;
  setAgents(agents: readonly string[]): void;
  /** To a host of the view; false when it is not in the view. */
  send(to: HostId, path: Path, message: Extract<Message, { kind: 'payload' | 'crdt' }>): boolean;
  /** An operator's word: the host is out until its process starts again. False when it is not in the view. */
  evict(id: HostId): boolean;
  /** Says goodbye; `left()` is true once enough hosts have heard it or `leaveTimeout` has passed. */
  leave(): void;
  left(): boolean;
  hosts(): readonly HostView[];
  /** Local health multiplier of Lifeguard: 0 is healthy. */
  healthScore(): number;
  /** What the doctor tells of: bounded lists. */
  seedStates(): readonly SeedState[];
  refusals(): readonly Refusal[];
  lostHosts(): readonly { readonly record: HostRecord; readonly sinceMs: number }[];
  /** Counted since the start, for metrics. */
  readonly counters: UnderlayCounters;
}

export interface SeedState {
  readonly address: Address;
  /** Wall clock of the last join that was answered, milliseconds since 1970; 0 when none ever was. */
  readonly answeredMs: number;
  readonly tries: number;
}

/** Packets that were not taken in, one row for each address and reason. */
export interface Refusal {
  readonly address: Address;
  readonly why: 'environment' | 'key' | 'replay' | 'malformed' | 'evicted';
  /** The other environment's name where it is known. */
  readonly detail: string;
  readonly count: number;
  readonly lastMs: number;
}

export interface UnderlayCounters {
  probes: number;
  probeFailures: number;
  indirectProbes: number;
  suspicions: number;
  refutations: number;
  failures: number;
  heals: number;
  rumoursSent: number;
  rumoursHeard: number;
  joinsSent: number;
  joinsHeard: number;
  /** Of the host map's anti-entropy: comparisons that found a difference, deltas sent again, messages that were none. */
  mapRepairs: number;
  mapResends: number;
  mapMalformed: number;
}

/** Hosts that hear by stream what must not be lost with this one. */
const TOLD_DIRECTLY = 3;

export class Underlay implements UnderlayMachine {
  readonly counters: UnderlayCounters = newCounters();
  private readonly env: Env;
  private readonly timing: UnderlayTiming;
  private readonly own: OwnRecord;
  private readonly sinceMs: number;
  private readonly outbox = new Outbox();
  private readonly health = new LocalHealth();
  private readonly departure = new Departure();
  private readonly refused: Refusals;
  private readonly view: View;
  private readonly detector: Detector;
  private readonly joins: Joins;
  private readonly hostMap: HostMap;
  private readonly gossip: Gossip;
  private readonly reception: Reception;
  private isEvicted = false;

  constructor({ environment, timing, ...identity }: UnderlayOptions, env: Env) {
    const { counters, outbox, health } = this;
    this.env = env;
    this.timing = timing;
    this.sinceMs = env.clock.wallMs();
    this.own = new OwnRecord(identity, this.sinceMs);
    const context: Context = { env, timing, environment, own: this.own, outbox, health, counters };
    this.refused = new Refusals(env);
    const view = new View(context, this);
    this.view = view;
    this.detector = new Detector(context, view);
    this.joins = new Joins(context, view, id => this.hostMap.addContact(id));
    this.hostMap = new HostMap(context, view, this);
    this.gossip = new Gossip(context, view);
    const { detector, joins, hostMap, refused: refusals } = this;
    this.reception = new Reception({ ...context, view, detector, joins, hostMap, refusals });
  }

  get self(): HostRecord {
    return this.own.record;
  }

  // -- Inputs ----------------------------------------------------------------------------------------------

  receive(packet: Packet, from: Address, path: Path): void {
    if (!this.isSilent) this.reception.receive(packet, from, path, this.awake());
  }

  receiveSealed(from: Address, why: 'key' | 'replay' | 'malformed'): void {
    this.refused.note(from, why, '');
  }

  unreachable(to: Address, path: Path): void {
    if (path === 'stream' && !this.isSilent) this.detector.onUnreachable(to, this.env.clock.monotonicMs());
  }

  tick(): void {
    if (this.isSilent) return;
    const nowMs = this.awake();
    if (!this.view.isLeaving) {
      this.detector.tick(nowMs);
      this.view.tendSuspicions(nowMs, this.onFailed, this.remind);
      this.joins.tick(nowMs);
    }
    this.gossip.tick(nowMs);
    this.hostMap.tick(nowMs);
    this.departure.tick(nowMs, !this.view.rumours.has(this.own.id) || this.view.members.size === 0);
  }

  nextDeadlineMs(): number {
    if (this.isSilent) return Number.POSITIVE_INFINITY;
    const common = Math.min(this.gossip.nextMs, this.hostMap.nextMs);
    if (this.view.isLeaving)
      return this.view.members.size === 0 ? 0 : Math.min(common, this.departure.nextMs);
    return Math.min(common, this.detector.nextMs, this.view.suspicions.firstMs, this.joins.nextMs);
  }

  ready(): Ready {
    if (!this.isSilent) this.hostMap.settle();
    const sends = this.outbox.take();
    if (!this.isSilent) this.gossip.piggyback(sends);
    const { events } = this.view;
    const { payloads, crdt } = this.reception;
    if (events.length > 0) this.view.events = [];
    if (payloads.length > 0) this.reception.payloads = [];
    if (crdt.length > 0) this.reception.crdt = [];
    return { sends, events, payloads, crdt };
  }

  // -- Orders ----------------------------------------------------------------------------------------------

  setSeeds(seeds: readonly Address[]): void {
    this.joins.seeds.set(seeds, this.own.record.address, this.env.clock.monotonicMs());
  }

  setAgents(agents: readonly string[]): void {
    if (this.isSilent || this.view.isLeaving) return;
    this.own.setAgents(agents);
    this.view.tellOwn();
  }

  send(to: HostId, path: Path, message: Extract<Message, { kind: 'payload' | 'crdt' }>): boolean {
    const member = this.view.members.get(to);
    if (member === undefined || this.isSilent) return false;
    this.outbox.push(member.record.address, to, path, message);
    return true;
  }

  evict(id: HostId): boolean {
    if (this.isSilent) return false;
    const { own, view } = this;
    const member = view.members.get(id);
    if (member === undefined && id !== own.id) return false;
    const incarnation = member?.record.incarnation ?? own.incarnation;
    const gone = { kind: 'gone', id, incarnation, reason: 'evicted', by: own.id } as const;
    this.hostMap.evict(id);
    view.gone(id, incarnation, 'evicted', own.id);
    if (member === undefined) {
      this.tellSome(gone);
      return true;
    }
    this.outbox.push(member.record.address, id, 'stream', {
      kind: 'notice',
      id,
      incarnation,
      reason: 'evicted',
    });
    return true;
  }

  leave(): void {
    if (this.isSilent || this.view.isLeaving) return;
    const { id, incarnation } = this.own;
    const gone = { kind: 'gone', id, incarnation, reason: 'left', by: id } as const;
    this.view.isLeaving = true;
    this.view.rumours.add(id, gone, this.view.hosts, false);
    this.tellSome(gone);
    this.detector.stop();
    this.hostMap.withdraw();
    const nowMs = this.env.clock.monotonicMs();
    this.departure.begin(nowMs);
    this.departure.tick(nowMs, this.view.members.size === 0);
  }

  left(): boolean {
    return this.departure.hasLeft;
  }

  /** By the path that arrives, for what must not be lost with this host. */
  private tellSome(message: Message): void {
    const { list } = this.view.members;
    const from = below(this.env.random, list.length);
    for (let told = 0; told < TOLD_DIRECTLY && told < list.length; told++) {
      const { address, id } = list[(from + told) % list.length]!.record;
      this.outbox.push(address, id, 'stream', message);
    }
  }

  // -- What is known ---------------------------------------------------------------------------------------

  hosts(): readonly HostView[] {
    const nowMs = this.env.clock.monotonicMs();
    // A host of the view pings this one about once in as many intervals as there are hosts.
    const silenceMs = 3 * this.view.hosts * this.timing.probeIntervalMs;
    const self: HostView = {
      record: this.own.record,
      state: 'alive',
      sinceMs: this.sinceMs,
      roundTripMs: -1,
      clockSkewMs: 0,
      oneWay: false,
    };
    return [self, ...this.view.members.list.map(member => hostView(member, nowMs, silenceMs))];
  }

  healthScore(): number {
    return this.health.score;
  }

  seedStates(): readonly SeedState[] {
    return this.joins.seeds.states();
  }

  refusals(): readonly Refusal[] {
    return this.refused.all();
  }

  lostHosts(): readonly { readonly record: HostRecord; readonly sinceMs: number }[] {
    return this.joins.healer.all();
  }

  /** Entries of every list that is kept: none may grow without bound. */
  entries(): Readonly<Record<string, number>> {
    const { members, rumours, suspicions } = this.view;
    return {
      members: members.size,
      tombstones: members.tombstones,
      rumours: rumours.size,
      suspicions: suspicions.size,
      probeList: this.detector.size,
      relays: this.detector.relays.size,
      lost: this.joins.healer.size,
      seeds: this.joins.seeds.size,
      paced: this.joins.paced,
      refusals: this.refused.size,
      outbox: this.outbox.size,
      ...this.hostMap.entries(),
    };
  }

  private readonly onFailed = (host: HostRecord) => this.joins.notice(host.id, host.address);

  private readonly remind = (suspect: Member) => this.detector.remind(suspect);

  /** The time now, after seeing to it that this host was awake until now. */
  private awake(): number {
    const nowMs = this.env.clock.monotonicMs();
    const lateMs = nowMs - Math.min(this.detector.nextMs, this.view.suspicions.firstMs);
    if (lateMs > this.timing.probeTimeoutMs) {
      this.detector.wake(nowMs);
      this.view.postpone(lateMs);
    }
    return nowMs;
  }

  /** Nothing is said any more. */
  private get isSilent(): boolean {
    return this.isEvicted || this.departure.hasLeft;
  }

  // -- Changes of the view ---------------------------------------------------------------------------------

  onAdded(member: Member): void {
    const { id } = member.record;
    this.joins.healer.delete(id);
    this.detector.add(member);
    this.hostMap.onAdded(id);
  }

  onSuspectedByOthers(member: Member): void {
    this.detector.maybeConfirm(member);
    if (this.view.isHeard(member)) this.joins.accuse(member);
  }

  onGone(record: HostRecord, reason: GoneReason): void {
    const nowMs = this.env.clock.monotonicMs();
    if (reason === 'failed') this.joins.healer.add(record, this.env.clock.wallMs(), nowMs);
    this.joins.seeds.onGone(record.address, record.id, nowMs);
    this.hostMap.onGone(record.id);
  }

  onReason(id: HostId, reason: GoneReason): void {
    if (reason !== 'failed') this.joins.healer.delete(id);
  }

  onRenewed(): void {
    this.hostMap.onRenewed();
  }

  onSelfEvicted(by: HostId): void {
    this.isEvicted = true;
    this.reception.isClosed = true;
    this.outbox.take();
    this.view.events.push({ kind: 'self-evicted', by });
  }

  onDisbelieved(record: HostRecord): void {
    this.joins.notice(record.id, record.address);
  }

  onVanished(id: HostId): void {
    const member = this.view.members.get(id);
    if (member !== undefined) this.detector.hasten(member);
  }
}
