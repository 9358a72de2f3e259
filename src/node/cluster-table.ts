import type { LoadRow, MemberRow, MembersReport } from './cluster-view.js';
import { clean, type Finding } from './finding.js';

/** How the commands show the cluster. */

const CELL_MAX = 48;
const LINE_MAX = 88;

/** Columns as wide as their widest cell, `cellMax` at most; those named in `right` end at the same place instead. */
export function alignedTable(
  rows: readonly (readonly string[])[],
  right: ReadonlySet<number>,
  cellMax = CELL_MAX,
): string {
  const cells = rows.map(row => row.map(text => cell(text, cellMax)));
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map(row => width(row[column]!))));
  const pad = (text: string, column: number) => {
    const spaces = ' '.repeat(widths[column]! - width(text));
    return right.has(column) ? spaces + text : text + spaces;
  };
  return cells.map(row => row.map(pad).join('  ').trimEnd()).join('\n');
}

function cell(text: string, max: number): string {
  const plain = [...clean(text)];
  return plain.length > max ? `${plain.slice(0, max - 1).join('')}…` : plain.join('');
}

function width(text: string): number {
  return [...text].length;
}

const HEADER = [
  '',
  'NAME',
  'ADDRESS',
  'STATE',
  'INCARNATION',
  'HEALTH',
  'LOAD',
  'CLIENTS',
  'DELAY',
  'ROUND TRIP',
  'SINCE',
];
const NUMBERS: ReadonlySet<number> = new Set([4, 5, 6, 7, 8, 9]);
const UNKNOWN = '-';

/** The members as a table, with a line of summary below it. */
export function membersText(report: MembersReport): string {
  const { members, lost, env, standing, self } = report;
  const lostRows = lost.map(({ name, address, sinceMs }) => [
    '',
    name,
    address,
    'lost',
    ...Array.from(NUMBERS, () => UNKNOWN),
    time(sinceMs),
  ]);
  const table = alignedTable([HEADER, ...members.map(memberCells), ...lostRows], NUMBERS);
  const hosts = members.length === 1 ? '1 host' : `${members.length} hosts`;
  const looked = lost.length === 0 ? '' : `, ${lost.length} lost and looked for`;
  const alone = {
    member: '',
    left: '\nThis node has left the cluster and is alone until it is restarted.',
    evicted: '\nThis node was evicted from the cluster and is alone until it is restarted.',
  }[standing];
  return `${table}\n${hosts} in ${env}${looked}; * is ${clean(self.name)}, which was asked.${alone}`;
}

function memberCells(member: MemberRow): string[] {
  const { name, address, state, incarnation, health, load, roundTripMs, sinceMs, oneWay, isSelf } = member;
  return [
    isSelf ? '*' : '',
    name,
    address,
    oneWay ? `${state}, one-way` : state,
    String(incarnation),
    health === null ? UNKNOWN : String(health),
    ...loadCells(load),
    roundTripMs === null ? UNKNOWN : `${roundTripMs.toFixed(1)} ms`,
    time(sinceMs),
  ];
}

function loadCells(load: LoadRow | null): string[] {
  if (load === null) return [UNKNOWN, UNKNOWN, UNKNOWN];
  return [loadText(load), String(load.connections), `${Math.ceil(load.loopDelayMs)} ms`];
}

/** How busy the busiest thread is. */
export function loadText(load: LoadRow | null): string {
  return load === null ? UNKNOWN : `${Math.round(load.utilization * 100)} %`;
}

/** Local time, to the second. */
function time(wallMs: number): string {
  const date = new Date(wallMs);
  const two = (value: number) => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** A paragraph for each finding. */
export function findingsText(node: string, findings: readonly Finding[]): string {
  const name = clean(node);
  if (findings.length === 0) return `Nothing looks wrong from ${name}, nor to the hosts that it asked.`;
  return findings
    .map(({ severity, what, remedy }) => {
      return wrapped(`${severity === 'wrong' ? '✗' : '·'} ${clean(what)}`) + wrapped(`→ ${clean(remedy)}`);
    })
    .join('\n')
    .trimEnd();
}

/** Lines that begin below the first word. */
function wrapped(text: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && width(line) + 1 + width(word) > LINE_MAX) {
      lines.push(line);
      line = `  ${word}`;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return `${[...lines, line].join('\n')}\n`;
}
