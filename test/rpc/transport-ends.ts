import type { RpcFailure } from '../../src/rpc/failure.js';
import type {
  Call,
  CallContext,
  RpcChannel,
  RpcEndpoint,
  StreamCall,
  StreamSink,
  UnarySink,
} from '../../src/rpc/transport.js';

/** Both ends of calls, as tests of transports need them. */

export type UnaryMethod = (body: Uint8Array, context: CallContext, sink: UnarySink) => Call;
export type StreamMethod = (context: CallContext, sink: StreamSink) => StreamCall;

/** Answers these methods, by name. */
export function endpointOf(
  unary: Record<string, UnaryMethod>,
  streams: Record<string, StreamMethod> = {},
): RpcEndpoint {
  const nobody = (sink: { failed(failure: RpcFailure): void }, method: string) => {
    sink.failed({ kind: 'unavailable', detail: `nothing answers ${method}` });
    return new Ear();
  };
  return {
    unary: (method, body, context, sink) => unary[method]?.(body, context, sink) ?? nobody(sink, method),
    stream: (method, context, sink) => streams[method]?.(context, sink) ?? nobody(sink, method),
  };
}

/** A server's end of a stream (or of a unary call) that remembers what it hears. */
export class Ear implements StreamCall {
  readonly bodies: Uint8Array[] = [];
  isPaused = false;
  ends = 0;
  cancels = 0;
  /** What `write` answers. */
  hasRoom = true;
  onWrite: (body: Uint8Array) => void = () => undefined;
  onEnd: () => void = () => undefined;
  onResume: () => void = () => undefined;

  write(body: Uint8Array): boolean {
    this.bodies.push(body);
    this.onWrite(body);
    return this.hasRoom;
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    this.onResume();
  }

  end(): void {
    this.ends++;
    this.onEnd();
  }

  cancel(): void {
    this.cancels++;
  }
}

export const CONTEXT: CallContext = { deadlineMs: 10_000, tenant: 'acme', server: 'a1' };

/** A unary call as a promise: the bytes, or the failure. */
export function ask(
  channel: RpcChannel,
  method: string,
  body: Uint8Array,
  context: CallContext = CONTEXT,
): Promise<Uint8Array | RpcFailure> {
  return new Promise(resolve => {
    channel.unary(method, body, context, { done: resolve, failed: resolve });
  });
}

/** Remembers what it hears; `over` once, with the end. */
export class Hearing implements StreamSink {
  readonly messages: Uint8Array[] = [];
  rooms = 0;
  endings = 0;
  readonly over: Promise<RpcFailure | 'ended'>;
  onMessage: (body: Uint8Array) => void = () => undefined;
  onRoom: () => void = () => undefined;
  onEnd: () => void = () => undefined;
  private settle!: (end: RpcFailure | 'ended') => void;

  constructor() {
    this.over = new Promise(resolve => {
      this.settle = resolve;
    });
  }

  message(body: Uint8Array): void {
    this.messages.push(body);
    this.onMessage(body);
  }

  room(): void {
    this.rooms++;
    this.onRoom();
  }

  ended(): void {
    this.endings++;
    this.onEnd();
    this.settle('ended');
  }

  failed(failure: RpcFailure): void {
    this.endings++;
    this.settle(failure);
  }
}

export async function until(condition: () => boolean, what: string, timeoutMs = 8_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 5));
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}

export const ECHO: UnaryMethod = (body, _context, sink) => {
  sink.done(body);
  return new Ear();
};

/** Sends back what it hears, takes as fast as it is heard, and ends when the caller does. */
export const MIRROR: StreamMethod = (_context, sink) => {
  const ear = new Ear();
  ear.onWrite = body => {
    sink.message(body);
    ear.hasRoom = !ear.isPaused;
  };
  ear.onResume = () => sink.room();
  ear.onEnd = () => sink.ended();
  return ear;
};
