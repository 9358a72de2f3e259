import type { Random } from '../base/env.js';
import type { Agenda } from './agenda.js';
import type { RpcFailure } from './failure.js';
import type { Routing } from './routing.js';

/** Told when servers, their state or directives have changed, at the end of the turn. */
export interface Mover {
  reconsider(): void;
  /** This node stops: what is under way fails. */
  stop(failure: RpcFailure): void;
}

/** What everything on the client's side of one service stands on. */
export interface Context {
  readonly agenda: Agenda;
  readonly random: Random;
  readonly routing: Routing;
  /** Pipelines and streams that are open. */
  readonly movers: Set<Mover>;
  /** This node stops: nothing is tried again. */
  isClosed: boolean;
}

/** What decides where a stream goes. */
export interface Placement {
  readonly tenant: string;
  readonly key: string;
}
