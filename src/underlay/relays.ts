import { DeadlineHeap, type Timed } from './deadline-heap.js';
import type { Address, HostId, Message } from './message.js';
import type { Outbox } from './outbox.js';

/** Probes that are run for others at once; an asker beyond that gets a nack, since this host is alive at least. */
const RELAYED_MAX = 256;

interface Relayed extends Timed {
  readonly sequence: number;
  readonly target: HostId;
  readonly asker: HostId;
  readonly askerAddress: Address;
  readonly askerSequence: number;
}

/**
 * Indirect probes for others: pings the target, and tells the asker, at the asker's own address, what came of it: ack,
 * mistaken, or nack before the asker's own deadline (Lifeguard, section 4.1).
 */
export class Relays {
  private readonly outbox: Outbox;
  private readonly bySequence = new Map<number, Relayed>();
  private readonly deadlines = new DeadlineHeap<Relayed>();

  constructor(outbox: Outbox) {
    this.outbox = outbox;
  }

  get size(): number {
    return this.bySequence.size;
  }

  get nextMs(): number {
    return this.deadlines.firstMs;
  }

  /** `sequence` is this host's own number for the ping that it sends now. */
  begin(
    asked: Extract<Message, { kind: 'ping-request' }>,
    asker: HostId,
    askerAddress: Address,
    sequence: number,
    suspected: number,
    nowMs: number,
  ): void {
    const { target, address } = asked;
    if (this.bySequence.size >= RELAYED_MAX) {
      this.answer('nack', asked.sequence, target, asker, askerAddress);
      return;
    }
    const relayed: Relayed = {
      sequence,
      target,
      asker,
      askerAddress,
      askerSequence: asked.sequence,
      dueMs: 0,
      heapIndex: -1,
    };
    this.bySequence.set(sequence, relayed);
    this.deadlines.set(relayed, nowMs + asked.nackAfterMs);
    this.outbox.push(address, target, 'datagram', { kind: 'ping', sequence, target, suspected });
  }

  /** The target, or whoever lives at its address, has answered. False when nobody waits for that. */
  onAnswer(kind: 'ack' | 'mistaken', sequence: number, target: HostId): boolean {
    const relayed = this.bySequence.get(sequence);
    if (relayed === undefined || relayed.target !== target) return false;
    this.end(relayed, kind);
    this.deadlines.delete(relayed);
    return true;
  }

  tick(nowMs: number): void {
    for (let due = this.deadlines.takeDue(nowMs); due; due = this.deadlines.takeDue(nowMs))
      this.end(due, 'nack');
  }

  private end(relayed: Relayed, kind: 'ack' | 'nack' | 'mistaken'): void {
    this.bySequence.delete(relayed.sequence);
    this.answer(kind, relayed.askerSequence, relayed.target, relayed.asker, relayed.askerAddress);
  }

  private answer(
    kind: 'ack' | 'nack' | 'mistaken',
    sequence: number,
    target: HostId,
    asker: HostId,
    to: Address,
  ): void {
    this.outbox.push(to, asker, 'datagram', { kind, sequence, target });
  }
}
