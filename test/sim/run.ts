/**
 * `npm run sim`: plays scenarios of a simulated cluster from a seed, and says what failed, where, and how to see it
 * again. The same command line gives the same run to the last packet.
 */
import { randomInt } from 'node:crypto';
import { SingleBar } from 'cli-progress';
import { Command, InvalidArgumentError, Option } from 'commander';
import { huntAll } from './kv-mutants.js';
import { KV_SCENARIOS, playKv } from './kv-scenarios.js';
import { OVERLAY_SCENARIOS, playOverlay } from './overlay-scenarios.js';
import type { Outcome } from './played.js';
import { playRanges, RANGE_SCENARIOS } from './range-scenarios.js';
import { play, SCENARIOS } from './underlay-scenarios.js';
import { table, tablePlays } from './underlay-table.js';
import type { ClusterSettings } from './underlay-world.js';

const TRACE_LINES_MAX = 300;
const MUTANT_SEEDS = 200;
/** A run by duration ends with so many failures: there is more to be learned from the first. */
const FAILURES_MAX = 20;
/** How often a run that nobody watches says how far it is. */
const TELL_MS = 60_000;

/** A scenario of any suite. */
interface Playable {
  readonly name: string;
  readonly about: string;
  readonly hosts: number;
  readonly hostsMin: number;
  readonly play: (settings: ClusterSettings, follow?: (line: string) => void) => Outcome;
}

const SUITES: Readonly<Record<string, readonly Playable[]>> = {
  underlay: SCENARIOS.map(one => ({ ...one, play: (settings, follow) => play(one, settings, follow) })),
  overlay: OVERLAY_SCENARIOS.map(one => ({
    ...one,
    play: (settings, follow) => playOverlay(one, settings, follow),
  })),
  kv: KV_SCENARIOS.map(one => ({
    ...one,
    // The seed decides how many stores there are.
    hosts: 0,
    hostsMin: 0,
    play: ({ hosts, seed, isTraced, isEncoded }, follow) =>
      playKv(
        one,
        {
          seed,
          ...(hosts === 0 ? {} : { stores: hosts }),
          ...(isTraced === undefined ? {} : { isTraced }),
          ...(isEncoded === undefined ? {} : { isEncoded }),
        },
        follow,
      ),
  })),
  ranges: RANGE_SCENARIOS.map(one => ({
    ...one,
    hosts: 0,
    hostsMin: 0,
    play: ({ hosts, seed }, follow) =>
      playRanges(one, { seed, ...(hosts === 0 ? {} : { stores: hosts }) }, follow),
  })),
};

interface Options {
  readonly suite: string;
  readonly seed: number;
  readonly seeds: number;
  /** Milliseconds. */
  readonly for?: number;
  readonly hosts?: number;
  readonly scenario?: readonly string[];
  readonly table?: true;
  readonly trace?: true;
  readonly codec?: boolean;
  readonly thorough?: true;
  readonly mutants?: true | readonly string[];
}

function whole(min: number, max: number): (text: string) => number {
  return text => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`want a whole number from ${min} to ${max}.`);
  };
}

/** Milliseconds of `90s`, `45m` or `8h`. */
function duration(text: string): number {
  const [, count, unit] = /^([1-9]\d{0,5})([smh])$/.exec(text) ?? [];
  if (count === undefined) throw new InvalidArgumentError('want seconds, minutes or hours: 90s, 45m, 8h.');
  return Number(count) * { s: 1000, m: 60_000, h: 3_600_000 }[unit as 's' | 'm' | 'h'];
}

function isScenario(name: string): boolean {
  return Object.values(SUITES).some(suite => suite.some(scenario => scenario.name === name));
}

function scenarioNames(text: string): readonly string[] {
  const names = text.split(',');
  const unknown = names.find(name => !isScenario(name));
  if (unknown === undefined) return names;
  throw new InvalidArgumentError(`no scenario is called ${unknown}; --help lists them.`);
}

const SCENARIO_HELP = SCENARIOS.map(
  ({ name, about, hosts, hostsMin }) => `  ${name.padEnd(16)}${about} (${hosts} hosts; ${hostsMin} or more)`,
).join('\n');

const OVERLAY_HELP = OVERLAY_SCENARIOS.filter(({ name }) => !SCENARIOS.some(one => one.name === name))
  .map(({ name, about }) => `  ${name.padEnd(16)}${about}`)
  .join('\n');

const KV_HELP = KV_SCENARIOS.map(({ name, about }) => `  ${name.padEnd(16)}${about}`).join('\n');

const RANGES_HELP = RANGE_SCENARIOS.map(({ name, about }) => `  ${name.padEnd(16)}${about}`).join('\n');

const HELP = `
Scenarios of the suite underlay:
${SCENARIO_HELP}

The suite overlay plays them with applications on all hosts, which register, share maps and send messages, and has:
${OVERLAY_HELP}

The suite kv plays Raft groups on stores with disks, and checks what clients are answered:
${KV_HELP}

The suite ranges plays whole stores, with ranges that divide, move and come together, and clients that find them:
${RANGES_HELP}

A run is decided by its seed: a failure names the command that repeats it. Its trace shows the last packets ("->" a
datagram, "=>" a stream) and all that people would ask about: starts, deaths, cuts, and each change of a host's view.
A host that starts again at the address of h3 is h3.2, the next one h3.3.

Examples:
  npm run sim                                              every scenario once, with seed 1
  npm run sim -- --seed 42 --seeds 100                     every scenario with the seeds 42 to 141
  npm run sim -- --scenario chaos --hosts 20 --seeds 1000  a thousand of one kind
  npm run sim -- --suite kv --for 8h                       what to leave running overnight: new seeds until then
  npm run sim -- --scenario halves --seed 7 --trace        every packet of one run (much text)
  npm run sim -- --suite kv --mutants                      are the checkers of the suite kv sharp? (minutes; also of ranges)
  npm run sim -- --table                                   the table of the README (an hour; with --hosts 100 half a minute)

Exit code: 0 when everything held, 1 when something did not, 2 for a mistake in the command line.`;

function parse(): Options {
  const program = new Command('npm run sim --')
    .description('Plays whole clusters in simulated time and checks what must hold.')
    .addOption(
      new Option('--suite <name>', 'what is simulated').choices(Object.keys(SUITES)).default('underlay'),
    )
    .addOption(
      new Option('--seed <n>', 'the first seed; with --for a random one')
        .argParser(whole(0, 2 ** 53 - 1))
        .default(1),
    )
    .addOption(new Option('--seeds <n>', 'so many seeds in turn').argParser(whole(1, 1e9)).default(1))
    .addOption(
      new Option(
        '--for <duration>',
        'seed after seed for as long as this (90s, 45m, 8h); says how far it is, and ends early with 20 failures',
      )
        .argParser(duration)
        .conflicts('seeds'),
    )
    .addOption(
      new Option('--hosts <n>', 'size of the cluster; without it each scenario has its own').argParser(
        whole(1, 5_000),
      ),
    )
    .addOption(
      new Option('--scenario <names>', 'these only, comma-separated; otherwise all').argParser(scenarioNames),
    )
    .option(
      '--table',
      'prints the table of the README: 3 to 1,000 hosts (or --hosts), its scenarios (or --scenario)',
    )
    .option('--trace', 'prints everything as it happens')
    .option('--thorough', 'as many repetitions within a scenario as the table has')
    .option(
      '--mutants [names...]',
      'plays the suite kv on variants of Raft, or the suite ranges on variants of stores, that break one rule each, up to --seeds (200) times, and tells which failed where',
    )
    .option('--codec', 'every packet goes through the real codec, at any size (small clusters do so anyway)')
    .option('--no-codec', 'packets travel as objects, at any size')
    .addHelpText('after', HELP)
    .exitOverride(error => process.exit(error.exitCode === 0 ? 0 : 2));
  program.parse();
  const options = program.opts<Options>();
  const isNew = options.for !== undefined && program.getOptionValueSource('seed') === 'default';
  return { ...options, seed: isNew ? randomInt(2 ** 47) : options.seed };
}

function again(suite: string, scenario: string, hosts: number, seed: number, flags: string): string {
  const which = suite === 'underlay' ? '' : `--suite ${suite} `;
  const size = hosts === 0 ? '' : ` --hosts ${hosts}`;
  return `npm run sim -- ${which}--scenario ${scenario}${size} --seed ${seed}${flags}`;
}

function againOf(scenario: Playable, seed: number, { suite, hosts, codec, thorough }: Options): string {
  const codecFlag = codec === undefined ? '' : codec ? ' --codec' : ' --no-codec';
  const flags = `${thorough === true ? ' --thorough' : ''}${codecFlag}`;
  return again(suite, scenario.name, hosts ?? scenario.hosts, seed, flags);
}

function tellFailure(what: string, command: string, outcome: Outcome): void {
  const lines = outcome.trace();
  process.stdout.write(
    [
      '',
      `FAILED ${what}: ${outcome.failure}`,
      `The last of its ${lines.length} lines of trace:`,
      ...lines.slice(-TRACE_LINES_MAX),
      `FAILED ${what}: ${outcome.failure}`,
      `again: ${command}`,
      '',
    ].join('\n'),
  );
}

function scenariosOf({ suite, scenario, hosts }: Options): readonly Playable[] {
  return SUITES[suite]!.filter(
    ({ name, hostsMin }) => scenario?.includes(name) !== false && (hosts ?? hostsMin) >= hostsMin,
  );
}

function playAll(options: Options): number {
  let failures = 0;
  const scenarios = scenariosOf(options);
  const total = options.seeds * scenarios.length;
  const bar = new SingleBar({
    format: '{bar} {value}/{total} {what}, {eta_formatted} left',
    clearOnComplete: true,
  });
  const hasBar = options.trace === undefined && process.stderr.isTTY;
  if (hasBar) bar.start(total, 0, { what: '' });
  for (let seed = options.seed; seed < options.seed + options.seeds; seed += 1) {
    for (const scenario of scenarios) {
      if (hasBar) bar.increment(1, { what: `${scenario.name}, seed ${seed}` });
      if (!playOne(scenario, seed, options)) failures += 1;
    }
  }
  if (hasBar) bar.stop();
  process.stdout.write(failures === 0 ? `all ${total} held\n` : `${failures} of ${total} failed\n`);
  return failures;
}

/** Plays one seed after the other until the time is over; what failed is told at once, and once more at the end. */
function playFor(options: Options, forMs: number): number {
  const scenarios = scenariosOf(options);
  const startMs = performance.now();
  const failed: string[] = [];
  let played = 0;
  let toldMs = startMs;
  let { seed } = options;
  const tell = (what: string) => {
    const passed = ((performance.now() - startMs) / 60_000).toFixed(1);
    process.stdout.write(
      `${what} ${passed} min: ${played} runs, seeds ${options.seed} to ${seed}, ${failed.length} failed\n`,
    );
  };
  process.stdout.write(`seeds from ${seed} on, for ${(forMs / 60_000).toFixed(1)} min\n`);
  const isOver = () => performance.now() - startMs >= forMs || failed.length >= FAILURES_MAX;
  for (; ; seed += 1) {
    for (const scenario of scenarios) {
      if (!playOne(scenario, seed, { ...options, seeds: 2 })) failed.push(againOf(scenario, seed, options));
      played += 1;
      if (isOver()) break;
      if (performance.now() - toldMs < TELL_MS) continue;
      toldMs = performance.now();
      tell('after');
    }
    if (isOver()) break;
  }
  tell('over after');
  for (const command of failed) process.stdout.write(`again: ${command}\n`);
  return failed.length;
}

function playOne(scenario: Playable, seed: number, options: Options): boolean {
  const { codec, thorough, trace } = options;
  const hosts = options.hosts ?? scenario.hosts;
  const what = `${scenario.name}${hosts === 0 ? '' : ` of ${hosts} hosts`}, seed ${seed}`;
  const startMs = performance.now();
  const settings = {
    hosts,
    seed,
    isThorough: thorough === true,
    ...(codec === undefined ? {} : { isEncoded: codec }),
    ...(trace === undefined ? {} : { isTraced: true }),
  };
  const follow = trace === undefined ? undefined : (line: string) => void process.stdout.write(`${line}\n`);
  const outcome = scenario.play(settings, follow);
  if (outcome.failure !== undefined) {
    tellFailure(what, againOf(scenario, seed, options), outcome);
    return false;
  }
  if (options.seeds === 1) {
    const figures = outcome.figures.map(figure => `${figure.what} ${figure.text}`).join(', ');
    const real = ((performance.now() - startMs) / 1000).toFixed(1);
    const virtual = (outcome.virtualMs / 60_000).toFixed(0);
    process.stdout.write(`${what}: ${figures} (${virtual} min in ${real} s)\n`);
  }
  return true;
}

function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

function printTable({ seed, scenario, hosts }: Options): number {
  const plays = tablePlays(scenario, hosts);
  let failures = 0;
  const bar = new SingleBar({ format: '{bar} {value}/{total} {what}', clearOnComplete: true });
  const isQuiet = !process.stderr.isTTY;
  if (!isQuiet) bar.start(plays.length, 0, { what: '' });
  const text = table(
    plays,
    seed,
    processorMs,
    what => bar.increment(1, { what }),
    (what, outcome) => {
      failures += 1;
      const [name, size] = what.split(' ');
      tellFailure(what, again('underlay', name!, Number(size), seed, ' --thorough --no-codec'), outcome);
    },
    (what, { figures }) => {
      // For a run that takes hours in the background and may be stopped.
      if (isQuiet)
        process.stderr.write(`${what}: ${figures.map(one => `${one.what} ${one.text}`).join(', ')}\n`);
    },
  );
  if (!isQuiet) bar.stop();
  process.stdout.write(`${text}\n`);
  return failures;
}

// Whoever reads may have seen enough (`| head`).
process.stdout.on('error', () => process.exit());

const options = parse();
if (options.mutants === undefined) {
  const { table: isTable, for: forMs } = options;
  const failures =
    isTable === true ? printTable(options) : forMs === undefined ? playAll(options) : playFor(options, forMs);
  process.exitCode = failures === 0 ? 0 : 1;
} else {
  const seeds = options.seeds === 1 ? MUTANT_SEEDS : options.seeds;
  const missed = await huntAll(options.suite, seeds, options.mutants === true ? [] : options.mutants);
  process.exitCode = missed === 0 ? 0 : 1;
}
