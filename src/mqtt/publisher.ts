import type { Publication } from './publication.js';
import type { Router } from './router.js';

/** Where a message comes from, as routing needs to know it. */
export interface Source {
  /** Identifies the source towards ordered shared groups; an unsigned 32-bit number. */
  readonly sourceKey: number;
  /** The client's, for no local; '' for the broker itself. */
  readonly clientId: string;
  /** An answer that `publication` waited for has come; its `failure` says if it was not OK. */
  settle(publication: Publication): void;
  /** A store died with a message of ours: whether it has it is unknown. */
  onStoreLost(): void;
}

/**
 * The messages of one source in order: first each is dispatched once its topic's receivers are known, then each is
 * acknowledged once all that must have it have it. Both happen in the order of arrival ([MQTT-4.6.0-2],
 * [MQTT-4.6.0-3], [MQTT-4.6.0-6]); later messages are dispatched while earlier ones still wait for storage.
 *
 * When nothing waits, a message passes through `submit` without being kept at all.
 */
export abstract class Publisher implements Source {
  readonly router: Router;
  private queue: Publication[] = [];
  private head = 0;
  private next = 0;
  private heldBytes = 0;
  private advancing = false;
  abstract readonly sourceKey: number;
  abstract readonly clientId: string;

  constructor(router: Router) {
    this.router = router;
  }

  /** Messages that have come and are not finished. */
  get pendingCount(): number {
    return this.queue.length - this.head;
  }

  get pendingBytes(): number {
    return this.heldBytes;
  }

  /** Takes a message; its topic is set. False when it is finished already and the object may be filled anew. */
  submit(publication: Publication): boolean {
    if (this.head === this.queue.length && publication.topic!.routed) {
      this.router.dispatch(publication, this);
      if (publication.waits === 0) {
        this.acknowledge(publication);
        return false;
      }
      this.keep(publication);
      this.next++;
      return true;
    }
    this.keep(publication);
    this.advance();
    return true;
  }

  /** Takes a message that goes nowhere but must be answered in its turn. False when it is answered already. */
  protected submitRefused(publication: Publication): boolean {
    if (this.head === this.queue.length) {
      this.acknowledge(publication);
      return false;
    }
    this.keep(publication);
    this.advance();
    return true;
  }

  private keep(publication: Publication): void {
    this.onKept(publication);
    this.queue.push(publication);
    this.heldBytes += publication.costBytes;
  }

  /** A topic that was being matched may be routed now. */
  advance(): void {
    if (this.advancing) return;
    this.advancing = true;
    while (this.next < this.queue.length) {
      const publication = this.queue[this.next]!;
      const { topic } = publication;
      if (topic === null) {
        this.next++; // refused
        continue;
      }
      if (!topic.routed) {
        this.router.match(topic, this);
        break;
      }
      this.next++;
      this.router.dispatch(publication, this);
    }
    this.advancing = false;
    this.finish();
  }

  settle(publication: Publication): void {
    publication.waits--;
    if (publication.waits > 0) return;
    if (publication.marksLater && publication.failure === 0) this.router.mark(publication, this);
    else if (!this.advancing) this.finish();
  }

  private finish(): void {
    const { queue } = this;
    const before = this.head;
    while (this.head < this.next) {
      const publication = queue[this.head]!;
      if (publication.waits > 0) break;
      this.head++;
      this.heldBytes -= publication.costBytes;
      this.acknowledge(publication);
    }
    if (this.head === before) return;
    if (this.head === queue.length) {
      queue.length = this.head = this.next = 0;
    } else if (this.head > 256 && this.head * 2 > queue.length) {
      queue.splice(0, this.head);
      this.next -= this.head;
      this.head = 0;
    }
    this.onRoom();
  }

  /** The message is with all that must have it, or its `failure` says why not. */
  protected abstract acknowledge(publication: Publication): void;

  /** The message waits. */
  protected onKept(_publication: Publication): void {}

  /** Fewer messages are pending than before. */
  protected abstract onRoom(): void;

  abstract onStoreLost(): void;
}
