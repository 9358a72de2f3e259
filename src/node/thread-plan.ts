import type { Config } from './config.js';

/** How many threads of each kind there are, their mesh indexes (main is 0), and their CPUs. */
export interface ThreadPlan {
  readonly mqtt: number;
  readonly match: number;
  readonly apply: number;
  /** CPU of a mesh index; -1 for none. */
  cpuOf(peer: number): number;
}

/** Cores that an mqtt thread for each would starve the stores and the control plane of. */
const CORES_KEPT = 2;

/**
 * Threads for a machine of `cores`.
 *
 * One mqtt thread up to three cores. Two of them on two cores moved 1.9 million messages/s over 200 pairs where one
 * moved 3.1, at QoS 1 0.7 where one moved 1.3, and 5.5 in a fan-out to 1,000 where one moved 5.6: the clients, the
 * kernel's loopback work and the stores want the other core (`npm run perf -- --only pairs-200`, once with
 * `SHOALMQ_THREADS__MQTT=2`; 2-core AMD EPYC, Node.js 20.20).
 */
export function planThreads(threads: Config['threads'], cores: number): ThreadPlan {
  const mqtt = threads.mqtt === 'auto' ? Math.max(1, cores - CORES_KEPT) : threads.mqtt;
  const match = threads.match === 'auto' ? 1 : threads.match;
  const apply = threads.apply === 'auto' ? 1 : threads.apply;
  const count = 1 + mqtt + match + apply;
  const { pin } = threads;
  if (pin === 'off' || (pin === 'auto' && cores < count)) return { mqtt, match, apply, cpuOf: () => -1 };
  const cpus = pin === 'auto' ? Array.from({ length: cores }, (_, cpu) => cpu) : pin;
  // Main stays unpinned; the last of the list serve it where there are more CPUs than threads.
  return { mqtt, match, apply, cpuOf: peer => (peer === 0 ? -1 : cpus[(peer - 1) % cpus.length]!) };
}
