import { assert } from '../../base/assert.js';
import type { KvWriter } from '../engine.js';
import type { Replica } from './replica.js';
import { Turn } from './turn.js';

/**
 * Commands that are done in a transaction of somebody else, in a range that has this replica alone: who asks has the
 * outcome at once, and all of a transaction is one entry, which is stored nowhere: the record that says how far the
 * range is moves on by one. Nobody else is in the group, so nobody will ever ask for it: whoever joins is sent the
 * state, which has it all. The Raft machine hears of it when it is durable, so a transaction that fails leaves the
 * replica the leader that it was, and what it holds is read again.
 *
 * In the caller's transaction `enter` and commands, as often as is wanted, then `finish`; behind it `end`.
 */
export class Decisions {
  private readonly store: { isCommitting: boolean };
  private readonly turn = new Turn();
  private deciding: Replica[] = [];

  constructor(store: { isCommitting: boolean }) {
    this.store = store;
  }

  /** What the transaction holds of the range is an entry of it; `replica.canDecide`. */
  enter(replica: Replica, writer: KvWriter): void {
    assert(!this.store.isCommitting, 'one transaction at a time');
    if (replica.isDeciding) return;
    if (this.deciding.length === 0) this.turn.begin(writer);
    replica.beginDeciding(this.turn);
    this.deciding.push(replica);
  }

  /** Behind the last one of a transaction. */
  finish(): void {
    if (this.deciding.length === 0) return;
    for (const replica of this.deciding) replica.storeDecisions(this.turn);
    this.turn.end();
    this.store.isCommitting = true;
  }

  /** The transaction is durable, or has come to nothing, and what it changed in memory is read again. */
  end(isDurable: boolean): void {
    const { deciding } = this;
    this.deciding = [];
    this.store.isCommitting = false;
    for (const replica of deciding) replica.endDeciding(isDurable);
  }
}
