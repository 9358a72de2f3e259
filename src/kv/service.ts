import type { ByteReader } from '../base/bytes.js';
import type { KvReader, KvWriter } from './engine.js';
import type { FrameBatch, FrameSender } from './frame-batch.js';
import type { Range } from './range.js';

/** A request, taken apart up to its body. */
export interface Request {
  /** Index of the asking thread in the mesh; -1 when the store asks itself. */
  readonly peer: number;
  readonly op: number;
  /** 0: no reply is wanted. */
  readonly callId: number;
}

/**
 * What stands between frames and a range: turns requests into commands, outcomes into replies, and keeps what
 * must not be replicated (who is attached here, who waits for what).
 */
export interface Service {
  readonly range: Range;
  /** Whether requests with this op are for this service. */
  owns(op: number): boolean;
  /** Answers a question at once, outside any transaction; false when the request must wait for the turn's. */
  ask(request: Request, body: ByteReader, out: FrameBatch): boolean;
  /** Whether a request is content with the next commit that others ask for: a turn of such alone does not commit. */
  canWait(op: number): boolean;
  /** What a request takes of a turn's share (`TurnLimits.weightMax`): 1 for a place near the last one's, 8 for any. */
  weight(op: number): number;
  /** Applies a request in the turn's transaction. Frames in `out` are sent when the transaction is durable. */
  apply(request: Request, body: ByteReader, writer: KvWriter, out: FrameBatch): void;
  /** Behind the last request of the turn, still in its transaction. */
  finish(writer: KvWriter, out: FrameBatch): void;
  /** The transaction is durable; frames of `out` have been sent. What is put into `out` now is sent at once. */
  durable(reader: KvReader, out: FrameBatch): void;
  /** The transaction failed: memory is to follow what the engine still holds, as that of the range does already. */
  failed(reader: KvReader): void;
  /** A reply to a frame that the service sent; `body` stands at its status. False if it did not. */
  answered(peer: number, callId: number, body: ByteReader, out: FrameBatch): boolean;
  /** Called about once a second. */
  tick(nowMs: number, reader: KvReader, out: FrameBatch): void;
  /** A thread died, or was replaced: nothing that it was sent will be answered. */
  peerLost(peer: number, nowMs: number, out: FrameBatch): void;
}

/** What the store does for its services. */
export interface ServiceHost {
  /** Sends a frame at once, without waiting for the turn's commit. */
  send: FrameSender;
  /** True while frames for the peer wait outside its ring. */
  congested(peer: number): boolean;
  /** Puts a request of the store to itself into the next turn. `op` is at least {@link OWN_OP}. */
  enqueue(op: number, body: Uint8Array): void;
  /** Puts a request that cannot be served now into the next turn. */
  requeue(request: Request, body: Uint8Array): void;
}

/** Ops from here on are a service's own and never come from another thread. */
export const OWN_OP = 200;
