import { type RpcFailure, rpcFailure } from './failure.js';
import type { Handler } from './handler.js';
import { NO_STREAM } from './in-process.js';
import type { ServedService } from './served.js';
import { ServedPipeline } from './served-pipeline.js';
import { ServedBidiStream, ServedServerStream } from './served-stream.js';
import { ServedUnary } from './served-unary.js';
import type {
  AnyMethod,
  BidiStreamMethod,
  PipelineMethod,
  ServerStreamMethod,
  UnaryMethod,
} from './service.js';
import type { Call, CallContext, RpcEndpoint, StreamCall, StreamSink, UnarySink } from './transport.js';
import { MALFORMED, type Wire } from './wire.js';

/** Finds the servers of this process. */
export interface ServedLookup {
  /** By the service's name and the server's id. */
  find(service: string, server: string): ServedService | undefined;
}

/** Answers what comes in for any server of this process; one for bytes, one for values. */
export class Endpoint implements RpcEndpoint<unknown> {
  private readonly wire: Wire;
  private readonly lookup: ServedLookup;

  constructor(wire: Wire, lookup: ServedLookup) {
    this.wire = wire;
    this.lookup = lookup;
  }

  unary(path: string, body: unknown, context: CallContext, sink: UnarySink<unknown>): Call {
    const [served, method, handler] = this.find(path, context);
    const refusal = refusalOf(served, method, 'unary', path, context);
    if (refusal !== undefined || served === undefined || method === undefined) {
      sink.failed(refusal!);
      return NO_STREAM;
    }
    if (served.calls.size >= served.limits.callsMax) {
      sink.failed(rpcFailure('throttled', `${path} at ${context.server}: too many calls under way`));
      return NO_STREAM;
    }
    const request = this.wire.decode(method.request, body, method.messageBytesMax);
    if (request === MALFORMED) {
      sink.failed(rpcFailure('aborted', `${path} at ${context.server}: the request cannot be read`));
      return NO_STREAM;
    }
    const call = new ServedUnary(served, method, this.wire, context, sink);
    (handler as Handler<UnaryMethod<unknown, unknown>>)(request, call);
    call.wait();
    return call;
  }

  stream(path: string, context: CallContext, sink: StreamSink<unknown>): StreamCall<unknown> {
    const [served, method, handler] = this.find(path, context);
    const refusal = refusalOf(served, method, 'stream', path, context);
    if (refusal !== undefined || served === undefined || method === undefined) {
      sink.failed(refusal!);
      return NO_STREAM;
    }
    if (served.streams.size >= served.limits.streamsMax) {
      sink.failed(rpcFailure('throttled', `${path} at ${context.server}: too many open streams`));
      return NO_STREAM;
    }
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

  private find(
    path: string,
    { server }: CallContext,
  ): [ServedService | undefined, AnyMethod | undefined, unknown] {
    const slash = path.indexOf('/');
    const served = this.lookup.find(path.slice(0, slash), server);
    const name = path.slice(slash + 1);
    if (served === undefined || !Object.hasOwn(served.service.methods, name))
      return [served, undefined, undefined];
    return [served, served.service.methods[name], served.handlers[name]];
  }
}

function refusalOf(
  served: ServedService | undefined,
  method: AnyMethod | undefined,
  kind: 'unary' | 'stream',
  path: string,
  { server }: CallContext,
): RpcFailure | undefined {
  if (served === undefined) return rpcFailure('unavailable', `${path}: there is no server ${server} here`);
  if (method === undefined || (method.kind === 'unary') !== (kind === 'unary'))
    return rpcFailure('aborted', `${path} at ${server}: no such method`);
  if (served.isClosing) return rpcFailure('unavailable', `${path}: server ${server} is shutting down`);
  return undefined;
}
