import type { BidiStream } from '../../rpc/bidi-stream.js';
import type { Client } from '../../rpc/client.js';
import type { RpcFailure } from '../../rpc/failure.js';
import { VarintReader, VarintWriter } from '../raft/varint.js';
import type { Attempt, ClientWire } from '../route/client.js';
import type { AttemptAnswer } from './attempt-codec.js';
import { readAnswer, writeAttempt } from './attempt-codec.js';
import { type kvService, serverIdOf } from './service.js';

type KvRpc = Client<typeof kvService.methods>;

/** Who is told what became of attempts: a KvClient. */
export interface AnswerSink {
  answered(
    store: number,
    sequence: number,
    outcome: number,
    output: Uint8Array,
    places: AttemptAnswer['places'],
  ): void;
  lost(store: number, hasBegun: (sequence: number) => boolean): void;
}

interface Batch {
  readonly bytes: Uint8Array;
  /** The attempts in it. */
  readonly numbers: ReadonlySet<number>;
}

interface Link {
  readonly store: number;
  readonly stream: BidiStream<Uint8Array, Uint8Array>;
  /** Attempts of this turn. */
  readonly batch: VarintWriter;
  numbers: Set<number>;
  /** For which the stream has had no room yet, oldest first. */
  waiting: Batch[];
  /** Attempts that are not answered. */
  open: number;
  isFull: boolean;
}

/** Attempts to one store without answer; beyond that it takes no more for now. */
export const OPEN_MAX = 8192;
/** One that is larger takes no more attempts. */
const BATCH_BYTES_MAX = 256 * 1024;
/** With so many waiting for room the store takes no more for now. */
const WAITING_MAX = 16;

/**
 * The wire of one KvClient: a stream to each store that it asks, opened at the first attempt and again after it broke.
 * Attempts of a turn leave in one message, and answers come in any order, so a range without quorum holds up no other.
 */
export class StoreCalls implements ClientWire {
  private readonly rpc: KvRpc;
  private readonly session: number;
  private readonly soon: (run: () => void) => void;
  private readonly links = new Map<number, Link>();
  private isScheduled = false;
  sink: AnswerSink | undefined;

  /** `soon` runs something once, when the present turn is over. */
  constructor(rpc: KvRpc, session: number, soon: (run: () => void) => void) {
    this.rpc = rpc;
    this.session = session;
    this.soon = soon;
  }

  send(store: number, attempt: Attempt): boolean {
    const link = this.links.get(store) ?? this.open(store);
    if (link.open >= OPEN_MAX || link.waiting.length >= WAITING_MAX) return false;
    if (link.numbers.size === 0) link.batch.reset().number(this.session);
    writeAttempt(link.batch, attempt);
    link.numbers.add(attempt.sequence);
    link.open++;
    if (link.batch.length > BATCH_BYTES_MAX) pack(link);
    if (!this.isScheduled) {
      this.isScheduled = true;
      this.soon(() => this.flush());
    }
    return true;
  }

  private open(store: number): Link {
    const stream = this.rpc.calls.open(
      { key: serverIdOf(store) },
      {
        message: bytes => this.onAnswers(link, bytes),
        room: () => {
          link.isFull = false;
          sendWaiting(link);
        },
        ended: () => this.over(link, true),
        failed: failure => this.over(link, mayHaveBegun(failure)),
      },
    );
    const link: Link = {
      ...{ store, stream, batch: new VarintWriter(1024), numbers: new Set<number>() },
      ...{ waiting: [], open: 0, isFull: false },
    };
    this.links.set(store, link);
    return link;
  }

  private flush(): void {
    this.isScheduled = false;
    for (const link of this.links.values()) {
      pack(link);
      sendWaiting(link);
    }
  }

  private onAnswers(link: Link, bytes: Uint8Array): void {
    const reader = new VarintReader(bytes);
    while (reader.remaining > 0) {
      const answer = readAnswer(reader);
      if (answer === undefined) {
        // What else it says cannot be told apart.
        link.stream.cancel();
        this.over(link, true);
        return;
      }
      link.open--;
      const { sequence, outcome, output, places } = answer;
      this.sink?.answered(link.store, sequence, outcome, output, places);
    }
  }

  private over(link: Link, hasBegun: boolean): void {
    if (this.links.get(link.store) !== link) return;
    this.links.delete(link.store);
    const isHere = (sequence: number) =>
      link.numbers.has(sequence) || link.waiting.some(({ numbers }) => numbers.has(sequence));
    this.sink?.lost(link.store, sequence => hasBegun && !isHere(sequence));
  }

  /** Ends all streams; what is under way is lost. */
  close(): void {
    for (const link of [...this.links.values()]) {
      link.stream.cancel();
      this.over(link, true);
    }
  }
}

function pack(link: Link): void {
  if (link.numbers.size === 0) return;
  link.waiting.push({ bytes: link.batch.copy(), numbers: link.numbers });
  link.numbers = new Set();
}

function sendWaiting(link: Link): void {
  while (link.waiting.length > 0 && !link.isFull)
    link.isFull = !link.stream.send(link.waiting.shift()!.bytes);
}

function mayHaveBegun({ kind }: RpcFailure): boolean {
  return kind !== 'unavailable' && kind !== 'server-not-found' && kind !== 'throttled';
}
