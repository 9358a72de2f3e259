/**
 * `npm run perf -- kv`: the distributed KV's own figures, beside LMDB's on the same disk, in the same minutes.
 *
 *   kv-store.ts      one store: batched puts, single puts, a thousand idle ranges
 *   kv-snapshot.ts   a state that travels to another store, and puts meanwhile
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { measureSnapshot } from './kv-snapshot.js';
import { measureIdle, measureStore } from './kv-store.js';
import { describeMachine, machineLine } from './machine.js';
import { alignedTable, formatNumber } from './report.js';
import { ROOT } from './targets.js';

interface KvOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly batch: number;
  readonly megabytes: number;
}

/** One figure, judged. `yardstick` is LMDB's own, where there is one. */
interface KvLine {
  readonly title: string;
  readonly unit: string;
  readonly value: number;
  readonly yardstick: number;
  readonly wanted: string;
  readonly isMet: boolean | undefined;
}

/** Issue 5: one shard, one replica, values of 100 bytes, durability flush. */
const PUTS_MIN = 150_000;
const SINGLE_FACTOR_MAX = 3;
const IDLE_CORES_MAX = 0.01;
const STALL_MS_MAX = 100;

async function measureAll({ rounds, seconds, batch, megabytes }: KvOptions): Promise<KvLine[]> {
  const lines: KvLine[] = [];
  for (const order of ['ordered', 'scattered'] as const) {
    const figures = await measureStore(order, batch, rounds, seconds);
    const isJudged = order === 'ordered';
    lines.push(
      {
        title: `puts, ${order} keys, ${batch} at a time`,
        unit: '/s',
        value: figures.putsPerSecond,
        yardstick: figures.lmdbPutsPerSecond,
        wanted: isJudged ? `≥ ${formatNumber(PUTS_MIN)}` : '-',
        isMet: isJudged ? figures.putsPerSecond >= PUTS_MIN : undefined,
      },
      {
        title: `one put, ${order} keys, p50`,
        unit: 'ms',
        value: figures.singleP50Ms,
        yardstick: figures.lmdbSingleP50Ms,
        wanted: `< ${SINGLE_FACTOR_MAX} × LMDB`,
        isMet: figures.singleP50Ms < SINGLE_FACTOR_MAX * figures.lmdbSingleP50Ms,
      },
      {
        title: `one put, ${order} keys, p99`,
        unit: 'ms',
        value: figures.singleP99Ms,
        yardstick: Number.NaN,
        wanted: '-',
        isMet: undefined,
      },
    );
  }
  const idle = await measureIdle(Math.max(5, seconds));
  lines.push({
    title: '1,000 idle ranges',
    unit: '% of a core',
    value: idle * 100,
    yardstick: Number.NaN,
    wanted: `< ${IDLE_CORES_MAX * 100}`,
    isMet: idle < IDLE_CORES_MAX,
  });
  const travel = await measureSnapshot(megabytes);
  const plain = { yardstick: Number.NaN, wanted: '-', isMet: undefined };
  const title = `a state of ${megabytes} MB`;
  lines.push(
    { ...plain, title: `${title} travels`, unit: 's', value: travel.seconds },
    { ...plain, title: `${title}: one put meanwhile, p50`, unit: 'ms', value: travel.putP50Ms },
    {
      title: `${title}: one put meanwhile, longest`,
      unit: 'ms',
      value: travel.putMaxMs,
      yardstick: Number.NaN,
      wanted: `< ${STALL_MS_MAX}`,
      isMet: travel.putMaxMs < STALL_MS_MAX,
    },
    { ...plain, title: `${title}: longest turn of who receives`, unit: 'ms', value: travel.turnMaxMs },
  );
  return lines;
}

const HEAD = ['figure', 'unit', 'ours', 'LMDB', '× LMDB', 'wanted', 'verdict'];
const TEXT_COLUMNS = [0, 1, 5, 6];

function cells({ title, unit, value, yardstick, wanted, isMet }: KvLine): string[] {
  const verdict = isMet === undefined ? '-' : isMet ? 'met' : 'missed';
  const ratio = Number.isNaN(yardstick) ? '-' : (value / yardstick).toFixed(2);
  return [title, unit, formatNumber(value), formatNumber(yardstick), ratio, wanted, verdict];
}

export async function measureKv(args: readonly string[]): Promise<void> {
  const options = new Command('perf kv')
    .description('Measures one store of the distributed KV beside LMDB alone, and writes perf/results/.')
    .option('--rounds <n>', 'runs of each figure', Number, 3)
    .option('--seconds <s>', 'measured seconds of a run', Number, 2)
    .option('--batch <n>', 'puts that are proposed together', Number, 2000)
    .option('--megabytes <n>', 'of the state that travels', Number, 1000)
    .parse([...args], { from: 'user' })
    .opts<KvOptions>();
  const machine = describeMachine();
  const now = new Date();
  const lines = await measureAll(options);
  const { rounds, seconds } = options;
  const setting = `${now.toISOString().slice(0, 10)}; kv; ${rounds} rounds alternating, ${seconds} s each, medians; values of 100 bytes, durability flush`;
  const file = path.join(ROOT, 'perf', 'results', `kv-${now.toISOString().replace(/:/g, '-').slice(0, 19)}`);
  const row = (words: readonly string[]): string => `| ${words.join(' | ')} |`;
  const rule = HEAD.map((_, column) => (TEXT_COLUMNS.includes(column) ? '---' : '---:'));
  const table = [row(HEAD), row(rule), ...lines.map(line => row(cells(line)))];
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(`${file}.json`, `${JSON.stringify({ machine, options, lines }, null, 2)}\n`);
  writeFileSync(
    `${file}.md`,
    [`Machine: ${machineLine(machine)}.`, '', `Run: ${setting}.`, '', ...table, ''].join('\n'),
  );
  const text = alignedTable(HEAD, TEXT_COLUMNS, lines.map(cells));
  process.stdout.write(
    `\n${machineLine(machine)}\n${setting}\n\n${text}\n\n${path.relative(process.cwd(), file)}.{json,md}\n`,
  );
}
