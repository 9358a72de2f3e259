import { jittered } from '../underlay/chance.js';
import type { Alarm, Task } from './agenda.js';
import type { Context, Mover, Placement } from './context.js';
import { type Dependent, Server } from './directory.js';
import { type RpcFailure, rpcFailure } from './failure.js';
import type { ServerStreamMethod } from './service.js';
import type { StreamCall, StreamSink } from './transport.js';
import { MALFORMED, TOO_LARGE } from './wire.js';

const RETRY_MS = 50;
const RETRY_MS_MAX = 2_000;

export interface MessageSink<Response> {
  /** In the order of the server, at most once; to be acknowledged. */
  message(message: Response): void;
  /**
   * Another stream has been opened in place of the one before, at the server of that id: messages that were not
   * acknowledged may have been lost, and may come again.
   */
  retarget?(server: string): void;
  /** There is no stream for now; it is tried again. */
  broken?(failure: RpcFailure): void;
  /** The server has said everything. Exactly one of this and `failed`, unless it is closed before. */
  ended(): void;
  /** It will not do: the request cannot be sent or was refused for good. */
  failed(failure: RpcFailure): void;
}

/**
 * Messages from whichever server has the key, each acknowledged: at most `UNACKNOWLEDGED_MAX` are under way, and a
 * server knows what has arrived. It moves when servers or rules change, and comes back after a failure with growing
 * pauses, as long as it is not closed.
 */
export class MessageStream<Request, Response> implements Alarm, Mover, Dependent, Task {
  dueMs = 0;
  heapIndex = -1;
  private readonly path: string;
  private readonly method: ServerStreamMethod<Request, Response>;
  private readonly context: Context;
  private readonly placement: Placement;
  private readonly request: Request;
  private readonly sink: MessageSink<Response>;
  private server: Server | undefined;
  private lastServer: Server | undefined;
  private stream: StreamCall<unknown> | undefined;
  private isClosed = false;
  private failures = 0;
  /** Messages given to the sink that it has not acknowledged: of this stream, and of those before it. */
  private unacknowledged = 0;
  private stale = 0;
  /** Acknowledged and not yet told to the server. */
  private acknowledged = 0;

  constructor(
    path: string,
    method: ServerStreamMethod<Request, Response>,
    context: Context,
    placement: Placement,
    request: Request,
    sink: MessageSink<Response>,
  ) {
    this.path = path;
    this.method = method;
    this.context = context;
    this.placement = placement;
    this.request = request;
    this.sink = sink;
    context.movers.add(this);
    context.agenda.at(this, context.agenda.nowMs);
  }

  /** Id of the server that has it now. */
  get target(): string | undefined {
    return this.server?.id;
  }

  /** The oldest message that is not acknowledged has been dealt with. */
  acknowledge(): void {
    if (this.stale > 0) {
      this.stale--;
      return;
    }
    if (this.unacknowledged === 0) return;
    this.unacknowledged--;
    if (this.acknowledged++ === 0) this.context.agenda.soon(this);
  }

  /** Nothing is told any more. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.detach();
    this.context.movers.delete(this);
    this.context.agenda.cancel(this);
  }

  /** Tells the server what one turn has acknowledged. */
  run(): void {
    if (this.stream === undefined || this.acknowledged === 0) return;
    const count = this.acknowledged;
    this.acknowledged = 0;
    this.stream.write(this.server!.wire.encodeCount(count));
  }

  due(): void {
    this.attach();
  }

  reconsider(): void {
    const { agenda, routing } = this.context;
    if (this.server === undefined) {
      agenda.at(this, agenda.nowMs);
      return;
    }
    const { tenant, key } = this.placement;
    if (routing.isPlaced(this.server, this.method.balance, tenant, key)) return;
    // While there is no better place this one may still have something to say.
    if (!(routing.pick(this.method.balance, tenant, key, undefined) instanceof Server)) return;
    this.detach();
    agenda.at(this, agenda.nowMs);
  }

  stop(failure: RpcFailure): void {
    this.fail(failure);
  }

  serverGone(server: Server): void {
    this.onBroken(rpcFailure('unavailable', `${this.path}: server ${server.id} is gone`));
  }

  private attach(): void {
    if (this.isClosed || this.stream !== undefined) return;
    const { routing } = this.context;
    const { tenant, key } = this.placement;
    const exclude = this.failures > 0 ? this.lastServer : undefined;
    const picked = routing.pick(this.method.balance, tenant, key, exclude);
    if (!(picked instanceof Server)) {
      this.onBroken(picked);
      return;
    }
    const { method, path } = this;
    const body = picked.wire.encode(method.request, this.request, method.messageBytesMax);
    if (body === TOO_LARGE) {
      this.fail(rpcFailure('aborted', `${path}: larger than ${method.messageBytesMax} bytes`));
      return;
    }
    const isFirst = this.lastServer === undefined;
    this.server = picked;
    this.lastServer = picked;
    picked.join(this);
    const call = { deadlineMs: Number.POSITIVE_INFINITY, tenant, server: picked.id };
    const stream = picked.endpoint.stream(path, call, this.makeSink(picked));
    this.stream = stream;
    stream.write(body);
    if (!isFirst) this.sink.retarget?.(picked.id);
  }

  private makeSink(server: Server): StreamSink<unknown> {
    // A stream that was cancelled says nothing more, so what comes is of the present one.
    return {
      message: body => this.onMessage(server, body),
      room: () => {},
      ended: () => {
        this.close();
        this.sink.ended();
      },
      failed: failure => {
        if (failure.kind === 'aborted') this.fail(failure);
        else this.onBroken(failure);
      },
    };
  }

  private onMessage(server: Server, body: unknown): void {
    const { method } = this;
    const message = server.wire.decode(method.response, body, method.messageBytesMax);
    if (message === MALFORMED) {
      this.onBroken(rpcFailure('unknown-outcome', `${this.path}: a message cannot be read`));
      return;
    }
    this.failures = 0;
    this.unacknowledged++;
    this.sink.message(message);
  }

  private onBroken(failure: RpcFailure): void {
    if (this.server !== undefined) this.server.failed++;
    this.detach();
    const { agenda, random } = this.context;
    const pauseMs =
      this.failures === 0 ? 0 : Math.min(RETRY_MS * 2 ** Math.min(this.failures, 10), RETRY_MS_MAX);
    this.failures++;
    agenda.at(this, agenda.nowMs + jittered(random, pauseMs));
    this.sink.broken?.(failure);
  }

  private fail(failure: RpcFailure): void {
    this.close();
    this.sink.failed(failure);
  }

  private detach(): void {
    this.stream?.cancel();
    this.server?.leave(this);
    this.server = undefined;
    this.stream = undefined;
    this.stale += this.unacknowledged;
    this.unacknowledged = 0;
    this.acknowledged = 0;
  }
}
