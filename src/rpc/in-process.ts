import type { Agenda, Task } from './agenda.js';
import { type RpcFailure, rpcFailure } from './failure.js';
import { Fifo } from './fifo.js';
import type {
  Call,
  CallContext,
  RpcChannel,
  RpcEndpoint,
  StreamCall,
  StreamSink,
  UnarySink,
} from './transport.js';

/** Messages of a stream that wait for a reader that has paused, or comes too late, before the writer is told to. */
const WINDOW = 64;

/**
 * The way to an endpoint in the same process. Bodies go by reference: with values as bodies no codec runs at all.
 *
 * A call crosses the agenda twice, on its way there and back, so that neither side ever runs within the other's
 * stack: what a caller may assume of a callee far away holds here too, and a loop of calls cannot overflow the stack.
 */
export class InProcessChannel<Body> implements RpcChannel<Body> {
  readonly address: string;
  onState: ((connected: boolean) => void) | undefined = undefined;
  private readonly endpoint: RpcEndpoint<Body>;
  private readonly agenda: Agenda;
  private readonly open = new Set<InProcessStream<Body>>();
  private isClosed = false;

  constructor(address: string, endpoint: RpcEndpoint<Body>, agenda: Agenda) {
    this.address = address;
    this.endpoint = endpoint;
    this.agenda = agenda;
  }

  unary(method: string, body: Body, context: CallContext, sink: UnarySink<Body>): Call {
    const call = new InProcessUnary(this.endpoint, method, body, context, sink, this.agenda);
    if (this.isClosed) call.broken(CLOSED);
    return call;
  }

  stream(method: string, context: CallContext, sink: StreamSink<Body>): StreamCall<Body> {
    const stream = new InProcessStream(this.endpoint, method, context, sink, this.agenda, this.open);
    if (this.isClosed) stream.broken(CLOSED);
    return stream;
  }

  /** There is nothing to connect. */
  connect(): void {}

  /** Ends the streams; unary calls are answered by the endpoint, which has them already or by the end of this turn. */
  close(): void {
    this.isClosed = true;
    for (const stream of [...this.open]) stream.broken(CLOSED);
  }
}

const CLOSED = rpcFailure('unavailable', 'the channel was closed');

/** What an endpoint gives back for a stream that it refused. */
export const NO_STREAM: StreamCall<unknown> = {
  cancel() {},
  write: () => true,
  pause() {},
  resume() {},
  end() {},
};

const UNARY_SENT = 0;
const UNARY_RUNNING = 1;
const UNARY_ANSWERED = 2;
const UNARY_ENDED = 3;

class InProcessUnary<Body> implements Call, UnarySink<Body>, Task {
  private state = UNARY_SENT;
  private readonly endpoint: RpcEndpoint<Body>;
  private readonly method: string;
  private body: Body;
  private readonly context: CallContext;
  private readonly sink: UnarySink<Body>;
  private readonly agenda: Agenda;
  private remote: Call | undefined;
  private failure: RpcFailure | undefined;

  constructor(
    endpoint: RpcEndpoint<Body>,
    method: string,
    body: Body,
    context: CallContext,
    sink: UnarySink<Body>,
    agenda: Agenda,
  ) {
    this.endpoint = endpoint;
    this.method = method;
    this.body = body;
    this.context = context;
    this.sink = sink;
    this.agenda = agenda;
    agenda.soon(this);
  }

  run(): void {
    if (this.state === UNARY_SENT) {
      this.state = UNARY_RUNNING;
      this.remote = this.endpoint.unary(this.method, this.body, this.context, this);
    } else if (this.state === UNARY_ANSWERED) {
      this.state = UNARY_ENDED;
      if (this.failure === undefined) this.sink.done(this.body);
      else this.sink.failed(this.failure);
    }
  }

  done(body: Body): void {
    if (this.state !== UNARY_RUNNING) return;
    this.state = UNARY_ANSWERED;
    this.body = body;
    this.agenda.soon(this);
  }

  failed(failure: RpcFailure): void {
    if (this.state !== UNARY_RUNNING) return;
    this.state = UNARY_ANSWERED;
    this.failure = failure;
    this.agenda.soon(this);
  }

  /** The task of sending delivers the failure in its place. */
  broken(failure: RpcFailure): void {
    this.state = UNARY_ANSWERED;
    this.failure = failure;
  }

  cancel(): void {
    if (this.state === UNARY_RUNNING) this.remote?.cancel();
    this.state = UNARY_ENDED;
  }
}

/** Where one direction of a stream leads. */
interface PipeReader<Body> {
  message(body: Body): void;
  ended(): void;
  /** There is room again, after `push` has returned false. */
  room(): void;
}

/** One direction of a stream: what was written and not yet read. */
class Pipe<Body> implements Task {
  private readonly reader: PipeReader<Body>;
  private readonly agenda: Agenda;
  private readonly waiting = new Fifo<Body>();
  private isAwake = false;
  private isPaused = false;
  private isFull = false;
  private isEnded = false;
  private isClosed = false;

  constructor(reader: PipeReader<Body>, agenda: Agenda) {
    this.reader = reader;
    this.agenda = agenda;
  }

  push(body: Body): boolean {
    if (this.isEnded || this.isClosed) return true;
    this.waiting.push(body);
    this.wake();
    this.isFull ||= this.waiting.length >= WINDOW;
    return !this.isFull;
  }

  end(): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.wake();
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    this.wake();
  }

  close(): void {
    this.isClosed = true;
    this.waiting.takeAll();
  }

  run(): void {
    this.isAwake = false;
    while (!this.isPaused && !this.isClosed) {
      if (this.waiting.length === 0) break;
      this.reader.message(this.waiting.shift() as Body);
    }
    if (this.isClosed || this.waiting.length > 0) return;
    if (this.isFull) {
      this.isFull = false;
      this.reader.room();
    }
    // Told of room, the writer may have written and ended.
    if (this.isEnded && this.waiting.length === 0 && !this.isPaused && !this.isClosed) {
      this.isClosed = true;
      this.reader.ended();
    }
  }

  private wake(): void {
    if (this.isAwake || this.isClosed) return;
    this.isAwake = true;
    this.agenda.soon(this);
  }
}

/** Client's call and server's sink in one; each direction is a {@link Pipe}. */
class InProcessStream<Body> implements StreamCall<Body>, Task {
  private readonly endpoint: RpcEndpoint<Body>;
  private readonly method: string;
  private readonly context: CallContext;
  private readonly sink: StreamSink<Body>;
  private readonly agenda: Agenda;
  private readonly open: Set<InProcessStream<Body>>;
  private readonly up: Pipe<Body>;
  private readonly down: Pipe<Body>;
  private remote: StreamCall<Body> = NO_STREAM as StreamCall<Body>;
  private isBegun = false;
  private isEnded = false;
  private failure: RpcFailure | undefined;

  constructor(
    endpoint: RpcEndpoint<Body>,
    method: string,
    context: CallContext,
    sink: StreamSink<Body>,
    agenda: Agenda,
    open: Set<InProcessStream<Body>>,
  ) {
    this.endpoint = endpoint;
    this.method = method;
    this.context = context;
    this.sink = sink;
    this.agenda = agenda;
    this.open = open;
    agenda.soon(this);
    open.add(this);
    this.up = new Pipe<Body>(
      {
        message: body => {
          if (!this.remote.write(body)) this.up.pause();
        },
        ended: () => this.remote.end(),
        room: () => this.sink.room(),
      },
      agenda,
    );
    this.down = new Pipe<Body>(
      {
        message: body => this.sink.message(body),
        ended: () => this.finish(() => this.sink.ended()),
        room: () => this.remote.resume(),
      },
      agenda,
    );
  }

  /** Opens the stream; later, tells that it has failed. */
  run(): void {
    if (this.isEnded) return;
    const { failure } = this;
    if (failure !== undefined) {
      this.finish(() => this.sink.failed(failure));
      return;
    }
    if (this.isBegun) return;
    this.isBegun = true;
    this.remote = this.endpoint.stream(this.method, this.context, {
      message: body => {
        if (!this.down.push(body)) this.remote.pause();
      },
      room: () => this.up.resume(),
      ended: () => this.down.end(),
      failed: reason => this.fail(reason),
    });
  }

  write(body: Body): boolean {
    return this.up.push(body);
  }

  pause(): void {
    this.down.pause();
  }

  resume(): void {
    this.down.resume();
  }

  end(): void {
    this.up.end();
  }

  cancel(): void {
    this.finish(() => this.remote.cancel());
  }

  broken(failure: RpcFailure): void {
    this.remote.cancel();
    this.fail(this.isBegun ? rpcFailure('unknown-outcome', failure.detail) : failure);
  }

  private fail(failure: RpcFailure): void {
    this.failure ??= failure;
    this.agenda.soon(this);
  }

  private finish(tell: () => void): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.up.close();
    this.down.close();
    this.open.delete(this);
    tell();
  }
}
