import { alignedTable } from './cluster-table.js';
import { clean, duration } from './finding.js';
import type { MapListed } from './kv-map-routes.js';
import type { BalancersReport, RulesReport } from './kv-routes.js';
import type { MemberRow, RangeRow, RangesReport, StoresReport } from './kv-view.js';

/** How the commands show the replicated storage. */

const NONE = '-';
const MIB = 1024 * 1024;

const RANGE_HEADER = [
  'RANGE',
  'SERVICE',
  'FROM',
  'TO',
  'STATE',
  'LEADER',
  'VOTERS',
  'EPOCH',
  'SIZE',
  'WRITES',
  'READS',
];
const RANGE_NUMBERS: ReadonlySet<number> = new Set([7, 8, 9, 10]);

/** A line for each range, with a summary below them. */
export function rangesText({ ranges }: RangesReport): string {
  if (ranges.length === 0) return 'No store has said anything of its ranges yet; try again in a moment.';
  const table = alignedTable([RANGE_HEADER, ...ranges.map(rangeCells)], RANGE_NUMBERS);
  const own = ranges.filter(({ sole }) => sole).length;
  const ill = ranges.filter(
    ({ sole, state }) => !sole && (state === 'no-leader' || state === 'no-quorum'),
  ).length;
  const shared = count(ranges.length - own, 'range');
  const alone = own === 0 ? '' : `, and ${own} that are a node's own (one replica, they stay there)`;
  const trouble = ill === 0 ? '' : `\n${ill} cannot be read or written: "shoalmq cluster doctor" says why.`;
  return `${table}\n${shared} of the cluster${alone}.${trouble}`;
}

function rangeCells(row: RangeRow): string[] {
  const { id, service, from, to, sole, state, leader, members, epoch, bytes } = row;
  const learners = members.filter(({ role }) => role === 'learner');
  const voters = members
    .filter(({ role }) => role === 'voter')
    .map(memberText)
    .join(' ');
  return [
    id,
    service,
    from === '' ? NONE : from,
    to === '' ? NONE : to,
    state.replace('-', ' '),
    leader?.name ?? NONE,
    sole ? 'its own' : [voters, ...learners.map(member => `+${memberText(member)}`)].join(' '),
    String(epoch),
    bytesText(bytes),
    rateText(row.writesPerSecond),
    rateText(row.queriesPerSecond),
  ];
}

function memberText({ name, alive }: MemberRow): string {
  return alive ? name : `${name}(lost)`;
}

const STORE_HEADER = [
  '',
  'STORE',
  'ID',
  'STATE',
  'FOR',
  'TAKES',
  'LEADS',
  'REPLICAS',
  'OWN',
  'SIZE',
  'CORES',
];
const STORE_NUMBERS: ReadonlySet<number> = new Set([4, 6, 7, 8, 9, 10]);

export function storesText({ stores }: StoresReport): string {
  if (stores.length === 0) return 'No store has said anything yet; try again in a moment.';
  const rows = stores.map(row => [
    row.isOwn ? '*' : '',
    row.name,
    row.id,
    row.state,
    duration(row.sinceMs),
    row.services.join(', ') || NONE,
    String(row.leads),
    String(row.replicas),
    String(row.sole),
    bytesText(row.bytes),
    String(row.cores),
  ]);
  const lost = stores.filter(({ state }) => state === 'lost').length;
  const words = lost === 0 ? '' : `, ${lost} lost`;
  const table = alignedTable([STORE_HEADER, ...rows], STORE_NUMBERS);
  return `${table}\n${count(stores.length, 'store')}${words}; * are those of the asked node.`;
}

const BALANCER_HEADER = ['BALANCER', 'STATE', 'COMMANDS', 'FAILED', 'LAST'];

export function balancersText({ balancers, silent }: BalancersReport): string {
  const rows = balancers.map(({ name, running, commands, failures, last, resting }) => {
    const [latest] = last;
    const rests = running && resting.length > 0 ? `, rests at ${resting.join(' ')}` : '';
    const words = latest && `${latest.command} (${latest.store}, ${duration(latest.agoMs)} ago)`;
    return [
      name,
      (running ? 'running' : 'stopped') + rests,
      String(commands),
      String(failures),
      words ?? NONE,
    ];
  });
  const quiet =
    silent.length === 0 ? '' : `\nDid not answer, and are not counted: ${clean(silent.join(', '))}.`;
  return `${alignedTable([BALANCER_HEADER, ...rows], new Set([2, 3]), LAST_MAX)}${quiet}`;
}

/** A command may name some stores. */
const LAST_MAX = 120;

export function rulesText({ rules }: RulesReport): string {
  const rows = rules.map(({ name, value, initial }) => [
    value === initial ? '' : '*',
    name,
    String(value),
    value === initial ? '' : `instead of ${initial}`,
    RULE_WORDS[name] ?? '',
  ]);
  return alignedTable([['', 'RULE', 'VALUE', '', 'MEANING'], ...rows], new Set([2]), LAST_MAX);
}

const RULE_WORDS: Readonly<Record<string, string>> = {
  voters: 'voters of a range, an odd number',
  learners: 'learners of a range; -1: one on each store that has no voter',
  replaceAfterMs: 'a store that is lost so long is replaced, where another can take its place',
  deadAfterMs: 'a member whose store lives without it is taken out after this',
  bootstrapAfterMs: 'a service without a range gets its first one after this, twice it at most',
  placementSlack: 'share by which the costs of two stores may differ',
  splitBytes: 'a range that is larger is divided',
  splitWritesPerSecond: 'one that takes more writes as well',
  splitQueryMicros: 'one whose reads take longer as well',
  splitFanOut: 'one with a topic of more receivers as well',
  rangesPerCoreMax: 'ranges that a store leads for each core, before it divides no more',
  mergeBytes: 'two neighbours that are smaller together, and colder, are joined',
  mergeWritesPerSecond: 'writes of the two together, below which they are cold',
  settleMs: 'a range that was divided or joined is left alone so long',
};

export function listedText({ entries, more }: MapListed & { readonly outcome: 'listed' }): string {
  if (entries.length === 0) return 'No keys.';
  const rows = entries.map(({ key, bytes, revision, modifiedAtMs }) => [
    key,
    String(bytes),
    String(revision),
    new Date(modifiedAtMs).toISOString(),
  ]);
  const table = alignedTable([['KEY', 'BYTES', 'REVISION', 'MODIFIED'], ...rows], new Set([1, 2]), KEY_MAX);
  const last = entries.at(-1)!.key;
  return more ? `${table}\nThere are more: --after ${JSON.stringify(clean(last))}` : table;
}

/** What a key may have, so that none is cut off that an operator is to type again. */
const KEY_MAX = 512;

function count(amount: number, what: string): string {
  return `${amount} ${what}${amount === 1 ? '' : 's'}`;
}

export function bytesText(bytes: number): string {
  if (bytes < 1024) return `${Math.round(bytes)} B`;
  if (bytes < MIB) return `${(bytes / 1024).toFixed(1)} KiB`;
  return bytes < 1024 * MIB ? `${(bytes / MIB).toFixed(1)} MiB` : `${(bytes / 1024 / MIB).toFixed(1)} GiB`;
}

function rateText(perSecond: number): string {
  return perSecond === 0 ? NONE : `${perSecond < 10 ? perSecond.toFixed(1) : Math.round(perSecond)}/s`;
}
