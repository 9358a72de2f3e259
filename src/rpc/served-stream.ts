import type { RpcFailure } from './failure.js';
import type { BidiHandler, BidiWriter, Caller, MessageStreamHandler, MessageWriter } from './handler.js';
import type { ServedStream, StreamParts } from './served.js';
import type { StreamCall } from './transport.js';
import { MALFORMED, TOO_LARGE } from './wire.js';

/** Messages sent and not acknowledged, at most. */
export const UNACKNOWLEDGED_MAX = 1_024;

/** What streams to and from a handler have in common. */
abstract class Served implements StreamCall<unknown>, ServedStream {
  readonly caller: Caller;
  protected readonly parts: StreamParts;
  protected isClosed = false;
  /** The transport takes no more for now. */
  protected isBlocked = false;

  constructor(parts: StreamParts) {
    this.parts = parts;
    this.caller = parts.context;
    parts.served.streams.add(this);
  }

  abstract get pending(): number;
  abstract draining(): void;
  abstract write(body: unknown): boolean;
  abstract resume(): void;
  /** The caller has no more to send. */
  abstract end(): void;
  protected abstract closed(): void;

  pause(): void {
    this.isBlocked = true;
  }

  cancel(): void {
    this.close();
  }

  failed(failure: RpcFailure): void {
    if (this.close()) this.parts.sink.failed(failure);
  }

  stop(failure: RpcFailure): void {
    this.failed(failure);
  }

  protected finish(): void {
    if (this.close()) this.parts.sink.ended();
  }

  /** False when the message is too large, which ends the stream. */
  protected transmit(message: unknown): boolean {
    const { wire, method, sink } = this.parts;
    const body = wire.encode(method.response, message, method.messageBytesMax);
    if (body === TOO_LARGE) {
      const detail = `a message is larger than ${method.messageBytesMax} bytes`;
      this.failed({ kind: 'unknown-outcome', detail });
      return false;
    }
    sink.message(body);
    return true;
  }

  private close(): boolean {
    if (this.isClosed) return false;
    this.isClosed = true;
    this.parts.served.streamClosed(this);
    this.closed();
    return true;
  }
}

/** A message stream at its server. The first body from the caller is the request, all others acknowledge. */
export class ServedServerStream extends Served implements MessageWriter<unknown> {
  unacknowledged = 0;
  private readonly open: (request: unknown, writer: MessageWriter<unknown>) => MessageStreamHandler;
  private handler: MessageStreamHandler | undefined;
  private isRefusing = false;

  constructor(
    parts: StreamParts,
    open: (request: unknown, writer: MessageWriter<unknown>) => MessageStreamHandler,
  ) {
    super(parts);
    this.open = open;
  }

  /** Not work that a server has to finish: its caller moves on when it hears of the drain. */
  get pending(): number {
    return 0;
  }

  draining(): void {}

  write(body: unknown): boolean {
    if (this.isClosed) return true;
    const { wire, method } = this.parts;
    if (this.handler === undefined) {
      const request = wire.decode(method.request, body, method.messageBytesMax);
      if (request === MALFORMED) this.failed({ kind: 'aborted', detail: 'the request cannot be read' });
      else this.handler = this.open(request, this);
      return true;
    }
    const count = wire.decodeCount(body);
    if (count === MALFORMED || count > this.unacknowledged)
      this.failed({ kind: 'aborted', detail: 'acknowledges what was not sent' });
    else {
      this.unacknowledged -= count;
      this.handler.acknowledged?.(count);
      this.tellRoom();
    }
    return true;
  }

  send(message: unknown): boolean {
    if (this.isClosed) return true;
    if (this.isBlocked || this.unacknowledged >= UNACKNOWLEDGED_MAX) {
      this.isRefusing = true;
      return false;
    }
    if (this.transmit(message)) this.unacknowledged++;
    return true;
  }

  resume(): void {
    this.isBlocked = false;
    this.tellRoom();
  }

  /** From the caller, who still acknowledges afterwards, or from the handler, which has said everything. */
  end(): void {
    this.finish();
  }

  protected override closed(): void {
    this.handler?.closed?.();
  }

  private tellRoom(): void {
    if (!this.isRefusing || this.isBlocked || this.isClosed) return;
    // Not for each acknowledgement: a handler that is told of room has some.
    if (this.unacknowledged > UNACKNOWLEDGED_MAX / 2) return;
    this.isRefusing = false;
    this.handler?.room?.();
  }
}

/** A stream both ways at its server. */
export class ServedBidiStream extends Served {
  private isHeld = false;
  private readonly handler: BidiHandler<unknown>;
  private isTold = false;

  constructor(parts: StreamParts, open: (writer: BidiWriter<unknown>) => BidiHandler<unknown>) {
    super(parts);
    this.handler = open({
      caller: parts.context,
      send: message => this.send(message),
      pause: () => this.hold(),
      resume: () => this.release(),
      end: () => this.finish(),
    });
  }

  /** It cannot move, so it is waited for. */
  get pending(): number {
    return 1;
  }

  draining(): void {
    if (!this.isClosed) this.handler.draining?.();
  }

  write(body: unknown): boolean {
    if (this.isClosed) return true;
    const { wire, method } = this.parts;
    const message = wire.decode(method.request, body, method.messageBytesMax);
    if (message === MALFORMED) this.failed({ kind: 'aborted', detail: 'a message cannot be read' });
    else this.handler.message(message);
    return !this.isHeld;
  }

  resume(): void {
    this.isBlocked = false;
    if (!this.isTold || this.isClosed) return;
    this.isTold = false;
    this.handler.room?.();
  }

  end(): void {
    if (!this.isClosed) this.handler.ended?.();
  }

  protected override closed(): void {
    this.handler.closed?.();
  }

  private send(message: unknown): boolean {
    if (this.isClosed) return true;
    this.transmit(message);
    this.isTold ||= this.isBlocked;
    return !this.isBlocked;
  }

  private hold(): void {
    this.isHeld = true;
  }

  private release(): void {
    if (!this.isHeld) return;
    this.isHeld = false;
    if (!this.isClosed) this.parts.sink.room();
  }
}
