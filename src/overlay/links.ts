import { jittered } from '../underlay/chance.js';
import type { HostId, Path } from '../underlay/message.js';
import type { AgentSent } from './agent.js';
import { type AckMessage, type DataMessage, encodeLinkMessage } from './codec.js';
import type { Context } from './context.js';
import { InLink } from './in-link.js';
import { LINKS_BYTES_MAX } from './limits.js';
import { type Outgoing, OutLink, outgoingBytes } from './out-link.js';

/** Hosts that do not carry the agent (any more) whose receiving ends are kept; the one gone longest is forgotten first. */
export const GONE_LINKS_MAX = 1_024;

/** What is not acknowledged within is sent again; doubled each time up to the maximum, jittered. */
const RETRY_MS = 1_000;
const RETRY_MAX_MS = 8_000;

/** The stream has broken, and perhaps what was under way with it: the first retry need not wait for longer. */
const BROKEN_MS = 100;

/** A repeated message tells that its acknowledgement was lost: for so long they take the stream. */
const STREAM_ACKS_MS = 60_000;

/**
 * The links of one agent.
 *
 * | message | sent | answered |
 * | --- | --- | --- |
 * | data, reliable | by stream, numbered 1, 2, 3 … in each epoch | ack: the last number that arrived in order |
 * | data, best effort | by datagram where it fits, with a number of its own, so that a copy is known as one | no |
 * | ack | once a turn, by datagram; by stream after a data message came again | no |
 *
 * An epoch is one sending end. The receiver follows the greatest one it has heard and ignores what is left over of
 * earlier ones. It answers what is out of order with where it stands, and never lets anything by twice.
 */
export class Links {
  private readonly agent: string;
  private readonly context: Context;
  private readonly outs = new Map<HostId, OutLink>();
  private readonly ins = new Map<HostId, InLink>();
  /** Keys of `ins`: hosts that are not in the landscape, the one that left it longest ago first. */
  private readonly gone = new Set<HostId>();
  /** Sending ends with something unacknowledged. */
  private readonly busy = new Set<OutLink>();
  private readonly acksDue = new Map<HostId, InLink>();
  private dueMs = Number.POSITIVE_INFINITY;
  /** Data sent again, for metrics and tests. */
  retries = 0;

  constructor(agent: string, context: Context) {
    this.agent = agent;
    this.context = context;
  }

  get nextMs(): number {
    return this.dueMs;
  }

  entries(): Readonly<Record<string, number>> {
    const { outs, ins, gone, busy } = this;
    let queued = 0;
    for (const link of busy) queued += link.unacknowledged;
    return { outLinks: outs.size, inLinks: ins.size, goneLinks: gone.size, unacknowledged: queued };
  }

  // -- Hosts -------------------------------------------------------------------------------------------------

  onJoined(host: HostId): void {
    this.gone.delete(host);
  }

  /** Ends the link to the host; how many reliable messages were not acknowledged. */
  onLeft(host: HostId): number {
    if (this.ins.has(host)) this.addGone(host);
    const link = this.outs.get(host);
    if (link === undefined) return 0;
    this.outs.delete(host);
    this.busy.delete(link);
    this.context.budget.bytes -= link.bytes;
    return link.unacknowledged;
  }

  // -- Sending -----------------------------------------------------------------------------------------------

  sendReliable(host: HostId, message: Outgoing): AgentSent {
    const { budget } = this.context;
    const bytes = outgoingBytes(message);
    const link = this.linkTo(host);
    if (!link.fits(bytes) || (budget.bytes > 0 && budget.bytes + bytes > LINKS_BYTES_MAX)) return 'full';
    link.push(message);
    budget.bytes += bytes;
    this.pump(link, this.context.env.clock.monotonicMs());
    return 'sent';
  }

  sendUnordered(host: HostId, { from, to, bytes }: Outgoing): void {
    const link = this.linkTo(host);
    const sequence = link.takeNumber();
    this.send(host, 'datagram', this.dataMessage(link, sequence, false, { from, to, bytes }));
  }

  private linkTo(host: HostId): OutLink {
    let link = this.outs.get(host);
    if (link === undefined) {
      link = new OutLink(host, this.context.nextEpoch());
      this.outs.set(host, link);
    }
    return link;
  }

  private pump(link: OutLink, nowMs: number): void {
    // While a retry is unanswered, nothing more is sent after it.
    while (link.retries === 0) {
      const next = link.takeNext();
      if (next === undefined) break;
      this.send(link.host, 'stream', this.dataMessage(link, next.sequence, true, next.message));
    }
    if (link.unacknowledged === 0 || this.busy.has(link)) return;
    this.busy.add(link);
    this.plan(link, nowMs);
  }

  private plan(link: OutLink, nowMs: number): void {
    this.retryAfter(link, nowMs, Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** link.retries));
  }

  private retryAfter(link: OutLink, nowMs: number, delayMs: number): void {
    link.retryDueMs = nowMs + jittered(this.context.env.random, delayMs);
    if (link.retryDueMs < this.dueMs) this.dueMs = link.retryDueMs;
  }

  /** Something that was sent to the host by stream did not arrive. */
  onBroken(host: HostId): void {
    const link = this.outs.get(host);
    if (link === undefined || link.retries > 0 || !this.busy.has(link)) return;
    const nowMs = this.context.env.clock.monotonicMs();
    if (link.retryDueMs > nowMs + BROKEN_MS) this.retryAfter(link, nowMs, BROKEN_MS);
  }

  /** The first that is unacknowledged goes again; the answer tells where to go on. */
  tick(nowMs: number): void {
    if (nowMs < this.dueMs) return;
    this.dueMs = Number.POSITIVE_INFINITY;
    for (const link of this.busy) {
      if (link.retryDueMs > nowMs) {
        if (link.retryDueMs < this.dueMs) this.dueMs = link.retryDueMs;
        continue;
      }
      link.rewind();
      const first = link.takeNext()!;
      this.retries++;
      link.retries++;
      this.send(link.host, 'stream', this.dataMessage(link, first.sequence, true, first.message));
      this.plan(link, nowMs);
    }
  }

  onAck(host: HostId, { epoch, sequence }: AckMessage): void {
    const link = this.outs.get(host);
    if (link === undefined || link.epoch !== epoch) return;
    const freed = link.acknowledge(sequence);
    if (freed === 0) return;
    this.context.budget.bytes -= freed;
    const nowMs = this.context.env.clock.monotonicMs();
    link.retries = 0;
    if (link.unacknowledged === 0) this.busy.delete(link);
    else this.plan(link, nowMs);
    this.pump(link, nowMs);
  }

  private dataMessage(link: OutLink, sequence: number, isReliable: boolean, message: Outgoing): DataMessage {
    const { host, epoch } = link;
    return { kind: 'data', agent: this.agent, target: host, epoch, sequence, isReliable, ...message };
  }

  private send(host: HostId, path: Path, message: DataMessage | AckMessage): void {
    this.context.send(host, path, { kind: 'payload', channel: CHANNEL, bytes: encodeLinkMessage(message) });
  }

  // -- Receiving ---------------------------------------------------------------------------------------------

  /** Whether the message is to be delivered. */
  onData(host: HostId, message: DataMessage, isCarrier: boolean): boolean {
    let link = this.ins.get(host);
    if (link === undefined) {
      link = new InLink();
      this.ins.set(host, link);
      if (!isCarrier) this.addGone(host);
    }
    if (!link.enter(message.epoch)) return false;
    if (!message.isReliable) return link.takeUnordered(message.sequence);
    if (!link.isAckDue) {
      link.isAckDue = true;
      this.acksDue.set(host, link);
    }
    if (link.take(message.sequence)) return true;
    if (message.sequence < link.next)
      link.streamUntilMs = this.context.env.clock.monotonicMs() + STREAM_ACKS_MS;
    return false;
  }

  /** At the end of a turn: one acknowledgement for each link that has heard something. */
  settle(): void {
    if (this.acksDue.size === 0) return;
    const nowMs = this.context.env.clock.monotonicMs();
    for (const [host, link] of this.acksDue) {
      link.isAckDue = false;
      const ack: AckMessage = {
        kind: 'ack',
        agent: this.agent,
        epoch: link.epoch,
        sequence: link.next - 1,
      };
      this.send(host, nowMs < link.streamUntilMs ? 'stream' : 'datagram', ack);
    }
    this.acksDue.clear();
  }

  private addGone(host: HostId): void {
    const { gone } = this;
    gone.delete(host);
    gone.add(host);
    if (gone.size <= GONE_LINKS_MAX) return;
    const [longest] = gone;
    gone.delete(longest!);
    this.ins.delete(longest!);
    this.acksDue.delete(longest!);
  }
}

/** The underlay's channel for messages of links. */
export const CHANNEL = '@';
