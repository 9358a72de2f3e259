import { assert } from '../base/assert.js';
import { ByteReader, ByteWriter } from '../base/bytes.js';
import { OP } from '../contract/contract.js';

/** Hands frames to other threads; `mesh` behind it. */
export interface Wire {
  send(peer: number, bytes: Uint8Array, start: number, end: number): void;
  /** True while frames for any peer wait outside its ring: sources are to be held. */
  readonly congested: boolean;
}

/** Someone who waits for a reply. Exactly one of the two is called, once. */
export interface Call {
  /** `status` is a STATUS; `body` stands behind it and is valid only during the call. */
  onReply(status: number, body: ByteReader): void;
  /** The peer died: whether it did what was asked is unknown. */
  onLost(): void;
}

/** Requests to other threads and their replies (the layout is in contract/contract.ts). */
export class Caller {
  private readonly wire: Wire;
  private readonly writer = new ByteWriter(4096);
  private readonly reader = new ByteReader();
  private readonly waiting = new Map<number, { readonly peer: number; readonly call: Call }>();
  private readonly lives = new Map<number, number>();
  private lastId: number;
  private call: Call | null = null;
  private open = false;

  /** `seed` makes the numbers of this life's calls unlike those of a former one, whose answers may still come. */
  constructor(wire: Wire, seed: number) {
    this.wire = wire;
    this.lastId = seed;
  }

  get waitingCount(): number {
    return this.waiting.size;
  }

  /** Starts a frame; the caller writes the body and then calls `send`. `call` is null when no reply is wanted. */
  begin(op: number, call: Call | null): ByteWriter {
    assert(!this.open, 'one frame at a time');
    this.open = true;
    this.call = call;
    if (call !== null) this.lastId = (this.lastId % 0xffff_ffff) + 1;
    return this.writer
      .reset()
      .u8(op)
      .u32(call === null ? 0 : this.lastId);
  }

  send(peer: number): void {
    this.open = false;
    if (this.call !== null) this.waiting.set(this.lastId, { peer, call: this.call });
    this.call = null;
    this.wire.send(peer, this.writer.bytes, 0, this.writer.length);
  }

  /** Drops what was begun. */
  cancel(): void {
    this.open = false;
    this.call = null;
  }

  /** Starts a reply to the request `callId`; then body and `send`. */
  beginReply(callId: number, status: number): ByteWriter {
    assert(!this.open, 'one frame at a time');
    this.open = true;
    this.call = null;
    return this.writer.reset().u8(OP.REPLY).u32(callId).u8(status);
  }

  /** Changes when the peer is replaced; for {@link reply}. */
  lifeOf(peer: number): number {
    return this.lives.get(peer) ?? 0;
  }

  /** Answers a request that came in the peer's life `life`; its successor knows nothing of it and is not answered. */
  reply(peer: number, life: number, callId: number, status: number): void {
    if (this.lifeOf(peer) !== life) return;
    this.beginReply(callId, status);
    this.send(peer);
  }

  /** Takes a REPLY frame, from behind its op. */
  onReply(peer: number, bytes: Uint8Array, start: number, end: number): void {
    const reader = this.reader.over(bytes, start, end);
    const id = reader.u32();
    const waiting = this.waiting.get(id);
    if (waiting?.peer !== peer) return; // from before the peer was replaced
    this.waiting.delete(id);
    waiting.call.onReply(reader.u8(), reader);
  }

  /** Gives up all that waits for a dead peer. Those told may call again at once: what they send goes to its successor. */
  peerLost(peer: number): void {
    this.lives.set(peer, this.lifeOf(peer) + 1);
    const lost: Call[] = [];
    for (const [id, waiting] of this.waiting) {
      if (waiting.peer !== peer) continue;
      this.waiting.delete(id);
      lost.push(waiting.call);
    }
    for (const call of lost) call.onLost();
  }
}

/** A call made of functions, for what is not per message. */
export function callback(onReply: (status: number, body: ByteReader) => void, onLost: () => void): Call {
  return { onReply, onLost };
}
