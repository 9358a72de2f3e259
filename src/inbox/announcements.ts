import type { ByteWriter } from '../base/bytes.js';
import type { FrameBatch } from '../kv/frame-batch.js';

/** Something that an mqtt thread was asked to do. Exactly one of the two is called, once. */
export interface Announced {
  /** `status` is a STATUS: whether it has been done. */
  onAnswer(status: number, out: FrameBatch): void;
  /** The thread died: whether it did it is unknown. */
  onLost(): void;
}

/**
 * What the store asks of the mqtt threads, and their answers. Each thing is asked of one thread at a time. The
 * numbers of the calls begin at random, so that an answer to a former life of this thread names no call of this one.
 */
export class Announcements {
  private readonly mqttPeers: readonly number[];
  private readonly calls = new Map<number, { readonly peer: number; readonly announced: Announced }>();
  private lastCallId: number;
  private lastPeer = 0;

  /** `seed`: any unsigned 32-bit number, another for each life of the thread. */
  constructor(mqttPeers: readonly number[], seed: number) {
    this.mqttPeers = mqttPeers;
    this.lastCallId = seed % CALL_IDS;
  }

  /** Calls that may still be made before some are answered. */
  get room(): number {
    return this.mqttPeers.length === 0 ? 0 : UNDERWAY_MAX - this.calls.size;
  }

  /** Starts a frame to `peer`, or to the next mqtt thread in turn if that is -1; the caller appends and ends it. */
  begin(op: number, peer: number, announced: Announced, out: FrameBatch): ByteWriter {
    const asked = peer < 0 ? this.nextPeer() : peer;
    this.lastCallId = (this.lastCallId + 1) % CALL_IDS;
    const callId = CALL_ID_BASE + this.lastCallId;
    this.calls.set(callId, { peer: asked, announced });
    return out.begin(asked, op, callId);
  }

  /** What one is asked that is just being replaced is lost, and `peerLost` says so. */
  private nextPeer(): number {
    this.lastPeer = (this.lastPeer + 1) % this.mqttPeers.length;
    return this.mqttPeers[this.lastPeer]!;
  }

  /** Takes an answer. False if the call is not one of these. */
  answered(peer: number, callId: number, status: number, out: FrameBatch): boolean {
    const call = this.calls.get(callId);
    if (call === undefined || call.peer !== peer) return false;
    this.calls.delete(callId);
    call.announced.onAnswer(status, out);
    return true;
  }

  peerLost(peer: number): void {
    for (const [callId, call] of this.calls) {
      if (call.peer !== peer) continue;
      this.calls.delete(callId);
      call.announced.onLost();
    }
  }
}

/** The upper half of the numbers: apart from those of a dist service in the same store. */
const CALL_ID_BASE = 0x8000_0000;
const CALL_IDS = 0x8000_0000;
const UNDERWAY_MAX = 256;
