import type { Frames } from './frames.js';
import type { Replica } from './replica.js';

interface Peer {
  heardMs: number;
  /** Which of its lives it is in, as it says. */
  starts: number;
  isSilent: boolean;
}

export interface LivenessTiming {
  readonly heartbeatMs: number;
  /** A store that was not heard for this long is taken for gone. */
  readonly silenceMs: number;
}

/**
 * Which stores live, for all the groups that two stores share: every store is sent a frame in each `heartbeatMs`, an
 * empty one if there is nothing to say. Groups that are quiet have no other sign of their leader. When its store is
 * silent, or has been started anew, they are woken and find out by themselves.
 */
export class Liveness {
  private readonly timing: LivenessTiming;
  private readonly peers = new Map<number, Peer>();
  private sentMs = Number.NEGATIVE_INFINITY;
  private tickedMs = Number.POSITIVE_INFINITY;
  private wasLate = false;

  constructor(timing: LivenessTiming) {
    this.timing = timing;
  }

  /** A frame has come. One of {@link NEWS}. */
  heard(store: number, starts: number, nowMs: number): number {
    const peer = this.peers.get(store);
    if (peer === undefined) return NEWS.NONE;
    const isReborn = peer.starts !== 0 && peer.starts !== starts;
    const wasSilent = peer.isSilent;
    peer.heardMs = nowMs;
    peer.starts = starts;
    peer.isSilent = false;
    return isReborn ? NEWS.REBORN : wasSilent ? NEWS.BACK : NEWS.NONE;
  }

  /**
   * The time since the tick before, if it was so long that what the others have said since may lie unread: it counts
   * against nobody. 0 otherwise, and for every second such tick, so that who is always late finds out as well.
   */
  stoodStillMs(nowMs: number): number {
    const tookMs = nowMs - this.tickedMs;
    this.tickedMs = nowMs;
    this.wasLate = !this.wasLate && tookMs >= this.timing.silenceMs / 2;
    if (!this.wasLate) return 0;
    for (const peer of this.peers.values()) peer.heardMs = Math.min(nowMs, peer.heardMs + tookMs);
    return tookMs;
  }

  /** `stores` share a range with this one. Gives those that have fallen silent since the last call. */
  tick(stores: ReadonlySet<number>, nowMs: number, frames: Frames): number[] {
    const silent: number[] = [];
    for (const store of this.peers.keys()) if (!stores.has(store)) this.peers.delete(store);
    for (const store of stores) {
      const peer = this.peers.get(store);
      if (peer === undefined) this.peers.set(store, { heardMs: nowMs, starts: 0, isSilent: false });
      else if (!peer.isSilent && nowMs - peer.heardMs >= this.timing.silenceMs) {
        peer.isSilent = true;
        silent.push(store);
      }
    }
    if (nowMs - this.sentMs >= this.timing.heartbeatMs) {
      this.sentMs = nowMs;
      for (const store of stores) frames.open(store);
    }
    return silent;
  }
}

/** What a frame says of its store: that it is back after silence, or in another life than before. */
export const NEWS = { NONE: 0, BACK: 1, REBORN: 2 } as const;

/** The stores that share a range with `own`. */
export function peerStores(own: number, replicas: Iterable<Replica>): Set<number> {
  const stores = new Set<number>();
  for (const { descriptor } of replicas)
    for (const { store } of descriptor?.members ?? []) if (store !== own) stores.add(store);
  return stores;
}

/** A replica hears that a store is or is not reached. True: that may have woken it. */
export function tellOf(
  { raft, isLeader, descriptor, leaderStore }: Replica,
  store: number,
  isReachable: boolean,
): boolean {
  if (isLeader) {
    const member = descriptor?.members.find(other => other.store === store);
    if (member === undefined) return false;
    if (isReachable) raft.reachable(member.replica);
    else raft.unreachable(member.replica);
    return true;
  }
  if (isReachable || leaderStore !== store || !raft.isQuiescent) return false;
  raft.unreachable(raft.leader);
  return true;
}
