import { describe, expect, it } from 'vitest';
import { KV_SCENARIOS, playKv } from './kv-scenarios.js';

/** Seeds that found a bug once; they stay. */
const REGRESSIONS: readonly { readonly scenario: string; readonly seed: number; readonly why: string }[] = [
  {
    scenario: 'partitions',
    seed: 4,
    why: 'a follower whose window was full of lost appends was forgotten once the log was compacted beyond them',
  },
];

/** How many seeds of ten minutes each scenario is played with here; kv-chaos.test.ts has the many of chaos. */
const SEEDS: Readonly<Record<string, number>> = { calm: 2 };
const SEEDS_OTHERWISE = 16;

/** Real time, on a machine that is shared. */
const TIMEOUT_MS = 300_000;

function playAgain(name: string, seed: number): void {
  const scenario = KV_SCENARIOS.find(one => one.name === name)!;
  const { failure, trace } = playKv(scenario, { seed });
  if (failure === undefined) return;
  const again = `npm run sim -- --suite kv --scenario ${name} --seed ${seed}`;
  expect.fail([failure, `again: ${again}`, ...trace().slice(-100)].join('\n'));
}

describe('Raft groups, simulated', { timeout: TIMEOUT_MS }, () => {
  for (const { name, about } of KV_SCENARIOS.filter(one => one.name !== 'chaos')) {
    it(`${name}: ${about}`, () => {
      const seeds = SEEDS[name] ?? SEEDS_OTHERWISE;
      for (let seed = 1; seed <= seeds; seed += 1) playAgain(name, seed);
    });
  }

  for (const { scenario, seed, why } of REGRESSIONS) {
    it(`regression: ${why}`, () => playAgain(scenario, seed));
  }

  it('repeats a run from its seed to the last line of the trace', () => {
    const chaos = KV_SCENARIOS.find(({ name }) => name === 'chaos')!;
    const lines = (seed: number) => playKv(chaos, { seed, isTraced: true }).trace();
    expect(lines(3)).toEqual(lines(3));
    expect(lines(3)).not.toEqual(lines(4));
  });
});
