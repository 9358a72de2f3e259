import { describe, expect, it } from 'vitest';
import { KV_SCENARIOS, playKv } from './kv-scenarios.js';

/** With those of kv.test.ts more than 200 seeds of ten minutes; here, since files are played side by side. */
const FIRST_SEED = 78;
const SEEDS = 110;
const SEEDS_A_TEST = 10;
const TIMEOUT_MS = 300_000;

describe('Raft groups in chaos, simulated', { timeout: TIMEOUT_MS }, () => {
  const chaos = KV_SCENARIOS.find(({ name }) => name === 'chaos')!;
  for (let first = FIRST_SEED; first < FIRST_SEED + SEEDS; first += SEEDS_A_TEST) {
    it(`seeds ${first} to ${first + SEEDS_A_TEST - 1}`, () => {
      for (let seed = first; seed < first + SEEDS_A_TEST; seed += 1) {
        const { failure, trace } = playKv(chaos, { seed });
        if (failure === undefined) continue;
        const again = `npm run sim -- --suite kv --scenario chaos --seed ${seed}`;
        expect.fail([failure, `again: ${again}`, ...trace().slice(-100)].join('\n'));
      }
    });
  }
});
