import type { Rpc } from '../rpc/rpc.js';
import type { ServerRow } from '../rpc/service-view.js';
import type { Directive } from '../rpc/traffic.js';
import type { HostView } from '../underlay/underlay.js';
import { type LoadRow, loadRow, type MembersReport } from './cluster-view.js';
import type { Answers } from './peers.js';

/** What a node knows of the services in its cluster, as `GET /services` has it. */
export interface ServicesReport extends Pick<MembersReport, 'self' | 'standing' | 'atMs'> {
  /** By name. */
  readonly services: readonly ServiceRow[];
}

export interface ServiceRow {
  readonly name: string;
  /**
   * The asked node serves or calls it, and so knows its servers and directives. Of others it knows only the hosts that
   * do: ask one of them.
   */
  readonly isFollowed: boolean;
  /** Names of the hosts that serve or call it. */
  readonly hosts: readonly string[];
  readonly servers: readonly ServiceServer[];
  readonly traffic: readonly Directive[];
}

export interface ServiceServer {
  readonly id: string;
  /** Name of its host. */
  readonly host: string;
  readonly address: string;
  /** Empty: it is in the untagged group. */
  readonly groups: readonly string[];
  readonly attributes: Readonly<Record<string, string>>;
  readonly version: string;
  /** As the asked node sees it. */
  readonly state: ServerState;
  /** In the asked process itself. */
  readonly isLocal: boolean;
  /** The asked node's calls and streams there: under way, and begun and failed since it is known. */
  readonly underWay: number;
  readonly begun: number;
  readonly failed: number;
  /** Of the whole node; null when it did not answer. */
  readonly health: number | null;
  readonly load: LoadRow | null;
}

/** `disconnected`: the last connection there broke, or could not be made. */
export const SERVER_STATES = ['serving', 'draining', 'disconnected'] as const;
export type ServerState = (typeof SERVER_STATES)[number];

export function serverState({ announcement, brokenForMs }: ServerRow): ServerState {
  return announcement.draining ? 'draining' : brokenForMs >= 0 ? 'disconnected' : 'serving';
}

/** What it is made of; `hosts` are those in the view. */
export interface ServicesSources {
  readonly report: MembersReport;
  readonly hosts: readonly HostView[];
  /** Undefined when this node serves and calls nobody any more. */
  readonly rpc: Rpc | undefined;
  readonly answers: Answers;
}

/** The agents of services are called so (`rpc.ts`). */
const AGENT_PREFIX = 'rpc.';

export function servicesReport(sources: ServicesSources): ServicesReport {
  const { report, hosts, rpc } = sources;
  const { self, standing, atMs } = report;
  if (rpc === undefined) return { self, standing, atMs, services: [] };
  const followed = new Set(rpc.services());
  const names = new Set([...followed, ...hosts.flatMap(({ record }) => servicesOf(record.agents))]);
  const services = [...names].sort().map(name => serviceRow(name, followed.has(name), sources));
  return { self, standing, atMs, services };
}

function servicesOf(agents: readonly string[]): string[] {
  return agents
    .filter(agent => agent.startsWith(AGENT_PREFIX))
    .map(agent => agent.slice(AGENT_PREFIX.length));
}

function serviceRow(name: string, isFollowed: boolean, { hosts, rpc, answers }: ServicesSources): ServiceRow {
  const carriers = hosts.filter(({ record }) => record.agents.includes(AGENT_PREFIX + name));
  const byId = new Map(hosts.map(({ record }) => [record.id, record.name]));
  const view = isFollowed ? rpc?.view(name) : undefined;
  return {
    name,
    isFollowed,
    hosts: carriers.map(({ record }) => record.name).sort(),
    servers: (view?.servers() ?? [])
      .filter(({ host }) => byId.has(host))
      .map(row => serverRow(row, byId.get(row.host)!, answers))
      .sort((left, right) => (left.host < right.host ? -1 : left.host > right.host ? 1 : 0)),
    traffic: view?.traffic() ?? [],
  };
}

function serverRow(row: ServerRow, host: string, answers: Answers): ServiceServer {
  const { announcement, isLocal, underWay, begun, failed } = row;
  const { id, address, groups, attributes, version } = announcement;
  const answer = answers.get(row.host);
  const report = answer?.kind === 'ok' ? answer.value : undefined;
  const health = report?.health ?? null;
  const load = report === undefined ? null : loadRow(report);
  return {
    id,
    host,
    address,
    groups,
    attributes,
    version,
    state: serverState(row),
    isLocal,
    underWay,
    begun,
    failed,
    health,
    load,
  };
}
