import { LOG_LIMITS } from './log.js';
import type { ReplicaLimits } from './replica.js';

export const REPLICA_LIMITS: ReplicaLimits = {
  ...LOG_LIMITS,
  logBytesMax: 8 * 1024 * 1024,
  trimRecordsMax: 64,
  proposalTimeoutMs: 10_000,
};

/** What one turn applies of a range, so that a thread gets back to its event loop. */
export const APPLY_BYTES_MAX = 1024 * 1024;
/** After a transaction found no room the next one is tried this much later. */
export const FULL_PAUSE_MS = 1000;
