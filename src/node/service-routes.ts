import { type Directive, isTenantPrefix, isWeights, TENANT_PREFIX_LENGTH_MAX } from '../rpc/traffic.js';
import { type Answer, type Route, type Routes, refusal } from './admin-server.js';
import type { Cluster } from './cluster.js';
import { NO_CLUSTER } from './cluster-routes.js';
import { clean } from './finding.js';
import type { TrafficChange } from './traffic.js';

/** What the administration port serves of services; `cluster` is undefined on a node that is in none. */
export function serviceRoutes(cluster: Cluster | undefined): Routes {
  if (cluster === undefined) {
    const none = () => refusal(409, NO_CLUSTER);
    return new Map(PATHS.map(path => [path, none]));
  }
  return new Map<string, Route>([
    ['GET /services', async () => ({ status: 200, body: await cluster.servicesReport() })],
    ['GET /traffic', () => ({ status: 200, body: cluster.traffic() })],
    ['POST /traffic/set', (body: unknown) => setTraffic(cluster, body)],
    ['POST /traffic/unset', (body: unknown) => unsetTraffic(cluster, body)],
  ]);
}

const PATHS = ['GET /services', 'GET /traffic', 'POST /traffic/set', 'POST /traffic/unset'];

/** Takes `{"prefix": "acme", "weights": {"canary": 10, "": 1}}`, and `"service"` where not all are meant. */
function setTraffic(cluster: Cluster, body: unknown): Answer {
  const target = targetOf(body);
  const { weights } = (body ?? {}) as { weights?: unknown };
  if (target === undefined || !isWeights(weights)) {
    const why = `the body has to be {"prefix": TEXT of at most ${TENANT_PREFIX_LENGTH_MAX}, "weights": {GROUP: 0 to 10}}, with "service": TEXT for one service`;
    return refusal(400, why);
  }
  return changed(cluster, target, weights);
}

function unsetTraffic(cluster: Cluster, body: unknown): Answer {
  const target = targetOf(body);
  if (target === undefined)
    return refusal(400, 'the body has to be {"prefix": TEXT}, with "service": TEXT for one service');
  return changed(cluster, target, undefined);
}

interface Target {
  readonly service: string | undefined;
  readonly prefix: string;
}

function targetOf(body: unknown): Target | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const { prefix, service } = body as { prefix?: unknown; service?: unknown };
  if (!isTenantPrefix(prefix) || (service !== undefined && typeof service !== 'string')) return undefined;
  return { prefix, service };
}

function changed(cluster: Cluster, target: Target, weights: Directive['weights'] | undefined): Answer {
  const { standing } = cluster.view();
  if (standing !== 'member') return refusal(409, `the asked node is in no cluster any more: ${standing}`);
  return changeAnswer(cluster.changeTraffic(target.service, target.prefix, weights), target);
}

function changeAnswer(change: TrafficChange, { service }: Target): Answer {
  if (change.kind === 'changed') return { status: 200, body: { services: change.services } };
  if (change.kind === 'full') {
    const words = `${change.services.join(', ')} cannot take more than ${change.max} directives`;
    return refusal(409, words);
  }
  const name = clean(service ?? '').slice(0, 100);
  return refusal(404, `the asked node neither serves nor calls ${name}; it knows ${change.known.join(', ')}`);
}
