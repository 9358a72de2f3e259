import type { Client } from '../rpc/client.js';
import type { RpcResult } from '../rpc/failure.js';
import type { ServerRow } from '../rpc/service-view.js';
import type { HostId } from '../underlay/message.js';
import type { Peer, Peers } from './doctor-calls.js';
import type { NodeReport, nodeService } from './node-service.js';

/** Asked at one time; what is beyond is shown without an answer. */
const ASKED_MAX = 256;

export type Answers = ReadonlyMap<HostId, RpcResult<NodeReport>>;

/** Asks all of them at once; takes as long as the deadline of `report` at the most. */
export async function askReports(
  client: Client<typeof nodeService.methods>,
  hosts: readonly HostId[],
): Promise<Answers> {
  const asked = hosts.slice(0, ASKED_MAX);
  const answers = await Promise.all(asked.map(host => client.report.ask({ host })));
  return new Map(asked.map((host, at) => [host, answers[at]!]));
}

/** How each host stands as one to call; `answers` is empty when nobody was asked. */
export function peersOf(hosts: readonly HostId[], servers: readonly ServerRow[], answers: Answers): Peers {
  const byHost = new Map(servers.map(row => [row.host, row]));
  return new Map(
    hosts.map((host): [HostId, Peer] => {
      const row = byHost.get(host);
      return [
        host,
        {
          address: row?.announcement.address,
          isDraining: row?.announcement.draining === true,
          isBroken: row !== undefined && row.brokenForMs >= 0,
          answer: answers.get(host),
        },
      ];
    }),
  );
}
