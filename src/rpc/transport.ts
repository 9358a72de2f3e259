import type { RpcFailure } from './failure.js';

/**
 * How calls travel to one server. Implementations: gRPC (`io/`) and the own process (`in-process.ts`, which also skips
 * the codecs); one contract suite runs on all. Bodies are opaque bytes here; a caller cannot tell where the callee is.
 *
 * Every call has a deadline in milliseconds from now and can be cancelled; a call that has ended calls nothing any more.
 */
export interface RpcTransport {
  /** A channel to a server; made without waiting, connects when first used, again and again until closed. */
  open(address: string): RpcChannel;
}

export interface RpcChannel {
  readonly address: string;
  unary(method: string, body: Uint8Array, context: CallContext, sink: UnarySink): Call;
  /** Client stream, server stream and both ways alike: whoever has no more to send says `end`. */
  stream(method: string, context: CallContext, sink: StreamSink): StreamCall;
  /** Told when the connection breaks or comes back: a broken one is out of rotation before the underlay says so. */
  onState: ((connected: boolean) => void) | undefined;
  close(): void;
}

export interface CallContext {
  /** Milliseconds from now; each call has one. */
  readonly deadlineMs: number;
  readonly tenant: string;
}

export interface UnarySink {
  done(body: Uint8Array): void;
  failed(failure: RpcFailure): void;
}

export interface StreamSink {
  message(body: Uint8Array): void;
  /** The peer takes more again, after `write` has returned false. */
  room(): void;
  ended(): void;
  failed(failure: RpcFailure): void;
}

export interface Call {
  cancel(): void;
}

export interface StreamCall extends Call {
  /** Taken in any case; false: the peer's flow-control window is full, wait for `room`. */
  write(body: Uint8Array): boolean;
  /** Stops and starts the delivery of messages: back-pressure to the peer. */
  pause(): void;
  resume(): void;
  end(): void;
}
