import type { HostId } from '../underlay/message.js';
import { LINK_BYTES_MAX } from './limits.js';

/** A reliable message that waits to be sent, or acknowledged. `bytes` is the caller's, kept by reference. */
export interface Outgoing {
  readonly from: string;
  readonly to: string;
  readonly bytes: Uint8Array;
}

/** What a message counts beside its bytes, so that empty ones are bounded as well. */
const OVERHEAD_BYTES = 128;

/** Sent and not acknowledged at once; a larger message travels alone. */
const WINDOW_BYTES = 262_144;

/** Acknowledged messages are cut off the list when they are at least so many and the greater half. */
const COMPACT_MIN = 64;

export function outgoingBytes({ from, to, bytes }: Outgoing): number {
  return OVERHEAD_BYTES + 2 * (from.length + to.length) + bytes.length;
}

/**
 * The sending end of a link: one for each host and agent, from the first message on until the host goes. What is not
 * acknowledged in time is sent again from there on (go-back-N): the stream path keeps order and loses nothing but all
 * that is under way when it breaks.
 */
export class OutLink {
  readonly host: HostId;
  readonly epoch: number;
  /** Unacknowledged, `OVERHEAD_BYTES` each included. */
  bytes = 0;
  retryDueMs = Number.POSITIVE_INFINITY;
  /** Retries since the last progress. */
  retries = 0;
  private queue: Outgoing[] = [];
  /** Index and sequence number of the first that is not acknowledged. */
  private head = 0;
  private first = 1;
  /** Sequence number of the next to be sent; falls back at a retry. */
  private next = 1;
  private windowBytes = 0;
  /** Greatest sequence number that was ever sent. */
  private sent = 0;
  private unordered = 0;

  constructor(host: HostId, epoch: number) {
    this.host = host;
    this.epoch = epoch;
  }

  get unacknowledged(): number {
    return this.queue.length - this.head;
  }

  /** A link that is empty takes any message. */
  fits(bytes: number): boolean {
    return this.bytes === 0 || this.bytes + bytes <= LINK_BYTES_MAX;
  }

  push(message: Outgoing): void {
    this.queue.push(message);
    this.bytes += outgoingBytes(message);
  }

  /** The number of a message that is not in the order. */
  takeNumber(): number {
    this.unordered++;
    return this.unordered;
  }

  /** The next that may be sent now, and its sequence number. */
  takeNext(): { readonly message: Outgoing; readonly sequence: number } | undefined {
    const message = this.queue[this.head + this.next - this.first];
    if (message === undefined) return undefined;
    const bytes = outgoingBytes(message);
    if (this.windowBytes > 0 && this.windowBytes + bytes > WINDOW_BYTES) return undefined;
    const sequence = this.next;
    this.windowBytes += bytes;
    this.next++;
    if (sequence > this.sent) this.sent = sequence;
    return { message, sequence };
  }

  /** Bytes that it frees; 0 when it is no news. What was never sent cannot be acknowledged. */
  acknowledge(sequence: number): number {
    if (sequence < this.first || sequence > this.sent) return 0;
    let freed = 0;
    for (; this.first <= sequence; this.first++) {
      const bytes = outgoingBytes(this.queue[this.head]!);
      if (this.first < this.next) this.windowBytes -= bytes;
      freed += bytes;
      this.head++;
    }
    if (this.next < this.first) this.next = this.first;
    this.bytes -= freed;
    if (this.head >= COMPACT_MIN && this.head * 2 >= this.queue.length) {
      this.queue = this.queue.slice(this.head);
      this.head = 0;
    }
    return freed;
  }

  /** All that is not acknowledged is to be sent again. */
  rewind(): void {
    this.next = this.first;
    this.windowBytes = 0;
  }
}
