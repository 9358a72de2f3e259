import type { RpcFailure } from './failure.js';

/**
 * How calls travel. Implementations: gRPC (`io/`) and the own process (`in-process.ts`, where bodies are the values
 * themselves and no codec runs); one contract suite runs on all.
 *
 * The two ends are one interface: whoever answers calls is an {@link RpcEndpoint}, and a channel is an endpoint that is
 * elsewhere. A server's transport hands what comes in to the endpoint of its node (`Rpc.endpoint`), and that is all it
 * has to know of services.
 *
 * - **The end.** Each unary call ends by exactly one of `done` and `failed`, each stream by exactly one of `ended` and
 *   `failed`; after that, and after `cancel`, its sink is called no more and all its methods do nothing.
 * - **Re-entrancy.** A channel calls nothing of a sink, nor `onState`, from within its own methods: answers come in a
 *   later task. An endpoint (the server side) may answer from within; its callers are transports, which expect it.
 * - **Deadlines** are kept by the core, which cancels what is late; a transport carries `deadlineMs` to the other side
 *   and need not watch it.
 * - **Failures** of the server come through unchanged, kind and detail. Those of the transport itself say whether
 *   the call can have begun: `unavailable` (nothing of it left this process, or it was refused unread) or
 *   `unknown-outcome` (it may have arrived). When in doubt, the latter.
 * - **Order.** What one side writes to a stream arrives in that order, or not at all. Calls have no order among them.
 */
export interface RpcTransport {
  /** A channel to a server; made without waiting, connects when first used or told to, until closed. */
  open(address: string): RpcChannel;
}

/** Where calls are answered. The methods are `service/method`. */
export interface RpcEndpoint<Body = Uint8Array> {
  unary(method: string, body: Body, context: CallContext, sink: UnarySink<Body>): Call;
  /** Client stream, server stream and both ways alike: whoever has no more to send says `end`. */
  stream(method: string, context: CallContext, sink: StreamSink<Body>): StreamCall<Body>;
}

export interface RpcChannel<Body = Uint8Array> extends RpcEndpoint<Body> {
  readonly address: string;
  /** Begins to connect unless connected or at it; what comes of it is told by `onState`. */
  connect(): void;
  /**
   * Told when a connection stands (true), and when it breaks or an attempt to connect fails (false): before the calls
   * that fail with it, so that whoever tries again looks elsewhere. A broken server is out of rotation before the
   * underlay says so; when to try again is decided above, by `connect`.
   */
  onState: ((connected: boolean) => void) | undefined;
  /** What is under way fails, as when the connection breaks. */
  close(): void;
}

export interface CallContext {
  /** Milliseconds from now. Infinity for a stream that lives until it is closed; for a pipeline, of each request. */
  readonly deadlineMs: number;
  readonly tenant: string;
  /** Id of the server that is meant: an address may have several, or another one since a restart. */
  readonly server: string;
}

export interface UnarySink<Body = Uint8Array> {
  done(body: Body): void;
  failed(failure: RpcFailure): void;
}

export interface StreamSink<Body = Uint8Array> {
  message(body: Body): void;
  /** The peer takes more again, after `write` has returned false. */
  room(): void;
  /** The peer has no more to send, and everything it sent was delivered. A client's call is over then. */
  ended(): void;
  failed(failure: RpcFailure): void;
}

export interface Call {
  cancel(): void;
}

export interface StreamCall<Body = Uint8Array> extends Call {
  /** Taken in any case; false: the peer's flow-control window is full, wait for `room`. */
  write(body: Body): boolean;
  /** Stops and starts the delivery of messages: back-pressure to the peer. */
  pause(): void;
  resume(): void;
  end(): void;
}
