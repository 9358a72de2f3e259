import type { Rpc } from '../rpc/rpc.js';
import { DIRECTIVES_MAX, type Directive } from '../rpc/traffic.js';

/** The traffic directives of services, from the operator's side. */

/** As `GET /traffic` has it: of each service that the asked node serves or calls, by name. */
export interface TrafficReport {
  readonly services: readonly { readonly name: string; readonly directives: readonly Directive[] }[];
}

export type TrafficChange =
  | { readonly kind: 'changed'; readonly services: readonly string[] }
  | { readonly kind: 'unknown-service'; readonly known: readonly string[] }
  /** These have `max` directives already; the others were changed. */
  | { readonly kind: 'full'; readonly services: readonly string[]; readonly max: number };

export function trafficReport(rpc: Rpc): TrafficReport {
  return {
    services: rpc.services().map(name => ({ name, directives: rpc.view(name).traffic() })),
  };
}

/** For one service, or for all that this node serves or calls. `weights` undefined: the directive goes. */
export function changeTraffic(
  rpc: Rpc,
  service: string | undefined,
  prefix: string,
  weights: Directive['weights'] | undefined,
): TrafficChange {
  const known = rpc.services();
  const services = service === undefined ? known : known.filter(name => name === service);
  if (services.length === 0) return { kind: 'unknown-service', known };
  const full: string[] = [];
  for (const name of services) {
    const view = rpc.view(name);
    if (weights === undefined) view.unsetTraffic(prefix);
    else if (!view.setTraffic(prefix, weights)) full.push(name);
  }
  return full.length > 0
    ? { kind: 'full', services: full, max: DIRECTIVES_MAX }
    : { kind: 'changed', services };
}
