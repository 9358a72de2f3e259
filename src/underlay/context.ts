import type { Env } from '../base/env.js';
import type { LocalHealth } from './health.js';
import type { Outbox } from './outbox.js';
import type { OwnRecord } from './own-record.js';
import type { UnderlayCounters, UnderlayTiming } from './underlay.js';

/** What all parts of one machine share. */
export interface Context {
  readonly env: Env;
  readonly timing: UnderlayTiming;
  /** `cluster.env`. */
  readonly environment: string;
  readonly own: OwnRecord;
  readonly outbox: Outbox;
  readonly health: LocalHealth;
  readonly counters: UnderlayCounters;
}

export function newCounters(): UnderlayCounters {
  return {
    probes: 0,
    probeFailures: 0,
    indirectProbes: 0,
    suspicions: 0,
    refutations: 0,
    failures: 0,
    heals: 0,
    rumoursSent: 0,
    rumoursHeard: 0,
    joinsSent: 0,
    joinsHeard: 0,
    mapRepairs: 0,
    mapResends: 0,
    mapMalformed: 0,
  };
}
