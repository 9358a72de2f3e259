/**
 * `npm run sim -- --suite kv --mutants`, or this file by itself: are the checkers and the faults of the suite `kv` sharp
 * enough to find a Raft that is wrong? Each mutation breaks one rule in a copy of the built program, and must be found
 * within so many seeds. Nothing in the product knows of it.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { MUTATIONS, type Mutation } from './kv-mutations.js';
import type * as Scenarios from './kv-scenarios.js';

const BUILT = fileURLToPath(new URL('../..', import.meta.url));
const COPIES = join(BUILT, 'mutants');

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
  copyFolder(join(BUILT, 'src/kv/raft'), join(root, 'src/kv/raft'), () => true);
  copyFolder(join(BUILT, 'test/sim'), join(root, 'test/sim'), name => name.startsWith('kv-'));
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
    const path = join(root, 'test/sim/kv-scenarios.js');
    const { KV_SCENARIOS, playKv } = (await import(pathToFileURL(path).href)) as typeof Scenarios;
    for (let seed = 1; seed <= seedsMax; seed += 1) {
      const name = seed % 2 === 1 ? (mutation.scenario ?? 'chaos') : 'chaos';
      const scenario = KV_SCENARIOS.find(one => one.name === name)!;
      const { failure } = playKv(scenario, { seed });
      if (failure !== undefined) return { mutation, scenario: name, seed, failure };
    }
    return { mutation, scenario: undefined, seed: seedsMax, failure: '' };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
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
export async function huntAll(seedsMax: number, names: readonly string[]): Promise<number> {
  const chosen = MUTATIONS.filter(({ name }) => names.length === 0 || names.includes(name));
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
