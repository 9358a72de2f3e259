import type { Clock, Random } from '../../base/env.js';
import { OUTCOME } from '../replicated/commands.js';
import type { Place, Route } from './route.js';

export const ASK = {
  /** A command: applied once, however often it is sent. */
  MUTATE: 0,
  /** A question about everything that was done before it was asked. */
  QUERY: 1,
} as const;

/** One attempt, as it goes to a store. */
export interface Attempt {
  readonly range: number;
  readonly epoch: number;
  /** One of {@link ASK}. */
  readonly ask: number;
  readonly session: number;
  /** The same in all attempts of a call as long as one of them may have been applied. */
  readonly sequence: number;
  /** The lowest number of the session whose call has not ended: `sequence` or below. */
  readonly lowest: number;
  readonly body: Uint8Array;
}

/** How attempts travel. What is told of one is told later, never from within `send`. */
export interface ClientWire {
  /** False if the store cannot be reached or takes no more now; then nothing was sent. */
  send(store: number, attempt: Attempt): boolean;
}

/** What becomes of a call: exactly one of these, once, and never from within the call that made it. */
export interface CallSink {
  /** It is done; `output` is what the coprocessor said, undefined if that was lost (an earlier attempt did it). */
  done(output: Uint8Array | undefined): void;
  /** It was not done, and will not be. */
  notDone(reason: NotDone): void;
  /** It may be done, or may be done yet. Never of a question. */
  unknown(): void;
}

/** `refused`: the range cannot do it; `deadline`: no store that could be asked took it in time. */
export type NotDone = 'refused' | 'deadline';

export interface ClientLimits {
  /** Calls under way; beyond that there is no call. */
  readonly callsMax: number;
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
}

export const CLIENT_LIMITS: ClientLimits = { callsMax: 16_384, retryMinMs: 5, retryMaxMs: 500 };

interface Call {
  sequence: number;
  readonly key: Uint8Array;
  readonly ask: number;
  readonly body: Uint8Array;
  readonly deadlineMs: number;
  readonly sink: CallSink;
  /** Store that was asked and has not answered; 0 while none is. */
  asked: number;
  /** The last one that was asked, or would have been; 0 while there was no route. */
  tried: number;
  /** Not sent before this. */
  dueMs: number;
  tries: number;
  /** Some attempt went out and nobody has said that it was not applied. */
  isUncertain: boolean;
}

/**
 * Calls by key, of one caller: finds the range, sends, follows corrections, tries again until the deadline, and ends
 * with a definite answer: done, not done, or unknown.
 *
 * A command whose attempt may have been applied keeps its number, and ranges remember the numbers that they applied, also
 * across split and merge, so it may be sent again; they are told with each which numbers have ended, and forget those.
 * What was certainly not applied goes out under a new number: an old one would fall ever further behind those of newer
 * calls, until the range has forgotten whether it applied it. A call ends as `notDone` only if every attempt that went
 * out was answered by somebody who had not applied it and could not any more.
 *
 * Pure: `tick` and the answers move it. Attempts that share a store are batched by the wire beneath.
 */
export class KvClient {
  private readonly session: number;
  private readonly route: Route;
  private readonly wire: ClientWire;
  private readonly clock: Pick<Clock, 'monotonicMs'>;
  private readonly random: Random;
  private readonly limits: ClientLimits;
  private readonly calls = new Map<number, Call>();
  private lastSequence = 0;
  /** No call under way has a lower number. */
  private lowest = 1;
  private wakeMs = Number.POSITIVE_INFINITY;

  /** `session`: names this caller, and no other one ever; from 1 to 2^53 - 1. */
  constructor(
    session: number,
    route: Route,
    wire: ClientWire,
    env: { readonly clock: Pick<Clock, 'monotonicMs'>; readonly random: Random },
    limits: ClientLimits = CLIENT_LIMITS,
  ) {
    this.session = session;
    this.route = route;
    this.wire = wire;
    this.clock = env.clock;
    this.random = env.random;
    this.limits = limits;
  }

  /** Calls under way. */
  get size(): number {
    return this.calls.size;
  }

  /** When {@link tick} has something to do. */
  get nextDeadlineMs(): number {
    return this.wakeMs;
  }

  /** False when too many are under way: then the sink hears nothing. `key` and `body` are taken, not copied. */
  call(ask: number, key: Uint8Array, body: Uint8Array, deadlineMs: number, sink: CallSink): boolean {
    if (this.calls.size >= this.limits.callsMax) return false;
    const sequence = ++this.lastSequence;
    const dueMs = this.clock.monotonicMs();
    // One literal: two that were spread into it, as short as that reads, cost 10 µs a call.
    const call: Call = {
      sequence,
      key,
      ask,
      body,
      deadlineMs,
      sink,
      asked: 0,
      tried: 0,
      dueMs,
      tries: 0,
      isUncertain: false,
    };
    this.calls.set(sequence, call);
    this.attempt(call);
    this.wakeMs = Math.min(this.wakeMs, deadlineMs, call.asked === 0 ? call.dueMs : deadlineMs);
    return true;
  }

  /** A store answered. `outcome` is one of OUTCOME; `places` are what it knows better. */
  answered(
    store: number,
    sequence: number,
    outcome: number,
    output: Uint8Array,
    places: readonly Place[] = [],
  ): void {
    for (const place of places) this.route.correct(place);
    const call = this.calls.get(sequence);
    // Answers to attempts that were given up say nothing about later ones, but what is done is done.
    const isCurrent = call?.asked === store;
    if (call === undefined || (!isCurrent && outcome !== OUTCOME.DONE && outcome !== OUTCOME.DONE_BEFORE))
      return;
    call.asked = 0;
    switch (outcome) {
      case OUTCOME.DONE:
        this.end(call);
        call.sink.done(output);
        return;
      case OUTCOME.DONE_BEFORE:
        this.end(call);
        call.sink.done(undefined);
        return;
      case OUTCOME.REFUSED:
        this.giveUp(call, 'refused');
        return;
      case OUTCOME.UNKNOWN:
        call.isUncertain = true;
        this.retry(call);
        return;
      case OUTCOME.FORGOTTEN:
        // However often it is sent, nobody will know.
        call.isUncertain = true;
        this.giveUp(call, 'deadline');
        return;
      default:
        this.retry(call);
        return;
    }
  }

  /** The connection to a store is gone, or one attempt was lost on it: nothing more will be heard of what it was asked. */
  lost(store: number, hasBegun: (sequence: number) => boolean): void {
    for (const call of this.calls.values()) {
      if (call.asked !== store) continue;
      call.asked = 0;
      if (hasBegun(call.sequence)) call.isUncertain = true;
      this.retry(call);
    }
  }

  /** The route has changed: whoever waited for that goes on, and who waits to try again goes to another leader at once. */
  routeChanged(): void {
    const nowMs = this.clock.monotonicMs();
    for (const call of this.calls.values()) {
      if (call.asked !== 0) continue;
      const leader = this.route.find(call.key)?.leader ?? 0;
      if (call.tried !== 0 && (leader === 0 || leader === call.tried)) continue;
      call.dueMs = nowMs;
      this.wakeMs = nowMs;
    }
  }

  tick(): void {
    const nowMs = this.clock.monotonicMs();
    if (nowMs < this.wakeMs) return;
    let wakeMs = Number.POSITIVE_INFINITY;
    for (const call of this.calls.values()) {
      if (nowMs >= call.deadlineMs) {
        if (call.asked !== 0) call.isUncertain = true;
        this.giveUp(call, 'deadline');
        continue;
      }
      if (call.asked === 0 && nowMs >= call.dueMs) this.attempt(call);
      wakeMs = Math.min(wakeMs, call.deadlineMs, call.asked === 0 ? call.dueMs : call.deadlineMs);
    }
    this.wakeMs = wakeMs;
  }

  /** Nobody is asked any more: whatever is under way ends now. */
  close(): void {
    for (const call of this.calls.values()) {
      if (call.asked !== 0) call.isUncertain = true;
      this.giveUp(call, 'deadline');
    }
    this.wakeMs = Number.POSITIVE_INFINITY;
  }

  private attempt(call: Call): void {
    const place = this.route.find(call.key);
    // A store that was its leader may know better than nobody.
    const store = place === undefined ? 0 : place.leader || place.stores[call.tries % place.stores.length]!;
    if (place !== undefined && store !== 0) {
      if (call.tries > 0 && !call.isUncertain) this.renumber(call);
      const { range, epoch } = place;
      const { ask, sequence, body } = call;
      while (!this.calls.has(this.lowest)) this.lowest++;
      const { session, lowest } = this;
      call.asked = store;
      call.tried = store;
      if (this.wire.send(store, { range, epoch, ask, session, sequence, lowest, body })) return;
      call.asked = 0;
    }
    this.retry(call);
  }

  private renumber(call: Call): void {
    this.calls.delete(call.sequence);
    call.sequence = ++this.lastSequence;
    this.calls.set(call.sequence, call);
  }

  /** The first time almost at once, then after twice as long each time, with a spread. */
  private retry(call: Call): void {
    const { retryMinMs, retryMaxMs } = this.limits;
    const waitMs = Math.min(retryMinMs * 2 ** Math.min(call.tries, 20), retryMaxMs);
    call.tries++;
    call.dueMs = this.clock.monotonicMs() + waitMs * (0.5 + this.random.u32() / 0x2_0000_0000);
    this.wakeMs = Math.min(this.wakeMs, call.dueMs);
  }

  private giveUp(call: Call, reason: NotDone): void {
    this.end(call);
    if (call.isUncertain && call.ask === ASK.MUTATE) call.sink.unknown();
    else call.sink.notDone(reason);
  }

  private end(call: Call): void {
    this.calls.delete(call.sequence);
  }
}
