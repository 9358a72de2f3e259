import type { Agenda } from './agenda.js';
import type { Announcement } from './announcement.js';
import { type RpcFailure, rpcFailure } from './failure.js';
import type { AnyMethod, Methods, Service } from './service.js';
import type { CallContext, StreamSink } from './transport.js';
import type { Wire } from './wire.js';

export interface ServerLimits {
  /** Unary calls under way; beyond, `throttled` at once (default 10,000). */
  readonly callsMax: number;
  /** Open pipelines and streams (10,000). */
  readonly streamsMax: number;
}

export const SERVER_LIMITS: ServerLimits = { callsMax: 10_000, streamsMax: 10_000 };

/** A stream of any kind, as its server sees it. */
export interface ServedStream {
  /** What is to be finished before the server goes. */
  readonly pending: number;
  /** The server will go. */
  draining(): void;
  /** The server stops; what it has not answered fails so. */
  stop(failure: RpcFailure): void;
}

/** A unary call that waits for its handler. */
export interface ServedCall {
  failed(failure: RpcFailure): void;
}

/** What a stream at its server is made of. */
export interface StreamParts {
  readonly served: ServedService;
  readonly method: AnyMethod;
  readonly wire: Wire;
  readonly context: CallContext;
  readonly sink: StreamSink<unknown>;
}

/** One server of one service in this process. */
export class ServedService {
  readonly service: Service<Methods>;
  readonly handlers: Readonly<Record<string, unknown>>;
  readonly limits: ServerLimits;
  readonly agenda: Agenda;
  announcement: Announcement;
  readonly streams = new Set<ServedStream>();
  readonly calls = new Set<ServedCall>();
  /** New work is refused from now on. */
  isClosing = false;
  /** Told when something has ended. */
  onProgress: (() => void) | undefined;

  constructor(
    service: Service<Methods>,
    handlers: Readonly<Record<string, unknown>>,
    announcement: Announcement,
    limits: ServerLimits,
    agenda: Agenda,
  ) {
    this.service = service;
    this.handlers = handlers;
    this.announcement = announcement;
    this.limits = limits;
    this.agenda = agenda;
  }

  get isIdle(): boolean {
    if (this.calls.size > 0) return false;
    for (const stream of this.streams) if (stream.pending > 0) return false;
    return true;
  }

  /** Ends all that is left: whether it was done is not known to its caller. */
  stop(): void {
    this.isClosing = true;
    for (const call of [...this.calls]) call.failed(STOPPED);
    for (const stream of [...this.streams]) stream.stop(STOPPED);
  }

  streamClosed(stream: ServedStream): void {
    this.streams.delete(stream);
    this.onProgress?.();
  }

  callClosed(call: ServedCall): void {
    this.calls.delete(call);
    this.onProgress?.();
  }
}

const STOPPED = rpcFailure('unknown-outcome', 'the server stopped before it answered');
