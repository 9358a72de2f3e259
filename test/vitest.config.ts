import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/leaks.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // A machine that is shared may stop for seconds; a test that fails twice in a row has a reason of its own.
    retry: process.env.CI === undefined ? 0 : 1,
    testTimeout: 20_000,
    hookTimeout: 20_000,
  },
});
