/**
 * `npm run perf:micro`: runs the benchmark.js suites of perf/micro, one after another, and prints one table.
 * A suite is a file micro/NAME.bench.ts that exports `suite(): Benchmark.Suite | Promise<Benchmark.Suite>`; it is
 * built, run and forgotten before the next one, so that a million filters of one do not burden another.
 * `npm run perf:micro -- trie ring` runs only files whose names contain one of these words.
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type Benchmark from 'benchmark';
import { describeMachine, machineLine } from './machine.js';
import { alignedTable, formatNumber } from './report.js';

interface SuiteModule {
  readonly suite: () => Benchmark.Suite | Promise<Benchmark.Suite>;
}

async function load(file: string): Promise<SuiteModule> {
  const loaded = (await import(pathToFileURL(file).href)) as Partial<SuiteModule>;
  if (typeof loaded.suite !== 'function') throw new Error(`${file} exports no suite()`);
  return { suite: loaded.suite };
}

function cells(suiteName: string, target: Benchmark.Target): string[] {
  const perSecond = target.hz ?? Number.NaN;
  return [
    suiteName,
    target.name ?? '',
    formatNumber(perSecond),
    formatNumber(1e9 / perSecond),
    `±${(target.stats?.rme ?? Number.NaN).toFixed(1)}%`,
  ];
}

function run(suite: Benchmark.Suite, suiteName: string): Promise<string[][]> {
  const rows: string[][] = [];
  return new Promise((resolve, reject) => {
    suite.on('cycle', (event: Benchmark.Event) => {
      process.stderr.write(`${String(event.target)}\n`);
      rows.push(cells(suiteName, event.target));
    });
    suite.on('error', (event: Benchmark.Event) => {
      reject(
        (event.target as Benchmark.Target & { error?: Error }).error ?? new Error(`${suiteName} failed`),
      );
    });
    suite.on('complete', () => resolve(rows));
    suite.run({ async: true });
  });
}

const directory = path.join(import.meta.dirname, 'micro');
const words = process.argv.slice(2);
const files = readdirSync(directory)
  .filter(name => name.endsWith('.bench.js'))
  .filter(name => words.length === 0 || words.some(word => name.includes(word)))
  .sort();
if (files.length === 0) throw new Error(`no suite in ${directory} matches`);
const table: string[][] = [];
for (const name of files) {
  const suite = await (await load(path.join(directory, name))).suite();
  table.push(...(await run(suite, name.replace('.bench.js', ''))));
}
process.stdout.write(
  `\n${machineLine(describeMachine())}\n\n${alignedTable(['suite', 'benchmark', 'ops/s', 'ns/op', '±'], [0, 1], table)}\n`,
);
