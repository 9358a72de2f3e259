import { assert } from '../base/assert.js';

/**
 * A service is declared once, as a value; client, server skeleton and in-process binding take their types from it.
 *
 *     const inventory = defineService('inventory', {
 *       get: unary({ request: itemKey, response: item, idempotent: true, balance: 'weighted-round-robin' }),
 *       put: pipeline({ request: item, response: nothing, balance: 'consistent-hash' }),
 *       watch: serverStream({ request: itemKey, response: item, balance: 'consistent-hash', key: of => of.id }),
 *     });
 */

/**
 * Values to bytes and back: FlatBuffers tables (table.ts), or bytes that are nobody's business here. Values are not
 * changed once they were given away.
 */
export interface Codec<T> {
  encode(value: T): Uint8Array;
  /** Undefined for bytes that are no such value, whoever made them; never throws. May keep a view of the bytes. */
  decode(bytes: Uint8Array): T | undefined;
}

/** Bytes that are nobody's business here. */
export const opaque: Codec<Uint8Array> = {
  encode: value => value,
  decode: bytes => bytes,
};

/** For methods that are asked, or answer, nothing. */
export const nothing: Codec<null> = {
  encode: () => new Uint8Array(0),
  decode: bytes => (bytes.length === 0 ? null : undefined),
};

/**
 * Which of the servers that the tenant's traffic may use gets a call:
 *
 * - `direct`: the one whose id is the key, whatever the directives say.
 * - `weighted-random`, `weighted-round-robin`: by the weights of their groups; round robin keeps to the own process
 *   while there is such a server.
 * - `consistent-hash`: the same one for the same key, as long as it lives.
 */
export type Balance = KeyedBalance | 'weighted-random' | 'weighted-round-robin';
export type KeyedBalance = 'direct' | 'consistent-hash';

export const DEADLINE_MS = 10_000;
/** Below the 4 MiB that transports carry at the least, by what a frame adds. */
export const MESSAGE_BYTES_MAX = 4 * 1_024 * 1_024 - 64;

interface CommonSpec<Request, Response> {
  readonly request: Codec<Request>;
  readonly response: Codec<Response>;
  /** Whether doing it twice is the same as once. Only then is it sent again when its outcome is not known. */
  readonly idempotent?: boolean;
  /** Largest encoded request and response (default 4 MiB). */
  readonly messageBytesMax?: number;
  /** For calls that name none (default 10,000). */
  readonly deadlineMs?: number;
}

/** Where the key comes from the request: keyed modes need it, the others have no use for it. */
type RequestPlacement<Request> =
  | { readonly balance: KeyedBalance; key(request: Request): string }
  | { readonly balance: Exclude<Balance, KeyedBalance>; readonly key?: never };

/** Where the caller names the key when it opens a stream. */
interface OpenPlacement<B extends Balance> {
  readonly balance: B;
}

export type UnarySpec<Request, Response> = CommonSpec<Request, Response> & RequestPlacement<Request>;
export type OpenSpec<Request, Response, B extends Balance> = CommonSpec<Request, Response> & OpenPlacement<B>;

/** A method in full; what the four kinds have in common. */
export interface Method<Request, Response> {
  readonly kind: 'unary' | 'pipeline' | 'server-stream' | 'bidi-stream';
  readonly request: Codec<Request>;
  readonly response: Codec<Response>;
  readonly idempotent: boolean;
  readonly balance: Balance;
  /** Of kinds whose caller names the key: always ''. */
  keyOf(request: Request): string;
  readonly messageBytesMax: number;
  readonly deadlineMs: number;
}

/** One request, one answer. */
export interface UnaryMethod<Request, Response> extends Method<Request, Response> {
  readonly kind: 'unary';
}
/** Requests in order, many in flight, answered in order. */
export interface PipelineMethod<Request, Response, B extends Balance> extends Method<Request, Response> {
  readonly kind: 'pipeline';
  readonly balance: B;
}
/** One request, then messages from the server, each acknowledged. */
export interface ServerStreamMethod<Request, Response> extends Method<Request, Response> {
  readonly kind: 'server-stream';
}
/** Messages both ways, tied to one server. */
export interface BidiStreamMethod<Request, Response, B extends Balance> extends Method<Request, Response> {
  readonly kind: 'bidi-stream';
  readonly balance: B;
}

/** Any method, for those who do not look at its types: a method of unknowns takes all. */
export type AnyMethod =
  | UnaryMethod<unknown, unknown>
  | PipelineMethod<unknown, unknown, Balance>
  | ServerStreamMethod<unknown, unknown>
  | BidiStreamMethod<unknown, unknown, Balance>;

export type Methods = Readonly<Record<string, AnyMethod>>;

export interface Service<M extends Methods> {
  readonly name: string;
  readonly methods: M;
}

/**
 * @param name 1 to 40 of `a-z 0-9 . -`; the agent of its servers is `rpc.NAME`.
 */
export function defineService<const M extends Methods>(name: string, methods: M): Service<M> {
  assert(/^[a-z0-9][a-z0-9.-]{0,39}$/.test(name), `${name} is no name of a service`);
  for (const method of Object.keys(methods))
    assert(/^[a-zA-Z][a-zA-Z0-9]{0,39}$/.test(method), `${method} is no name of a method`);
  return { name, methods };
}

/** What transports call a method. */
export function methodPath(service: string, method: string): string {
  return `${service}/${method}`;
}

export function unary<Request, Response>(spec: UnarySpec<Request, Response>): UnaryMethod<Request, Response> {
  return { ...common(spec), kind: 'unary', balance: spec.balance, keyOf: keyOf(spec) };
}

export function serverStream<Request, Response>(
  spec: UnarySpec<Request, Response>,
): ServerStreamMethod<Request, Response> {
  return { ...common(spec), kind: 'server-stream', balance: spec.balance, keyOf: keyOf(spec) };
}

export function pipeline<Request, Response, const B extends Balance>(
  spec: OpenSpec<Request, Response, B>,
): PipelineMethod<Request, Response, B> {
  return { ...common(spec), kind: 'pipeline', balance: spec.balance, keyOf: noKey };
}

export function bidiStream<Request, Response, const B extends Balance>(
  spec: OpenSpec<Request, Response, B>,
): BidiStreamMethod<Request, Response, B> {
  return { ...common(spec), kind: 'bidi-stream', balance: spec.balance, keyOf: noKey };
}

function common<Request, Response>(spec: CommonSpec<Request, Response>) {
  const { request, response } = spec;
  const messageBytesMax = spec.messageBytesMax ?? MESSAGE_BYTES_MAX;
  const deadlineMs = spec.deadlineMs ?? DEADLINE_MS;
  assert(
    messageBytesMax >= 1 && messageBytesMax <= MESSAGE_BYTES_MAX,
    'messageBytesMax is at most MESSAGE_BYTES_MAX',
  );
  assert(deadlineMs > 0, 'deadlineMs is more than 0');
  return { request, response, idempotent: spec.idempotent ?? false, messageBytesMax, deadlineMs };
}

function keyOf<Request>(spec: RequestPlacement<Request>): (request: Request) => string {
  return spec.key === undefined ? noKey : request => spec.key!(request);
}

function noKey(): string {
  return '';
}
