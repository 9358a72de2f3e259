import { STATUS } from '../contract/contract.js';
import type { Publication } from './publication.js';
import { Publisher } from './publisher.js';
import type { Tenant } from './tenant.js';

/**
 * Publishes for the broker itself: wills, `$SYS`, and messages that a member of a shared group left behind. A request
 * that came with such a message is answered once all that must have it have it.
 */
export class BrokerPublisher extends Publisher {
  readonly sourceKey = 0;
  readonly clientId = '';

  publish(tenant: Tenant, publication: Publication): void {
    const bytes = publication.topicBytes;
    publication.topic = this.router.topicOf(tenant, bytes, 0, bytes.length);
    this.submit(publication);
  }

  /** To another member of the shared group `key`. */
  reroute(tenant: Tenant, kept: Publication, key: string): void {
    const publication = kept.again();
    publication.onlyGroup = key;
    this.publish(tenant, publication);
  }

  protected acknowledge(publication: Publication): void {
    if (publication.replyPeer < 0) return;
    const { replyPeer, replyLife, replyCall, failure } = publication;
    this.router.caller.reply(replyPeer, replyLife, replyCall, failure === 0 ? STATUS.OK : STATUS.UNAVAILABLE);
  }

  protected onRoom(): void {}

  /** The message counts as failed; whoever asked for it asks again. */
  onStoreLost(): void {}
}
