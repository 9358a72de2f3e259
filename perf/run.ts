/**
 * `npm run perf`: ShoalMQ beside Debian's mosquitto and the floor, on this machine.
 *
 * For every row of scenarios.ts and every round, each target in turn is started afresh, loaded by native-bench/load,
 * and stopped; no two servers run at a time. Targets alternate inside a round (A B C, A B C, ...), so that a machine
 * that grows slower by the hour slows all of them alike. A table compares medians.
 *
 *   scenarios.ts    the rows: what is loaded, and the goals that are judged
 *   targets.ts      how each server is started, and the build of native-bench
 *   measurement.ts  one row on one target once
 *   statistics.ts   medians
 *   report.ts       the judgement and the tables
 *   machine.ts      what the figures were measured on
 *   micro.ts        a program of its own: the benchmark.js suites in micro/
 *   rpc.ts          `npm run perf -- rpc`: calls between processes beside plain gRPC
 *   kv.ts           `npm run perf -- kv`: the distributed KV beside LMDB alone
 *
 * Invariants:
 * - A figure without its accounts does not count: a row in which ShoalMQ lost, repeated or disordered one message is
 *   missed, and says how many.
 * - A target that cannot run is a failure in the table, never a silent gap.
 * - Every server runs as it is shipped; the differences from its defaults stand in targets.ts with their reason.
 *
 * Limits: the load generator is one thread and needs a core of its own. Its share is in the JSON (`generator.cores`):
 * at 1.0 the generator was the limit, not the server. On two cores a broker with several threads shares one with it.
 * Anything else that runs meanwhile is measured too; the load average at the start is in every table.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { SingleBar } from 'cli-progress';
import { Command, InvalidArgumentError, Option } from 'commander';
import { measureKv } from './kv.js';
import { describeMachine } from './machine.js';
import { type Measurement, measure } from './measurement.js';
import { judgeAll, markdownReport, type Setting, textReport } from './report.js';
import { measureRpc } from './rpc.js';
import { ROWS, type Row, type TargetName } from './scenarios.js';
import { buildNative, ROOT, targetVersion } from './targets.js';

const TARGETS: readonly TargetName[] = ['shoalmq', 'mosquitto', 'floor'];

interface Options {
  readonly only: readonly Row[];
  readonly targets: readonly TargetName[];
  readonly rounds: number;
  readonly seconds: number;
  readonly warmup: number;
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 3600)) throw new InvalidArgumentError('want a number above 0.');
  return value;
}

function rowsNamed(text: string): readonly Row[] {
  const wanted = text.split(',');
  const found = ROWS.filter(row => wanted.some(name => row.name.startsWith(name)));
  if (found.length > 0) return found;
  throw new InvalidArgumentError(`no such row; there are ${ROWS.map(row => row.name).join(', ')}.`);
}

function targetsNamed(text: string): readonly TargetName[] {
  return text.split(',').map(name => {
    const found = TARGETS.find(target => target === name);
    if (found === undefined) throw new InvalidArgumentError(`want some of ${TARGETS.join(',')}.`);
    return found;
  });
}

function parse(): Options {
  return new Command('perf')
    .description('Measures ShoalMQ beside mosquitto and the floor, and writes perf/results/.')
    .addOption(
      new Option('--only <names>', 'rows whose names begin so, comma-separated')
        .argParser(rowsNamed)
        .default(ROWS, 'all'),
    )
    .addOption(
      new Option('--targets <names>', 'of shoalmq,mosquitto,floor')
        .argParser(targetsNamed)
        .default(TARGETS, 'all'),
    )
    .option('--rounds <n>', 'runs of each row on each target', positive, 3)
    .option('--seconds <s>', 'measured seconds of a run', positive, 4)
    .option('--warmup <s>', 'seconds before them', positive, 2)
    .addHelpText('after', `\nRows:\n${ROWS.map(row => `  ${row.name.padEnd(20)}${row.title}`).join('\n')}`)
    .parse()
    .opts<Options>();
}

function versionsOf(targets: readonly TargetName[]): Record<string, string> {
  const versions: Record<string, string> = {};
  for (const target of targets) {
    const version = targetVersion(target);
    if (version === undefined) process.stderr.write(`${target} is not installed or not built: left out\n`);
    else versions[target] = version;
  }
  return versions;
}

async function measureAll(options: Options, present: ReadonlySet<string>): Promise<Measurement[]> {
  const steps: { row: Row; target: TargetName; round: number }[] = [];
  for (const row of options.only) {
    const targets = options.targets.filter(target => row.targets.includes(target) && present.has(target));
    for (let round = 1; round <= options.rounds; round++) {
      for (const target of targets) steps.push({ row, target, round });
    }
  }
  const bar = new SingleBar({
    format: '{bar} {value}/{total}  {eta_formatted} left  {step}',
    hideCursor: true,
    noTTYOutput: true,
    notTTYSchedule: 30_000,
  });
  const results: Measurement[] = [];
  bar.start(steps.length, 0, { step: '' });
  for (const { row, target, round } of steps) {
    bar.update(results.length, { step: `${row.name} ${target} ${round}` });
    results.push(await measure(row, target, { warmupSeconds: options.warmup, seconds: options.seconds }));
  }
  bar.update(results.length, { step: 'done' });
  bar.stop();
  return results;
}

async function main(): Promise<void> {
  const options = parse();
  buildNative();
  const versions = versionsOf(options.targets);
  const now = new Date();
  const setting: Setting = {
    machine: describeMachine(),
    versions,
    rounds: options.rounds,
    seconds: options.seconds,
    warmupSeconds: options.warmup,
    date: now.toISOString().slice(0, 10),
  };
  const results = await measureAll(options, new Set(Object.keys(versions)));
  const lines = judgeAll(options.only, results);
  const directory = path.join(ROOT, 'perf', 'results');
  const file = path.join(directory, now.toISOString().replace(/:/g, '-').slice(0, 19));
  mkdirSync(directory, { recursive: true });
  writeFileSync(`${file}.json`, `${JSON.stringify({ setting, lines, results }, null, 2)}\n`);
  writeFileSync(`${file}.md`, markdownReport(setting, lines));
  process.stdout.write(
    `\n${textReport(setting, lines)}\n\n${path.relative(process.cwd(), file)}.{json,md}\n`,
  );
}

process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));
const [topic, ...rest] = process.argv.slice(2);
await (topic === 'rpc' ? measureRpc(rest) : topic === 'kv' ? measureKv(rest) : main());
