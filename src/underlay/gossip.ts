import type { Env } from '../base/env.js';
import { below } from './chance.js';
import type { Context } from './context.js';
import type { Member } from './members.js';
import type { Message } from './message.js';
import { DATAGRAM_BUDGET_BYTES, type Outbox, type Parcel } from './outbox.js';
import type { UnderlayCounters, UnderlayTiming } from './underlay.js';
import type { View } from './view.js';

/** Hosts that are told in each gossip interval. */
const FAN_OUT = 4;

/** What rumours that are too large for a datagram may take by stream. */
const STREAM_BUDGET_BYTES = 262_144;

/** Rumours are worth a packet's remaining space if it has this much. */
const SPACE_BYTES_MIN = 64;

/**
 * Tells rumours: in packets of their own while there are any, to random hosts, and in the space that is left in the
 * datagrams of probes and joins (SWIM's piggyback, section 4.1).
 */
export class Gossip {
  private readonly view: View;
  private readonly outbox: Outbox;
  private readonly env: Env;
  private readonly timing: UnderlayTiming;
  private readonly counters: UnderlayCounters;
  /** Those told in this round: nobody twice. */
  private readonly listeners: Member[] = [];
  private lastMs = Number.NEGATIVE_INFINITY;

  constructor({ outbox, env, timing, counters }: Context, view: View) {
    this.view = view;
    this.outbox = outbox;
    this.env = env;
    this.timing = timing;
    this.counters = counters;
  }

  get nextMs(): number {
    const hasNews = this.view.rumours.size > 0 && this.view.members.size > 0;
    return hasNews ? this.lastMs + this.timing.gossipIntervalMs : Number.POSITIVE_INFINITY;
  }

  tick(nowMs: number): void {
    const { rumours, members } = this.view;
    if (nowMs < this.nextMs) return;
    this.lastMs = nowMs;
    const { list } = members;
    const from = below(this.env.random, list.length);
    const isShort = list.length <= FAN_OUT;
    let told = 0;
    for (let tries = 0; tries < 2 * FAN_OUT && told < FAN_OUT && told < list.length; tries++) {
      const at = isShort ? (from + told) % list.length : below(this.env.random, list.length);
      const listener = list[at]!;
      if (this.listeners.includes(listener)) continue;
      this.listeners[told++] = listener;
      if (rumours.hasLarge) this.tell(listener, 'stream', STREAM_BUDGET_BYTES);
      else this.tell(listener, 'datagram', DATAGRAM_BUDGET_BYTES);
    }
    this.listeners.length = 0;
  }

  /** Fills the space that is left in datagrams. */
  piggyback(parcels: readonly Parcel[]): void {
    const { rumours, hosts } = this.view;
    for (const parcel of parcels) {
      if (rumours.size === 0) return;
      const left = DATAGRAM_BUDGET_BYTES - parcel.bytes;
      if (parcel.isFull || parcel.path !== 'datagram' || left < SPACE_BYTES_MIN) continue;
      const before = parcel.messages.length;
      parcel.bytes += rumours.take(parcel.toId, left, hosts, parcel.messages);
      this.counters.rumoursSent += parcel.messages.length - before;
    }
  }

  private tell(member: Member, path: 'datagram' | 'stream', budgetBytes: number): void {
    const messages: Message[] = [];
    const { id, address } = member.record;
    const bytes = this.view.rumours.take(id, budgetBytes, this.view.hosts, messages);
    if (messages.length === 0) return;
    this.counters.rumoursSent += messages.length;
    this.outbox.add({ to: address, toId: id, path, messages, bytes, isFull: true });
  }
}
