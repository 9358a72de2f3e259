import type { Env } from '../../src/base/env.js';
import { type Cluster, makeCluster } from '../../src/node/cluster.js';
import { loadConfig } from '../../src/node/config.js';

const nothing = () => undefined;

/** Real, but for a wall clock that is so many milliseconds ahead. */
function envAhead(aheadMs: number): Env {
  return {
    clock: { wallMs: () => Date.now() + aheadMs, monotonicMs: () => performance.now() },
    log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
    random: { u32: () => Math.floor(Math.random() * 2 ** 32) },
  };
}

/** A started node's cluster on a port of the loopback. */
export async function startCluster(
  port: number,
  seed: number,
  aheadMs = 0,
  more: readonly string[] = [],
): Promise<Cluster> {
  const set = [`cluster.port=${port}`, `cluster.seeds=127.0.0.1:${seed}`, `node.name=n${port}`, 'rpc.port=0'];
  const load = () => ({ connections: 0, loopDelayMs: 0, utilization: 0 });
  const cluster = await makeCluster(loadConfig({ set: [...set, ...more], env: {} }), envAhead(aheadMs), load);
  await cluster.start();
  return cluster;
}
