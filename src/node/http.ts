import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Closable } from '../base/scope.js';
import { listenError } from '../mqtt/io/listening.js';

/** What the servers for metrics and for administration have in common: few connections, small requests, short waits. */

const CONNECTIONS_MAX = 64;
const HEADER_BYTES_MAX = 8192;
const REQUEST_TIMEOUT_MS = 5000;

export interface HttpListener extends Closable {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Serves HTTP; a failure of `answer` is told to the client in words.
 *
 * @param what names the server in errors.
 * @param port 0 takes any free one.
 * @throws ShoalError SHOAL_LISTEN_IN_USE or SHOAL_LISTEN_FAILED.
 */
export async function openHttp(
  what: string,
  host: string,
  port: number,
  answer: (request: IncomingMessage, response: ServerResponse) => Promise<void>,
): Promise<HttpListener> {
  const limits = {
    maxHeaderSize: HEADER_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    headersTimeout: REQUEST_TIMEOUT_MS,
  };
  const server = createServer(limits, (request, response) => {
    answer(request, response).catch(error => {
      if (response.headersSent) response.destroy();
      else
        sendBody(request, response, 500, 'text/plain', `${error instanceof Error ? error.message : error}\n`);
    });
  });
  server.maxConnections = CONNECTIONS_MAX;
  await listen(server, what, host, port);
  return { host, port: (server.address() as AddressInfo).port, close: () => close(server) };
}

export function sendBody(
  request: IncomingMessage,
  response: ServerResponse,
  code: number,
  contentType: string,
  body: string,
): void {
  response.writeHead(code, {
    'Content-Type': contentType,
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

function listen(server: Server, what: string, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(listenError(what, host, port, error.code ?? 'EUNKNOWN', error));
    });
    server.listen(port, host, resolve);
  });
}

function close(server: Server): Promise<void> {
  return new Promise(resolve => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
