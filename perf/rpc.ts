/**
 * `npm run perf -- rpc`: calls between two processes on the loopback, beside a plain @grpc/grpc-js client and server with
 * the same payload; machine, rounds and medians as in run.ts.
 *
 *   rpc-scenarios.ts   the rows and what they must reach
 *   rpc-service.ts     the service that is called, as any other is written
 *   rpc-peer.ts        a process: server or client
 *
 * Both processes of a run are new, so that neither target finds code that the other has warmed; targets alternate within
 * a round. CPU per call is of both processes together: on a machine that others use, too, it tells more than the rate.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { SingleBar } from 'cli-progress';
import { Command } from 'commander';
import { describeMachine, type Machine, machineLine } from './machine.js';
import { alignedTable, formatNumber } from './report.js';
import { CHUNK_BYTES, RPC_ROWS, type RpcLoad, type RpcRow, type RpcTarget } from './rpc-scenarios.js';
import { median, spread } from './statistics.js';

const ROOT = path.resolve(import.meta.dirname, '..', '..');
const PEER = path.join(import.meta.dirname, 'rpc-peer.js');
const PATIENCE_MS = 20_000;

interface RpcOptions {
  readonly only?: string;
  readonly rounds: number;
  readonly seconds: number;
  readonly warmup: number;
}

export type RpcMeasurement =
  | {
      readonly kind: 'measured';
      readonly row: RpcLoad;
      readonly target: RpcTarget;
      readonly perSecond: number;
      readonly cpuUsPerCall: number;
    }
  | {
      readonly kind: 'failed';
      readonly row: RpcLoad;
      readonly target: RpcTarget;
      readonly reason: string;
    };

/** What the processes tell. */
interface Told {
  readonly port?: number;
  readonly cpu?: NodeJS.CpuUsage;
  readonly begun?: boolean;
  readonly failure?: string;
  readonly count?: number;
  readonly seconds?: number;
  readonly cpuUs?: number;
}

/** The next message that has this; rejects when the process fails, ends or says nothing. */
function hear<K extends keyof Told>(child: ChildProcess, key: K, withinMs: number): Promise<Told> {
  return new Promise((resolve, reject) => {
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      child.off('message', onMessage).off('exit', onExit);
      settle();
    };
    const onMessage = (told: Told): void => {
      if (told.failure !== undefined) finish(() => reject(new Error(told.failure)));
      else if (told[key] !== undefined) finish(() => resolve(told));
    };
    const onExit = (code: number | null): void => finish(() => reject(new Error(`ended with ${code}`)));
    const timer = setTimeout(() => finish(() => reject(new Error(`no ${key} in time`))), withinMs);
    child.on('message', onMessage).on('exit', onExit);
  });
}

async function cpuOf(server: ChildProcess | undefined): Promise<number> {
  if (server === undefined) return 0;
  const told = hear(server, 'cpu', PATIENCE_MS);
  server.send('cpu');
  const { user, system } = (await told).cpu!;
  return user + system;
}

async function run(row: RpcRow, target: RpcTarget, options: RpcOptions): Promise<RpcMeasurement> {
  const children: ChildProcess[] = [];
  const start = (...args: (string | number)[]): ChildProcess => {
    const child = fork(PEER, args.map(String), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    children.push(child);
    return child;
  };
  try {
    const server = row.name === 'in-process' ? undefined : start('server', target);
    const port = server === undefined ? 1 : (await hear(server, 'port', PATIENCE_MS)).port!;
    const client = start('client', target, row.name, port, options.warmup, options.seconds);
    await hear(client, 'begun', options.warmup * 1_000 + PATIENCE_MS);
    const result = hear(client, 'count', options.seconds * 1_000 + PATIENCE_MS);
    const before = await cpuOf(server);
    const { count, seconds, cpuUs } = await result;
    if (!(count! > 0)) throw new Error('nothing was answered');
    const usedUs = cpuUs! + (await cpuOf(server)) - before;
    const perSecond = (row.unit === 'MB/s' ? (count! * CHUNK_BYTES) / 1e6 : count!) / seconds!;
    return { kind: 'measured', row: row.name, target, perSecond, cpuUsPerCall: usedUs / count! };
  } catch (error) {
    return { kind: 'failed', row: row.name, target, reason: (error as Error).message };
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
}

/** One row, judged. */
export interface RpcLine {
  readonly row: RpcRow;
  readonly ours: number;
  readonly spread: number;
  readonly plain: number;
  readonly cpuUsPerCall: number;
  readonly wanted: string;
  readonly verdict: 'met' | 'missed' | 'open';
  readonly failures: readonly string[];
}

type Figure = 'perSecond' | 'cpuUsPerCall';

function valuesOf(all: readonly RpcMeasurement[], row: RpcLoad, target: RpcTarget, figure: Figure): number[] {
  return all.flatMap(one =>
    one.kind === 'measured' && one.row === row && one.target === target ? [one[figure]] : [],
  );
}

/** Judges the rows. One with a run of ours that failed is missed, however fast the others were. */
export function judgeRpc(rows: readonly RpcRow[], all: readonly RpcMeasurement[]): RpcLine[] {
  return rows.map(row => {
    const { factor, of } = row.goal;
    const own = valuesOf(all, row.name, 'ours', 'perSecond');
    const ours = median(own);
    const yardstick = of === undefined ? 1 : median(valuesOf(all, of.row, of.target, 'perSecond'));
    const failures = all.flatMap(one =>
      one.kind === 'failed' && one.row === row.name ? [`${one.target}: ${one.reason}`] : [],
    );
    const isOpen = Number.isNaN(ours / yardstick);
    const isMet = ours >= factor * yardstick && !failures.some(words => words.startsWith('ours'));
    return {
      row,
      ours,
      spread: spread(own),
      plain: of === undefined ? Number.NaN : yardstick,
      cpuUsPerCall: median(valuesOf(all, row.name, 'ours', 'cpuUsPerCall')),
      wanted: of === undefined ? `≥ ${formatNumber(factor)}` : `≥ ${factor} × plain`,
      verdict: isMet ? 'met' : isOpen && failures.length === 0 ? 'open' : 'missed',
      failures,
    };
  });
}

const HEAD = ['scenario', 'unit', 'ours', '±', 'plain', '× plain', 'µs CPU each', 'wanted', 'verdict'];
const TEXT_COLUMNS = [0, 1, 7, 8];

function cells(line: RpcLine): string[] {
  return [
    line.row.title,
    line.row.unit,
    formatNumber(line.ours),
    Number.isNaN(line.spread) ? '-' : `${Math.round((line.spread / 2) * 100)}%`,
    formatNumber(line.plain),
    formatNumber(line.ours / line.plain),
    formatNumber(line.cpuUsPerCall),
    line.wanted,
    line.verdict,
  ];
}

interface RpcSetting {
  readonly machine: Machine;
  readonly date: string;
  readonly rounds: number;
  readonly seconds: number;
  readonly warmup: number;
}

function settingLine({ date, rounds, seconds, warmup }: RpcSetting): string {
  return (
    `${date}; rpc; ${rounds} rounds alternating, ${seconds} s each after ${warmup} s of warm-up, medians; ` +
    'plain: unary calls of @grpc/grpc-js 1.14.7'
  );
}

export function rpcText(setting: RpcSetting, lines: readonly RpcLine[]): string {
  const failures = lines.flatMap(line => line.failures.map(words => `${line.row.name}: ${words}`));
  const table = alignedTable(HEAD, TEXT_COLUMNS, lines.map(cells));
  return [machineLine(setting.machine), settingLine(setting), '', table, ...failures].join('\n');
}

function rpcMarkdown(setting: RpcSetting, lines: readonly RpcLine[]): string {
  const row = (words: readonly string[]): string => `| ${words.join(' | ')} |`;
  const rule = HEAD.map((_, column) => (TEXT_COLUMNS.includes(column) ? '---' : '---:'));
  const table = [row(HEAD), row(rule), ...lines.map(line => row(cells(line)))];
  return [
    `Machine: ${machineLine(setting.machine)}.`,
    '',
    `Run: ${settingLine(setting)}.`,
    '',
    ...table,
    '',
  ].join('\n');
}

function parse(args: readonly string[]): RpcOptions {
  return new Command('perf rpc')
    .description('Measures calls between two processes beside plain @grpc/grpc-js, and writes perf/results/.')
    .option('--only <names>', 'rows whose names begin so, comma-separated')
    .option('--rounds <n>', 'runs of each row on each target', Number, 3)
    .option('--seconds <s>', 'measured seconds of a run', Number, 4)
    .option('--warmup <s>', 'seconds before them', Number, 2)
    .addHelpText(
      'after',
      `\nRows:\n${RPC_ROWS.map(({ name, title }) => `  ${name.padEnd(14)}${title}`).join('\n')}`,
    )
    .parse(args, { from: 'user' })
    .opts<RpcOptions>();
}

export async function measureRpc(args: readonly string[]): Promise<void> {
  const options = parse(args);
  const wanted = options.only?.split(',') ?? [''];
  const rows = RPC_ROWS.filter(row => wanted.some(name => row.name.startsWith(name)));
  const now = new Date();
  const { rounds, seconds, warmup } = options;
  const setting = {
    machine: describeMachine(),
    date: now.toISOString().slice(0, 10),
    rounds,
    seconds,
    warmup,
  };
  const results: RpcMeasurement[] = [];
  const bar = new SingleBar({
    format: '{bar} {value}/{total}  {step}',
    noTTYOutput: true,
    notTTYSchedule: 30_000,
  });
  bar.start(rounds * rows.reduce((sum, row) => sum + row.targets.length, 0), 0, { step: '' });
  for (let round = 1; round <= rounds; round++) {
    for (const row of rows) {
      for (const target of row.targets) {
        bar.update(results.length, { step: `${row.name} ${target} ${round}` });
        results.push(await run(row, target, options));
      }
    }
  }
  bar.update(results.length, { step: 'done' });
  bar.stop();
  const lines = judgeRpc(rows, results);
  const file = path.join(ROOT, 'perf', 'results', `rpc-${now.toISOString().replace(/:/g, '-').slice(0, 19)}`);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(`${file}.json`, `${JSON.stringify({ setting, lines, results }, null, 2)}\n`);
  writeFileSync(`${file}.md`, rpcMarkdown(setting, lines));
  process.stdout.write(`\n${rpcText(setting, lines)}\n\n${path.relative(process.cwd(), file)}.{json,md}\n`);
}
