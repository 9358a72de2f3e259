import type { Task } from './agenda.js';
import type { Context, Placement } from './context.js';
import { type Dependent, Server } from './directory.js';
import { type RpcFailure, rpcFailure } from './failure.js';
import type { Balance, BidiStreamMethod } from './service.js';
import type { StreamCall } from './transport.js';
import { MALFORMED, TOO_LARGE } from './wire.js';

export interface BidiSink<Response> {
  message(message: Response): void;
  /** The server takes more again, after `send` has returned false. */
  room?(): void;
  /** The server has said everything. Exactly one of this and `failed`, unless it is cancelled before. */
  ended(): void;
  /** `unknown-outcome`: what was sent may have arrived or not. */
  failed(failure: RpcFailure): void;
}

/** Messages both ways with one server; when that goes, so does the stream. */
export class BidiStream<Request, Response> implements Dependent, Task {
  private readonly path: string;
  private readonly method: BidiStreamMethod<Request, Response, Balance>;
  private readonly sink: BidiSink<Response>;
  private readonly server: Server | undefined;
  private readonly stream: StreamCall<unknown> | undefined;
  private isOver = false;
  /** A failure that is yet to be told. */
  private failure: RpcFailure | undefined;
  private readonly context: Context;

  constructor(
    path: string,
    method: BidiStreamMethod<Request, Response, Balance>,
    context: Context,
    placement: Placement,
    sink: BidiSink<Response>,
  ) {
    this.path = path;
    this.method = method;
    this.context = context;
    this.sink = sink;
    const { tenant, key } = placement;
    const picked = context.routing.pick(method.balance, tenant, key, undefined);
    if (!(picked instanceof Server)) {
      this.failSoon(picked);
      return;
    }
    this.server = picked;
    picked.join(this);
    const call = { deadlineMs: Number.POSITIVE_INFINITY, tenant, server: picked.id };
    this.stream = picked.endpoint.stream(path, call, {
      message: body => this.onMessage(body),
      room: () => sink.room?.(),
      ended: () => {
        if (this.finish()) sink.ended();
      },
      failed: failure => this.fail(failure),
    });
  }

  /** Id of the server that has it. */
  get target(): string | undefined {
    return this.server?.id;
  }

  /** Taken in any case; false: wait for `room`. */
  send(message: Request): boolean {
    if (this.isOver || this.stream === undefined) return true;
    const { method } = this;
    const body = this.server!.wire.encode(method.request, message, method.messageBytesMax);
    if (body === TOO_LARGE) {
      this.stream.cancel();
      this.failSoon(rpcFailure('aborted', `${this.path}: larger than ${method.messageBytesMax} bytes`));
      return true;
    }
    return this.stream.write(body);
  }

  /** Stops and starts the delivery of messages. */
  pause(): void {
    this.stream?.pause();
  }

  resume(): void {
    this.stream?.resume();
  }

  /** No more to send; messages from the server still come. */
  end(): void {
    this.stream?.end();
  }

  /** Nothing is told any more. */
  cancel(): void {
    if (this.finish()) this.stream?.cancel();
  }

  run(): void {
    this.fail(this.failure!);
  }

  serverGone(server: Server): void {
    this.stream?.cancel();
    this.fail(rpcFailure('unknown-outcome', `${this.path}: server ${server.id} is gone`));
  }

  private onMessage(body: unknown): void {
    const { method } = this;
    const message = this.server!.wire.decode(method.response, body, method.messageBytesMax);
    if (message !== MALFORMED) {
      this.sink.message(message);
      return;
    }
    this.stream?.cancel();
    this.fail(rpcFailure('unknown-outcome', `${this.path}: a message cannot be read`));
  }

  private fail(failure: RpcFailure): void {
    if (!this.finish()) return;
    if (this.server !== undefined) this.server.failed++;
    this.sink.failed(failure);
  }

  private failSoon(failure: RpcFailure): void {
    this.failure = failure;
    this.context.agenda.soon(this);
  }

  private finish(): boolean {
    if (this.isOver) return false;
    this.isOver = true;
    this.server?.leave(this);
    return true;
  }
}
