import { describe, it } from 'vitest';
import { mustHold, mustRepeat } from './replay.js';
import { play, SCENARIOS } from './underlay-scenarios.js';

/** Seeds that found a bug once; they stay. */
const REGRESSIONS: readonly {
  readonly scenario: string;
  readonly hosts: number;
  readonly seed: number;
  readonly why: string;
}[] = [
  {
    scenario: 'leave',
    hosts: 20,
    seed: 22,
    why: 'a goodbye that one host missed was told again by those it asked',
  },
  {
    scenario: 'chaos',
    hosts: 50,
    seed: 22,
    why: 'a suspicion from before a heal was not refuted in its half minute',
  },
  { scenario: 'chaos', hosts: 10, seed: 2, why: 'a datagram whose estimated size was too small' },
];

/** How many seeds each scenario is played with here; the long runs are the command's. */
const SEEDS: Readonly<Record<string, number>> = { chaos: 25, loss: 1, wan: 2, churn: 1, idle: 1 };
const SEEDS_OTHERWISE = 4;
const HOSTS_MAX = 20;

function playAgain(name: string, hosts: number, seed: number): void {
  const scenario = SCENARIOS.find(one => one.name === name)!;
  mustHold(play(scenario, { hosts, seed }), `--scenario ${name} --hosts ${hosts} --seed ${seed}`);
}

/** Real time, on a machine that is shared; alone none of them takes five seconds. */
const TIMEOUT_MS = 120_000;

describe('the underlay, simulated', { timeout: TIMEOUT_MS }, () => {
  for (const { name, about, hosts, hostsMin } of SCENARIOS) {
    it(`${name}: ${about}`, () => {
      const seeds = SEEDS[name] ?? SEEDS_OTHERWISE;
      for (let seed = 1; seed <= seeds; seed += 1) {
        const size = Math.max(hostsMin, [Math.min(hosts, HOSTS_MAX), 3, 7, 15][(seed - 1) % 4]!);
        playAgain(name, size, seed);
      }
    });
  }

  for (const { scenario, hosts, seed, why } of REGRESSIONS) {
    it(`regression: ${why}`, () => playAgain(scenario, hosts, seed));
  }

  it('repeats a run from its seed to the last line of the trace', () => {
    const chaos = SCENARIOS.find(({ name }) => name === 'chaos')!;
    mustRepeat(seed => play(chaos, { hosts: 5, seed }));
  });
});
