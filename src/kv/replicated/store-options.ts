import type { Env } from '../../base/env.js';
import type { SnapshotEngine } from '../engine.js';
import type { RaftLimits, RaftTiming } from '../raft/settings.js';
import type { StoreSender } from './frames.js';
import { LOG_LIMITS } from './log.js';
import type { RangeSink, ReplicaLimits } from './replica.js';
import type { CoprocessorFactory } from './replica-table.js';
import type { SnapshotLimits } from './snapshot.js';

export interface RaftStoreOptions {
  readonly engine: SnapshotEngine;
  readonly env: Env;
  readonly sink: RangeSink;
  readonly coprocessors: CoprocessorFactory;
  /** Sends a frame to another store; see `RaftStore.step`. */
  readonly send: StoreSender;
  readonly timing?: Partial<RaftTiming>;
  readonly raftLimits?: Partial<RaftLimits>;
  readonly limits?: Partial<ReplicaLimits>;
  readonly snapshots?: Partial<SnapshotLimits>;
}

export const REPLICA_LIMITS: ReplicaLimits = {
  ...LOG_LIMITS,
  logBytesMax: 8 * 1024 * 1024,
  logBehindBytesMax: 256 * 1024 * 1024,
  trimRecordsMax: 64,
  proposalTimeoutMs: 10_000,
};

/** What one turn applies of a range, so that a thread gets back to its event loop. */
export const APPLY_BYTES_MAX = 1024 * 1024;
/** After a transaction found no room the next one is tried this much later. */
export const FULL_PAUSE_MS = 1000;
