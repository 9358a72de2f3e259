import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { Closable } from '../../src/base/scope.js';
import type { Cluster } from '../../src/node/cluster.js';
import { openMetricsServer } from '../../src/node/metrics-server.js';
import { freePort } from '../e2e/broker.js';
import { startCluster } from './cluster-nodes.js';

const nothing = () => undefined;
let opened: Closable[] = [];
afterEach(async () => {
  for (const one of opened.reverse()) await one.close();
  opened = [];
});

async function hostOn(port: number, seed: number): Promise<Cluster> {
  const cluster = await startCluster(port, seed);
  opened.push(cluster);
  return cluster;
}

describe('shoalmq_cluster_*', () => {
  it('show the cluster beside the counters of the threads', async () => {
    const [port, other] = [await freePort(), await freePort()];
    const cluster = await hostOn(port, port);
    await hostOn(other, port);
    const status = () => ({ healthy: true, ready: true, reasons: [] });
    const more = cluster.metrics;
    const server = await openMetricsServer({ host: '127.0.0.1', port: 0, threads: () => [], status, more });
    opened.push(server);
    const scrape = async () => (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
    await expect.poll(scrape, { timeout: 10_000 }).toContain('shoalmq_cluster_hosts{state="alive"} 2\n');
    const text = await scrape();
    expect(text).toContain('# TYPE shoalmq_cluster_packets_total counter\n');
    expect(text).toMatch(/^shoalmq_cluster_packets_total\{path="datagram",direction="in"\} [1-9]\d*$/m);
    expect(text).toContain('shoalmq_cluster_events_total{event="joined"} 1\n');
    expect(text).toContain('shoalmq_cluster_member 1\n');
    expect(text).toMatch(/^shoalmq_rpc_servers\{state="serving"\} [12]$/m);
    await expect.poll(scrape, { timeout: 10_000 }).toContain('shoalmq_rpc_servers{state="serving"} 2\n');
    expect(text).toContain('shoalmq_rpc_refused_connections_total{reason="tls"} 0\n');
    expect(text).toContain('# TYPE shoalmq_overlay_resent_messages_total counter\n');
    expect(text).toContain('shoalmq_overlay_agents 3\n');
    expect(text).toMatch(/^shoalmq_overlay_entries [1-9]\d*$/m);
    const series = text.split('\n').filter(line => line.startsWith('shoalmq_'));
    const names = series.map(line => line.slice(0, line.lastIndexOf(' ')));
    expect(new Set(names).size).toBe(names.length);
    for (const line of series) expect(line).toMatch(/^[a-z_]+(\{([a-z]+="[a-z_]+",?)+\})? \d+$/);
    const stranger = connect(port, '127.0.0.1').on('error', nothing).end('GET / HTTP/1.1\r\n\r\n');
    opened.push({ close: async () => void stranger.destroy() });
    await expect
      .poll(scrape, { timeout: 10_000 })
      .toContain('shoalmq_cluster_refused_connections_total{reason="no_packet"} 1\n');
    expect(text).toContain('shoalmq_cluster_send_failures_total{reason="stream"} 0\n');
    await cluster.leave();
    const left = await scrape();
    expect(left).toContain('shoalmq_cluster_member 0\n');
    expect(left).toContain('shoalmq_cluster_hosts{state="alive"} 1\n');
    expect(left).toContain('shoalmq_rpc_servers{state="serving"} 0\n');
  });
});
