import type { Overlay } from '../overlay/overlay.js';
import { collected, type Values } from './cluster-metrics.js';
import type { CollectedMetric } from './prometheus.js';
import type { RpcHost } from './rpc-host.js';
import { SERVER_STATES, serverState } from './services-view.js';

/** The families of calls between nodes, `shoalmq_rpc_*`; all 0 before the start. */
export function rpcMetrics(hostOf: () => RpcHost | undefined): CollectedMetric[] {
  const server = (
    type: 'counter' | 'gauge',
    short: string,
    help: string,
    read: (server: RpcHost['server']) => number,
  ) =>
    collected(type, `shoalmq_rpc_${short}`, help, () => {
      const host = hostOf();
      return [[{}, host === undefined ? 0 : read(host.server)]];
    });
  return [
    server(
      'gauge',
      'connections',
      'Connections of other nodes to this one.',
      ({ connections }) => connections,
    ),
    server('gauge', 'calls_running', 'Calls from other nodes that run here.', found => found.callsRunning),
    server('counter', 'calls_total', 'Calls from other nodes.', ({ counters }) => counters.calls),
    server('counter', 'accepted_total', 'Connections accepted.', ({ counters }) => counters.accepted),
    collected('counter', 'shoalmq_rpc_refused_connections_total', 'Connections closed by this node.', () => {
      const counters = hostOf()?.server.counters;
      return [
        [{ reason: 'limit' }, counters?.refusedAtLimit ?? 0],
        [{ reason: 'tls' }, counters?.tlsFailed ?? 0],
        [{ reason: 'crowded' }, counters?.crowdedOut ?? 0],
      ];
    }),
    collected('gauge', 'shoalmq_rpc_servers', 'Servers of services that this node serves or calls.', () =>
      servers(hostOf()),
    ),
  ];
}

/** The families of groups of hosts and their messages, `shoalmq_overlay_*`. */
export function overlayMetrics(overlay: Overlay): CollectedMetric[] {
  const one = (type: 'counter' | 'gauge', short: string, help: string, read: () => number) =>
    collected(type, `shoalmq_overlay_${short}`, help, () => [[{}, read()]]);
  return [
    one('gauge', 'agents', 'Groups that this host is in, or was.', () => overlay.entries().agents!),
    one(
      'gauge',
      'entries',
      'Members and entries of shared maps, of all groups.',
      () => overlay.entries().slots ?? 0,
    ),
    one(
      'gauge',
      'unacknowledged_messages',
      'Reliable messages to other hosts that were not acknowledged yet.',
      () => overlay.entries().unacknowledged ?? 0,
    ),
    one('counter', 'resent_messages_total', 'Reliable messages sent again.', () => overlay.retries),
    one('counter', 'malformed_messages_total', 'Payloads that were no messages.', () => overlay.malformed),
  ];
}

function servers(host: RpcHost | undefined): Values {
  const rpc = host?.rpc;
  const states = (rpc?.services() ?? []).flatMap(name => rpc!.view(name).servers()).map(serverState);
  return SERVER_STATES.map(state => [{ state }, states.filter(found => found === state).length] as const);
}
