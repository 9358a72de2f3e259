/**
 * `npm run sim -- --suite kv --mutants`, and `--suite ranges`: are the checkers and the faults of a suite sharp enough to
 * find a Raft, or a store, that is wrong? Each mutation breaks one rule in a copy of the built program, and must be
 * found within so many seeds. Nothing in the product knows of it.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { MUTATIONS, type Mutation } from './kv-mutations.js';
import type * as Scenarios from './kv-scenarios.js';
import type { Outcome } from './played.js';
import { STORE_MUTATIONS } from './range-mutations.js';
import type * as RangeScenarios from './range-scenarios.js';

const BUILT = fileURLToPath(new URL('../..', import.meta.url));
const COPIES = join(BUILT, 'mutants');
/** Of `src/kv`: what stores are made of. */
const FOLDERS = ['balance', 'raft', 'remote', 'replicated', 'route'];

export interface Finding {
  readonly mutation: Mutation;
  /** Undefined when no seed found it. */
  readonly scenario: string | undefined;
  readonly seed: number;
  readonly failure: string;
}

/** A copy of all that plays a part, with the edits; everything else is linked. */
function write(mutation: Mutation): string {
  const root = join(COPIES, mutation.name);
  rmSync(root, { recursive: true, force: true });
  const prefix = mutation.isOfStores === true ? 'range-' : 'kv-';
  copyFolder(join(BUILT, 'test/sim'), join(root, 'test/sim'), name => name.startsWith(prefix));
  if (mutation.isOfStores === true) {
    for (const name of ['.', ...FOLDERS])
      copyFolder(join(BUILT, 'src/kv', name), join(root, 'src/kv', name), () => true);
    copyFolder(join(BUILT, 'test/kv'), join(root, 'test/kv'), () => true);
  } else copyFolder(join(BUILT, 'src/kv/raft'), join(root, 'src/kv/raft'), () => true);
  for (const name of readdirSync(join(BUILT, 'src')))
    if (name !== 'kv') symlinkSync(join(BUILT, 'src', name), join(root, 'src', name));
  for (const { file, from, to } of mutation.edits) {
    const path = join(root, `${file}.js`);
    const text = readFileSync(path, 'utf8');
    const parts = text.split(from);
    if (parts.length !== 2)
      throw new Error(`${mutation.name}: "${from}" stands ${parts.length - 1} times in ${file}`);
    writeFileSync(path, parts.join(to));
  }
  return root;
}

function copyFolder(from: string, to: string, isCopied: (name: string) => boolean): void {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) {
    if (!name.endsWith('.js')) continue;
    if (isCopied(name)) cpSync(join(from, name), join(to, name));
    else symlinkSync(join(from, name), join(to, name));
  }
}

/** Plays the mutation's own scenario and chaos by turns until one fails. */
export async function hunt(mutation: Mutation, seedsMax: number): Promise<Finding> {
  const root = write(mutation);
  try {
    const play = await player(root, mutation);
    const chaos = mutation.isOfStores === true ? 'range-chaos' : 'chaos';
    for (let seed = 1; seed <= seedsMax; seed += 1) {
      const name = seed % 2 === 1 ? (mutation.scenario ?? chaos) : chaos;
      const { failure } = play(name, seed);
      if (failure === undefined) continue;
      // What fails without the mutation as well is a finding, but none of this.
      const unbroken = await player(BUILT, mutation);
      const found = unbroken(name, seed).failure;
      if (found !== undefined)
        throw new Error(`${name} fails at seed ${seed} without any mutation: ${found}`);
      return { mutation, scenario: name, seed, failure };
    }
    return { mutation, scenario: undefined, seed: seedsMax, failure: '' };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** Plays a scenario of the suite with the edits. */
async function player(
  root: string,
  { isOfStores }: Mutation,
): Promise<(name: string, seed: number) => Outcome> {
  if (isOfStores === true) {
    const url = pathToFileURL(join(root, 'test/sim/range-scenarios.js')).href;
    const { RANGE_SCENARIOS, playRanges } = (await import(url)) as typeof RangeScenarios;
    return (name, seed) => playRanges(RANGE_SCENARIOS.find(one => one.name === name)!, { seed });
  }
  const url = pathToFileURL(join(root, 'test/sim/kv-scenarios.js')).href;
  const { KV_SCENARIOS, playKv } = (await import(url)) as typeof Scenarios;
  return (name, seed) => playKv(KV_SCENARIOS.find(one => one.name === name)!, { seed });
}

/** The checker's name: the first words of what it says. */
function checkerOf(failure: string): string {
  const assertion = /AssertionError: (.*)/.exec(failure);
  if (assertion !== null) return `assertion: ${assertion[1]}`;
  const [first] = failure.replace(/^group \d+: /, '').split('\n');
  const name = /^([a-z ]+):/.exec(first!);
  if (name !== null) return name[1]!;
  return first!.startsWith('the history') ? 'linearizability' : first!.slice(0, 60);
}

/** Prints the table; gives how many were not found. */
export async function huntAll(suite: string, seedsMax: number, names: readonly string[]): Promise<number> {
  const all = suite === 'ranges' ? STORE_MUTATIONS : MUTATIONS;
  const chosen = all.filter(({ name }) => names.length === 0 || names.includes(name));
  let missed = 0;
  process.stdout.write('| variant | what it does | caught by | in | at seed |\n|---|---|---|---|---|\n');
  for (const mutation of chosen) {
    const { scenario, seed, failure } = await hunt(mutation, seedsMax);
    if (scenario === undefined) missed += 1;
    const how =
      scenario === undefined ? `**not caught** | | ${seed}` : `${checkerOf(failure)} | ${scenario} | ${seed}`;
    process.stdout.write(`| ${mutation.name} | ${mutation.about} | ${how} |\n`);
  }
  process.stdout.write(`${chosen.length - missed} of ${chosen.length} caught\n`);
  return missed;
}
