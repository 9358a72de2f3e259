import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import type { RpcFailure, RpcFailureCode } from '../failure.js';
import type { CallContext } from '../transport.js';

/** What client and server agree on beyond gRPC itself, and what both are bounded by. */
export interface GrpcLimits {
  /** Bytes of one body, both ways. Both ends of a cluster want the same value. */
  readonly messageBytesMax: number;
  /** Bytes that wait at the sender of a stream before `write` returns false. */
  readonly streamBufferBytes: number;
  /** Calls that run on one connection at a time; further ones wait at the caller. */
  readonly streamsMax: number;
  /** Milliseconds between pings. One that is not answered within twice as much more breaks the connection. */
  readonly keepAliveMs: number;
}

/**
 * How long a ping may take. Longer than the pause between pings, since a process that was held up itself finds the time
 * over before it finds the answer; together still before the underlay gives a frozen host up (about five seconds).
 */
export function pingTimeoutMs({ keepAliveMs }: GrpcLimits): number {
  return 2 * keepAliveMs;
}

export const GRPC_LIMITS: GrpcLimits = {
  messageBytesMax: 4 * 1024 * 1024,
  streamBufferBytes: 256 * 1024,
  streamsMax: 1_024,
  keepAliveMs: 1_500,
};

/** Deadlines beyond are none: gRPC's header and Node's timers do not hold them (11 days). */
export const DEADLINE_MS_MAX = 1_000_000_000;

/**
 * The two gRPC methods. Which method of which service is meant stands in a header: gRPC serves only paths that it was
 * told of one by one, and the services of a node come and go.
 */
export const UNARY_PATH = '/shoalmq.Rpc/Unary';
export const STREAM_PATH = '/shoalmq.Rpc/Stream';

/**
 * `<method>/<server>/<tenant>/<deadline>`, the first three URI-encoded. The deadline in ms is that of streams, which gRPC
 * does not end by it; empty for none. One header rather than four: copied, compressed and read as one.
 */
const DESTINATION_KEY = 'shoal-to';
/** In trailers: the failure's code, said by a handler. Its absence means that gRPC itself speaks. */
const FAILURE_KEY = 'shoal-failure';

/** The gRPC status that carries a failure to callers that know nothing of our trailer. */
const STATUS_OF: Readonly<Record<RpcFailureCode, status>> = {
  'server-not-found': status.NOT_FOUND,
  unavailable: status.UNAVAILABLE,
  throttled: status.RESOURCE_EXHAUSTED,
  deadline: status.DEADLINE_EXCEEDED,
  aborted: status.ABORTED,
  'unknown-outcome': status.UNKNOWN,
};

const DETAIL_CHARS_MAX = 1_024;

function isFailureCode(text: unknown): text is RpcFailureCode {
  return typeof text === 'string' && Object.hasOwn(STATUS_OF, text);
}

/** A failure that a handler gave, as the end of its call. */
export function failureStatus(failure: RpcFailure): { code: status; details: string; metadata: Metadata } {
  const metadata = new Metadata();
  metadata.set(FAILURE_KEY, failure.kind);
  const details = wellFormed(failure.detail.slice(0, DETAIL_CHARS_MAX));
  return { code: STATUS_OF[failure.kind], details, metadata };
}

/** What is known of a call that ended with something else than OK. */
export interface CallEnd {
  readonly status: StatusObject;
  /** No stream was opened for it: it was never written to a connection. */
  readonly isUnsent: boolean;
  /** One message, one answer. */
  readonly isUnary: boolean;
}

/**
 * What a caller may conclude from the end of a call. Exact about what matters: `unavailable`, `throttled` and `aborted`
 * are said only of calls that no handler has seen, or by the handler itself.
 *
 * | end | failure |
 * | --- | --- |
 * | trailers with our key | what the handler said |
 * | no stream was opened: connection refused, TLS refused, no address, channel closing | unavailable |
 * | RST_STREAM REFUSED_STREAM, or GOAWAY (NO_ERROR) with a last stream id below this one's | unavailable |
 * | UNIMPLEMENTED: no server of ours | unavailable |
 * | RESOURCE_EXHAUSTED instead of any answer, unary: larger than the server takes | aborted |
 * | DEADLINE_EXCEEDED, of either side | deadline |
 * | anything else: connection lost, reset, answer too large or malformed, end without status | unknown-outcome |
 */
export function failureOf({ status: end, isUnsent, isUnary }: CallEnd, address: string): RpcFailure {
  const said = end.metadata.get(FAILURE_KEY)[0];
  if (isFailureCode(said)) return { kind: said, detail: end.details };
  const detail = `${address}: ${plainWords(end.details)}`;
  switch (end.code) {
    case status.DEADLINE_EXCEEDED:
      return { kind: 'deadline', detail };
    case status.UNIMPLEMENTED:
      return { kind: 'unavailable', detail };
    case status.RESOURCE_EXHAUSTED:
      if (isUnary && isTrailersOnly(end)) return { kind: 'aborted', detail };
      break;
    case status.UNAVAILABLE:
      if (isRefused(end)) return { kind: 'unavailable', detail };
      break;
  }
  return { kind: isUnsent ? 'unavailable' : 'unknown-outcome', detail };
}

/** gRPC's words without its times, empty notes and OpenSSL's numbers. A TLS peer that hangs up leaves no words at all. */
function plainWords(details: string | undefined): string {
  // An answer that cannot be decompressed ends a call without words.
  return (details ?? 'the answer cannot be read')
    .replace(/\s*Resolution note:\s*$/, '')
    .replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)/, '')
    .replace(/[\dA-F]+:error:[\dA-F]+:([^:]*):[^:]*:([^:]*):\S*\s*/, '$1: $2')
    .replace(
      /Last error: Failed to connect\.?$/,
      'The server hung up: does it speak TLS, and take this certificate?',
    );
}

/** @grpc/grpc-js 1.14 drops the reset's code on the way up, and makes these words of REFUSED_STREAM alone. */
function isRefused(end: StatusObject): boolean {
  return end.details === 'Stream refused by server' && !isTrailersOnly(end);
}

/** The server ended the call with its first and only headers; ends that are made on this side have none. */
function isTrailersOnly(end: StatusObject): boolean {
  return end.metadata.get('content-type').length > 0;
}

/** The words for a body over the limit. */
export function tooLarge(bytes: number, bytesMax: number): RpcFailure {
  return { kind: 'aborted', detail: `a body of ${bytes} bytes is over the limit of ${bytesMax}: not sent` };
}

/** What is asked of whom, for whom. */
export interface Destination {
  readonly method: string;
  readonly server: string;
  readonly tenant: string;
  /** Of a stream; Infinity for unary calls, whose deadline gRPC carries. */
  readonly deadlineMs: number;
}

const KNOWN_MAX = 4_096;

/** Headers of calls by destination: gRPC copies them for each call. Forgets all when there are too many. */
export class DestinationHeaders {
  private readonly known = new Map<string, Metadata>();

  of(method: string, { server, tenant }: CallContext, deadlineMs: number): Metadata {
    const end = deadlineMs <= DEADLINE_MS_MAX ? `${Math.max(Math.ceil(deadlineMs), 0)}` : '';
    // No separator that could stand in a part: a key that is not unique would send a call elsewhere.
    const key = `${method.length} ${server.length} ${method}${server}${tenant} ${end}`;
    const found = this.known.get(key);
    if (found !== undefined) return found;
    const metadata = new Metadata();
    metadata.set(DESTINATION_KEY, `${encoded(method)}/${encoded(server)}/${encoded(tenant)}/${end}`);
    if (this.known.size >= KNOWN_MAX) this.known.clear();
    this.known.set(key, metadata);
    return metadata;
  }
}

function encoded(text: string): string {
  return encodeURIComponent(wellFormed(text));
}

/** Destinations by header, since they recur. Forgets all when there are too many. */
export class DestinationReader {
  private readonly known = new Map<string, Destination>();

  /** Undefined when the header is malformed or absent. */
  read(metadata: Metadata): Destination | undefined {
    const text = metadata.get(DESTINATION_KEY)[0];
    if (typeof text !== 'string') return undefined;
    const found = this.known.get(text);
    if (found !== undefined) return found;
    const destination = parseDestination(text);
    if (destination === undefined) return undefined;
    if (this.known.size >= KNOWN_MAX) this.known.clear();
    this.known.set(text, destination);
    return destination;
  }
}

function parseDestination(text: string): Destination | undefined {
  const parts = text.split('/');
  if (parts.length !== 4) return undefined;
  const [method, server, tenant, deadline] = parts as [string, string, string, string];
  if (!/^\d{0,10}$/.test(deadline)) return undefined;
  try {
    return {
      method: decodeURIComponent(method),
      server: decodeURIComponent(server),
      tenant: decodeURIComponent(tenant),
      deadlineMs: deadline === '' ? Number.POSITIVE_INFINITY : Number(deadline),
    };
  } catch {
    return undefined;
  }
}

/**
 * What a caller sends of a stream. Node's HTTP/2 cancels a stream by its end and a reset some time behind it, so the end
 * of HTTP/2 does not tell that the caller has said all; this message does. Bodies that begin so have it before them.
 */
export const END_MARK = Buffer.from([0xe0, 0xd5, 0x7a, 0x4d]);

function beginsWithMark(body: Uint8Array): boolean {
  return body[0] === 0xe0 && body[1] === 0xd5 && body[2] === 0x7a && body[3] === 0x4d;
}

export function marked(body: Uint8Array): Uint8Array {
  return beginsWithMark(body) ? Buffer.concat([END_MARK, body]) : body;
}

/** The body as it was written; undefined for the end. */
export function unmarked(message: Buffer): Buffer | undefined {
  if (!beginsWithMark(message)) return message;
  return message.length === END_MARK.length ? undefined : message.subarray(END_MARK.length);
}

/** gRPC wants a Buffer; a view of the same bytes. */
export function asBuffer(body: Uint8Array): Buffer {
  return Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}

/** encodeURI, by which gRPC sends words, throws on half a surrogate pair. */
function wellFormed(text: string): string {
  return Buffer.from(text, 'utf8').toString('utf8');
}

export const IDENTITY = (body: Buffer): Buffer => body;
