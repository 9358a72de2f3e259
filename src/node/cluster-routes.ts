import { type Answer, type Route, type Routes, refusal } from './admin-server.js';
import type { Cluster, Evicted, WantedHost } from './cluster.js';
import { clean, type Finding } from './finding.js';

export const NO_CLUSTER = 'this node is in no cluster: start it with cluster.seeds, or cluster.enabled: true';

/**
 * What the administration port serves; `cluster` is undefined on a node that is in none. `examine`: what the doctor is to
 * say besides, of the replicated storage.
 */
export function clusterRoutes(
  cluster: Cluster | undefined,
  examine: () => Promise<readonly Finding[]>,
): Routes {
  const withCluster = (route: (cluster: Cluster, body: unknown) => Answer | Promise<Answer>): Route => {
    return body => (cluster === undefined ? refusal(409, NO_CLUSTER) : route(cluster, body));
  };
  return new Map([
    ['GET /cluster/members', withCluster(async found => ({ status: 200, body: await found.members() }))],
    [
      'GET /cluster/doctor',
      withCluster(async found => {
        const findings = await Promise.all([found.doctor(), examine()]);
        return { status: 200, body: { self: found.view().self, findings: findings.flat() } };
      }),
    ],
    ['POST /cluster/evict', withCluster((found, body) => evict(found, body))],
    [
      'POST /cluster/leave',
      withCluster(async found => {
        if (found.view().standing === 'evicted')
          return refusal(409, 'this node was evicted and is in no cluster any more');
        await found.leave();
        return { status: 200, body: { left: found.view().self } };
      }),
    ],
  ]);
}

/** Takes `{"name": "b"}`, or `{"id": 123}` where the name is not clear. */
function evict(cluster: Cluster, body: unknown): Answer {
  const wanted = wantedHost(body);
  if (wanted === undefined) return refusal(400, 'the body has to be {"name": TEXT} or {"id": NUMBER}');
  return evictAnswer(cluster.evict(wanted), wanted);
}

function wantedHost(body: unknown): WantedHost | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const { name, id } = body as { name?: unknown; id?: unknown };
  if (typeof name === 'string' && name !== '' && id === undefined) return { name };
  if (typeof id === 'number' && Number.isSafeInteger(id) && name === undefined) return { id };
  return undefined;
}

function evictAnswer(evicted: Evicted, wanted: WantedHost): Answer {
  if (evicted.kind === 'evicted') return { status: 200, body: { evicted: evicted.host } };
  const shown = 'id' in wanted ? String(wanted.id) : JSON.stringify(clean(wanted.name)).slice(0, 100);
  if (evicted.kind === 'unknown') return refusal(404, `no host of the cluster is called ${shown}`);
  if (evicted.kind === 'out')
    return refusal(409, `the asked node is in no cluster any more: ${evicted.standing}`);
  const error = `${evicted.hosts.length} hosts are called ${shown}, name one by its id`;
  return { status: 409, body: { error, hosts: evicted.hosts } };
}
