import type { Client } from '../rpc/client.js';
import { type RpcResult, rpcFailure } from '../rpc/failure.js';
import { methodPath } from '../rpc/service.js';
import type { ServerRow } from '../rpc/service-view.js';
import type { RpcTransport } from '../rpc/transport.js';
import type { Address, HostId } from '../underlay/message.js';
import type { Peer, Peers } from './doctor-calls.js';
import { type NodeReport, nodeService, serverIdOf } from './node-service.js';

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

/** The same of one, over a connection of its own: what is known of the one that calls take may be some seconds old. */
export function knock(
  transport: RpcTransport,
  host: HostId,
  address: Address,
): Promise<RpcResult<NodeReport>> {
  const { request, response, deadlineMs } = nodeService.methods.report;
  const channel = transport.open(address);
  return new Promise(resolve => {
    const finish = (result: RpcResult<NodeReport>): void => {
      clearTimeout(timer);
      channel.close();
      resolve(result);
    };
    const late = rpcFailure('deadline', `no answer within ${deadlineMs / 1_000} s`);
    const timer = setTimeout(() => finish(late), deadlineMs);
    const context = { deadlineMs, tenant: '', server: serverIdOf(host) };
    channel.unary(methodPath(nodeService.name, 'report'), request.encode({ host }), context, {
      done: body => {
        const value = response.decode(body);
        finish(
          value === undefined
            ? rpcFailure('unknown-outcome', 'its answer is no report')
            : { kind: 'ok', value },
        );
      },
      failed: finish,
    });
  });
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
