import { ByteReader, ByteWriter } from '../../base/bytes.js';
import type { RefusalReason } from '../raft/ready.js';
import { OUTCOME } from '../replicated/commands.js';
import { type Descriptor, ROLE } from '../replicated/descriptor.js';
import type { RaftStore } from '../replicated/raft-store.js';
import type { RangeSink } from '../replicated/replica.js';
import { ASK, type Attempt } from '../route/client.js';
import type { Place } from '../route/route.js';
import type { AttemptCaller } from './store-server.js';

/** Attempts under way at one store; beyond, OVERLOADED at once. */
export const ATTEMPTS_MAX = 65_536;
/** Ranges beside the asked one that an answer names. */
const NEIGHBOURS_MAX = 3;

interface Question {
  readonly attempt: Attempt;
  readonly caller: AttemptCaller;
}

/**
 * Answers the attempts of clients at one store: commands by proposing them, questions by a linearizable read, and what
 * belongs elsewhere with the places that this store knows better.
 *
 * An attempt that is made again while the former is under way takes its place: the former caller has given it up.
 */
export class AttemptDesk implements RangeSink {
  private store: RaftStore | undefined;
  private readonly mode: 'index' | 'lease';
  /** By session, then number. */
  private readonly commands = new Map<number, Map<number, AttemptCaller>>();
  private readonly questions = new Map<number, Question>();
  private lastContext = 0;
  private underWay = 0;
  private readonly input = new ByteReader();
  private readonly output = new ByteWriter(4096);
  /** Told of every change that `RangeSink.changed` tells. */
  onChanged: (range: number) => void = () => undefined;

  /** `mode`: how questions are made sure of; leases count on clocks, see `RaftTiming.clockDriftMax`. */
  constructor(mode: 'index' | 'lease') {
    this.mode = mode;
  }

  /** The desk is its store's sink, so it is made first. */
  serve(store: RaftStore): void {
    this.store = store;
  }

  /** Attempts without answer. */
  get size(): number {
    return this.underWay;
  }

  attempt(attempt: Attempt, caller: AttemptCaller): void {
    const store = this.store!;
    const { range, epoch, ask, session, sequence, lowest, body } = attempt;
    if (this.underWay >= ATTEMPTS_MAX) return answer(caller, sequence, OUTCOME.OVERLOADED);
    const descriptor = store.replica(range)?.descriptor;
    if (descriptor === undefined || descriptor.epoch !== epoch) {
      answer(caller, sequence, OUTCOME.WRONG_RANGE, NOTHING, this.placesAround(range));
      return;
    }
    this.underWay++;
    if (ask === ASK.MUTATE) {
      this.remember(session, sequence, caller);
      store.propose(range, epoch, session, sequence, body, lowest);
    } else {
      const context = ++this.lastContext;
      this.questions.set(context, { attempt, caller });
      store.read(range, context, this.mode);
    }
  }

  private remember(session: number, sequence: number, caller: AttemptCaller): void {
    let ofSession = this.commands.get(session);
    if (ofSession === undefined) this.commands.set(session, (ofSession = new Map()));
    if (ofSession.has(sequence)) this.underWay--;
    ofSession.set(sequence, caller);
  }

  // -- RangeSink -----------------------------------------------------------------------------------------------

  outcome(
    range: number,
    session: number,
    sequence: number,
    outcome: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    const ofSession = this.commands.get(session);
    const caller = ofSession?.get(sequence);
    if (ofSession === undefined || caller === undefined) return;
    ofSession.delete(sequence);
    if (ofSession.size === 0) this.commands.delete(session);
    this.underWay--;
    if (outcome === OUTCOME.DONE) answer(caller, sequence, outcome, bytes.subarray(start, end));
    else answer(caller, sequence, outcome, NOTHING, this.placesFor(outcome, range));
  }

  readable(range: number, context: number): void {
    const question = this.take(context);
    if (question === undefined) return;
    const { attempt, caller } = question;
    const { sequence, epoch, body } = attempt;
    const input = this.input.over(body, 0, body.length);
    const isRead = this.store!.query(range, epoch, input, this.output.reset());
    if (isRead) answer(caller, sequence, OUTCOME.DONE, this.output.view());
    else answer(caller, sequence, OUTCOME.WRONG_RANGE, NOTHING, this.placesAround(range));
  }

  readRefused(range: number, context: number, reason: RefusalReason | 'wrong-range'): void {
    const question = this.take(context);
    if (question === undefined) return;
    const outcome = outcomeOf(reason);
    answer(question.caller, question.attempt.sequence, outcome, NOTHING, this.placesFor(outcome, range));
  }

  changed(range: number): void {
    this.onChanged(range);
  }

  private take(context: number): Question | undefined {
    const question = this.questions.get(context);
    if (question === undefined) return undefined;
    this.questions.delete(context);
    this.underWay--;
    return question;
  }

  // -- Places --------------------------------------------------------------------------------------------------

  private placesFor(outcome: number, range: number): readonly Place[] {
    if (outcome === OUTCOME.WRONG_RANGE || outcome === OUTCOME.MERGING) return this.placesAround(range);
    return outcome === OUTCOME.NOT_LEADER ? this.placeOf(range) : [];
  }

  private placeOf(range: number): Place[] {
    const replica = this.store!.replica(range);
    const descriptor = replica?.descriptor;
    if (replica === undefined || descriptor === undefined) return [];
    return [placeOf(descriptor, replica.raft.term, replica.leaderStore)];
  }

  /** The range as it is here, or what absorbed it, and the neighbours that it may have been divided into. */
  private placesAround(range: number): readonly Place[] {
    const places = this.placeOf(range);
    const own = places[0];
    for (const { rangeId, descriptor } of this.store!.replicas) {
      if (descriptor === undefined || rangeId === range || places.length > NEIGHBOURS_MAX) continue;
      const isNear =
        own === undefined
          ? descriptor.absorbed.some(absorbed => absorbed.range === range)
          : Buffer.compare(own.boundary.end, descriptor.boundary.start) === 0 ||
            Buffer.compare(descriptor.boundary.end, own.boundary.start) === 0;
      if (isNear) places.push(...this.placeOf(rangeId));
    }
    return places;
  }
}

const NOTHING = new Uint8Array(0);

function answer(
  caller: AttemptCaller,
  sequence: number,
  outcome: number,
  output: Uint8Array = NOTHING,
  places: readonly Place[] = [],
): void {
  caller.answer({ sequence, outcome, output, places });
}

/** A read changes nothing, so whoever did not get it may simply ask again. */
function outcomeOf(reason: RefusalReason | 'wrong-range'): number {
  if (reason === 'wrong-range') return OUTCOME.WRONG_RANGE;
  return reason === 'overloaded' ? OUTCOME.OVERLOADED : OUTCOME.NOT_LEADER;
}

export function placeOf(descriptor: Descriptor, term: number, leader: number): Place {
  const { id: range, epoch, boundary, genesis, pristine, members } = descriptor;
  const stores = members.filter(({ role }) => role !== ROLE.LEAVING).map(({ store }) => store);
  return { range, epoch, boundary, genesis, pristine, term, leader, stores };
}
