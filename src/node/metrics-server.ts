import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { collectDefaultMetrics, type Metric, Registry } from 'prom-client';
import type { Closable } from '../base/scope.js';
import { listenError } from '../mqtt/io/listening.js';
import { collectFamilies, type ThreadCounters } from './prometheus.js';

/** What `/healthz` and `/readyz` say. */
export interface NodeStatus {
  /** False when the node cannot get well by itself: restart it. */
  readonly healthy: boolean;
  /** False while clients should be sent elsewhere: starting, stopping, or a thread missing. */
  readonly ready: boolean;
  /** Why not, in words; empty when all is well. */
  readonly reasons: readonly string[];
}

export interface MetricsServerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** The threads that count now; asked at each scrape, since threads come and go. */
  threads(): readonly ThreadCounters[];
  status(): NodeStatus;
}

export interface MetricsServer extends Closable {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

const CONNECTIONS_MAX = 64;
const HEADER_BYTES_MAX = 8192;
const REQUEST_TIMEOUT_MS = 5000;
const PROCESS_LOOP_PRECISION_MS = 100;

/**
 * Serves `/metrics`, `/healthz` and `/readyz` over HTTP, GET and HEAD only. Scrapes that come at the same time
 * share one rendering.
 *
 * @throws ShoalError SHOAL_LISTEN_IN_USE or SHOAL_LISTEN_FAILED.
 */
export async function openMetricsServer(options: MetricsServerOptions): Promise<MetricsServer> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: PROCESS_LOOP_PRECISION_MS });
  for (const collected of collectFamilies(options.threads)) {
    // prom-client's own histogram cannot be given bucket counts; a registry asks no more of a metric than this.
    registry.registerMetric(collected as unknown as Metric<string>);
  }
  let rendering: Promise<string> | undefined;
  const render = () => {
    rendering ??= registry.metrics().finally(() => {
      rendering = undefined;
    });
    return rendering;
  };

  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      requestTimeout: REQUEST_TIMEOUT_MS,
      headersTimeout: REQUEST_TIMEOUT_MS,
    },
    (request, response) => {
      answer(request, response, options, render, registry.contentType).catch(error => {
        send(request, response, 500, 'text/plain', `${error instanceof Error ? error.message : error}\n`);
      });
    },
  );
  server.maxConnections = CONNECTIONS_MAX;
  await listen(server, options.host, options.port);
  const { port } = server.address() as AddressInfo;
  return { host: options.host, port, close: () => close(server) };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { status }: MetricsServerOptions,
  render: () => Promise<string>,
  contentType: string,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD');
    send(request, response, 405, 'text/plain', 'only GET and HEAD are served\n');
    return;
  }
  const path = request.url?.split('?', 1)[0];
  if (path === '/metrics') {
    send(request, response, 200, contentType, await render());
  } else if (path === '/healthz' || path === '/readyz') {
    const { healthy, ready, reasons } = status();
    const isGood = path === '/healthz' ? healthy : healthy && ready;
    const body = JSON.stringify({ status: isGood ? 'ok' : 'unavailable', reasons });
    send(request, response, isGood ? 200 : 503, 'application/json', `${body}\n`);
  } else {
    send(request, response, 404, 'text/plain', 'there are /metrics, /healthz and /readyz\n');
  }
}

function send(
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

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(listenError('metrics', host, port, error.code ?? 'EUNKNOWN', error));
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
