import type { Address, HostId, Message, Path } from './message.js';
import { messageBytes, PACKET_BYTES } from './message-size.js';
import { DATAGRAM_BYTES_MAX } from './transport.js';
import type { Send } from './underlay.js';

/** What the messages of one datagram may take. */
export const DATAGRAM_BUDGET_BYTES = DATAGRAM_BYTES_MAX - PACKET_BYTES;

/** Sends of one turn that are searched for one to add to; a turn with more makes more packets. */
const SEARCHED_MAX = 16;

/** One packet in the making. */
export interface Parcel extends Send {
  readonly messages: Message[];
  /** Who is expected there; 0 when that is not known. */
  readonly toId: HostId;
  bytes: number;
  /** No rumours are to be added: they are in it already, or it is one of a burst that the layers above send. */
  readonly isFull: boolean;
}

/** Gathers the messages of a turn by destination. What no datagram can carry goes by stream. */
export class Outbox {
  private parcels: Parcel[] = [];

  get size(): number {
    return this.parcels.length;
  }

  /** A message that is too large for a datagram goes by stream, whatever `path` says. */
  push(to: Address, toId: HostId, path: Path, message: Message): void {
    const bytes = messageBytes(message);
    const way: Path = bytes > DATAGRAM_BUDGET_BYTES ? 'stream' : path;
    const limit = way === 'stream' ? Number.POSITIVE_INFINITY : DATAGRAM_BUDGET_BYTES;
    const { parcels } = this;
    for (let at = Math.min(parcels.length, SEARCHED_MAX) - 1; at >= 0; at--) {
      const parcel = parcels[at]!;
      if (parcel.to !== to || parcel.path !== way || parcel.bytes + bytes > limit) continue;
      parcel.messages.push(message);
      parcel.bytes += bytes;
      return;
    }
    const isFull = message.kind === 'crdt' || message.kind === 'payload';
    parcels.push({ to, toId, path: way, messages: [message], bytes, isFull });
  }

  /** A whole packet, not merged with others. */
  add(parcel: Parcel): void {
    this.parcels.push(parcel);
  }

  take(): Parcel[] {
    const taken = this.parcels;
    if (taken.length > 0) this.parcels = [];
    return taken;
  }
}
