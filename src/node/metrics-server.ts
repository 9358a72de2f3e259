import type { IncomingMessage, ServerResponse } from 'node:http';
import { collectDefaultMetrics, type Metric, Registry } from 'prom-client';
import { type HttpListener, openHttp, sendBody } from './http.js';
import { type CollectedMetric, collectFamilies, type ThreadCounters } from './prometheus.js';

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
  /** Families that no thread's counters hold. */
  readonly more?: readonly CollectedMetric[];
}

const PROCESS_LOOP_PRECISION_MS = 100;

/**
 * Serves `/metrics`, `/healthz` and `/readyz` over HTTP, GET and HEAD only. Scrapes that come at the same time
 * share one rendering.
 *
 * @throws ShoalError SHOAL_LISTEN_IN_USE or SHOAL_LISTEN_FAILED.
 */
export async function openMetricsServer(options: MetricsServerOptions): Promise<HttpListener> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: PROCESS_LOOP_PRECISION_MS });
  for (const collected of [...collectFamilies(options.threads), ...(options.more ?? [])]) {
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

  const { host, port } = options;
  return openHttp('metrics', host, port, (request, response) =>
    answer(request, response, options, render, registry.contentType),
  );
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
    sendBody(request, response, 405, 'text/plain', 'only GET and HEAD are served\n');
    return;
  }
  const path = request.url?.split('?', 1)[0];
  if (path === '/metrics') {
    sendBody(request, response, 200, contentType, await render());
  } else if (path === '/healthz' || path === '/readyz') {
    const { healthy, ready, reasons } = status();
    const isGood = path === '/healthz' ? healthy : healthy && ready;
    const body = JSON.stringify({ status: isGood ? 'ok' : 'unavailable', reasons });
    sendBody(request, response, isGood ? 200 : 503, 'application/json', `${body}\n`);
  } else {
    sendBody(request, response, 404, 'text/plain', 'there are /metrics, /healthz and /readyz\n');
  }
}
