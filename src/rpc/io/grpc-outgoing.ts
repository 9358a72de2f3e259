import { type Channel, type Metadata, type StatusObject, status } from '@grpc/grpc-js';
import { type RpcFailure, rpcFailure } from '../failure.js';
import { Fifo } from '../fifo.js';
import type { Call, StreamCall, StreamSink, UnarySink } from '../transport.js';
import { asBuffer, END_MARK, failureOf, marked, tooLarge } from './grpc-wire.js';

type GrpcCall = ReturnType<Channel['createCall']>;

/** What a call needs of its channel. */
export interface CallOwner {
  readonly address: string;
  /** How gRPC names the channel's own address: the peer of a call that has none yet. */
  readonly target: string;
  readonly messageBytesMax: number;
  readonly streamBufferBytes: number;
  /** Whether a call that nobody waits for may be reset; else it is left to end by itself. */
  mayReset(): boolean;
  ended(call: OutgoingCall): void;
}

const NO_CONTEXT = {};
const CANCELLED = 'cancelled by the caller';

/**
 * One call under way, below grpc-js' client and its Node streams: they would cost more than the call, and hide when a
 * message has left. gRPC's own retries are off (grpc-transport.ts), so each call is tried once.
 */
export abstract class OutgoingCall implements Call {
  protected readonly call: GrpcCall;
  protected readonly owner: CallOwner;
  protected isOver = false;
  private isSilent = false;

  constructor(call: GrpcCall, owner: CallOwner) {
    this.call = call;
    this.owner = owner;
  }

  cancel(): void {
    this.isSilent = true;
    if (this.finish()) this.reset();
  }

  /** The channel closes. */
  drop(): void {
    if (!this.finish()) return;
    const kind = this.isUnsent() ? 'unavailable' : 'unknown-outcome';
    const failure = rpcFailure(kind, `${this.owner.address}: the channel was closed`);
    this.call.cancelWithStatus(status.CANCELLED, CANCELLED);
    process.nextTick(() => this.say(failure));
  }

  /** For a call that ends before it began. */
  refuse(failure: RpcFailure): void {
    if (!this.finish()) return;
    process.nextTick(() => this.say(failure));
  }

  onReceiveMetadata(_headers: Metadata): void {}

  protected reset(): void {
    this.call.cancelWithStatus(status.CANCELLED, CANCELLED);
  }

  abstract onReceiveMessage(body: Buffer): void;

  abstract onReceiveStatus(end: StatusObject): void;

  protected abstract tell(failure: RpcFailure): void;

  /** True the first time: from then on the sink hears nothing but what the caller of this tells it. */
  protected finish(): boolean {
    if (this.isOver) return false;
    this.isOver = true;
    this.owner.ended(this);
    return true;
  }

  protected failure(end: StatusObject, isUnary: boolean): RpcFailure {
    return failureOf({ status: end, isUnsent: this.isUnsent(), isUnary }, this.owner.address);
  }

  /** Calls fail as streams of HTTP/2, perhaps before the connection is known to be lost, which is told first. */
  protected tellLater(failure: RpcFailure): void {
    setImmediate(() => this.say(failure));
  }

  private say(failure: RpcFailure): void {
    if (!this.isSilent) this.tell(failure);
  }

  /** No stream on a connection was opened for it: gRPC then knows no other peer than the channel's address. */
  protected isUnsent(): boolean {
    const peer = this.call.getPeer();
    return peer === this.owner.target || peer === 'unknown';
  }
}

export class OutgoingUnary extends OutgoingCall {
  private readonly sink: UnarySink;
  private answer: Buffer | undefined;

  constructor(call: GrpcCall, owner: CallOwner, sink: UnarySink) {
    super(call, owner);
    this.sink = sink;
  }

  start(headers: Metadata, body: Uint8Array): void {
    if (body.length > this.owner.messageBytesMax)
      return this.abandon(tooLarge(body.length, this.owner.messageBytesMax));
    this.call.start(headers, this);
    this.call.startRead();
    this.call.sendMessageWithContext(NO_CONTEXT, asBuffer(body));
    this.call.halfClose();
  }

  onReceiveMessage(body: Buffer): void {
    if (!this.isOver) this.answer = body;
  }

  onReceiveStatus(end: StatusObject): void {
    if (!this.finish()) return;
    if (end.code !== status.OK) return this.sink.failed(this.failure(end, true));
    if (this.answer !== undefined) return this.sink.done(this.answer);
    this.sink.failed({
      kind: 'unknown-outcome',
      detail: `${this.owner.address}: it ended without an answer`,
    });
  }

  protected tell(failure: RpcFailure): void {
    this.sink.failed(failure);
  }

  /** One that is left has its deadline at the server. */
  protected override reset(): void {
    if (this.isUnsent() || this.owner.mayReset()) super.reset();
  }

  private abandon(failure: RpcFailure): void {
    this.refuse(failure);
    this.call.cancelWithStatus(status.CANCELLED, failure.detail);
  }
}

/**
 * A stream's end at the caller. gRPC takes one message at a time: the next one is handed over when HTTP/2 has taken the
 * one before, which waits for the peer's window, so what is queued here is what the peer has no room for.
 */
export class OutgoingStream extends OutgoingCall implements StreamCall {
  private readonly sink: StreamSink;
  private readonly queue = new Fifo<Uint8Array>();
  private waitingBytes = 0;
  private isSending = false;
  private wantsRoom = false;
  private isEnding = false;
  private isPaused = false;
  private isReading = false;
  /** What came although the caller has paused: the message that had been asked for, and the end. */
  private held: Buffer | undefined;
  private heldEnd: StatusObject | undefined;
  private readonly onTaken = () => this.taken();
  private readonly context = { callback: this.onTaken };

  constructor(call: GrpcCall, owner: CallOwner, sink: StreamSink) {
    super(call, owner);
    this.sink = sink;
  }

  start(headers: Metadata): void {
    this.call.start(headers, this);
    this.read();
  }

  write(body: Uint8Array): boolean {
    if (this.isOver || this.isEnding) return true;
    if (body.length > this.owner.messageBytesMax) {
      this.abandon(tooLarge(body.length, this.owner.messageBytesMax));
      return true;
    }
    this.push(marked(body));
    if (this.waitingBytes < this.owner.streamBufferBytes) return true;
    this.wantsRoom = true;
    return false;
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    process.nextTick(() => this.release());
  }

  end(): void {
    if (this.isEnding || this.isOver) return;
    this.isEnding = true;
    this.push(END_MARK);
  }

  onReceiveMessage(body: Buffer): void {
    this.isReading = false;
    if (this.isOver) return;
    if (this.isPaused) {
      this.held = body;
      return;
    }
    this.sink.message(body);
    if (!this.isPaused && !this.isOver && !this.isReading) this.read();
  }

  onReceiveStatus(end: StatusObject): void {
    if (this.isPaused && end.code === status.OK) {
      this.heldEnd = end;
      return;
    }
    if (!this.finish()) return;
    if (end.code === status.OK) this.sink.ended();
    else this.tellLater(this.failure(end, false));
  }

  protected tell(failure: RpcFailure): void {
    this.sink.failed(failure);
  }

  private release(): void {
    if (this.isPaused || this.isOver) return;
    const { held } = this;
    this.held = undefined;
    if (held !== undefined) this.onReceiveMessage(held);
    else if (!this.isReading) this.read();
    if (this.heldEnd !== undefined) this.onReceiveStatus(this.heldEnd);
  }

  private read(): void {
    this.isReading = true;
    this.call.startRead();
  }

  private push(message: Uint8Array): void {
    this.waitingBytes += message.length;
    this.queue.push(message);
    if (!this.isSending) this.send();
  }

  private send(): void {
    this.isSending = true;
    this.call.sendMessageWithContext(this.context, asBuffer(this.queue.at(0)!));
  }

  private taken(): void {
    if (this.isOver) return;
    this.waitingBytes -= this.queue.shift()!.length;
    this.isSending = false;
    if (this.queue.length > 0) this.send();
    else if (this.isEnding) this.call.halfClose();
    if (!this.wantsRoom || this.waitingBytes > this.owner.streamBufferBytes / 2) return;
    this.wantsRoom = false;
    this.sink.room();
  }

  private abandon(failure: RpcFailure): void {
    this.refuse(failure);
    this.call.cancelWithStatus(status.CANCELLED, failure.detail);
  }
}
