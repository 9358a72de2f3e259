import type { Env } from '../../src/base/env.js';
import { type Cluster, makeCluster } from '../../src/node/cluster.js';
import { loadConfig } from '../../src/node/config.js';
import { KvRelay } from '../../src/node/kv-relay.js';
import type { RelayWire } from '../../src/node/kv-store-thread.js';

const nothing = () => undefined;

/** For a cluster without stores. */
export const NO_THREADS: RelayWire = { send: nothing, congested: () => false, depthBytes: () => 0 };

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
  const env = envAhead(aheadMs);
  const relay = new KvRelay(env, NO_THREADS);
  const cluster = await makeCluster(loadConfig({ set: [...set, ...more], env: {} }), env, load, relay);
  await cluster.start();
  return cluster;
}
