import type { Clock } from '../base/env.js';
import type { RefusalReason } from '../kv/raft/ready.js';
import { AttemptDesk } from '../kv/remote/attempt-desk.js';
import type { AttemptCaller } from '../kv/remote/store-server.js';
import type { RaftStore } from '../kv/replicated/raft-store.js';
import type { RangeSink } from '../kv/replicated/replica.js';
import { ASK, type Attempt } from '../kv/route/client.js';
import { LoadMeter } from './load-meter.js';

/** Who hears what becomes of a store's ranges, beside those who asked. */
export interface DeskHost {
  outcome(session: number, sequence: number, outcome: number): void;
  changed(): void;
}

/**
 * A store's sink: what callers asked goes to its {@link AttemptDesk}, the rest to the store's host, and what ranges are
 * asked is measured. It is made before its store.
 */
export class KvDesk implements RangeSink {
  readonly meter: LoadMeter;
  private readonly clock: Clock;
  private readonly attempts: AttemptDesk;
  private host: DeskHost | undefined;

  /** `mode`: how questions are made sure of; leases count on clocks, see `RaftTiming.clockDriftMax`. */
  constructor(clock: Clock, mode: 'index' | 'lease') {
    this.clock = clock;
    this.meter = new LoadMeter(() => clock.monotonicMs());
    this.attempts = new AttemptDesk(mode);
  }

  /** What happens before, as while the store is opened, nobody is told. */
  serve(store: RaftStore, host: DeskHost): void {
    this.attempts.serve(store);
    this.host = host;
  }

  attempt(attempt: Attempt, caller: AttemptCaller, isHeld: boolean): void {
    if (isHeld) this.meter.asked(attempt.range, attempt.ask === ASK.MUTATE);
    this.attempts.attempt(attempt, caller);
  }

  outcome(
    range: number,
    session: number,
    sequence: number,
    outcome: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    this.host?.outcome(session, sequence, outcome);
    this.attempts.outcome(range, session, sequence, outcome, bytes, start, end);
  }

  readable(range: number, context: number): void {
    const startedMs = this.clock.monotonicMs();
    this.attempts.readable(range, context);
    this.meter.ran(range, this.clock.monotonicMs() - startedMs);
  }

  readRefused(range: number, context: number, reason: RefusalReason | 'wrong-range'): void {
    this.attempts.readRefused(range, context, reason);
  }

  changed(): void {
    this.host?.changed();
  }
}
