import { request } from 'node:http';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  BYTES_RECEIVED,
  CONNECTS,
  CounterBlock,
  FLUSH_SECONDS,
  PACKETS_RECEIVED,
} from '../../src/base/metrics.js';
import type { HttpListener } from '../../src/node/http.js';
import { type NodeStatus, openMetricsServer } from '../../src/node/metrics-server.js';

const well: NodeStatus = { healthy: true, ready: true, reasons: [] };
let status = well;
const blocks = [new CounterBlock(), new CounterBlock()];
let server: HttpListener;

beforeAll(async () => {
  server = await openMetricsServer({
    host: '127.0.0.1',
    port: 0,
    threads: () => blocks.map((block, index) => ({ thread: `mqtt-${index}`, block })),
    status: () => status,
  });
});
afterAll(() => server.close());
beforeEach(() => {
  status = well;
});

async function get(path: string, method = 'GET') {
  const response = await fetch(`http://127.0.0.1:${server.port}${path}`, { method });
  return { code: response.status, headers: response.headers, body: await response.text() };
}

describe('/metrics', () => {
  it('shows what each thread counted, with flattened labels unfolded', async () => {
    blocks[0]!.values[PACKETS_RECEIVED + 3]! += 7;
    blocks[1]!.values[PACKETS_RECEIVED + 3]! += 2;
    blocks[1]!.values[BYTES_RECEIVED + 12]! += 2;
    blocks[1]!.values[CONNECTS + 4 * 2 + 3]! += 5;
    const { code, headers, body } = await get('/metrics');
    expect(code).toBe(200);
    expect(headers.get('content-type')).toContain('text/plain; version=0.0.4');
    expect(body).toContain('shoalmq_packets_received_total{type="publish",thread="mqtt-0"} 7\n');
    expect(body).toContain('shoalmq_packets_received_total{type="publish",thread="mqtt-1"} 2\n');
    expect(body).toContain('shoalmq_bytes_received_total{type="pingreq",thread="mqtt-1"} 2\n');
    expect(body).toContain('shoalmq_connects_total{version="5",transport="wss",thread="mqtt-1"} 5\n');
    expect(body).not.toContain('type=""');
    expect(body).toContain('# TYPE shoalmq_connections gauge\n');
    expect(body).toContain('process_resident_memory_bytes ');
  });

  it('shows histograms cumulatively', async () => {
    for (const seconds of [0, 1e-5, 1.5e-5, 100]) blocks[0]!.observe(FLUSH_SECONDS, seconds);
    const { body } = await get('/metrics');
    expect(body).toContain('# TYPE shoalmq_flush_seconds histogram\n');
    expect(body).toContain('shoalmq_flush_seconds_bucket{le="0.00001",thread="mqtt-0"} 2\n');
    expect(body).toContain('shoalmq_flush_seconds_bucket{le="0.00002",thread="mqtt-0"} 3\n');
    expect(body).toContain('shoalmq_flush_seconds_bucket{le="+Inf",thread="mqtt-0"} 4\n');
    expect(body).toContain('shoalmq_flush_seconds_sum{thread="mqtt-0"} 100.000025\n');
    expect(body).toContain('shoalmq_flush_seconds_count{thread="mqtt-0"} 4\n');
  });

  it('names no series twice and keeps to the syntax', async () => {
    const { body } = await get('/metrics');
    const series = body.split('\n').filter(line => line !== '' && !line.startsWith('#'));
    const names = series.map(line => line.slice(0, line.lastIndexOf(' ')));
    expect(new Set(names).size).toBe(names.length);
    for (const line of series) expect(line).toMatch(/^[a-z_\d]+(\{([a-z_]+="[^"]*",?)+\})? [-+.\dA-Za-z]+$/);
  });

  it('serves scrapes that come together', async () => {
    const answers = await Promise.all(Array.from({ length: 8 }, () => get('/metrics')));
    expect(answers.map(({ code }) => code)).toEqual(Array(8).fill(200));
  });
});

describe('/healthz and /readyz', () => {
  it('answer by the status', async () => {
    expect(await get('/healthz')).toMatchObject({ code: 200, body: '{"status":"ok","reasons":[]}\n' });
    status = { healthy: true, ready: false, reasons: ['mqtt-1 is being restarted'] };
    expect((await get('/healthz')).code).toBe(200);
    const { code, body } = await get('/readyz');
    expect(code).toBe(503);
    expect(JSON.parse(body)).toEqual({ status: 'unavailable', reasons: ['mqtt-1 is being restarted'] });
    status = { healthy: false, ready: true, reasons: ['stuck'] };
    expect([(await get('/healthz')).code, (await get('/readyz')).code]).toEqual([503, 503]);
  });
});

describe('everything else', () => {
  it('is refused', async () => {
    expect((await get('/')).code).toBe(404);
    expect((await get('/metrics/x')).code).toBe(404);
    expect((await get('/metrics?x=1')).code).toBe(200);
    const post = await get('/metrics', 'POST');
    expect([post.code, post.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    const head = await get('/healthz', 'HEAD');
    expect([head.code, head.body]).toEqual([200, '']);
  });

  it('is bounded', async () => {
    const code = await new Promise(resolve => {
      const path = `/${'x'.repeat(10_000)}`;
      const asked = request({ port: server.port, host: '127.0.0.1', path }, response => {
        response.resume();
        resolve(response.statusCode);
      });
      asked.on('error', error => resolve(error.message)).end();
    });
    expect(code).toBe(431);
  });

  it('says which port is taken', async () => {
    const options = { host: '127.0.0.1', port: server.port, threads: () => [], status: () => well };
    await expect(openMetricsServer(options)).rejects.toThrow(
      expect.objectContaining({
        code: 'SHOAL_LISTEN_IN_USE',
        message: expect.stringContaining(`:${server.port}`),
      }),
    );
    await expect(openMetricsServer({ ...options, host: '203.0.113.1', port: 0 })).rejects.toThrow(
      expect.objectContaining({ code: 'SHOAL_LISTEN_FAILED' }),
    );
  });
});
