import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { playGolden } from './golden.js';

const folder = new URL('../../data/raft/', import.meta.url).pathname;

describe('golden scripts of Raft', () => {
  for (const name of readdirSync(folder).sort()) {
    it(name, () => {
      const { expected, actual } = playGolden(folder + name);
      expect(actual).toBe(expected);
    });
  }
});
