import type { RpcFailure, RpcResult } from './failure.js';
import type {
  BidiStreamMethod,
  Methods,
  PipelineMethod,
  ServerStreamMethod,
  UnaryMethod,
} from './service.js';

/** Who asks, and until when an answer is of use. */
export interface Caller {
  readonly tenant: string;
  /** Milliseconds that were left when the request came; Infinity for streams. */
  readonly deadlineMs: number;
}

/** Where a handler leaves its answer, now or later, once; the first one counts. */
export interface Reply<Response> {
  readonly caller: Caller;
  /** Nobody waits any more: the call was cancelled, or is late. */
  readonly isOver: boolean;
  done(value: Response): void;
  failed(failure: RpcFailure): void;
}

/** What serves one caller's pipeline: requests come in order, their answers leave in that order. */
export interface PipelineHandler<Request, Response> {
  request(request: Request, reply: Reply<Response>): void;
  /** The caller is gone or goes elsewhere; what has not been answered will reach nobody. */
  closed?(): void;
}

/** The server's end of a message stream. */
export interface MessageWriter<Response> {
  readonly caller: Caller;
  /** False: not taken, since too many messages are unacknowledged or the network is full; wait for `room`. */
  send(message: Response): boolean;
  readonly unacknowledged: number;
  /** No more messages; the stream ends when all were delivered. */
  end(): void;
}

export interface MessageStreamHandler {
  /** `count` more messages were acknowledged, in the order in which they were sent. */
  acknowledged?(count: number): void;
  room?(): void;
  closed?(): void;
}

/** The server's end of a stream both ways. */
export interface BidiWriter<Response> {
  readonly caller: Caller;
  /** Taken in any case; false: wait for `room`. */
  send(message: Response): boolean;
  /** Stops and starts the delivery of messages. */
  pause(): void;
  resume(): void;
  end(): void;
}

export interface BidiHandler<Request> {
  message(message: Request): void;
  /** The caller has no more to send. */
  ended?(): void;
  room?(): void;
  /** The server will go, and waits for this stream to end, for a time. */
  draining?(): void;
  /** The stream is over, whoever ended it. */
  closed?(): void;
}

/** What has to be written to serve a method. A handler that throws is a bug: it stops the thread like any other. */
export type Handler<M> =
  M extends UnaryMethod<infer Request, infer Response>
    ? (request: Request, reply: Reply<Response>) => void
    : M extends PipelineMethod<infer Request, infer Response, infer _Balance>
      ? (caller: Caller) => PipelineHandler<Request, Response>
      : M extends ServerStreamMethod<infer Request, infer Response>
        ? (request: Request, writer: MessageWriter<Response>) => MessageStreamHandler
        : M extends BidiStreamMethod<infer Request, infer Response, infer _Balance>
          ? (writer: BidiWriter<Response>) => BidiHandler<Request>
          : never;

export type Handlers<M extends Methods> = { readonly [K in keyof M]: Handler<M[K]> };

/** Serves a unary method by a function that returns a promise; it must not reject, failures are values here too. */
export function answering<Request, Response>(
  answer: (request: Request, caller: Caller) => Promise<RpcResult<Response>>,
): (request: Request, reply: Reply<Response>) => void {
  return (request, reply) => {
    void answer(request, reply.caller).then(result => {
      if (result.kind === 'ok') reply.done(result.value);
      else reply.failed(result);
    });
  };
}
