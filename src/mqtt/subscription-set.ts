import type { Subscription } from './tenant.js';

const FEW_MAX = 8;

/**
 * A session's subscriptions by their filter. Most sessions have a few, and a million idle sessions must not hold a
 * million hash tables: up to FEW_MAX are a list that is looked through.
 */
export class SubscriptionSet {
  private few: readonly Subscription[] = NONE;
  private many: Map<string, Subscription> | null = null;

  get size(): number {
    return this.many === null ? this.few.length : this.many.size;
  }

  get(filter: string): Subscription | undefined {
    if (this.many !== null) return this.many.get(filter);
    for (const subscription of this.few) if (subscription.filter === filter) return subscription;
    return undefined;
  }

  /** Adds it, in place of one with the same filter. */
  set(subscription: Subscription): void {
    const { filter } = subscription;
    if (this.many !== null) {
      this.many.set(filter, subscription);
      return;
    }
    // A fresh array has room for exactly what is in it; `push` would make room for seventeen.
    this.few = [...this.few.filter(other => other.filter !== filter), subscription];
    if (this.few.length <= FEW_MAX) return;
    this.many = new Map(this.few.map(other => [other.filter, other]));
    this.few = NONE;
  }

  delete(filter: string): void {
    if (this.many !== null) this.many.delete(filter);
    else this.few = this.few.filter(other => other.filter !== filter);
  }

  /** A copy, so that subscriptions may be deleted on the way. */
  filters(): string[] {
    return this.many === null ? this.few.map(({ filter }) => filter) : [...this.many.keys()];
  }
}

const NONE: readonly Subscription[] = [];
