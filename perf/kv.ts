/**
 * `npm run perf -- kv`: the distributed KV's own figures, beside LMDB's on the same disk, in the same minutes.
 *
 *   kv-store.ts      one store: batched puts, single puts, a thousand idle ranges
 *   kv-snapshot.ts   a state that travels to another store, and puts meanwhile, both stores in this process
 *   kv-cluster.ts    three stores in three processes: puts, the leader's death, idle ranges, states that travel
 *   kv-nodes.ts      three nodes of the product, and a process that calls their map
 *   kv-peer.ts       one of these processes
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { SingleBar } from 'cli-progress';
import { Command } from 'commander';
import { measureCluster, measureIdleCluster, measureTravels } from './kv-cluster.js';
import { measureNodes } from './kv-nodes.js';
import { measureSnapshot } from './kv-snapshot.js';
import { measureIdle, measureStore } from './kv-store.js';
import { describeMachine, machineLine } from './machine.js';
import { alignedTable, formatNumber } from './report.js';
import { median } from './statistics.js';
import { ROOT } from './targets.js';

interface KvOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly batch: number;
  readonly megabytes: number;
  readonly failovers: number;
  /** Names of {@link PARTS}. */
  readonly only: string;
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
/** Three replicas in three processes on one machine; the rest with default timers. */
const THREE_PUTS_MIN = 30_000;
const THREE_P50_MS_MAX = 10;
const FAILOVER_P50_MS_MAX = 2000;
const IDLE_RANGES = 1000;

async function measureOne({ rounds, seconds, batch }: KvOptions): Promise<KvLine[]> {
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
  return lines;
}

async function measureState({ megabytes }: KvOptions): Promise<KvLine[]> {
  const travel = await measureSnapshot(megabytes);
  const plain = { yardstick: Number.NaN, wanted: '-', isMet: undefined };
  const title = `a state of ${megabytes} MB`;
  return [
    { ...plain, title: `${title} travels`, unit: 's', value: travel.seconds },
    { ...plain, title: `${title}: one put meanwhile, p50`, unit: 'ms', value: travel.putP50Ms },
    judged(`${title}: one put meanwhile, longest`, 'ms', travel.putMaxMs, STALL_MS_MAX),
    { ...plain, title: `${title}: longest turn of who receives`, unit: 'ms', value: travel.turnMaxMs },
    { ...plain, title: `${title}: the sender's file grows by`, unit: 'MB', value: travel.grownMegabytes },
    { ...plain, title: `${title}: held in memory for it, both`, unit: 'MB', value: travel.heldMegabytes },
  ];
}

function judged(title: string, unit: string, value: number, max: number, yardstick = Number.NaN): KvLine {
  return { title, unit, value, yardstick, wanted: `< ${max}`, isMet: value < max };
}

async function measureThree({ rounds, seconds, failovers }: KvOptions): Promise<KvLine[]> {
  const figures = await measureCluster(rounds, seconds, failovers);
  const { putsPerSecond, windowP50Ms, singleP50Ms, lmdbSingleP50Ms, failoversMs } = figures;
  return [
    {
      ...{ title: 'three processes: puts', unit: '/s', value: putsPerSecond, yardstick: Number.NaN },
      ...{ wanted: `≥ ${formatNumber(THREE_PUTS_MIN)}`, isMet: putsPerSecond >= THREE_PUTS_MIN },
    },
    judged('three processes: put, 256 under way, p50', 'ms', windowP50Ms, THREE_P50_MS_MAX),
    judged('three processes: one put, p50', 'ms', singleP50Ms, THREE_P50_MS_MAX, lmdbSingleP50Ms),
    judged('kill of the leader to the next answer, p50', 'ms', median(failoversMs), FAILOVER_P50_MS_MAX),
  ];
}

async function measureProduct({ rounds, seconds, failovers }: KvOptions): Promise<KvLine[]> {
  const { putsPerSecond, windowP50Ms, singleP50Ms, failoversMs } = await measureNodes(
    rounds,
    seconds,
    failovers,
  );
  const plain = { yardstick: Number.NaN, wanted: '-', isMet: undefined };
  return [
    { ...plain, title: 'three nodes: puts to the map', unit: '/s', value: putsPerSecond },
    { ...plain, title: 'three nodes: put, 256 under way, p50', unit: 'ms', value: windowP50Ms },
    { ...plain, title: 'three nodes: one put, p50', unit: 'ms', value: singleP50Ms },
    judged(
      'three nodes: kill of the leading one to the next answer, p50',
      'ms',
      median(failoversMs),
      FAILOVER_P50_MS_MAX,
    ),
  ];
}

async function measureThousand({ seconds }: KvOptions): Promise<KvLine[]> {
  const idleSeconds = Math.max(20, seconds);
  const alone = await measureIdle(idleSeconds);
  const { one, many } = await measureIdleCluster(IDLE_RANGES, idleSeconds);
  const plain = { yardstick: Number.NaN, wanted: '-', isMet: undefined };
  const unit = '% of a core';
  const added = (many - one) * 100;
  return [
    judged('1,000 idle ranges', unit, alone * 100, IDLE_CORES_MAX * 100),
    { ...plain, title: 'three processes: one idle range, each process', unit, value: one * 100 },
    { ...plain, title: 'three processes: 1,000 idle ranges, each process', unit, value: many * 100 },
    judged('three processes: what 1,000 idle ranges add to each', unit, added, IDLE_CORES_MAX * 100),
  ];
}

async function measureStates({ megabytes }: KvOptions): Promise<KvLine[]> {
  const { longestMs, p50Ms, seconds, diskLongestMs } = await measureTravels(megabytes);
  const plain = { yardstick: Number.NaN, wanted: '-', isMet: undefined };
  const title = `two states of ${megabytes} MB, three processes`;
  return [
    { ...plain, title: `${title}: until all vote`, unit: 's', value: seconds },
    { ...plain, title: `${title}: one put meanwhile, p50`, unit: 'ms', value: p50Ms },
    judged(`${title}: one put meanwhile, longest`, 'ms', longestMs, STALL_MS_MAX, diskLongestMs),
  ];
}

/** In this order: what others leave to the garbage collector is none of the idle ranges' cost. */
const PARTS: Readonly<Record<string, (options: KvOptions) => Promise<KvLine[]>>> = {
  idle: measureThousand,
  store: measureOne,
  snapshot: measureState,
  cluster: measureThree,
  nodes: measureProduct,
  states: measureStates,
};

const HEAD = ['figure', 'unit', 'ours', 'LMDB', '× LMDB', 'wanted', 'verdict'];
const TEXT_COLUMNS = [0, 1, 5, 6];

function cells({ title, unit, value, yardstick, wanted, isMet }: KvLine): string[] {
  const verdict = isMet === undefined ? '-' : isMet ? 'met' : 'missed';
  const ratio = Number.isNaN(yardstick) ? '-' : (value / yardstick).toFixed(2);
  return [title, unit, formatNumber(value), formatNumber(yardstick), ratio, wanted, verdict];
}

export async function measureKv(args: readonly string[]): Promise<void> {
  const command = new Command('perf kv')
    .description(
      'Measures the distributed KV, one store beside LMDB alone, three in three processes, and three nodes; writes perf/results/. All parts take about ten minutes.',
    )
    .option('--rounds <n>', 'runs of each figure', Number, 3)
    .option('--seconds <s>', 'measured seconds of a run', Number, 2)
    .option('--batch <n>', 'puts that are proposed together', Number, 2000)
    .option('--megabytes <n>', 'of the states that travel', Number, 1000)
    .option('--failovers <n>', 'deaths of a leader', Number, 9)
    .option('--only <parts>', 'some of them', Object.keys(PARTS).join())
    .parse([...args], { from: 'user' });
  const options = command.opts<KvOptions>();
  const parts = options.only.split(',');
  const unknown = parts.filter(part => !(part in PARTS));
  if (unknown.length > 0) command.error(`no part ${unknown.join()}; there are ${Object.keys(PARTS).join()}`);
  const machine = describeMachine();
  const now = new Date();
  const lines: KvLine[] = [];
  const bar = new SingleBar({
    format: '{bar} {value}/{total}  {part}',
    noTTYOutput: true,
    notTTYSchedule: 30_000,
  });
  bar.start(parts.length, 0, { part: '' });
  for (const part of parts) {
    bar.update({ part });
    lines.push(...(await PARTS[part]!(options)));
    bar.increment();
  }
  bar.stop();
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
