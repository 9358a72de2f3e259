import type { UnderlayDriver } from '../underlay/io/driver.js';
import type { UnderlayMachine } from '../underlay/underlay.js';
import type { EventCounts } from './cluster.js';
import { fingerprint, hostsInView, type Standing } from './cluster-view.js';
import type { CollectedMetric, Sample } from './prometheus.js';

/** What the families are read from when somebody scrapes. */
export interface ClusterSources {
  readonly machine: UnderlayMachine;
  readonly driver: UnderlayDriver;
  readonly events: EventCounts;
  readonly standing: () => Standing;
}

export type Values = readonly (readonly [labels: Readonly<Record<string, string>>, value: number])[];

/** The families of the cluster, `shoalmq_cluster_*`: all on the main thread, so without its label. */
export function clusterMetrics(sources: ClusterSources): CollectedMetric[] {
  return [...viewMetrics(sources), ...protocolMetrics(sources), ...networkMetrics(sources)];
}

function family(type: 'counter' | 'gauge', short: string, help: string, read: () => Values): CollectedMetric {
  return collected(type, `shoalmq_cluster_${short}`, help, read);
}

/** A family that is read when somebody scrapes. */
export function collected(
  type: 'counter' | 'gauge',
  name: string,
  help: string,
  read: () => Values,
): CollectedMetric {
  const get = async () => {
    const values: Sample[] = read().map(([labels, value]) => ({ labels, value }));
    return { name, help, type, values, aggregator: 'sum' };
  };
  return { name, help, type, get };
}

function viewMetrics({ machine, driver, events, standing }: ClusterSources): CollectedMetric[] {
  return [
    family('gauge', 'member', '1 in the cluster; 0 after leaving or being evicted.', () => [
      [{}, standing() === 'member' ? 1 : 0],
    ]),
    family(
      'gauge',
      'hosts',
      'Hosts as this one sees them, itself included; lost ones are looked for.',
      () => {
        const hosts = hostsInView(machine, standing());
        const suspects = hosts.filter(({ state }) => state === 'suspect').length;
        return [
          [{ state: 'alive' }, hosts.length - suspects],
          [{ state: 'suspect' }, suspects],
          [{ state: 'lost' }, standing() === 'member' ? machine.lostHosts().length : 0],
        ];
      },
    ),
    family('gauge', 'view_fingerprint', 'The same on all hosts once they see the same hosts.', () => [
      [{}, fingerprint(hostsInView(machine, standing()).map(({ record }) => record.id))],
    ]),
    family('gauge', 'health_score', 'Local health multiplier: 0 is well, 8 the worst.', () => [
      [{}, machine.healthScore()],
    ]),
    family('gauge', 'incarnation', 'How often this host had to renew what it says of itself.', () => [
      [{}, machine.self.incarnation],
    ]),
    family('counter', 'events_total', 'Changes of the view since the start.', () =>
      [...events].map(([event, count]) => [{ event }, count] as const),
    ),
    family(
      'gauge',
      'seeds',
      'Addresses of seeds by whether they ever answered; names that do not resolve.',
      () => {
        const states = machine.seedStates();
        const answered = states.filter(({ answeredMs }) => answeredMs > 0).length;
        return [
          [{ state: 'answered' }, answered],
          [{ state: 'unanswered' }, states.length - answered],
          [{ state: 'unresolved' }, driver.seeds().filter(({ error }) => error !== '').length],
        ];
      },
    ),
  ];
}

function protocolMetrics({ machine: { counters } }: ClusterSources): CollectedMetric[] {
  const count = (short: string, help: string, read: () => number) =>
    family('counter', short, help, () => [[{}, read()]]);
  return [
    count('probes_total', 'Probes begun.', () => counters.probes),
    count('probe_failures_total', 'Probes without any answer.', () => counters.probeFailures),
    count('indirect_probes_total', 'Probes that others were asked to make.', () => counters.indirectProbes),
    count('suspicions_total', 'Hosts that came under suspicion.', () => counters.suspicions),
    count('refutations_total', 'Rumours about this host that it contradicted.', () => counters.refutations),
    count('failures_total', 'Hosts that were held as failed.', () => counters.failures),
    count('heals_total', 'Lost hosts that were found again.', () => counters.heals),
    family('counter', 'rumours_total', 'Rumours told and heard.', () => [
      [{ direction: 'out' }, counters.rumoursSent],
      [{ direction: 'in' }, counters.rumoursHeard],
    ]),
    family('counter', 'joins_total', 'Joins asked for and heard.', () => [
      [{ direction: 'out' }, counters.joinsSent],
      [{ direction: 'in' }, counters.joinsHeard],
    ]),
    count('map_repairs_total', 'Comparisons of host maps that differed.', () => counters.mapRepairs),
    count('map_resends_total', 'Changes of the host map sent again.', () => counters.mapResends),
    count('map_malformed_total', 'Messages about the host map that were none.', () => counters.mapMalformed),
  ];
}

function networkMetrics({ machine, driver }: ClusterSources): CollectedMetric[] {
  const { counters } = driver;
  return [
    family('counter', 'packets_total', 'Packets of the cluster; datagrams are UDP, streams TCP.', () => [
      [{ path: 'datagram', direction: 'in' }, counters.datagramsIn],
      [{ path: 'datagram', direction: 'out' }, counters.datagramsOut],
      [{ path: 'stream', direction: 'in' }, counters.streamPacketsIn],
      [{ path: 'stream', direction: 'out' }, counters.streamPacketsOut],
    ]),
    family('counter', 'packet_bytes_total', 'Their bytes, without the headers of IP, UDP and TCP.', () => [
      [{ path: 'datagram', direction: 'in' }, counters.datagramBytesIn],
      [{ path: 'datagram', direction: 'out' }, counters.datagramBytesOut],
      [{ path: 'stream', direction: 'in' }, counters.streamBytesIn],
      [{ path: 'stream', direction: 'out' }, counters.streamBytesOut],
    ]),
    family('counter', 'refused_packets_total', 'Packets that were dropped unread.', () => [
      [{ reason: 'key' }, counters.refusedKey],
      [{ reason: 'replay' }, counters.refusedReplay],
      [{ reason: 'stale' }, counters.refusedStale],
      [{ reason: 'malformed' }, counters.refusedMalformed + counters.undecodable],
    ]),
    family('gauge', 'refused_senders', 'Addresses whose packets were refused, the last 256 of them.', () => {
      const refusals = machine.refusals();
      return (['environment', 'key', 'replay', 'malformed', 'evicted'] as const).map(
        reason => [{ reason }, refusals.filter(({ why }) => why === reason).length] as const,
      );
    }),
    family('counter', 'unreachable_total', 'Packets that the network said did not arrive.', () => [
      [{ path: 'datagram' }, counters.unreachableDatagram],
      [{ path: 'stream' }, counters.unreachableStream],
    ]),
    family(
      'counter',
      'oversize_total',
      'Messages too large for a datagram, sent by stream, or for both, dropped.',
      () => [
        [{ outcome: 'promoted' }, counters.promoted],
        [{ outcome: 'dropped' }, counters.tooLarge],
      ],
    ),
    family('counter', 'refused_connections_total', 'Connections of others that were turned away.', () => {
      const stats = driver.stats();
      return [
        [{ reason: 'tls' }, stats?.tlsFailed ?? 0],
        [{ reason: 'crowded' }, stats?.inboundCrowdedOut ?? 0],
        [{ reason: 'no_packet' }, stats?.inboundDropped ?? 0],
      ];
    }),
    family(
      'counter',
      'send_failures_total',
      'Packets that did not leave, and names that did not resolve.',
      () => {
        const stats = driver.stats();
        return [
          [{ reason: 'datagram' }, stats?.datagramErrors ?? 0],
          [{ reason: 'stream' }, stats?.streamPacketsLost ?? 0],
          [{ reason: 'name' }, stats?.namesFailed ?? 0],
        ];
      },
    ),
    family('gauge', 'streams', 'Open connections of the cluster.', () => {
      const stats = driver.stats();
      return [
        [{ direction: 'in' }, stats?.inboundNow ?? 0],
        [{ direction: 'out' }, stats?.outboundNow ?? 0],
      ];
    }),
  ];
}
