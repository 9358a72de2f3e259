import type { UnderlayTiming } from './underlay.js';

/**
 * The defaults. One probe a second with half a second for its direct answer finds a dead host in about a second,
 * whatever the size, because each host is probed once a second on average (Das et al. 2002, section 3.1).
 */
export const DEFAULT_TIMING: UnderlayTiming = {
  probeIntervalMs: 1_000,
  probeTimeoutMs: 500,
  gossipIntervalMs: 200,
  healIntervalMs: 1_000,
  seedRetryMs: 1_000,
  seedRetryMaxMs: 30_000,
};
