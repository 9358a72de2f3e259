import type { Env } from '../base/env.js';
import { below } from './chance.js';
import type { Context } from './context.js';
import type { LocalHealth } from './health.js';
import type { Link, Member } from './members.js';
import type { Address, HostId, Path } from './message.js';
import type { Outbox } from './outbox.js';
import type { OwnRecord } from './own-record.js';
import { ProbeList } from './probe-list.js';
import { Relays } from './relays.js';
import type { UnderlayCounters, UnderlayTiming } from './underlay.js';
import type { View } from './view.js';

/** Hosts that are asked to probe for us (SWIM's k). */
const RELAYS_ASKED = 3;

/**
 * Over long distances a direct answer is waited for so many round trips at least, and one through others, or over a
 * stream that has to be opened first, so many more. A probe may then end after the next one has begun. A round trip counts as one interval at most, lest
 * a host that answers ever more slowly is never found out.
 */
const DIRECT_ROUND_TRIPS = 1.5;
const INDIRECT_ROUND_TRIPS = 3;

/** Probes under way at once; the oldest is cut short by one more. */
const PROBES_MAX = 4;

/** Hosts of a cluster of any size that probe a new suspect out of turn. */
const CONFIRMERS = 6;

/** A relay's nack comes this share of the remaining time after it was asked, so that it is in time. */
const NACK_SHARE = 0.8;

/** Longest that this host keeps a probe for another, milliseconds. */
const NACK_AFTER_MAX_MS = 10_000;

const SEQUENCE_MAX = 0x3fff_ffff;

/** The sequence of pings whose ack nobody waits for. */
const UNASKED = 0;

/** Answered probes in a row without a datagram from the target, until its round-trip time is not known any more. */
const UNMEASURED_PROBES = 3;

const NEVER = Number.POSITIVE_INFINITY;

interface Probe {
  readonly target: Member;
  readonly sequence: number;
  readonly sentMs: number;
  /** As it is expected to the target; 0 when that is not known. */
  readonly roundTripMs: number;
  /** When indirect probes go out; Infinity when they have. */
  indirectMs: number;
  /** When it is judged. */
  readonly endMs: number;
  isAcked: boolean;
  isDirect: boolean;
  /** Answered by datagram. */
  isMeasured: boolean;
  hasRelays: boolean;
  nacksMissing: number;
}

/**
 * The failure detector of SWIM (Das et al. 2002, section 3.1) with Lifeguard's local health (Dadgar et al. 2018). One
 * probe in each interval: ping; without an answer in time, the ping again, by both paths, and ping-requests to a few others:
 * the stream gets through where datagrams are lost. Nothing by the end of the interval: the target is suspected. Where
 * round trips are long a probe has more time than that.
 */
export class Detector {
  readonly relays: Relays;
  private readonly list: ProbeList;
  private readonly own: OwnRecord;
  private readonly view: View;
  private readonly health: LocalHealth;
  private readonly outbox: Outbox;
  private readonly env: Env;
  private readonly timing: UnderlayTiming;
  private readonly counters: UnderlayCounters;
  /** Under way, the oldest first: more than one only where answers take long. */
  private probes: Probe[] = [];
  /** Smoothed round-trip time to all hosts; 0 before the first is measured. */
  private roundTripMs = 0;
  private beginMs = NEVER;
  private sequence = 0;

  constructor({ own, health, outbox, env, timing, counters }: Context, view: View) {
    this.own = own;
    this.view = view;
    this.health = health;
    this.outbox = outbox;
    this.env = env;
    this.timing = timing;
    this.counters = counters;
    this.list = new ProbeList(env.random);
    this.relays = new Relays(outbox);
  }

  /** Entries of the list of targets. */
  get size(): number {
    return this.list.size;
  }

  get nextMs(): number {
    let nextMs = Math.min(this.beginMs, this.relays.nextMs);
    for (const { indirectMs, endMs } of this.probes) nextMs = Math.min(nextMs, indirectMs, endMs);
    return nextMs;
  }

  add(member: Member): void {
    this.list.add(member, this.view.members.size);
    if (this.beginMs < NEVER) return;
    // Hosts that started together shall not probe in step.
    this.beginMs =
      this.env.clock.monotonicMs() + below(this.env.random, Math.ceil(this.timing.probeIntervalMs));
  }

  /** Something about the member looks odd: probe it soon. */
  hasten(member: Member): void {
    this.list.hasten(member);
  }

  /** Others suspect the member: a few hosts, chosen by chance, look for themselves, and confirm or are answered. */
  maybeConfirm(member: Member): void {
    const { hosts } = this.view;
    if (hosts <= CONFIRMERS || below(this.env.random, hosts) < CONFIRMERS) this.list.hasten(member);
  }

  /** No more probes and answers for others. */
  stop(): void {
    this.probes = [];
    this.beginMs = NEVER;
  }

  tick(nowMs: number): void {
    this.relays.tick(nowMs);
    while (this.probes.length > 0 && nowMs >= this.probes[0]!.endMs) this.finish(this.probes.shift()!);
    for (const probe of this.probes) if (nowMs >= probe.indirectMs) this.probeIndirectly(probe, nowMs);
    if (nowMs < this.beginMs) return;
    if (this.probes.length >= PROBES_MAX) this.finish(this.probes.shift()!);
    this.begin(nowMs);
  }

  /** This host did not run: what it missed meanwhile says nothing about the target. */
  wake(nowMs: number): void {
    if (this.probes.length === 0) return;
    this.probes = [];
    this.beginMs = nowMs;
    this.health.worse(1);
  }

  /** A word to a suspect outside the order of probes: it shall contradict if it can. */
  remind({ record: { id, address }, suspicion }: Member): void {
    const suspected = suspicion?.incarnation ?? -1;
    this.outbox.push(address, id, 'datagram', { kind: 'ping', sequence: UNASKED, target: id, suspected });
  }

  private begin(nowMs: number): void {
    const target = this.list.take();
    if (target === undefined) {
      this.beginMs = NEVER;
      return;
    }
    const { factor } = this.health;
    const { id, address } = target.record;
    this.beginMs = nowMs + this.timing.probeIntervalMs * factor;
    const measuredMs = Math.max(this.roundTripMs, target.link?.roundTripMs ?? 0);
    const roundTripMs = Math.min(this.timing.probeIntervalMs, measuredMs);
    const indirectMs =
      nowMs + Math.max(this.timing.probeTimeoutMs * factor, DIRECT_ROUND_TRIPS * roundTripMs);
    // A probe ends before the one after it ends, so that they are judged in order.
    const lastMs = this.probes.at(-1)?.endMs ?? 0;
    const endMs = Math.max(this.beginMs, indirectMs + INDIRECT_ROUND_TRIPS * roundTripMs, lastMs);
    const sequence = this.nextSequence();
    this.probes.push({
      target,
      sequence,
      sentMs: nowMs,
      roundTripMs,
      indirectMs,
      endMs,
      isAcked: false,
      isDirect: false,
      isMeasured: false,
      hasRelays: false,
      nacksMissing: 0,
    });
    this.counters.probes += 1;
    this.outbox.push(address, id, 'datagram', {
      kind: 'ping',
      sequence,
      target: id,
      suspected: accused(target),
    });
  }

  private probeIndirectly(probe: Probe, nowMs: number): void {
    probe.indirectMs = NEVER;
    const { target, sequence } = probe;
    if (probe.isAcked || target.index < 0) return;
    const { id, address } = target.record;
    const leftMs = (probe.endMs - nowMs) * NACK_SHARE - probe.roundTripMs;
    const nackAfterMs = Math.max(0, Math.floor(leftMs));
    const again = { kind: 'ping', sequence, target: id, suspected: accused(target) } as const;
    this.outbox.push(address, id, 'datagram', again);
    this.outbox.push(address, id, 'stream', again);
    for (const relay of this.pickRelays(target)) {
      this.counters.indirectProbes += 1;
      probe.hasRelays = true;
      probe.nacksMissing += 1;
      const asked = { kind: 'ping-request', sequence, target: id, address, nackAfterMs } as const;
      this.outbox.push(relay.record.address, relay.record.id, 'datagram', asked);
    }
  }

  /** Healthy hosts at random; fewer than wanted when few are found in a bounded search. */
  private pickRelays(target: Member): Member[] {
    const { list } = this.view.members;
    const relays: Member[] = [];
    const from = below(this.env.random, list.length);
    for (let tries = 0; tries < 4 * RELAYS_ASKED && relays.length < RELAYS_ASKED; tries++) {
      // A short list is walked, so that the only relay there is will be found.
      const isShort = list.length <= 4 * RELAYS_ASKED;
      if (isShort && tries >= list.length) break;
      const at = isShort ? (from + tries) % list.length : below(this.env.random, list.length);
      const relay = list[at]!;
      if (relay !== target && relay.suspicion === null && !relays.includes(relay)) relays.push(relay);
    }
    return relays;
  }

  /** Judges a probe whose time is over. */
  private finish(probe: Probe): void {
    const { target } = probe;
    if (target.index < 0) return;
    if (probe.isAcked) {
      if (target.link !== null) judgeLink(target.link, probe);
      return;
    }
    this.counters.probeFailures += 1;
    // With relays at work, only their silence tells against this host (Lifeguard, section 4.1). However many are silent
    // it counts once: in half of a cluster half of them are cut off, and that shall not slow everybody down.
    this.health.worse(probe.hasRelays ? Math.min(1, probe.nacksMissing) : 1);
    const { id, incarnation } = target.record;
    const wasSuspected = target.suspicion !== null;
    this.view.suspect(id, incarnation, this.own.id);
    if (!wasSuspected)
      this.outbox.push(target.record.address, id, 'stream', {
        kind: 'suspect',
        id,
        incarnation,
        by: this.own.id,
      });
  }

  // -- Answers ---------------------------------------------------------------------------------------------

  onAck(sequence: number, target: HostId, from: HostId, path: Path, nowMs: number): void {
    const probe = this.probeOf(sequence, target);
    if (probe === undefined) {
      if (from === target) this.relays.onAnswer('ack', sequence, target);
      return;
    }
    if (from === target) {
      probe.isDirect = true;
      const { link } = probe.target;
      // Once it was sent again, nobody knows which ping is answered (Karn's rule).
      if (link !== null && path === 'datagram' && probe.indirectMs < NEVER) {
        probe.isMeasured = true;
        const roundTripMs = nowMs - probe.sentMs;
        link.roundTripMs = smoothed(link.roundTripMs, roundTripMs);
        this.roundTripMs = smoothed(this.roundTripMs || -1, roundTripMs);
      }
    }
    if (probe.isAcked) return;
    probe.isAcked = true;
    this.health.better();
  }

  onNack(sequence: number, target: HostId): void {
    const probe = this.probeOf(sequence, target);
    if (probe !== undefined && probe.nacksMissing > 0) probe.nacksMissing -= 1;
  }

  /** Another identity lives at the address of `target`: the strongest proof of a restart there is. */
  onMistaken(sequence: number, target: HostId): void {
    const isMine = this.probeOf(sequence, target) !== undefined;
    if (!isMine && !this.relays.onAnswer('mistaken', sequence, target)) return;
    const member = this.view.members.get(target);
    if (member !== undefined) this.view.gone(target, member.record.incarnation, 'replaced', this.own.id);
  }

  onPingRequest(
    asked: { kind: 'ping-request'; sequence: number; target: HostId; address: Address; nackAfterMs: number },
    asker: HostId,
    askerAddress: Address,
    nowMs: number,
  ): void {
    const nackAfterMs = Math.min(NACK_AFTER_MAX_MS, Math.max(0, asked.nackAfterMs));
    const target = this.view.members.get(asked.target);
    const suspected = target === undefined ? -1 : accused(target);
    const bounded = { ...asked, nackAfterMs };
    this.relays.begin(bounded, asker, askerAddress, this.nextSequence(), suspected, nowMs);
  }

  /** The stream to the target is refused: no use waiting for the direct answer. */
  onUnreachable(to: Address, nowMs: number): void {
    for (const probe of this.probes) {
      const isWaiting = !probe.isAcked && probe.indirectMs < NEVER;
      if (isWaiting && probe.target.record.address === to) this.probeIndirectly(probe, nowMs);
    }
  }

  private probeOf(sequence: number, target: HostId): Probe | undefined {
    for (const probe of this.probes)
      if (probe.sequence === sequence && probe.target.record.id === target) return probe;
    return undefined;
  }

  private nextSequence(): number {
    this.sequence = this.sequence >= SEQUENCE_MAX ? 1 : this.sequence + 1;
    return this.sequence;
  }
}

/** What an answered probe tells of the paths to its target. */
function judgeLink(link: Link, { isDirect, isMeasured }: Probe): void {
  link.indirectOnly = isDirect ? 0 : link.indirectOnly + 1;
  link.unmeasured = isMeasured ? 0 : link.unmeasured + 1;
  if (link.unmeasured >= UNMEASURED_PROBES) link.roundTripMs = -1;
}

/** RFC 6298, section 2; `soFar` is negative before the first measurement. */
function smoothed(soFar: number, measured: number): number {
  return soFar < 0 ? measured : soFar * 0.875 + measured * 0.125;
}

/** Buddy piggyback: the incarnation at which the member is suspected, -1 if it is not (Lifeguard, section 4.3). */
function accused(member: Member): number {
  return member.suspicion === null ? -1 : member.suspicion.incarnation;
}
