import { assert } from '../base/assert.js';
import { ByteWriter } from '../base/bytes.js';
import { OP } from '../contract/contract.js';

/** Hands a frame to another thread. The bytes may be reused as soon as it returns. False: there is no such thread now. */
export type FrameSender = (peer: number, bytes: Uint8Array, start: number, end: number) => boolean;

/** Frames of one turn, held back until what they report is durable. */
export class FrameBatch {
  private readonly writer = new ByteWriter(16 * 1024);
  private peers: number[] = [];
  private ends: number[] = [];
  private open = false;

  get count(): number {
    return this.peers.length;
  }

  get bytes(): number {
    return this.writer.length;
  }

  /** Starts a frame; the caller appends the body and calls `end`. */
  begin(peer: number, op: number, callId: number): ByteWriter {
    assert(!this.open, 'one frame at a time');
    this.open = true;
    this.peers.push(peer);
    return this.writer.u8(op).u32(callId);
  }

  end(): void {
    assert(this.open, 'end() belongs to begin()');
    this.open = false;
    this.ends.push(this.writer.length);
  }

  /** A reply with the bytes of `body` behind the header. */
  reply(peer: number, callId: number, body: Uint8Array, start = 0, end = body.length): void {
    this.begin(peer, OP.REPLY, callId).raw(body, start, end);
    this.end();
  }

  /** Opens the last frame again to append to it; gives its writer. */
  reopen(): ByteWriter {
    assert(!this.open && this.ends.length > 0, 'there is a last frame');
    this.open = true;
    this.ends.pop();
    return this.writer;
  }

  /** Position in the writer's bytes at which the last frame begins. */
  get lastStart(): number {
    return this.peers.length > 1 ? this.ends[this.peers.length - 2]! : 0;
  }

  /** Sends all frames in their order, and is empty again. */
  sendAll(send: FrameSender): void {
    const { bytes } = this.writer;
    let start = 0;
    for (let i = 0; i < this.peers.length; i++) {
      const end = this.ends[i]!;
      send(this.peers[i]!, bytes, start, end);
      start = end;
    }
    this.clear();
  }

  clear(): void {
    this.writer.reset();
    this.peers = [];
    this.ends = [];
    this.open = false;
  }
}
