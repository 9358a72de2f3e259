import type { IncomingMessage, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { isToken } from './admin-token.js';
import { type HttpListener, openHttp, sendBody } from './http.js';

/**
 * The port for administration: what `shoalmq cluster …` talks to. Whoever holds the token may do everything.
 *
 * Every request has to bring the token (`Authorization: Bearer …`), and a Host header that no page of a browser can
 * bring by pointing a name of its own at this machine (DNS rebinding): an IP address, localhost, or `admin.host`.
 */
export interface AdminServerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly token: string;
  readonly routes: Routes;
}

/** By method and path, `GET /cluster/members`. */
export type Routes = ReadonlyMap<string, Route>;

/** `body` is what a POST brought, undefined when it brought nothing. */
export type Route = (body: unknown) => Answer | Promise<Answer>;

/** `body` becomes JSON. A refusal is `{ error }`. */
export interface Answer {
  readonly status: number;
  readonly body: object;
}

/** A value of the map in Base64, and what is around it. */
const BODY_BYTES_MAX = 128 * 1024;

/** @throws ShoalError SHOAL_LISTEN_IN_USE or SHOAL_LISTEN_FAILED. */
export function openAdminServer(options: AdminServerOptions): Promise<HttpListener> {
  return openHttp('admin', options.host, options.port, async (request, response) => {
    const { status, body } = await answer(request, response, options);
    // What was not read must not be taken for the next request.
    if (!request.complete) response.setHeader('Connection', 'close');
    sendBody(request, response, status, 'application/json', `${JSON.stringify(body)}\n`);
  });
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { host, token, routes }: AdminServerOptions,
): Promise<Answer> {
  if (!isOwnName(request.headers.host ?? '', host))
    return refusal(421, 'the Host header names another server than this one');
  const given = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
  if (given === undefined || !isToken(token, given)) {
    response.setHeader('WWW-Authenticate', 'Bearer');
    return refusal(401, 'the token is missing or wrong; it stands in admin.token in the data directory');
  }
  const path = request.url?.split('?', 1)[0] ?? '';
  const route = routes.get(`${request.method} ${path}`);
  if (route === undefined) return notFound(response, path, routes);
  if (request.method !== 'POST') return route(undefined);
  const body = await readBody(request);
  return body.kind === 'refused' ? refusal(body.status, body.why) : route(body.value);
}

function notFound(response: ServerResponse, path: string, routes: Routes): Answer {
  const others = [...routes.keys()].filter(key => key.endsWith(` ${path}`)).map(key => key.split(' ')[0]!);
  if (others.length === 0) return refusal(404, `there are ${[...routes.keys()].join(', ')}`);
  response.setHeader('Allow', others.join(', '));
  return refusal(405, `${path} takes ${others.join(', ')}`);
}

export function refusal(status: number, error: string): Answer {
  return { status, body: { error } };
}

/** A name may be anybody's; an address is only where it leads. */
function isOwnName(header: string, ownHost: string): boolean {
  const name = /^(\[[^\]]*\]|[^:]*)(?::\d+)?$/.exec(header)?.[1]?.toLowerCase();
  if (name === undefined || name === '') return false;
  const bare = name.replace(/^\[(.*)\]$/, '$1');
  return isIP(bare) !== 0 || bare === 'localhost' || bare === ownHost.toLowerCase();
}

type Body =
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'refused'; readonly status: number; readonly why: string };

async function readBody(request: IncomingMessage): Promise<Body> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    size += chunk.length;
    if (size > BODY_BYTES_MAX)
      return { kind: 'refused', status: 413, why: `a body has ${BODY_BYTES_MAX} bytes at most` };
    chunks.push(chunk);
  }
  if (size === 0) return { kind: 'value', value: undefined };
  try {
    return { kind: 'value', value: JSON.parse(Buffer.concat(chunks).toString('utf8')) };
  } catch {
    return { kind: 'refused', status: 400, why: 'the body is not JSON' };
  }
}
