import type { ByteReader } from '../base/bytes.js';
import { DROP, DROPS, SHARD_HOPS } from '../base/metrics.js';
import { OP, STATUS } from '../contract/contract.js';
import { Message, readMessage, writeMessage } from '../contract/message.js';
import type { Call } from './caller.js';
import { Publication } from './publication.js';
import type { Source } from './publisher.js';
import type { Router } from './router.js';
import type { LocalGroup, TopicGroup } from './shared-group.js';
import { type InboxTarget, inboxTarget, type Subscription } from './tenant.js';

/** How a shard is asked for a member: one with room; any; or the one that the source's messages stay with. */
const TAKE = { WITH_ROOM: 0, ANY: 1, FOR_SOURCE: 2 } as const;

/**
 * One member of a shared group for each message.
 *
 * A shard is drawn by its number of live members; there the next member with room takes it. A shard without room
 * says so and another is asked; when none has room, the first one queues it. Persistent members count as live while
 * they are online, and take QoS 1 and 2 through their inbox; offline ones are chosen only when nobody is live.
 */
export class SharedRouter {
  private readonly router: Router;
  private readonly message = new Message();

  constructor(router: Router) {
    this.router = router;
  }

  deliver(publication: Publication, group: TopicGroup, publisher: Source): void {
    const { sourceKey } = publisher;
    publication.receivers++;
    const peer = group.ordered ? group.pickShardForSource(sourceKey) : group.pickShard(null);
    if (peer === undefined) this.deliverOffline(publication, group, publisher);
    else if (group.ordered) this.offer(publication, group, publisher, peer, TAKE.FOR_SOURCE, null);
    else this.offer(publication, group, publisher, peer, TAKE.WITH_ROOM, null);
  }

  /** Offers the message to the members on one shard; `refused` are the shards that had none with room. */
  private offer(
    publication: Publication,
    group: TopicGroup,
    publisher: Source,
    peer: number,
    take: number,
    refused: Set<number> | null,
  ): void {
    const { links } = this.router;
    if (peer !== links.shards[links.shard]) {
      const call = new OfferCall(this, publication, group, publisher, peer, take, refused);
      this.sendOffer(publication, group.key, publisher.sourceKey, peer, take, call);
      publication.waits++;
      return;
    }
    const local = publication.topic!.tenant.groups.get(group.key);
    const member = local === undefined ? undefined : pick(local, publication.qos, publisher.sourceKey, take);
    if (member === undefined) this.refusedBy(publication, group, publisher, peer, take, refused);
    else this.give(publication, publisher, member, local!);
  }

  private sendOffer(
    publication: Publication,
    key: string,
    sourceKey: number,
    peer: number,
    take: number,
    call: Call,
  ): void {
    const { caller, counters } = this.router;
    const writer = caller.begin(OP.SHARD_SHARED, call).text(publication.topic!.tenant.name);
    writer
      .text(key)
      .u8(take)
      .u32(sourceKey >>> 0);
    writeMessage(writer, publication.toMessage(this.message));
    caller.send(peer);
    counters.values[SHARD_HOPS]! += 1;
  }

  /** A shard had no member (with room): the next one is asked, and in the end one that queues. */
  refusedBy(
    publication: Publication,
    group: TopicGroup,
    publisher: Source,
    peer: number,
    take: number,
    refused: Set<number> | null,
  ): void {
    if (take === TAKE.WITH_ROOM) {
      const asked = refused ?? new Set<number>();
      asked.add(peer);
      const next = group.pickShard(asked);
      if (next !== undefined) this.offer(publication, group, publisher, next, TAKE.WITH_ROOM, asked);
      else this.offer(publication, group, publisher, group.pickShard(null)!, TAKE.ANY, new Set());
      return;
    }
    // Members went while the message was under way. Ask each shard once more, then the offline ones.
    const asked = refused ?? new Set<number>();
    asked.add(peer);
    const next = group.pickShard(asked);
    if (next !== undefined) this.offer(publication, group, publisher, next, TAKE.ANY, asked);
    else this.deliverOffline(publication, group, publisher);
  }

  /** A persistent member that was chosen is no more: the next one is. */
  onGone(publication: Publication, group: TopicGroup, publisher: Source, clientId: string): void {
    group.forget(clientId);
    this.deliverOffline(publication, group, publisher);
  }

  private deliverOffline(publication: Publication, group: TopicGroup, publisher: Source): void {
    const inbox = publication.qos > 0 ? group.pickInbox(publisher.sourceKey) : undefined;
    if (inbox !== undefined) this.router.insertShared(publication, publisher, inbox, group);
    else this.router.counters.values[DROPS + DROP.NO_RECEIVER]! += 1;
  }

  /** To a member on this shard. */
  private give(publication: Publication, publisher: Source, member: Subscription, group: LocalGroup): void {
    const { session } = member;
    const effective = Math.min(publication.qos, member.qos);
    if (effective === 0) session.deliverQos0(publication, member);
    else if (session.outlet === null) session.deliver(publication, member, effective);
    else this.router.insertShared(publication, publisher, inboxOf(member, group), null);
  }

  /** Another shard offers a message to our members. */
  onOffer(peer: number, callId: number, reader: ByteReader): void {
    const life = this.router.caller.lifeOf(peer);
    const tenant = this.router.tenant(reader.text());
    const key = reader.text();
    const take = reader.u8();
    const sourceKey = reader.u32();
    const publication = Publication.of(readMessage(reader, this.message));
    const group = tenant.groups.get(key);
    const member = group === undefined ? undefined : pick(group, publication.qos, sourceKey, take);
    if (member === undefined) {
      this.reply(peer, life, callId, STATUS.LIMIT);
      return;
    }
    const bytes = publication.topicBytes;
    publication.topic = this.router.topicOf(tenant, bytes, 0, bytes.length);
    const answer = new OfferAnswer(this, publication, peer, life, callId, sourceKey);
    this.give(publication, answer, member, group!);
    if (publication.waits === 0) this.reply(peer, life, callId, STATUS.OK);
  }

  reply(peer: number, life: number, callId: number, status: number): void {
    this.router.caller.reply(peer, life, callId, status);
  }
}

function pick(group: LocalGroup, qos: number, sourceKey: number, take: number): Subscription | undefined {
  if (take === TAKE.FOR_SOURCE) return group.pickForSource(sourceKey);
  return take === TAKE.WITH_ROOM ? group.pickWithRoom(qos) : group.pickInTurn();
}

function inboxOf(member: Subscription, group: LocalGroup): InboxTarget {
  const ids = member.ids ?? [0];
  const { options, session } = member;
  return inboxTarget(
    session.clientId,
    ids.map(id => ({ options, id, filter: group.filter })),
    session.outlet,
  );
}

/** An offer to another shard, and what becomes of the message when it is refused. */
class OfferCall implements Call {
  private readonly shared: SharedRouter;
  private readonly publication: Publication;
  private readonly group: TopicGroup;
  private readonly publisher: Source;
  private readonly peer: number;
  private readonly take: number;
  private readonly refused: Set<number> | null;

  constructor(
    shared: SharedRouter,
    publication: Publication,
    group: TopicGroup,
    publisher: Source,
    peer: number,
    take: number,
    refused: Set<number> | null,
  ) {
    this.shared = shared;
    this.publication = publication;
    this.group = group;
    this.publisher = publisher;
    this.peer = peer;
    this.take = take;
    this.refused = refused;
  }

  onReply(status: number): void {
    const { publication, publisher } = this;
    // A member took it, but its store cannot: unlike a shard without members this is not for another to mend.
    if (status === STATUS.UNAVAILABLE) publication.refuse(status);
    else if (status !== STATUS.OK)
      this.shared.refusedBy(publication, this.group, publisher, this.peer, this.take, this.refused);
    publisher.settle(publication);
  }

  /** The shard died and its members with it. */
  onLost(): void {
    this.onReply(STATUS.GONE);
  }
}

/** Stands for the source while an inbox of ours takes an offered message; then the offering shard is answered. */
class OfferAnswer implements Source {
  readonly clientId = '';
  readonly sourceKey: number;
  private readonly shared: SharedRouter;
  private readonly publication: Publication;
  private readonly peer: number;
  private readonly life: number;
  private readonly callId: number;

  constructor(
    shared: SharedRouter,
    publication: Publication,
    peer: number,
    life: number,
    callId: number,
    sourceKey: number,
  ) {
    this.shared = shared;
    this.publication = publication;
    this.peer = peer;
    this.life = life;
    this.callId = callId;
    this.sourceKey = sourceKey;
  }

  settle(publication: Publication): void {
    publication.waits--;
    if (publication.waits > 0) return;
    const status = this.publication.failure === 0 ? STATUS.OK : STATUS.UNAVAILABLE;
    this.shared.reply(this.peer, this.life, this.callId, status);
  }

  onStoreLost(): void {}
}
