import type { Task } from './agenda.js';
import type { RpcFailure } from './failure.js';
import { Fifo } from './fifo.js';
import type { Caller, PipelineHandler, Reply } from './handler.js';
import type { ServedStream, StreamParts } from './served.js';
import type { StreamCall } from './transport.js';
import { ANSWERED, type Answer, MALFORMED, MOVED, statusOf, TOO_LARGE } from './wire.js';

/** Requests of one pipeline, and their bytes, that a handler has at a time; beyond, its stream is not read. */
export const SERVED_DEPTH_MAX = 4_096;
const REQUEST_BYTES_MAX = 8 * 1_024 * 1_024;
/** Answers leave together up to this. */
const FRAME_BYTES_MAX = 256 * 1_024;
const FRAME_ANSWERS_MAX = 4_096;
/** More in one frame is taken for an attack. */
const FRAME_REQUESTS_MAX = 4_096;

/** One request at its handler. */
class Slot implements Reply<unknown> {
  readonly caller: Caller;
  /** Of the request. */
  readonly bytes: number;
  private readonly pipeline: ServedPipeline;
  /** Undefined until answered. */
  status: number | undefined = undefined;
  body: unknown = undefined;

  constructor(caller: Caller, bytes: number, pipeline: ServedPipeline) {
    this.caller = caller;
    this.bytes = bytes;
    this.pipeline = pipeline;
  }

  get isOver(): boolean {
    return this.status !== undefined || this.pipeline.isClosed;
  }

  done(value: unknown): void {
    if (!this.isOver) this.pipeline.encode(this, value);
  }

  failed(failure: RpcFailure): void {
    if (!this.isOver) this.settle(statusOf(failure), failure.detail);
  }

  settle(status: number, body: unknown): void {
    this.status = status;
    this.body = body;
    this.pipeline.answered(this);
  }
}

/**
 * A pipeline at its server: requests go to the handler as they come, answers leave in the order of the requests, all
 * that one turn has brought in one frame.
 *
 * When the server goes, every request is refused from a certain one on, so the caller knows that none behind it was
 * begun, and may take them elsewhere in their order.
 */
export class ServedPipeline implements StreamCall<unknown>, ServedStream, Task {
  isClosed = false;
  private readonly parts: StreamParts;
  private readonly handler: PipelineHandler<unknown, unknown>;
  private readonly slots = new Fifo<Slot>();
  /** Of the requests in `slots`. */
  private bytes = 0;
  private isMoved = false;
  private isPaused = false;
  private isFull = false;
  private isEnding = false;
  private isAwake = false;

  constructor(parts: StreamParts, handler: PipelineHandler<unknown, unknown>) {
    this.parts = parts;
    this.handler = handler;
    parts.served.streams.add(this);
  }

  get pending(): number {
    return this.slots.length;
  }

  /** Its caller moves when it hears of that. */
  draining(): void {}

  write(frame: unknown): boolean {
    if (this.isClosed) return true;
    const { wire, method } = this.parts;
    const bodies = wire.unpackRequests(frame, FRAME_REQUESTS_MAX);
    if (bodies === MALFORMED) {
      this.failed({ kind: 'unknown-outcome', detail: 'a frame of requests cannot be read' });
      return true;
    }
    for (const body of bodies) {
      if (this.isClosed) return true;
      this.request(wire.decode(method.request, body, method.messageBytesMax), wire.sizeOf(body));
    }
    this.isFull ||= this.slots.length >= SERVED_DEPTH_MAX || this.bytes >= REQUEST_BYTES_MAX;
    return !this.isFull;
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    this.wake();
  }

  end(): void {
    this.isEnding = true;
    this.wake();
  }

  cancel(): void {
    this.close();
  }

  failed(failure: RpcFailure): void {
    if (this.close()) this.parts.sink.failed(failure);
  }

  /** Without requests that were begun it can say so, and the caller takes those on their way elsewhere. */
  stop(failure: RpcFailure): void {
    const isIdle = this.slots.length === 0;
    this.failed(isIdle ? { kind: 'unavailable', detail: 'the server has stopped' } : failure);
  }

  encode(slot: Slot, value: unknown): void {
    const { wire, method } = this.parts;
    const body = wire.encode(method.response, value, method.messageBytesMax);
    if (body !== TOO_LARGE) slot.settle(ANSWERED, body);
    else {
      const detail = `the answer is larger than ${method.messageBytesMax} bytes`;
      slot.failed({ kind: 'unknown-outcome', detail });
    }
  }

  answered(slot: Slot): void {
    if (this.slots.at(0) === slot) this.wake();
  }

  /** Sends what is answered at the head. */
  run(): void {
    this.isAwake = false;
    while (!this.isClosed && !this.isPaused && this.slots.at(0)?.status !== undefined) this.sendFrame();
    if (this.isClosed) return;
    if (this.isFull && this.slots.length <= SERVED_DEPTH_MAX / 2 && this.bytes <= REQUEST_BYTES_MAX / 2) {
      this.isFull = false;
      this.parts.sink.room();
    }
    if (this.isEnding && this.slots.length === 0 && this.close()) this.parts.sink.ended();
    else this.parts.served.onProgress?.();
  }

  private request(request: unknown, bytes: number): void {
    const { served, context } = this.parts;
    const slot = new Slot(context, bytes, this);
    this.slots.push(slot);
    this.bytes += bytes;
    this.isMoved ||= served.isClosing;
    if (this.isMoved) slot.settle(MOVED, '');
    else if (request === MALFORMED) slot.failed({ kind: 'aborted', detail: 'the request cannot be read' });
    else {
      this.handler.request(request, slot);
    }
  }

  private sendFrame(): void {
    const { wire, sink } = this.parts;
    const answers: Answer[] = [];
    let bytes = 0;
    while (answers.length < FRAME_ANSWERS_MAX) {
      const slot = this.slots.at(0);
      if (slot?.status === undefined) break;
      const size = slot.status === ANSWERED ? wire.sizeOf(slot.body) : 0;
      if (answers.length > 0 && bytes + size > FRAME_BYTES_MAX) break;
      bytes += size;
      answers.push({ status: slot.status, body: slot.body });
      this.slots.shift();
      this.bytes -= slot.bytes;
    }
    sink.message(wire.packAnswers(answers));
  }

  private wake(): void {
    if (this.isAwake || this.isClosed) return;
    this.isAwake = true;
    this.parts.served.agenda.soon(this);
  }

  /** False when it was closed already. */
  private close(): boolean {
    if (this.isClosed) return false;
    this.isClosed = true;
    this.slots.takeAll();
    this.handler.closed?.();
    this.parts.served.streamClosed(this);
    return true;
  }
}
