import type { Ready, UnderlayMachine } from '../underlay/underlay.js';
import type { Agent, AgentOutput } from './agent.js';

/** What a turn of the overlay has brought: the underlay's, and what the agents tell. */
export interface OverlayReady extends Ready {
  readonly agents: readonly AgentOutput[];
}

/**
 * The overlay stands on an underlay and is driven in its place: whoever can drive an `UnderlayMachine` (the sockets'
 * driver, the simulator) drives an overlay, which hands everything through and takes the payloads, the maps and the
 * host events on its way.
 */
export interface OverlayMachine extends UnderlayMachine {
  /** Joins the agent, or gives the one joined already. Throws on a name that is not 1 to 64 of `a-z 0-9 . _ -`. */
  host(name: string): Agent;
  /** Leaves it: its members and owned entries go. */
  unhost(name: string): void;
  ready(): OverlayReady;
}
