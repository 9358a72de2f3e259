import type { ReplicaId } from './configuration.js';

/** What the replicas of a group say to each other. */
export interface Message {
  readonly from: ReplicaId;
  readonly to: ReplicaId;
  readonly term: number;
}
