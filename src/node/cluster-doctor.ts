import type { SeedResolution } from '../underlay/io/resolve.js';
import type { Address } from '../underlay/message.js';
import type { Refusal, SeedState } from '../underlay/underlay.js';
import type { Reached } from './cluster-reach.js';
import type { MemberRow, MembersReport } from './cluster-view.js';
import { callFindings, elsewhere, type Peers } from './doctor-calls.js';
import {
  clean,
  duration,
  type Finding,
  list,
  NAMES_MAX,
  nameOf,
  note,
  since,
  tcpWords,
  wrong,
} from './finding.js';

/** What one node knows. It sees its own links only: its neighbours may have other troubles, so ask them as well. */
export interface Known {
  readonly report: MembersReport;
  readonly probeIntervalMs: number;
  readonly seeds: readonly SeedResolution[];
  readonly seedStates: readonly SeedState[];
  readonly refusals: readonly Refusal[];
  /** Packets refused since the start because their clock was too far from ours. */
  readonly staleRefused: number;
}

export interface Patient extends Known {
  /** TCP connections tried just now. */
  readonly reached: ReadonlyMap<Address, Reached>;
  readonly peers: Peers;
}

/** Clocks that differ by more are told of, milliseconds. */
const SKEW_MS_MAX = 2_000;

/** Refusals that are older are history: who was refused asks again twice a minute. */
const REFUSAL_AGE_MS_MAX = 120_000;

/** A score of 1 comes and goes with a single lost packet. */
const HEALTH_ILL = 2;

/** Before a host without a round-trip time is called unreachable: three turns of the probe list and this. */
const GRACE_MS = 5_000;

/** Never empty-handed on purpose: no finding means that all that can be seen from here is well. */
export function diagnose(patient: Patient): Finding[] {
  if (patient.report.standing !== 'member') return [outOfCluster(patient.report)];
  const own = ownFindings(patient);
  return [...own, ...elsewhere(patient, own)];
}

function ownFindings(patient: Patient): Finding[] {
  return [
    ...ownHealth(patient),
    ...seeds(patient),
    ...patient.report.members.flatMap(member => link(member, patient)),
    ...callFindings(patient),
    ...lost(patient),
    ...refused(patient),
    ...clocks(patient),
    ...names(patient.report),
    ...versions(patient.report),
    ...solitude(patient),
  ];
}

function outOfCluster({ standing }: MembersReport): Finding {
  return standing === 'evicted'
    ? wrong(
        'This node was evicted by an operator. It serves its own clients alone, and the others refuse it.',
        'Restart it to let it join again; it then is a new host to the others.',
      )
    : wrong(
        'This node has left the cluster and serves its own clients alone.',
        'Restart it to let it join again.',
      );
}

function ownHealth({ report }: Patient): Finding[] {
  const health = report.members.find(({ isSelf }) => isSelf)?.health ?? 0;
  if (health < HEALTH_ILL) return [];
  return [
    wrong(
      `This node is not well: its health score is ${health}, where 0 is well. Its probes go unanswered or its timers come late, so it waits longer before it suspects anybody.`,
      'Look for too little CPU (shoalmq_event_loop_delay in /metrics, the load of the machine), for swapping, and for packet loss on its network.',
    ),
  ];
}

// -- Seeds -------------------------------------------------------------------------------------------------

function seeds({ report, seeds: resolutions, seedStates, refusals, reached }: Patient): Finding[] {
  // Of those that refuse us for their environment is told below.
  const refusing = refusals.filter(({ why }) => why === 'environment');
  const answered = seedStates.filter(({ answeredMs }) => answeredMs > 0);
  const known = new Set([...report.members, ...refusing, ...answered].map(({ address }) => address));
  const unresolved = resolutions
    .filter(({ error }) => error !== '')
    .map(({ seed, error, addresses }) =>
      wrong(
        `The seed ${seed} does not resolve (${error})${addresses.length > 0 ? '; its last known addresses are used' : ''}.`,
        'Correct the name in cluster.seeds, or its DNS records. It is asked for again every few seconds.',
      ),
    );
  const silent = seedStates
    .filter(({ address, answeredMs, tries }) => answeredMs === 0 && tries > 1 && !known.has(address))
    .map(({ address, tries }) => {
      const tcp = reached.get(address);
      if (tcp === 'open' && report.members.length > 1) return aliasOrStranger(address);
      const named = resolutions.find(({ addresses }) => addresses.length > 1 && addresses.includes(address));
      if (named?.addresses.some(other => known.has(other))) return oneOfMany(named.seed, address, tcp);
      const what = `The seed ${address} has never answered (${tries} tries). ${tcpWords(tcp)}`;
      return wrong(what, seedRemedy(tcp));
    });
  return [...unresolved, ...silent];
}

/** Whoever answers from another address than it was asked at, as behind a load balancer, is not known to be the seed. */
function aliasOrStranger(address: Address): Finding {
  return note(
    `The seed ${address} can be reached by TCP, but no host of the cluster is known by that address.`,
    'That is as it should be when it is a second address, or a load balancer, of hosts that are in the cluster. Otherwise a node there has another cluster.env or cluster.key, or UDP does not get through to it.',
  );
}

/** A name often has addresses of a family that its host does not bind, or of hosts that are gone. */
function oneOfMany(seed: string, address: Address, tcp: Reached | undefined): Finding {
  return note(
    `Of the addresses of the seed ${seed}, ${address} has never answered. ${tcpWords(tcp)}`.trim(),
    'Nothing is missing if no node is meant to be there: another address of the name leads to the cluster.',
  );
}

function seedRemedy(reached: Reached | undefined): string {
  if (reached === 'refused') return 'Start the node there, or correct cluster.seeds. It is asked for ever.';
  if (reached === 'open')
    return 'If it is a node of this cluster, it has another cluster.env or cluster.key (ask its own doctor), or UDP does not get through to it.';
  return 'Check that the machine is up, that the address is right, and that firewalls let UDP and TCP through on that port.';
}

// -- Links -------------------------------------------------------------------------------------------------

function link(member: MemberRow, { report, probeIntervalMs, reached }: Patient): Finding[] {
  if (member.isSelf) return [];
  const host = nameOf(member);
  const tcp = reached.get(member.address);
  const tcpFails = tcp !== undefined && tcp !== 'open';
  if (member.state === 'suspect')
    return [
      wrong(
        `${host} does not answer probes and is suspected${since(member.sinceMs, report.atMs)}. ${tcpWords(tcp)}`.trim(),
        'If it is only slow it will say so within seconds; otherwise it will be lost. Look at its log and its machine.',
      ),
    ];
  if (member.oneWay)
    return [
      wrong(
        `The link to ${host} works in one direction only: its packets arrive here, but only others get an answer from it.`,
        'Look for firewall rules or routes that differ by direction, and compare its cluster.advertise with where it can be reached from here.',
      ),
    ];
  const settledMs = GRACE_MS + 3 * report.members.length * probeIntervalMs;
  const isSettled = report.atMs - member.sinceMs > settledMs;
  if (member.roundTripMs === null && isSettled) {
    const byTcp = tcp === undefined ? 'UDP does not reach it' : 'TCP alone reaches it, UDP does not';
    const port = tcpFails ? 'neither UDP nor TCP reaches it from here' : byTcp;
    return [
      wrong(
        `${host} is in the cluster, but ${port}.`,
        'Let UDP and TCP through in both directions between all hosts of the cluster, on the port of each.',
      ),
    ];
  }
  if (!tcpFails) return [];
  return [
    wrong(
      `UDP reaches ${host}, TCP does not (${tcp === 'refused' ? 'refused' : 'no answer'}).`,
      'Let TCP through on the same port as UDP: all that does not fit a datagram goes by it.',
    ),
  ];
}

function lost({ report, reached }: Patient): Finding[] {
  const rows = report.lost.slice(0, NAMES_MAX).map(host => {
    const tcp = reached.get(host.address);
    const words = tcp === 'open' ? 'Something answers by TCP at its address, though.' : tcpWords(tcp);
    return wrong(
      `${nameOf(host)} is lost${since(host.sinceMs, report.atMs)}. ${words}`.trim(),
      'It is looked for and comes back by itself once it can be reached. If it is gone for good, it does no harm here; a new host at its address takes its place.',
    );
  });
  const more = report.lost.length - rows.length;
  return more > 0 ? [...rows, wrong(`${more} more hosts are lost.`, 'See "shoalmq cluster members".')] : rows;
}

// -- Refusals ----------------------------------------------------------------------------------------------

const REFUSAL_WORDS: Readonly<Record<Refusal['why'], readonly [Finding['severity'], string, string]>> = {
  environment: [
    'wrong',
    'Hosts with another cluster.env tried to join and were refused',
    'If they belong here, give them the same cluster.env and restart them; if not, take this host out of their seeds.',
  ],
  key: [
    'wrong',
    'Packets sealed with another key, or with none, were dropped; they came from',
    'If these hosts belong here, give all hosts the same cluster.keyFile (previousKeyFile holds a second one during a rotation); if not, somebody knocks who should not reach this port.',
  ],
  replay: [
    'wrong',
    'Packets were dropped because they came twice or too late; they came from',
    'Set the clocks of all hosts by NTP. With right clocks it is a network that doubles packets, or somebody who replays them.',
  ],
  malformed: [
    'wrong',
    'Bytes that are no packets of this cluster were dropped; they came from',
    'Close the port to strangers. If these hosts belong here, compare cluster.keyFile, cluster.tls and the versions.',
  ],
  evicted: [
    'note',
    'Hosts that an operator evicted still knock',
    'They come back when their process is restarted; stop them if they should not.',
  ],
};

function refused({ report, refusals, staleRefused }: Patient): Finding[] {
  const recent = refusals.filter(({ lastMs }) => report.atMs - lastMs < REFUSAL_AGE_MS_MAX);
  const inWords = recent.filter(isRefusalOfUs);
  const others = recent.filter(row => !isRefusalOfUs(row));
  const found = Object.entries(REFUSAL_WORDS).flatMap(([why, [severity, what, remedy]]) => {
    const rows = others.filter(row => row.why === why);
    if (rows.length === 0) return [];
    const stale =
      why === 'replay' && staleRefused > 0
        ? ` Since the start, ${staleRefused} packets had a clock too far from this node's.`
        : '';
    return [{ severity, what: `${what}: ${senders(rows, report.atMs)}.${stale}`, remedy }];
  });
  if (inWords.length === 0) return found;
  const what = `This node was refused by hosts of another cluster.env: ${senders(inWords, report.atMs)}.`;
  const remedy = `Give this node the cluster.env of the others (it has ${report.env}), or take them out of cluster.seeds.`;
  return [wrong(what, remedy), ...found];
}

/** The name of an environment has no spaces; words have, and come from a host that refused this one. */
function isRefusalOfUs({ why, detail }: Refusal): boolean {
  return why === 'environment' && detail.includes(' ');
}

function senders(rows: readonly Refusal[], atMs: number): string {
  const from = rows.map(({ address, detail }) => {
    return clean(address) + (detail === '' || detail.includes(' ') ? '' : ` (${clean(detail)})`);
  });
  const total = rows.reduce((sum, { count }) => sum + count, 0);
  const lastMs = Math.max(...rows.map(row => row.lastMs));
  return `${list(from)}; ${total} in all, the last ${duration(atMs - lastMs)} ago`;
}

// -- What hosts say of themselves --------------------------------------------------------------------------

function clocks({ report }: Patient): Finding[] {
  const others = report.members.filter(({ isSelf }) => !isSelf);
  const off = others.filter(({ clockSkewMs }) => Math.abs(clockSkewMs) > SKEW_MS_MAX);
  if (off.length === 0) return [];
  const words = list(
    off.map(host => {
      const seconds = Math.abs(host.clockSkewMs / 1_000).toFixed(1);
      return `${nameOf(host)} is ${seconds} s ${host.clockSkewMs > 0 ? 'ahead' : 'behind'}`;
    }),
  );
  const isOurs = others.length > 1 && off.length === others.length;
  return [
    wrong(
      `Clocks differ by more than ${SKEW_MS_MAX / 1_000} s from this node's: ${words}.${isOurs ? " All others differ, so this node's clock is the likely one." : ''}`,
      'Set the clocks by NTP (chrony, systemd-timesyncd). With a cluster.key, packets of a clock that is too far off are dropped.',
    ),
  ];
}

function names({ members }: MembersReport): Finding[] {
  const byName = grouped(members, ({ name }) => name);
  return [...byName.values()]
    .filter(same => same.length > 1)
    .slice(0, NAMES_MAX)
    .map(same =>
      wrong(
        `${same.length} hosts are called ${clean(same[0]!.name)}: ${list(same.map(({ address }) => address))}.`,
        'Give each its own node.name.',
      ),
    );
}

function versions({ members }: MembersReport): Finding[] {
  const byVersion = grouped(members, ({ version }) => version);
  if (byVersion.size < 2) return [];
  const words = [...byVersion].map(([version, hosts]) => `${clean(version)} on ${list(hosts.map(nameOf))}`);
  return [
    note(
      `The hosts run different versions: ${words.slice(0, NAMES_MAX).join('; ')}.`,
      'That is right during an upgrade. Bring all to the same version afterwards.',
    ),
  ];
}

function grouped(
  members: readonly MemberRow[],
  key: (member: MemberRow) => string,
): Map<string, MemberRow[]> {
  const groups = new Map<string, MemberRow[]>();
  for (const member of members) groups.set(key(member), [...(groups.get(key(member)) ?? []), member]);
  return groups;
}

function solitude({ report, seeds: resolutions }: Patient): Finding[] {
  if (report.members.length > 1 || resolutions.length > 0) return [];
  return [
    note(
      'This node is alone, and has no seeds to look for others.',
      'Name one or more other hosts in cluster.seeds, or name this one in theirs.',
    ),
  ];
}
