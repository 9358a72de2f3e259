import { describe, it } from 'vitest';
import { playRanges, RANGE_SCENARIOS } from './range-scenarios.js';
import { mustHold, mustRepeat } from './replay.js';

/** Seeds that found a bug once; they stay. */
const REGRESSIONS: readonly { readonly scenario: string; readonly seed: number; readonly why: string }[] = [
  {
    scenario: 'range-chaos',
    seed: 3,
    why: 'entries that replace others were committed by the message that brought them',
  },
  {
    scenario: 'range-parts',
    seed: 14,
    why: 'a replica that went while its range was changing was retired by nobody',
  },
];

/** What is played here, from which seed on, and with how many; the long runs are the command's. */
const PLAYED: Readonly<Record<string, number>> = {
  housekeeping: 2,
  'range-birth': 2,
  'range-crashes': 3,
  'range-full': 3,
  'range-recovery': 3,
  'range-parts': 3,
  'range-chaos': 3,
};
const FIRST_SEED = 11;

function playAgain(name: string, seed: number): void {
  const scenario = RANGE_SCENARIOS.find(one => one.name === name)!;
  mustHold(playRanges(scenario, { seed }), `--suite ranges --scenario ${name} --seed ${seed}`);
}

describe('stores and their ranges, simulated', () => {
  for (const [name, seeds] of Object.entries(PLAYED)) {
    const { about } = RANGE_SCENARIOS.find(one => one.name === name)!;
    for (let seed = FIRST_SEED; seed < FIRST_SEED + seeds; seed++)
      it(`${name} ${seed}: ${about}`, () => playAgain(name, seed), 60_000);
  }

  for (const { scenario, seed, why } of REGRESSIONS)
    it(`regression: ${why}`, () => playAgain(scenario, seed), 60_000);

  it('repeats a run from its seed to the last line of the trace', () => {
    const chaos = RANGE_SCENARIOS.find(({ name }) => name === 'range-chaos')!;
    mustRepeat(seed => playRanges(chaos, { seed, stores: 3 }));
  }, 60_000);
});
