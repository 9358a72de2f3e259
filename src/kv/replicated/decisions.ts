import { assert } from '../../base/assert.js';
import type { ByteReader, ByteWriter } from '../../base/bytes.js';
import type { KvWriter } from '../engine.js';
import type { Replica } from './replica.js';
import { Turn } from './turn.js';

/**
 * Commands that are done in a transaction of somebody else, in a range that has this replica alone: who asks has the
 * outcome at once, and all of a transaction is one entry, which says no more than that the index has moved. Nobody else
 * is in the group, so nobody will ever apply it: whoever joins is sent the state, which has it all.
 *
 * In the caller's transaction `decide`, as often as is wanted, then `finish`; behind it `take`, for what is to be settled
 * now that it is durable, or done with if it came to nothing.
 */
export class Decisions {
  private readonly turn = new Turn();
  private readonly deciding = new Set<Replica>();

  get isEmpty(): boolean {
    return this.deciding.size === 0;
  }

  decide(replica: Replica, input: ByteReader, writer: KvWriter, output: ByteWriter): void {
    if (this.deciding.size === 0) this.turn.begin(writer);
    assert(this.deciding.has(replica) || replica.canDecide, 'a range is decided for by its only replica');
    this.deciding.add(replica);
    replica.decide(input, this.turn, output);
  }

  /** Behind the last one of a transaction. */
  finish(): void {
    for (const replica of this.deciding) replica.storeDecisions(this.turn);
    if (this.deciding.size > 0) this.turn.end();
  }

  take(): Replica[] {
    const decided = [...this.deciding];
    this.deciding.clear();
    return decided;
  }
}
