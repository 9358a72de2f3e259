import { type Machine, machineLine } from './machine.js';
import { faults, type Measurement } from './measurement.js';
import type { Goal, Row, TargetName } from './scenarios.js';
import { median, metric, spread } from './statistics.js';

/** One goal of one row, judged. Medians and ratios are NaN where nothing was measured. */
export interface Line {
  readonly row: string;
  readonly title: string;
  readonly label: string;
  readonly medians: Readonly<Record<TargetName, number>>;
  /** (max - min) / median of our own values. */
  readonly spread: number;
  readonly toMosquitto: number;
  readonly toFloor: number;
  /** What the goal compares: a ratio, or our median itself. */
  readonly reached: number;
  readonly wanted: string;
  readonly verdict: 'met' | 'missed' | 'open';
  /** Lost, repeated, disordered or refused messages over all of our runs. */
  readonly faults: number;
  readonly failures: readonly string[];
}

function valuesOf(all: readonly Measurement[], row: string, target: TargetName, path: string): number[] {
  const values: number[] = [];
  for (const one of all) {
    if (one.kind !== 'measured' || one.row !== row || one.target !== target) continue;
    const value = metric(one.result, path);
    if (value !== undefined) values.push(value);
  }
  return values;
}

function yardstickOf(all: readonly Measurement[], row: Row, goal: Goal): number {
  switch (goal.against.kind) {
    case 'number':
      return 1;
    case 'target':
      return median(valuesOf(all, row.name, goal.against.target, goal.metric));
    case 'row':
      return median(valuesOf(all, goal.against.row, 'shoalmq', goal.metric));
  }
}

function wantedText(goal: Goal): string {
  const sign = goal.bound === 'at-least' ? '≥' : '≤';
  switch (goal.against.kind) {
    case 'number':
      return `${sign} ${formatNumber(goal.value)}`;
    case 'target':
      return `${sign} ${goal.value} × ${goal.against.target}`;
    case 'row':
      return `${sign} ${goal.value} × ${goal.against.row}`;
  }
}

function judge(all: readonly Measurement[], row: Row, goal: Goal): Line {
  const own = valuesOf(all, row.name, 'shoalmq', goal.metric);
  const medians = {
    shoalmq: median(own),
    mosquitto: median(valuesOf(all, row.name, 'mosquitto', goal.metric)),
    floor: median(valuesOf(all, row.name, 'floor', goal.metric)),
  };
  const reached = medians.shoalmq / yardstickOf(all, row, goal);
  const met = goal.bound === 'at-least' ? reached >= goal.value : reached <= goal.value;
  let ownFaults = 0;
  const failures: string[] = [];
  for (const one of all) {
    if (one.row !== row.name) continue;
    if (one.kind === 'failed') failures.push(`${one.target}: ${one.reason}`);
    else if (one.target === 'shoalmq') ownFaults += faults(one.result);
  }
  return {
    row: row.name,
    title: row.title,
    label: goal.label,
    medians,
    spread: spread(own),
    toMosquitto: medians.shoalmq / medians.mosquitto,
    toFloor: medians.shoalmq / medians.floor,
    reached,
    wanted: wantedText(goal),
    verdict: Number.isNaN(reached) ? 'open' : met && ownFaults === 0 ? 'met' : 'missed',
    faults: ownFaults,
    failures,
  };
}

/** Judges every goal of the rows. A row with an unaccounted message of ours is missed, however fast it was. */
export function judgeAll(rows: readonly Row[], all: readonly Measurement[]): Line[] {
  return rows.flatMap(row => row.goals.map(goal => judge(all, row, goal)));
}

/** Three significant digits below a thousand, thousands separated above; a dash for NaN. */
export function formatNumber(value: number): string {
  if (Number.isNaN(value)) return '-';
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US');
  return String(Number(value.toPrecision(3)));
}

const HEAD = [
  'scenario',
  'unit',
  'shoalmq',
  '±',
  'mosquitto',
  'floor',
  '× mosquitto',
  '× floor',
  'wanted',
  'verdict',
];

const TEXT_COLUMNS = [0, 1, HEAD.length - 2, HEAD.length - 1];

function cells(line: Line): string[] {
  const half = line.spread / 2;
  return [
    line.title,
    line.label,
    formatNumber(line.medians.shoalmq),
    Number.isNaN(half) ? '-' : `${Math.round(half * 100)}%`,
    formatNumber(line.medians.mosquitto),
    formatNumber(line.medians.floor),
    formatNumber(line.toMosquitto),
    formatNumber(line.toFloor),
    line.wanted,
    line.faults > 0 ? `${line.verdict} (${line.faults} faults)` : line.verdict,
  ];
}

/** Columns padded to the widest cell: `textColumns` to the left, figures to the right. */
export function alignedTable(
  head: readonly string[],
  textColumns: readonly number[],
  body: readonly (readonly string[])[],
): string {
  const widths = head.map((name, column) => Math.max(name.length, ...body.map(row => row[column]!.length)));
  const render = (row: readonly string[]) =>
    row
      .map((cell, column) => {
        return textColumns.includes(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!);
      })
      .join('  ')
      .trimEnd();
  return [render(head), widths.map(width => '-'.repeat(width)).join('  '), ...body.map(render)].join('\n');
}

function markdownRow(row: readonly string[]): string {
  return `| ${row.join(' | ')} |`;
}

export interface Setting {
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  readonly rounds: number;
  readonly seconds: number;
  readonly warmupSeconds: number;
  readonly date: string;
}

function settingLine(setting: Setting): string {
  const versions = Object.entries(setting.versions).map(([name, version]) => `${name} ${version}`);
  return (
    `${setting.date}; ${setting.rounds} rounds alternating, ${setting.seconds} s each after ` +
    `${setting.warmupSeconds} s of warm-up, medians, 64-byte payload; ${versions.join(', ')}`
  );
}

export function textReport(setting: Setting, lines: readonly Line[]): string {
  const failures = [...new Set(lines.flatMap(line => line.failures.map(f => `${line.row}: ${f}`)))];
  return [
    machineLine(setting.machine),
    settingLine(setting),
    '',
    alignedTable(HEAD, TEXT_COLUMNS, lines.map(cells)),
    ...failures,
  ].join('\n');
}

export function markdownReport(setting: Setting, lines: readonly Line[]): string {
  const rule = HEAD.map((_, column) => (TEXT_COLUMNS.includes(column) ? '---' : '---:'));
  return [
    `Machine: ${machineLine(setting.machine)}.`,
    '',
    `Run: ${settingLine(setting)}.`,
    '',
    markdownRow(HEAD),
    markdownRow(rule),
    ...lines.map(line => markdownRow(cells(line))),
    '',
  ].join('\n');
}
