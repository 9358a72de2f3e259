import type { Env } from '../base/env.js';
import type { HybridClock } from '../base/hlc.js';
import type { HostId, Message, Path } from '../underlay/message.js';
import type { AgentOutput } from './agent.js';

/** What the parts of the overlay of one host share. */
export interface Context {
  readonly own: HostId;
  readonly env: Env;
  readonly clock: HybridClock;
  /** What all links hold unacknowledged. */
  readonly budget: { bytes: number };
  /** One more each time: numbers the sending ends of links. */
  nextEpoch(): number;
  /** Through the underlay; nothing happens when the host has left the view meanwhile. */
  send(to: HostId, path: Path, message: Extract<Message, { kind: 'payload' | 'crdt' }>): void;
  /** The order of calls is the order in which they are told. */
  tell(output: AgentOutput): void;
}
