import type { BidiWriter, Handlers } from '../../rpc/handler.js';
import { VarintReader, VarintWriter } from '../raft/varint.js';
import type { Attempt } from '../route/client.js';
import { type AttemptAnswer, readAttempt, writeAnswer } from './attempt-codec.js';
import type { kvService } from './service.js';

/** Where an attempt's answer goes: once, now or later. */
export interface AttemptCaller {
  answer(answer: AttemptAnswer): void;
}

/** What serves a store. */
export interface StoreHandler {
  /** A frame of another store; may be anything. The bytes are the handler's. */
  frame(bytes: Uint8Array): void;
  /** `attempt.body` is the handler's. */
  attempt(attempt: Attempt, caller: AttemptCaller): void;
  /** An order; may be anything. `answered` is called once, now or later, with `ORDER_BYTES_MAX` at the most. */
  steer(order: Uint8Array, answered: (answer: Uint8Array) => void): void;
}

/** Handlers of `kv` for one store. `soon` runs something once, when the present turn is over. */
export function storeHandlers(
  store: StoreHandler,
  soon: (run: () => void) => void,
): Handlers<typeof kvService.methods> {
  return {
    frames: () => ({ message: bytes => store.frame(bytes) }),
    calls: writer => new CallsHandler(store, writer, soon),
    steer: ({ order }, reply) => store.steer(order, answer => reply.done(answer)),
  };
}

/** Attempts of one caller that wait for their answer; above this its stream is not read. */
export const SERVED_OPEN_MAX = 8192;

/** Serves one caller. */
export class CallsHandler implements AttemptCaller {
  private readonly store: StoreHandler;
  private readonly writer: BidiWriter<Uint8Array>;
  private readonly soon: (run: () => void) => void;
  private readonly batch = new VarintWriter(1024);
  private open = 0;
  private isPaused = false;
  private isFull = false;
  private isScheduled = false;
  private isOver = false;

  constructor(store: StoreHandler, writer: BidiWriter<Uint8Array>, soon: (run: () => void) => void) {
    this.store = store;
    this.writer = writer;
    this.soon = soon;
  }

  message(bytes: Uint8Array): void {
    if (this.isOver) return;
    const reader = new VarintReader(bytes);
    const session = reader.number();
    while (reader.remaining > 0 || session === 0) {
      const attempt = session === 0 ? undefined : readAttempt(reader, session);
      if (attempt === undefined) {
        // Who speaks so is no caller of ours.
        this.closed();
        this.writer.end();
        return;
      }
      this.open++;
      this.store.attempt(attempt, this);
    }
    this.setPaused();
  }

  answer(answer: AttemptAnswer): void {
    this.open--;
    if (this.isOver) return;
    writeAnswer(this.batch, answer);
    if (this.isScheduled) return;
    this.isScheduled = true;
    this.soon(() => this.flush());
  }

  private flush(): void {
    this.isScheduled = false;
    if (this.isOver || this.batch.length === 0) return;
    const bytes = this.batch.copy();
    this.batch.reset();
    this.isFull = !this.writer.send(bytes);
    this.setPaused();
  }

  room(): void {
    this.isFull = false;
    this.setPaused();
  }

  /** Reads on while answers leave and not too many are owed. */
  private setPaused(): void {
    const mustPause = this.isFull || this.open >= SERVED_OPEN_MAX;
    if (this.isOver || mustPause === this.isPaused) return;
    this.isPaused = mustPause;
    if (mustPause) this.writer.pause();
    else this.writer.resume();
  }

  ended(): void {
    this.writer.end();
  }

  closed(): void {
    this.isOver = true;
  }
}
