import type { RpcFailure } from './failure.js';
import type { Call, CallContext, StreamCall, StreamSink, UnarySink } from './transport.js';

/**
 * The other end of transport.ts: what a server does with calls, however they travelled. The skeleton of a service makes
 * these; gRPC (`io/`) and the own process feed them. Keys are paths, `/<service>/<method>`, as channels name methods.
 *
 * `context.deadlineMs` is what is left when the call arrives. A handler throws only on a bug: the caller is told
 * `unknown-outcome`, and the error goes where uncaught errors go.
 */
export type RpcHandlers = ReadonlyMap<string, RpcHandler>;

export type RpcHandler = UnaryHandler | StreamHandler;

export interface UnaryHandler {
  readonly kind: 'unary';
  /**
   * `reply` is told once, now or later; what comes after is ignored. `cancel` of what is returned is called when nobody
   * waits any more: the caller cancelled, its deadline passed or its connection broke.
   */
  handle(body: Uint8Array, context: CallContext, reply: UnarySink): Call | undefined;
}

export interface StreamHandler {
  readonly kind: 'stream';
  /**
   * What is returned hears the caller: `message` and `ended` (the caller says no more) in order; `room` after a `write`
   * that returned false; `failed` when the call is over before both sides ended. Nothing is told before this returns.
   */
  handle(context: CallContext, stream: ServerStream): StreamSink;
}

/** A server's end of a stream. `cancel` ends it with no reason given: the caller is told `unknown-outcome`. */
export interface ServerStream extends StreamCall {
  /** Ends the call with this reason; messages written before still arrive. */
  fail(failure: RpcFailure): void;
}
