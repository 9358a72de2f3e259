import type { ByteReader } from '../base/bytes.js';
import { OP, STATUS } from '../contract/contract.js';
import { Message, readMessage } from '../contract/message.js';
import { callback } from './caller.js';
import { Publication } from './publication.js';
import type { Source } from './publisher.js';
import type { Session } from './session.js';
import { inboxTarget, type Subscription, Topic } from './tenant.js';

/** Asked for at a time: enough to keep a socket busy, little enough to wait in memory. */
const PAGE_MESSAGES = 128;
const PAGE_BYTES = 256 * 1024;
/** A page is at most this part of what the session's queue takes. */
const QUEUE_SHARE = 4;

/**
 * Retained messages on their way to a session that subscribed. One page at a time is asked of the store, and the
 * next only when the session has taken the last: the receiver sets the pace, whatever the filter matches. To a
 * persistent session QoS 1 and 2 go by way of its inbox, retained or not, so that packet ids have one source; the
 * next page is then asked for when the inbox has the last and the session has room. So the queue holds two pages of
 * retained messages at most.
 */
export class RetainedFeed implements Source {
  readonly sourceKey = 0;
  readonly clientId = '';
  private readonly session: Session;
  private readonly pageMessages: number;
  private readonly scans: { readonly filter: string; readonly subscription: Subscription; cursor: Buffer }[] =
    [];
  private asked = false;
  /** Messages on their way into the inbox. */
  private inserting = 0;
  private readonly message = new Message();
  /** Stands for all topics: were each remembered, those that are published to would be forgotten. */
  private readonly topic: Topic;

  constructor(session: Session) {
    this.session = session;
    this.topic = new Topic(session.tenant, '');
    const share = Math.ceil(session.shard.limits.queueMessagesMax / QUEUE_SHARE);
    this.pageMessages = Math.min(PAGE_MESSAGES, share);
  }

  add(filter: string, subscription: Subscription): void {
    this.scans.push({ filter, subscription, cursor: Buffer.alloc(0) });
    this.pump();
  }

  /** Asks for the next page if the session has room. */
  pump(): void {
    const { session } = this;
    const scan = this.scans[0];
    if (this.asked || this.inserting > 0 || session.ended) return;
    if (scan === undefined) {
      session.feed = null;
      return;
    }
    if (!session.hasRoom(scan.subscription.qos)) return;
    this.asked = true;
    const { router, tenant } = session;
    const call = callback(
      (status, body) => this.onPage(status, body),
      () => this.onLost(),
    );
    const writer = router.caller.begin(OP.RETAIN_SCAN, call).text(tenant.name).text(scan.filter);
    writer.u53(session.shard.wallMs()).u32(this.pageMessages).u32(PAGE_BYTES).blob(scan.cursor);
    router.caller.send(router.links.retain);
  }

  /** The store's thread died: its successor has the same messages, so the page is asked for again. */
  private onLost(): void {
    this.asked = false;
    this.pump();
  }

  private onPage(status: number, body: ByteReader): void {
    this.asked = false;
    const scan = this.scans[0]!;
    if (this.session.ended) return;
    if (status !== STATUS.OK) {
      this.scans.shift();
      return this.pump();
    }
    const count = body.u32();
    const { subscription } = scan;
    const subscribed = this.session.subscriptions.get(subscription.filter) === subscription;
    for (let i = 0; i < count; i++) {
      const publication = Publication.of(readMessage(body, this.message));
      if (subscribed) this.give(publication, subscription);
    }
    const more = body.u8() === 1;
    scan.cursor = Buffer.from(body.blob());
    if (!more || !subscribed) this.scans.shift();
    this.pump();
  }

  private give(publication: Publication, subscription: Subscription): void {
    const { session } = this;
    const qos = Math.min(publication.qos, subscription.qos);
    if (qos === 0 || session.outlet === null) return session.deliverRetained(publication, subscription, qos);
    publication.topic = this.topic;
    publication.retain = true;
    const ids = subscription.ids ?? [0];
    const options = subscription.options | RETAIN_AS_PUBLISHED;
    const parts = ids.map(id => ({ options, id, filter: subscription.filter }));
    session.router.insertOne(publication, this.topic, this, inboxTarget(session.clientId, parts), null);
    this.inserting += publication.waits;
  }

  /** The inbox has it, or never will: should an insertion be lost, the store's copy is still there. */
  settle(publication: Publication): void {
    publication.waits--;
    this.inserting--;
    this.pump();
  }

  onStoreLost(): void {}
}

const RETAIN_AS_PUBLISHED = 8;
