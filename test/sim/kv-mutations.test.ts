import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { MUTATIONS } from './kv-mutations.js';
import { KV_SCENARIOS } from './kv-scenarios.js';
import { STORE_MUTATIONS } from './range-mutations.js';
import { RANGE_SCENARIOS } from './range-scenarios.js';

const SCENARIOS = [...KV_SCENARIOS, ...RANGE_SCENARIOS];

/** `npm run sim -- --suite kv --mutants` plays them. Here it is made sure that they still change what they mean to. */
describe('variants of Raft and of stores that break a rule', () => {
  for (const { name, about, scenario, edits } of [...MUTATIONS, ...STORE_MUTATIONS]) {
    it(`${name}: ${about}`, () => {
      expect(scenario === undefined || SCENARIOS.some(one => one.name === scenario)).toBe(true);
      for (const { file, from } of edits) {
        const text = readFileSync(new URL(`../../${file}.ts`, import.meta.url), 'utf8');
        // The compiler leaves out the marks that something is there.
        expect(text.replaceAll('!.', '.').split(from)).toHaveLength(2);
      }
    });
  }

  it('are many, and each has a name of its own', () => {
    expect(new Set(MUTATIONS.map(({ name }) => name)).size).toBe(MUTATIONS.length);
    expect(MUTATIONS.length).toBeGreaterThanOrEqual(25);
  });

  it('are found, as far as a few seeds find them', { timeout: 120_000 }, () => {
    const names = [
      'votes-twice',
      'answer-before-durable',
      'conflicts-kept',
      'lease-unchecked',
      'applied-twice',
    ];
    const run = fileURLToPath(new URL('../../dist/test/sim/run.js', import.meta.url));
    const out = execFileSync(process.execPath, [
      run,
      '--suite',
      'kv',
      '--seeds',
      '10',
      '--mutants',
      ...names,
    ]);
    expect(out.toString()).toContain('5 of 5 caught');
  });
});
