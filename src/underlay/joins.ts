import type { Env } from '../base/env.js';
import { below } from './chance.js';
import type { Context } from './context.js';
import { Healer } from './healer.js';
import { isHostId, isHostRecord, isIncarnation } from './host-record.js';
import type { Member } from './members.js';
import type { Address, HostId, HostRecord, Message, Path } from './message.js';
import { messageBytes } from './message-size.js';
import { DATAGRAM_BUDGET_BYTES, type Outbox } from './outbox.js';
import type { OwnRecord } from './own-record.js';
import { Pace } from './pace.js';
import { Seeds } from './seeds.js';
import type { UnderlayCounters } from './underlay.js';
import type { View } from './view.js';

/** Alive hosts that a join's answer names: enough to find others when the answering host dies at once. */
const SAMPLE_MAX = 8;

/** A host that is held as gone is told so once in this time, milliseconds; all together so many in a second. */
const NOTICE_GAP_MS = 1_000;
const NOTICES_PER_SECOND = 32;

/** A host that is not known but speaks is asked who it is. */
const ASK_GAP_MS = 1_000;
const ASKS_PER_SECOND = 16;

type Join = Extract<Message, { kind: 'join' }>;
type Notice = Extract<Message, { kind: 'notice' }>;

/** Who has missed that a host is gone is told; about each host once in this time. */
const CORRECTION_GAP_MS = 100;
const CORRECTIONS_PER_SECOND = 64;

/** A pair of hosts has just greeted each other. */
export type OnContact = (id: HostId) => void;

/**
 * How hosts come into each other's views, and back into them: joins to seeds, directed joins to lost hosts, and notices
 * to hosts that act alive while they are held as gone. A host that was gone is believed only at a higher incarnation,
 * and it learns that from a notice; so one that can be heard but not reached never comes and goes.
 */
export class Joins {
  readonly seeds: Seeds;
  readonly healer: Healer;
  private readonly own: OwnRecord;
  private readonly view: View;
  private readonly outbox: Outbox;
  private readonly env: Env;
  private readonly environment: string;
  private readonly counters: UnderlayCounters;
  private readonly onContact: OnContact;
  private readonly notices = new Pace<HostId>(NOTICE_GAP_MS, NOTICES_PER_SECOND);
  private readonly corrections = new Pace<HostId>(CORRECTION_GAP_MS, CORRECTIONS_PER_SECOND);
  private readonly asks = new Pace<HostId>(ASK_GAP_MS, ASKS_PER_SECOND);

  constructor(context: Context, view: View, onContact: OnContact) {
    const { own, outbox, env, environment, counters, timing } = context;
    this.own = own;
    this.view = view;
    this.outbox = outbox;
    this.env = env;
    this.environment = environment;
    this.counters = counters;
    this.onContact = onContact;
    this.seeds = new Seeds(env.random, timing);
    this.healer = new Healer(env.random, timing);
  }

  get nextMs(): number {
    return Math.min(this.seeds.nextMs, this.healer.nextMs);
  }

  /** Hosts that were told or asked something lately. */
  get paced(): number {
    return this.notices.size + this.asks.size + this.corrections.size;
  }

  tick(nowMs: number): void {
    const { members } = this.view;
    if (nowMs >= this.seeds.nextMs) {
      const isInView = (address: Address, host: HostId) =>
        members.at(address) !== undefined || members.get(host) !== undefined || host === this.own.id;
      for (const { address, path } of this.seeds.due(nowMs, isInView)) this.join(address, 0, true, path);
    }
    const lost = this.healer.due(nowMs, this.view.hosts);
    if (lost !== undefined) this.join(lost.address, lost.id, true, 'datagram');
  }

  // -- Joins -----------------------------------------------------------------------------------------------

  private join(to: Address, expected: HostId, reply: boolean, path: Path): void {
    this.counters.joinsSent += 1;
    this.outbox.push(to, expected, path, {
      kind: 'join',
      record: this.own.record,
      expected,
      reply,
      environment: this.environment,
    });
  }

  onJoin(join: Join, from: Address, path: Path): void {
    this.counters.joinsHeard += 1;
    const { record, expected, reply } = join;
    if (!isHostRecord(record)) return;
    const wallMs = this.env.clock.wallMs();
    if (path === 'datagram') this.seeds.onAnswer(from, record.address, record.id, wallMs);
    if (record.id === this.own.id) return;
    const wasLost = this.healer.get(record.id) !== undefined;
    const outcome = this.view.alive(record, true);
    if (outcome === 'invalid') return;
    if (outcome === 'disbelieved') this.notice(record.id, record.address);
    else {
      if (wasLost) this.counters.heals += 1;
      this.onContact(record.id);
    }
    const { id } = this.own;
    if (expected !== 0 && expected !== id && isHostId(expected)) {
      // It looks for somebody who lived here before us.
      this.outbox.push(record.address, record.id, 'datagram', {
        kind: 'mistaken',
        sequence: 0,
        target: expected,
      });
    }
    // A join that came from another address than the advertised one, as over NAT or a service's address, is answered
    // there: so the asker knows that its seed has answered.
    if (reply) this.answer(path === 'datagram' ? from : record.address, record.id, outcome === 'new', path);
  }

  private answer(to: Address, id: HostId, isNew: boolean, path: Path): void {
    this.join(to, id, false, path);
    if (!isNew) return;
    let left = DATAGRAM_BUDGET_BYTES / 2;
    for (const record of this.sample(id)) {
      const alive = { kind: 'alive', record } as const;
      left -= messageBytes(alive);
      if (left < 0) break;
      this.outbox.push(to, id, 'datagram', alive);
    }
  }

  private sample(except: HostId): HostRecord[] {
    const { list } = this.view.members;
    const chosen: HostRecord[] = [];
    for (let tries = 0; tries < 2 * SAMPLE_MAX && chosen.length < SAMPLE_MAX; tries++) {
      const isShort = list.length <= SAMPLE_MAX;
      if (isShort && tries >= list.length) break;
      const { record } = list[isShort ? tries : below(this.env.random, list.length)]!;
      if (record.id !== except && !chosen.includes(record)) chosen.push(record);
    }
    return chosen;
  }

  /** A join or a reminder was for `target`, who lived at that address before: a zombie behind a reused address. */
  onMistaken(target: HostId): void {
    const { members } = this.view;
    const suspicion = members.get(target)?.suspicion;
    const isSought = this.healer.get(target) !== undefined;
    const incarnation =
      suspicion?.incarnation ?? (isSought ? members.tombstone(target)?.incarnation : undefined);
    if (incarnation !== undefined) this.view.gone(target, incarnation, 'replaced', this.own.id);
  }

  /** `from` takes a host for alive that is gone: it missed the news. */
  correct(about: HostId, incarnation: number, from: HostId, to: Address): void {
    const tombstone = this.view.members.tombstone(about);
    if (tombstone === undefined || incarnation > tombstone.incarnation) return;
    if (!this.corrections.allows(about, this.env.clock.monotonicMs())) return;
    const { incarnation: goneAt, reason } = tombstone;
    this.outbox.push(to, from, 'datagram', {
      kind: 'gone',
      id: about,
      incarnation: goneAt,
      reason,
      by: this.own.id,
    });
  }

  // -- Hosts that act alive ----------------------------------------------------------------------------------

  /** Tells a host that it is held as gone, once in a while. The host at its address, if another, is introduced. */
  notice(id: HostId, to: Address): void {
    const tombstone = this.view.members.tombstone(id);
    if (tombstone === undefined || tombstone.reason === 'left') return;
    if (!this.notices.allows(id, this.env.clock.monotonicMs())) return;
    const { incarnation, reason } = tombstone;
    this.outbox.push(to, id, 'datagram', { kind: 'notice', id, incarnation, reason });
    const rival = reason === 'replaced' ? this.view.members.at(to) : undefined;
    if (rival !== undefined) this.outbox.push(to, id, 'datagram', { kind: 'alive', record: rival.record });
  }

  /** A suspect speaks, so it can be heard, and may not know that it has to contradict. */
  accuse({ record: { id, address, incarnation: known }, suspicion }: Member): void {
    const incarnation = suspicion?.incarnation ?? known;
    if (!this.notices.allows(id, this.env.clock.monotonicMs())) return;
    this.outbox.push(address, id, 'datagram', { kind: 'suspect', id, incarnation, by: this.own.id });
  }

  /** A packet came from a host that is not in the view: it hears that it is held as gone, or is asked who it is. */
  onStranger(id: HostId, incarnation: number, from: Address, path: Path): void {
    const tombstone = this.view.members.tombstone(id);
    const known = this.healer.get(id)?.record.address;
    // The source of a stream is no address that one could answer to.
    const to = known ?? (path === 'datagram' ? from : undefined);
    if (to === undefined) return;
    if (tombstone !== undefined && incarnation <= tombstone.incarnation) this.notice(id, to);
    else if (this.asks.allows(id, this.env.clock.monotonicMs())) this.join(to, id, true, 'datagram');
  }

  /** We are held as gone by `from`: contradict, and show the new record at once. */
  onNotice({ incarnation, reason }: Notice, from: HostId, fromAddress: Address, path: Path): void {
    if (!isIncarnation(incarnation) || this.view.isLeaving) return;
    const isEvicted = reason === 'evicted';
    if (isEvicted || incarnation >= this.own.incarnation)
      this.view.gone(this.own.id, incarnation, reason, from);
    if (isEvicted) return;
    const to = this.view.members.get(from)?.record.address ?? this.healer.get(from)?.record.address;
    const answerTo = to ?? (path === 'datagram' ? fromAddress : undefined);
    if (answerTo !== undefined && this.asks.allows(from, this.env.clock.monotonicMs()))
      this.join(answerTo, from, true, 'datagram');
  }
}
