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

  constructor(timing: LivenessTiming) {
    this.timing = timing;
  }

  /** A frame has come. True: its store is not in the life that it was. */
  heard(store: number, starts: number, nowMs: number): boolean {
    const peer = this.peers.get(store);
    if (peer === undefined) return false;
    const isReborn = peer.starts !== 0 && peer.starts !== starts;
    peer.heardMs = nowMs;
    peer.starts = starts;
    peer.isSilent = false;
    return isReborn;
  }

  isSilent(store: number): boolean {
    return this.peers.get(store)?.isSilent === true;
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

/** The quiet replicas that are led from the store hear that it cannot be reached. Gives them. */
export function wakeLedBy(store: number, replicas: Iterable<Replica>): Replica[] {
  const woken: Replica[] = [];
  for (const replica of replicas) {
    if (!replica.raft.isQuiescent || replica.isLeader || replica.leaderStore !== store) continue;
    replica.raft.unreachable(replica.raft.leader);
    woken.push(replica);
  }
  return woken;
}
