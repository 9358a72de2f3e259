import { InvalidArgumentError } from 'commander';
import { type Directive, GROUP_WEIGHT_MAX, UNTAGGED } from '../rpc/traffic.js';
import { alignedTable, loadText } from './cluster-table.js';
import { clean } from './finding.js';
import type { ServiceRow, ServiceServer, ServicesReport } from './services-view.js';
import type { TrafficReport } from './traffic.js';

/** How the commands show services and their traffic. */

const HEADER = [
  'SERVICE',
  'NODE',
  'ADDRESS',
  'GROUPS',
  'STATE',
  'UNDER WAY',
  'CALLS',
  'FAILED',
  'HEALTH',
  'LOAD',
];
const NUMBERS: ReadonlySet<number> = new Set([5, 6, 7, 8, 9]);

/** A line for each server; what is counted are the calls of the asked node. */
export function servicesText({ services, self, standing }: ServicesReport): string {
  const name = clean(self.name);
  if (standing !== 'member')
    return `${name} is in no cluster any more (${standing}), so it knows no services.`;
  const table = alignedTable([HEADER, ...services.flatMap(serviceCells)], NUMBERS);
  const servers = services.reduce((sum, row) => sum + row.servers.length, 0);
  const directives = services.reduce((sum, row) => sum + row.traffic.length, 0);
  const traffic =
    directives === 0
      ? ''
      : `\n${count(directives, 'traffic directive')}; "shoalmq traffic get" shows ${directives === 1 ? 'it' : 'them'}.`;
  const summary = `${count(services.length, 'service')}, ${count(servers, 'server')}`;
  return `${table}\n${summary}; the calls are those of ${name}, which was asked.${traffic}`;
}

function serviceCells(service: ServiceRow): string[][] {
  const { name, servers, hosts, isFollowed } = service;
  if (servers.length > 0) return servers.map(server => serverCells(name, server));
  const known = hosts.join(', ') || '-';
  return [[name, known, '-', '-', isFollowed ? 'no server' : 'not known here', '-', '-', '-', '-', '-']];
}

function serverCells(service: string, server: ServiceServer): string[] {
  const { host, address, groups, state, underWay, begun, failed, health, load } = server;
  return [
    service,
    host,
    address,
    groups.length === 0 ? '-' : groups.join(', '),
    state,
    String(underWay),
    String(begun),
    String(failed),
    health === null ? '-' : String(health),
    loadText(load),
  ];
}

function count(amount: number, what: string): string {
  return `${amount} ${what}${amount === 1 ? '' : 's'}`;
}

/** Directives with prefixes that begin with `prefix`, as they are typed. */
export function trafficText({ services }: TrafficReport, prefix: string): string {
  const rows = services.flatMap(({ name, directives }) =>
    directives
      .filter(directive => directive.prefix.startsWith(prefix))
      .map(directive => [name, `${directive.prefix}*`, weightsText(directive.weights)]),
  );
  if (rows.length === 0)
    return prefix === ''
      ? 'No traffic directives: all tenants go to untagged servers.'
      : `No traffic directives for prefixes that begin with ${clean(prefix)}.`;
  return alignedTable([['SERVICE', 'TENANTS', 'GROUPS'], ...rows], new Set());
}

function weightsText(weights: Directive['weights']): string {
  return Object.entries(weights)
    .map(([group, weight]) => `${group === UNTAGGED ? '' : group}=${weight}`)
    .join(' ');
}

/**
 * One more of `canary=10`, or `=1` for the untagged group.
 *
 * @throws InvalidArgumentError.
 */
export function addWeight(entry: string, weights: Directive['weights'] = {}): Directive['weights'] {
  const [, group, digits] = /^([a-z0-9_-]{0,32})=(\d{1,2})$/.exec(entry) ?? [];
  if (group === undefined || Number(digits) > GROUP_WEIGHT_MAX)
    throw new InvalidArgumentError(`It takes GROUP=0 to GROUP=${GROUP_WEIGHT_MAX}, or =WEIGHT for untagged.`);
  if (Object.hasOwn(weights, group)) throw new InvalidArgumentError('That group is named twice.');
  return { ...weights, [group]: Number(digits) };
}
