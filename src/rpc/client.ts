import { type BidiSink, BidiStream } from './bidi-stream.js';
import type { Context } from './context.js';
import { type RpcResult, rpcFailure } from './failure.js';
import { type MessageSink, MessageStream } from './message-stream.js';
import { Pipeline, type PipelineOptions } from './pipeline.js';
import {
  type AnyMethod,
  type Balance,
  type BidiStreamMethod,
  type KeyedBalance,
  type Methods,
  methodPath,
  type PipelineMethod,
  type ServerStreamMethod,
  type Service,
  type UnaryMethod,
} from './service.js';
import type { Call } from './transport.js';
import { UnaryCall, type UnaryScope } from './unary-call.js';

/** Unary calls of one method under way; beyond, `throttled` at once. */
export const CALLS_MAX = 65_536;
/** And the bytes of their requests. */
export const CALL_BYTES_MAX = 64 * 1_024 * 1_024;

export interface CallOptions {
  /** Whose traffic it is; '' (the default) has no directive but that for all. */
  readonly tenant?: string;
  /** Milliseconds from now (default: the method's). */
  readonly deadlineMs?: number;
}

/** Where a stream goes: keyed modes need the key, the others take none. */
export type OpenOptions<B extends Balance> = { readonly tenant?: string } & (B extends KeyedBalance
  ? { readonly key: string }
  : { readonly key?: never });

/** What a client has for each method. */
export type Caller<M> =
  M extends UnaryMethod<infer Request, infer Response>
    ? UnaryCaller<Request, Response>
    : M extends PipelineMethod<infer Request, infer Response, infer B>
      ? PipelineCaller<Request, Response, B>
      : M extends ServerStreamMethod<infer Request, infer Response>
        ? ServerStreamCaller<Request, Response>
        : M extends BidiStreamMethod<infer Request, infer Response, infer B>
          ? BidiStreamCaller<Request, Response, B>
          : never;

export type Client<M extends Methods> = { readonly [K in keyof M]: Caller<M[K]> };

export function makeClient<M extends Methods>(service: Service<M>, context: Context): Client<M> {
  const callers = Object.entries(service.methods).map(([name, method]) => {
    const path = methodPath(service.name, name);
    return [name, makeCaller(path, method, context)] as const;
  });
  return Object.fromEntries(callers) as unknown as Client<M>;
}

function makeCaller(path: string, method: AnyMethod, context: Context): unknown {
  switch (method.kind) {
    case 'unary':
      return new UnaryCaller(path, method, context);
    case 'pipeline':
      return new PipelineCaller(path, method, context);
    case 'server-stream':
      return new ServerStreamCaller(path, method, context);
    case 'bidi-stream':
      return new BidiStreamCaller(path, method, context);
  }
}

export class UnaryCaller<Request, Response> {
  private readonly scope: UnaryScope<Request, Response>;

  constructor(path: string, method: UnaryMethod<Request, Response>, context: Context) {
    this.scope = { context, path, method, open: 0, bytes: 0 };
  }

  /** `done` is called exactly once, by the deadline, and not before this has returned. */
  call(request: Request, options: CallOptions, done: (result: RpcResult<Response>) => void): Call {
    const { scope } = this;
    const deadlineMs = options.deadlineMs ?? scope.method.deadlineMs;
    const call = new UnaryCall(scope, request, options.tenant ?? '', deadlineMs, done);
    if (scope.open > CALLS_MAX || scope.bytes > CALL_BYTES_MAX)
      call.refuse(rpcFailure('throttled', `${scope.path}: ${scope.open - 1} calls are under way`));
    else call.begin();
    return call;
  }

  /** The same with a promise, which is never rejected. */
  ask(request: Request, options: CallOptions = {}): Promise<RpcResult<Response>> {
    return new Promise(resolve => this.call(request, options, resolve));
  }
}

export class PipelineCaller<Request, Response, B extends Balance> {
  private readonly path: string;
  private readonly method: PipelineMethod<Request, Response, B>;
  private readonly context: Context;

  constructor(path: string, method: PipelineMethod<Request, Response, B>, context: Context) {
    this.path = path;
    this.method = method;
    this.context = context;
  }

  /** A pipeline of its own; whoever opens it closes it. */
  open(options: OpenOptions<B> & PipelineOptions): Pipeline<Request, Response> {
    const placement = { tenant: options.tenant ?? '', key: options.key ?? '' };
    return new Pipeline(this.path, this.method, this.context, placement, options);
  }
}

export class ServerStreamCaller<Request, Response> {
  private readonly path: string;
  private readonly method: ServerStreamMethod<Request, Response>;
  private readonly context: Context;

  constructor(path: string, method: ServerStreamMethod<Request, Response>, context: Context) {
    this.path = path;
    this.method = method;
    this.context = context;
  }

  /** Opens it, and opens it again wherever it belongs, until it is closed or the server has said everything. */
  open(
    request: Request,
    options: { readonly tenant?: string },
    sink: MessageSink<Response>,
  ): MessageStream<Request, Response> {
    const placement = { tenant: options.tenant ?? '', key: this.method.keyOf(request) };
    return new MessageStream(this.path, this.method, this.context, placement, request, sink);
  }
}

export class BidiStreamCaller<Request, Response, B extends Balance> {
  private readonly path: string;
  private readonly method: BidiStreamMethod<Request, Response, B>;
  private readonly context: Context;

  constructor(path: string, method: BidiStreamMethod<Request, Response, B>, context: Context) {
    this.path = path;
    this.method = method;
    this.context = context;
  }

  /** To one server; it ends with that server, and the caller opens another. */
  open(options: OpenOptions<B>, sink: BidiSink<Response>): BidiStream<Request, Response> {
    const placement = { tenant: options.tenant ?? '', key: options.key ?? '' };
    return new BidiStream(this.path, this.method, this.context, placement, sink);
  }
}
