import type { HostId, HostRecord } from '../underlay/message.js';
import type { HostView, UnderlayMachine } from '../underlay/underlay.js';
import type { NodeReport } from './node-service.js';
import type { Answers } from './peers.js';

/** What a node knows of its cluster, as `GET /cluster/members` has it. All times are milliseconds since 1970. */
export interface MembersReport {
  /** The asked node. */
  readonly self: { readonly id: HostId; readonly name: string; readonly address: string };
  readonly env: string;
  readonly standing: Standing;
  /** When this was true, by the asked node's clock. */
  readonly atMs: number;
  /** The same number on all hosts that have the same hosts in their view. */
  readonly fingerprint: number;
  /** By name. A node that has left, or was evicted, shows itself alone. */
  readonly members: readonly MemberRow[];
  /** Hosts that failed, and are looked for. */
  readonly lost: readonly LostRow[];
}

/** `left` and `evicted` last until the process starts again. */
export type Standing = 'member' | 'left' | 'evicted';

export interface MemberRow {
  readonly id: HostId;
  readonly name: string;
  readonly address: string;
  readonly state: 'alive' | 'suspect';
  readonly incarnation: number;
  readonly version: string;
  readonly agents: readonly string[];
  /** Local health multiplier: 0 is healthy, 8 the worst. Each knows its own; null when it was not asked, or did not answer. */
  readonly health: number | null;
  /** Null for the same reasons. */
  readonly load: LoadRow | null;
  /** Smoothed, of direct probes by datagram; null when none was measured. */
  readonly roundTripMs: number | null;
  /** Its clock minus that of the asked node, network delay included. */
  readonly clockSkewMs: number;
  /** Packets pass in one direction only. */
  readonly oneWay: boolean;
  readonly startedMs: number;
  /** Since when it is in this state. */
  readonly sinceMs: number;
  readonly isSelf: boolean;
}

/** As the node said when it was asked. */
export type LoadRow = Pick<
  NodeReport,
  'connections' | 'utilization' | 'loopDelayMs' | 'heapBytes' | 'residentBytes' | 'uptimeMs'
>;

export interface LostRow {
  readonly id: HostId;
  readonly name: string;
  readonly address: string;
  readonly sinceMs: number;
}

export function membersReport(
  machine: UnderlayMachine,
  env: string,
  standing: Standing,
  atMs: number,
): MembersReport {
  const { self } = machine;
  const hosts = hostsInView(machine, standing);
  const lost = standing === 'member' ? machine.lostHosts() : [];
  return {
    self: { id: self.id, name: self.name, address: self.address },
    env,
    standing,
    atMs,
    fingerprint: fingerprint(hosts.map(({ record }) => record.id)),
    members: hosts.map(host => memberRow(host, self, machine.healthScore())).sort(byName),
    lost: lost.map(({ record, sinceMs }) => ({ ...nameOf(record), sinceMs })).sort(byName),
  };
}

/** What the machine has of the others goes stale when this host is out of the cluster. */
export function hostsInView(machine: UnderlayMachine, standing: Standing): readonly HostView[] {
  const all = machine.hosts();
  return standing === 'member' ? all : all.filter(({ record }) => record.id === machine.self.id);
}

/** The same with what the members have said of themselves. */
export function withAnswers(report: MembersReport, answers: Answers): MembersReport {
  const members = report.members.map(member => {
    const answer = answers.get(member.id);
    if (answer?.kind !== 'ok') return member;
    return { ...member, health: answer.value.health, load: loadRow(answer.value) };
  });
  return { ...report, members };
}

export function loadRow(report: NodeReport): LoadRow {
  const { connections, utilization, loopDelayMs, heapBytes, residentBytes, uptimeMs } = report;
  return { connections, utilization, loopDelayMs, heapBytes, residentBytes, uptimeMs };
}

function nameOf({ id, name, address }: HostRecord) {
  return { id, name, address };
}

function memberRow(host: HostView, self: HostRecord, health: number): MemberRow {
  const { record, state, sinceMs, roundTripMs, clockSkewMs, oneWay } = host;
  const isSelf = record.id === self.id;
  return {
    ...nameOf(record),
    state,
    incarnation: record.incarnation,
    version: record.version,
    agents: record.agents,
    health: isSelf ? health : null,
    load: null,
    roundTripMs: roundTripMs < 0 ? null : Math.round(roundTripMs * 1_000) / 1_000,
    clockSkewMs: Math.round(clockSkewMs),
    oneWay,
    startedMs: record.startedMs,
    sinceMs,
    isSelf,
  };
}

function byName(left: LostRow, right: LostRow): number {
  if (left.name !== right.name) return left.name < right.name ? -1 : 1;
  return left.id - right.id;
}

/** 32 bits over the ids in their order; not a proof, but two views that differ are told apart at a glance. */
export function fingerprint(ids: readonly HostId[]): number {
  let hash = 0x811c9dc5;
  for (const id of ids.toSorted((left, right) => left - right)) {
    hash = Math.imul(hash ^ (id >>> 0), 0x01000193);
    hash = Math.imul(hash ^ Math.floor(id / 2 ** 32), 0x01000193);
  }
  return hash >>> 0;
}
