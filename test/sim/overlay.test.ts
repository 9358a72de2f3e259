import { describe, it } from 'vitest';
import { OVERLAY_SCENARIOS, playOverlay } from './overlay-scenarios.js';
import { mustHold, mustRepeat } from './replay.js';

/** Seeds that found a bug once; they stay. */
const REGRESSIONS: readonly {
  readonly scenario: string;
  readonly hosts: number;
  readonly seed: number;
  readonly why: string;
}[] = [
  {
    scenario: 'kill',
    hosts: 10,
    seed: 1,
    why: 'a message for a host reached the one that was started at its address',
  },
  {
    scenario: 'chaos',
    hosts: 8,
    seed: 1,
    why: 'the own registrations went out of sight while halves were joined',
  },
];

/** What is played here, with how many seeds; the long runs and all the others are the command's. */
const PLAYED: Readonly<Record<string, number>> = {
  registration: 1,
  'kill-tenth': 1,
  stop: 1,
  rolling: 1,
  move: 1,
  halves: 1,
  'no-datagrams': 1,
  'one-way-link': 1,
  'flapping-cut': 1,
  chaos: 4,
};
const HOSTS = 6;

function playAgain(name: string, hosts: number, seed: number): void {
  const scenario = OVERLAY_SCENARIOS.find(one => one.name === name)!;
  mustHold(
    playOverlay(scenario, { hosts, seed }),
    `--suite overlay --scenario ${name} --hosts ${hosts} --seed ${seed}`,
  );
}

describe('the overlay, simulated', () => {
  for (const [name, seeds] of Object.entries(PLAYED)) {
    const { about } = OVERLAY_SCENARIOS.find(one => one.name === name)!;
    it(`${name}: ${about}`, () => {
      for (let seed = 1; seed <= seeds; seed += 1) playAgain(name, HOSTS, seed);
    });
  }

  for (const { scenario, hosts, seed, why } of REGRESSIONS) {
    it(`regression: ${why}`, () => playAgain(scenario, hosts, seed));
  }

  it('repeats a run from its seed to the last line of the trace', () => {
    const chaos = OVERLAY_SCENARIOS.find(({ name }) => name === 'chaos')!;
    mustRepeat(seed => playOverlay(chaos, { hosts: 4, seed }));
  });
});
