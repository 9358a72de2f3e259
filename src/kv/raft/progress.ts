import type { ReplicaId } from './configuration.js';
import type { RaftLimits } from './settings.js';

/**
 * How a leader feeds a follower.
 *   `PROBE`      where its log agrees is not known: one append at a time, the next one after an answer or a heartbeat's.
 *   `REPLICATE`  appends go out ahead of the answers, as the window allows.
 *   `SNAPSHOT`   it needs the state; appends wait until the driver tells how sending it went.
 */
export const FEED = { PROBE: 0, REPLICATE: 1, SNAPSHOT: 2 } as const;

/** What a leader knows of one replica. */
export class Progress {
  readonly id: ReplicaId;
  feed: number = FEED.PROBE;
  /** Its log agrees with ours up to here, durably. */
  match = 0;
  /** Index of the next entry to send. */
  next: number;
  /** When it last said anything. */
  heardMs: number;
  /** The transport cannot reach it, and nothing came from it since: a quiet group does not wait for it. */
  isGone = false;
  /** The last heartbeat round it answered, and when that was sent. */
  ackedRound = 0;
  ackedSentMs = Number.NEGATIVE_INFINITY;
  /** In `PROBE`: one is under way. */
  isProbing = false;
  /** The commit index it was last told. */
  toldCommit = 0;
  /** Ask it anew where it is, with an append of nothing if there is nothing: what was sent last may be lost. */
  mustPoke = false;
  /** When it was last asked so, or the last append in `PROBE` left. */
  askedMs = Number.NEGATIVE_INFINITY;
  /** Appends without answer: the last index and the bytes of each, oldest first, from `windowHead` on. */
  private readonly windowEnds: number[] = [];
  private readonly windowSizes: number[] = [];
  private windowHead = 0;
  windowBytes = 0;

  constructor(id: ReplicaId, next: number, nowMs: number) {
    this.id = id;
    this.next = next;
    this.heardMs = nowMs;
  }

  heard(nowMs: number): void {
    this.heardMs = nowMs;
    this.isGone = false;
  }

  get windowMessages(): number {
    return this.windowEnds.length - this.windowHead;
  }

  /** Whether no append may leave now. */
  isPaused(limits: RaftLimits): boolean {
    if (this.feed === FEED.REPLICATE) {
      return this.windowMessages >= limits.windowMessagesMax || this.windowBytes >= limits.windowBytesMax;
    }
    return this.feed === FEED.SNAPSHOT || this.isProbing;
  }

  sent(lastIndex: number, bytes: number, nowMs: number): void {
    if (this.feed === FEED.PROBE) {
      this.isProbing = true;
      this.askedMs = nowMs;
      return;
    }
    this.next = lastIndex + 1;
    this.windowEnds.push(lastIndex);
    this.windowSizes.push(bytes);
    this.windowBytes += bytes;
  }

  /** It has everything up to `match`. True if that is news. */
  matched(match: number): boolean {
    let head = this.windowHead;
    while (head < this.windowEnds.length && this.windowEnds[head]! <= match)
      this.windowBytes -= this.windowSizes[head++]!;
    this.windowHead = head;
    if (head === this.windowEnds.length) this.clearWindow();
    else if (head > 64) {
      this.windowEnds.splice(0, head);
      this.windowSizes.splice(0, head);
      this.windowHead = 0;
    }
    if (match <= this.match) return false;
    this.match = match;
    if (this.next <= match) this.next = match + 1;
    return true;
  }

  /**
   * An append behind `rejected` did not fit; nothing after `hint` can. False for the answer to an older question.
   */
  rejected(rejected: number, hint: number): boolean {
    if (this.feed === FEED.SNAPSHOT || rejected <= this.match) return false;
    if (this.feed === FEED.PROBE && rejected !== this.next - 1) return false;
    this.probe();
    this.next = Math.max(this.match, Math.min(rejected - 1, hint)) + 1;
    return true;
  }

  probe(): void {
    this.feed = FEED.PROBE;
    this.isProbing = false;
    this.next = this.match + 1;
    this.clearWindow();
  }

  replicate(): void {
    this.feed = FEED.REPLICATE;
    this.mustPoke = false;
    this.next = this.match + 1;
    this.clearWindow();
  }

  /** What it lacks is wanted soon: do not wait for an answer that may be lost. */
  hurry(): void {
    this.isProbing = false;
    this.mustPoke = true;
  }

  awaitSnapshot(): void {
    this.feed = FEED.SNAPSHOT;
    this.clearWindow();
  }

  private clearWindow(): void {
    this.windowEnds.length = this.windowSizes.length = this.windowHead = this.windowBytes = 0;
  }
}
