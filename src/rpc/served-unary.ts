import type { Alarm } from './agenda.js';
import { type RpcFailure, rpcFailure } from './failure.js';
import type { Caller, Reply } from './handler.js';
import type { ServedService } from './served.js';
import type { AnyMethod } from './service.js';
import type { Call, UnarySink } from './transport.js';
import { TOO_LARGE, type Wire } from './wire.js';

/** A unary call at its server: the handler's reply, and the transport's handle. */
export class ServedUnary implements Reply<unknown>, Call, Alarm {
  dueMs = 0;
  heapIndex = -1;
  isOver = false;
  readonly caller: Caller;
  private readonly served: ServedService;
  private readonly method: AnyMethod;
  private readonly wire: Wire;
  private readonly sink: UnarySink<unknown>;

  constructor(
    served: ServedService,
    method: AnyMethod,
    wire: Wire,
    caller: Caller,
    sink: UnarySink<unknown>,
  ) {
    this.served = served;
    this.method = method;
    this.wire = wire;
    this.caller = caller;
    this.sink = sink;
  }

  /** The handler has returned; if it has not answered it may do so until the deadline. */
  wait(): void {
    if (this.isOver) return;
    const { served, caller } = this;
    served.calls.add(this);
    if (caller.deadlineMs < Number.POSITIVE_INFINITY)
      served.agenda.at(this, served.agenda.nowMs + caller.deadlineMs);
  }

  done(value: unknown): void {
    if (this.isOver) return;
    const { method } = this;
    const body = this.wire.encode(method.response, value, method.messageBytesMax);
    this.close();
    if (body === TOO_LARGE)
      this.sink.failed(
        rpcFailure('unknown-outcome', `the answer is larger than ${method.messageBytesMax} bytes`),
      );
    else this.sink.done(body);
  }

  failed(failure: RpcFailure): void {
    if (this.isOver) return;
    this.close();
    this.sink.failed(failure);
  }

  due(): void {
    this.failed(rpcFailure('deadline', 'the server did not answer in time'));
  }

  cancel(): void {
    if (!this.isOver) this.close();
  }

  private close(): void {
    this.isOver = true;
    this.served.agenda.cancel(this);
    this.served.callClosed(this);
  }
}
