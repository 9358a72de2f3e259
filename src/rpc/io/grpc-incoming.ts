import { type Metadata, ServerInterceptingCall, status } from '@grpc/grpc-js';
import { type RpcFailure, rpcFailure } from '../failure.js';
import { Fifo } from '../fifo.js';
import type { Call, CallContext, RpcEndpoint, StreamCall, StreamSink, UnarySink } from '../transport.js';
import {
  asBuffer,
  type Destination,
  failureStatus,
  type GrpcLimits,
  tooLarge,
  unmarked,
} from './grpc-wire.js';
import type { Holder } from './held-bytes.js';

type NextCall = ConstructorParameters<typeof ServerInterceptingCall>[0];
type Listener = Parameters<NextCall['start']>[0];

export interface IncomingOwner {
  readonly limits: GrpcLimits;
  readonly endpoint: RpcEndpoint;
  /** No new calls: the server goes. */
  readonly isDraining: boolean;
  destination(headers: Metadata): Destination | undefined;
  begun(call: IncomingCall): void;
  ended(call: IncomingCall): void;
}

const NO_MESSAGE = { readMessageSize: 0, readMessageRemaining: 0 };
const NOT_OURS = rpcFailure('aborted', 'the headers of the call are not readable');
const DRAINING = rpcFailure('unavailable', 'the server goes and takes no new calls');
const CUT_SHORT = rpcFailure('unknown-outcome', 'the caller cut its stream short');
const ONE_MESSAGE = rpcFailure('aborted', 'a unary call carries one message');

/**
 * A call that has arrived. It takes the place of the handlers that @grpc/grpc-js would run (as an interceptor may), and
 * so does without their Node streams, which would buffer 16 messages, whatever they weigh, before they push back.
 */
export abstract class IncomingCall extends ServerInterceptingCall implements Listener, Holder {
  protected readonly call: NextCall;
  protected readonly owner: IncomingOwner;
  /** Answered, refused or lost: what else the service says is not heard. */
  protected isOver = false;
  /** Of answers that HTTP/2 has not taken yet. */
  protected unsentBytes = 0;

  constructor(call: NextCall, owner: IncomingOwner) {
    super(call);
    this.call = call;
    this.owner = owner;
  }

  /** gRPC does not tell what it has of a message that is not complete, so its decoder is looked into. */
  get heldBytes(): number {
    const { decoder } = this.call as { decoder?: { readMessageSize: number; readMessageRemaining: number } };
    const { readMessageSize, readMessageRemaining } = decoder ?? NO_MESSAGE;
    return this.unsentBytes + (readMessageRemaining === 0 ? 0 : readMessageSize - readMessageRemaining);
  }

  get peer(): string {
    return this.call.getPeer();
  }

  override start(): void {
    this.owner.begun(this);
    this.call.start(this);
  }

  onReceiveMetadata(headers: Metadata): void {
    if (this.owner.isDraining) return this.fail(DRAINING);
    const destination = this.owner.destination(headers);
    if (destination === undefined) return this.fail(NOT_OURS);
    this.begin(destination);
  }

  abstract onReceiveMessage(body: Buffer): void;

  abstract onReceiveHalfClose(): void;

  /** gRPC says so of every call when it is over, also in good order. */
  onCancel(): void {
    this.unsentBytes = 0;
    if (this.finish()) this.lost();
    else this.owner.ended(this);
  }

  protected abstract begin(destination: Destination): void;

  /** Nobody waits for it any more. */
  protected abstract lost(): void;

  /** True the first time. */
  protected finish(): boolean {
    if (this.isOver) return false;
    this.isOver = true;
    // One that still has to give away its answer has not ended for its owner.
    if (this.unsentBytes === 0) this.owner.ended(this);
    return true;
  }

  protected taken(bytes: number): void {
    this.unsentBytes -= bytes;
    if (this.isOver && this.unsentBytes <= 0) this.owner.ended(this);
  }

  protected succeed(): void {
    if (this.finish()) this.call.sendStatus({ code: status.OK, details: '', metadata: null });
  }

  protected fail(failure: RpcFailure): void {
    if (this.finish()) this.call.sendStatus(failureStatus(failure));
  }
}

export class IncomingUnary extends IncomingCall implements UnarySink {
  private destination: Destination | undefined;
  private running: Call | undefined;
  private hasBody = false;

  onReceiveMessage(body: Buffer): void {
    if (this.isOver) return;
    if (this.hasBody) return this.refuseMore();
    this.hasBody = true;
    // The end of the request is read while the call is answered.
    this.call.startRead();
    const { method, tenant, server } = this.destination!;
    const deadlineMs = Math.max(Number(this.call.getDeadline()) - Date.now(), 0);
    const context: CallContext = { deadlineMs, tenant, server };
    this.running = this.owner.endpoint.unary(method, body, context, this);
  }

  onReceiveHalfClose(): void {
    if (!this.hasBody) this.fail(ONE_MESSAGE);
  }

  done(body: Uint8Array): void {
    if (this.isOver) return;
    const { messageBytesMax } = this.owner.limits;
    if (body.length > messageBytesMax) return this.fail(answerTooLarge(body.length, messageBytesMax));
    this.unsentBytes = body.length;
    this.call.sendMessage(asBuffer(body), () => this.taken(body.length));
    this.succeed();
  }

  failed(failure: RpcFailure): void {
    this.fail(failure);
  }

  protected begin(destination: Destination): void {
    this.destination = destination;
    this.call.startRead();
  }

  protected lost(): void {
    this.running?.cancel();
  }

  /** No client of ours: what it may conclude matters less than that it ends. */
  private refuseMore(): void {
    this.running?.cancel();
    this.fail(rpcFailure('unknown-outcome', ONE_MESSAGE.detail));
  }
}

/** It was carried out, and the answer cannot travel. */
function answerTooLarge(bytes: number, bytesMax: number): RpcFailure {
  return rpcFailure('unknown-outcome', `the answer: ${tooLarge(bytes, bytesMax).detail}`);
}

/** A stream's end at the server: what the caller writes goes to `theirs`, what the service says comes to the sink. */
export class IncomingStream extends IncomingCall implements StreamSink {
  private theirs: StreamCall | undefined;
  /** Lengths of the messages that HTTP/2 has not taken yet. */
  private readonly waiting = new Fifo<number>();
  /** The service was told to wait, since the caller does not take more. */
  private isFull = false;
  /** The service takes no more of what the caller writes. */
  private isBlocked = false;
  private hasEnded = false;
  private isReading = false;
  private isPulling = false;
  private readonly onTaken = () => this.messageTaken();

  onReceiveMessage(message: Buffer): void {
    this.isReading = false;
    if (this.isOver || this.hasEnded) return;
    const body = unmarked(message);
    if (body === undefined) {
      this.hasEnded = true;
      this.theirs!.end();
    } else {
      this.isBlocked = !this.theirs!.write(body);
    }
    this.pull();
  }

  /** Without the mark, the reset of a caller who cancels is on its way; it is told at once. */
  onReceiveHalfClose(): void {
    this.isReading = false;
    if (this.hasEnded || this.isOver) return;
    this.fail(CUT_SHORT);
    this.lost();
  }

  message(body: Uint8Array): void {
    if (this.isOver) return;
    const { messageBytesMax, streamBufferBytes } = this.owner.limits;
    if (body.length > messageBytesMax) {
      this.fail(answerTooLarge(body.length, messageBytesMax));
      this.theirs?.cancel();
      return;
    }
    this.waiting.push(body.length);
    this.unsentBytes += body.length;
    this.call.sendMessage(asBuffer(body), this.onTaken);
    if (this.isFull || this.unsentBytes < streamBufferBytes) return;
    this.isFull = true;
    this.theirs?.pause();
  }

  room(): void {
    this.isBlocked = false;
    this.pull();
  }

  ended(): void {
    this.succeed();
  }

  failed(failure: RpcFailure): void {
    this.fail(failure);
  }

  protected begin({ method, tenant, server, deadlineMs }: Destination): void {
    this.theirs = this.owner.endpoint.stream(method, { deadlineMs, tenant, server }, this);
    if (this.isFull) this.theirs.pause();
    this.pull();
  }

  protected lost(): void {
    this.theirs?.cancel();
  }

  /** A loop, since gRPC delivers at once what it has: by recursion, a window of empty messages overflows the stack. */
  private pull(): void {
    if (this.isPulling || this.theirs === undefined) return;
    this.isPulling = true;
    while (!this.isReading && !this.isBlocked && !this.isOver) {
      this.isReading = true;
      this.call.startRead();
    }
    this.isPulling = false;
  }

  private messageTaken(): void {
    this.taken(this.waiting.shift()!);
    if (this.isOver || !this.isFull || this.unsentBytes > this.owner.limits.streamBufferBytes / 2) return;
    this.isFull = false;
    this.theirs!.resume();
  }
}
