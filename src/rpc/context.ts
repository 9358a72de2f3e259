import type { Random } from '../base/env.js';
import type { Agenda } from './agenda.js';
import type { Routing } from './routing.js';

/** Told when servers, their state or directives have changed, at the end of the turn. */
export interface Mover {
  reconsider(): void;
}

/** What everything on the client's side of one service stands on. */
export interface Context {
  readonly agenda: Agenda;
  readonly random: Random;
  readonly routing: Routing;
  /** Pipelines and streams that are open. */
  readonly movers: Set<Mover>;
}

/** What decides where a stream goes. */
export interface Placement {
  readonly tenant: string;
  readonly key: string;
}
