import type { Session } from './session.js';
import type { InboxTarget, Subscription } from './tenant.js';

/** Members looked at for one with room, before another shard is asked or the message is queued. */
const MEMBERS_TRIED_MAX = 64;

/** A shared group's members on this shard. */
export class LocalGroup {
  readonly key: string;
  readonly filter: string;
  readonly group: string;
  readonly ordered: boolean;
  private readonly members: Subscription[] = [];
  private turn = 0;

  constructor(key: string, filter: string, group: string, ordered: boolean) {
    this.key = key;
    this.filter = filter;
    this.group = group;
    this.ordered = ordered;
  }

  get size(): number {
    return this.members.length;
  }

  add(member: Subscription): void {
    this.members.push(member);
  }

  /** Takes a session's membership away; false when it had none. */
  remove(session: Session): boolean {
    const place = this.members.findIndex(member => member.session === session);
    if (place < 0) return false;
    this.members.splice(place, 1);
    return true;
  }

  /** The next member in turn that can take a message of this QoS now; undefined when none of those tried can. */
  pickWithRoom(qos: number): Subscription | undefined {
    const { members } = this;
    const tries = Math.min(members.length, MEMBERS_TRIED_MAX);
    for (let i = 0; i < tries; i++) {
      const member = this.pickInTurn()!;
      const { session } = member;
      const effective = Math.min(qos, member.qos);
      if (session.hasRoom(effective) && (effective === 0 || (session.outlet?.hasRoomToPromise ?? true)))
        return member;
    }
    return undefined;
  }

  /** The next member in turn, with room or not. */
  pickInTurn(): Subscription | undefined {
    const { members } = this;
    if (members.length === 0) return undefined;
    this.turn = (this.turn + 1) % members.length;
    return members[this.turn];
  }

  /** The member that a source's messages stay with while the membership stays: the highest random weight. */
  pickForSource(sourceKey: number): Subscription | undefined {
    let best: Subscription | undefined;
    let bestWeight = -1;
    for (const member of this.members) {
      const weight = rendezvousWeight(sourceKey, member.session.sourceKey);
      if (weight > bestWeight) {
        bestWeight = weight;
        best = member;
      }
    }
    return best;
  }
}

/** A uniform 32-bit number for a pair (Thaler and Ravishankar's highest random weight). */
export function rendezvousWeight(source: number, member: number): number {
  let x = Math.imul(source ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(member ^ 0x7f4a7c15, 0xc2b2ae35);
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** A shared group among the receivers of a topic, as dist answered. */
export class TopicGroup {
  readonly key: string;
  readonly ordered: boolean;
  /** Shards of this node with live members, and how many each has. */
  readonly shards: { readonly peer: number; readonly members: number }[] = [];
  /** Persistent members, online or not. */
  inboxes: InboxTarget[] = [];
  private turn: number;

  /** `turn` is where it begins: were it the same for all topics, the first message of each would go to one shard. */
  constructor(key: string, ordered: boolean, turn: number) {
    this.key = key;
    this.ordered = ordered;
    this.turn = turn;
  }

  /** A shard, each as often as it has members; undefined when there is none but `without`. */
  pickShard(without: ReadonlySet<number> | null): number | undefined {
    let total = 0;
    for (const { peer, members } of this.shards) if (!without?.has(peer)) total += members;
    if (total === 0) return undefined;
    this.turn = (this.turn + 1) % total;
    let place = this.turn;
    for (const { peer, members } of this.shards) {
      if (without?.has(peer)) continue;
      if (place < members) return peer;
      place -= members;
    }
    return undefined;
  }

  /** The shard of the member that a source's messages stay with: the highest of as many draws as it has members. */
  pickShardForSource(sourceKey: number): number | undefined {
    let best: number | undefined;
    let bestWeight = -1;
    for (const { peer, members } of this.shards) {
      for (let i = 0; i < members; i++) {
        const weight = rendezvousWeight(sourceKey, peer * 65_537 + i);
        if (weight <= bestWeight) continue;
        bestWeight = weight;
        best = peer;
      }
    }
    return best;
  }

  /** A persistent member that is no more. */
  forget(clientId: string): void {
    this.inboxes = this.inboxes.filter(inbox => inbox.clientId !== clientId);
  }

  /** A persistent member, in turn or, in an ordered group, always the same for one source. */
  pickInbox(sourceKey: number): InboxTarget | undefined {
    const { inboxes } = this;
    if (inboxes.length === 0) return undefined;
    if (this.ordered) return inboxes[sourceKey % inboxes.length];
    this.turn = (this.turn + 1) % inboxes.length;
    return inboxes[this.turn];
  }
}
