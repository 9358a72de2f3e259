import type { Config } from './config.js';

/** How many threads of each kind there are, their mesh indexes (main is 0), and their CPUs. */
export interface ThreadPlan {
  readonly mqtt: number;
  readonly match: number;
  readonly apply: number;
  /** CPU of a mesh index; -1 for none. */
  cpuOf(peer: number): number;
}

/** CPUs that an mqtt thread for each would starve the stores and the control plane of. */
const CPUS_KEPT = 2;
/** With fewer, whatever else the machine does needs the freedom to move threads out of its way. */
const PINNING_CPUS_MIN = 4;

/**
 * Threads for a machine on whose CPUs of these numbers we may run.
 *
 * One mqtt thread up to three CPUs. Two of them on two CPUs moved 1.9 million messages/s over 200 pairs where one
 * moved 3.1, at QoS 1 0.7 where one moved 1.3, and 5.5 in a fan-out to 1,000 where one moved 5.6: the clients, the
 * kernel's loopback work and the stores want the other CPU (`npm run perf -- --only pairs-200`, once with
 * `SHOALMQ_THREADS__MQTT=2`; 2-core AMD EPYC, Node.js 20.20).
 *
 * By itself each thread that does the work gets a CPU of its own, where there are enough. Main, which handles no
 * single message, stays free to go where there is room.
 */
export function planThreads(threads: Config['threads'], cpus: readonly number[]): ThreadPlan {
  const mqtt = threads.mqtt === 'auto' ? Math.max(1, cpus.length - CPUS_KEPT) : threads.mqtt;
  const match = threads.match === 'auto' ? 1 : threads.match;
  const apply = threads.apply === 'auto' ? 1 : threads.apply;
  const { pin } = threads;
  const enough = cpus.length >= Math.max(PINNING_CPUS_MIN, mqtt + match + apply);
  const used = pin === 'off' || (pin === 'auto' && !enough) ? [] : pin === 'auto' ? cpus : pin;
  if (used.length === 0) return { mqtt, match, apply, cpuOf: () => -1 };
  return { mqtt, match, apply, cpuOf: peer => (peer === 0 ? -1 : used[(peer - 1) % used.length]!) };
}
