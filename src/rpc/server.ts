import { type RpcFailure, rpcFailure } from './failure.js';
import type { Handler } from './handler.js';
import { NO_STREAM } from './in-process.js';
import type { Registry, Route } from './registry.js';
import { ServedPipeline } from './served-pipeline.js';
import { ServedBidiStream, ServedServerStream } from './served-stream.js';
import { ServedUnary } from './served-unary.js';
import type { BidiStreamMethod, PipelineMethod, ServerStreamMethod, UnaryMethod } from './service.js';
import type { Call, CallContext, RpcEndpoint, StreamCall, StreamSink, UnarySink } from './transport.js';
import { MALFORMED, type Wire } from './wire.js';

/** Answers what comes in for any server of this process; one for bytes, one for values. */
export class Endpoint implements RpcEndpoint<unknown> {
  private readonly wire: Wire;
  private readonly registry: Registry;

  constructor(wire: Wire, registry: Registry) {
    this.wire = wire;
    this.registry = registry;
  }

  unary(path: string, body: unknown, context: CallContext, sink: UnarySink<unknown>): Call {
    const route = this.registry.route(path);
    const served = route?.servers.get(context.server);
    if (route === undefined || served === undefined || served.isClosing || route.method.kind !== 'unary') {
      sink.failed(this.refusal(path, route, context));
      return NO_STREAM;
    }
    if (served.calls.size >= served.limits.callsMax) {
      sink.failed(rpcFailure('throttled', `${path} at ${context.server}: too many calls under way`));
      return NO_STREAM;
    }
    const { method } = route;
    const request = this.wire.decode(method.request, body, method.messageBytesMax);
    if (request === MALFORMED) {
      sink.failed(rpcFailure('aborted', `${path} at ${context.server}: the request cannot be read`));
      return NO_STREAM;
    }
    const call = new ServedUnary(served, method, this.wire, context, sink);
    (served.handlers[route.name] as Handler<UnaryMethod<unknown, unknown>>)(request, call);
    call.wait();
    return call;
  }

  stream(path: string, context: CallContext, sink: StreamSink<unknown>): StreamCall<unknown> {
    const route = this.registry.route(path);
    const served = route?.servers.get(context.server);
    if (route === undefined || served === undefined || served.isClosing || route.method.kind === 'unary') {
      sink.failed(this.refusal(path, route, context));
      return NO_STREAM;
    }
    if (served.streams.size >= served.limits.streamsMax) {
      sink.failed(rpcFailure('throttled', `${path} at ${context.server}: too many open streams`));
      return NO_STREAM;
    }
    const { method } = route;
    const handler = served.handlers[route.name];
    const parts = { served, method, wire: this.wire, context, sink };
    if (method.kind === 'pipeline')
      return new ServedPipeline(
        parts,
        (handler as Handler<PipelineMethod<unknown, unknown, 'direct'>>)(context),
      );
    if (method.kind === 'server-stream')
      return new ServedServerStream(parts, handler as Handler<ServerStreamMethod<unknown, unknown>>);
    return new ServedBidiStream(parts, handler as Handler<BidiStreamMethod<unknown, unknown, 'direct'>>);
  }

  /** Why nothing was begun. */
  private refusal(path: string, route: Route | undefined, { server }: CallContext): RpcFailure {
    const served = route?.servers.get(server);
    if (served?.isClosing === true)
      return rpcFailure('unavailable', `${path}: server ${server} is shutting down`);
    const isHere = this.registry.has(path.slice(0, Math.max(0, path.indexOf('/'))), server);
    if (isHere) return rpcFailure('aborted', `${path} at ${server}: no such method`);
    return rpcFailure('unavailable', `${path}: there is no server ${server} here`);
  }
}
