import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import {
  CounterBlock,
  HEAP_BYTES,
  LOOP_DELAY_SECONDS,
  LOOP_UTILIZATION,
  METRICS,
} from '../../src/base/metrics.js';
import { startVitals } from '../../src/node/vitals.js';

it('measures a busy event loop and memory, and stops when closed', async () => {
  const block = new CounterBlock();
  const vitals = startVitals(block);
  const { bounds } = METRICS.find(({ base }) => base === LOOP_DELAY_SECONDS)!;
  const sumAt = LOOP_DELAY_SECONDS + bounds.length + 1;
  expect(block.values[HEAP_BYTES]).toBeGreaterThan(1_000_000);
  const until = performance.now() + 300;
  while (performance.now() < until);
  await sleep(1100);
  expect(block.values[sumAt]).toBeGreaterThan(0.15);
  expect(block.values[sumAt + 1]).toBeGreaterThan(5);
  expect(block.values[LOOP_UTILIZATION]).toBeGreaterThan(0);
  expect(block.values[LOOP_UTILIZATION]).toBeLessThanOrEqual(1);
  // The timer was to come within 100 ms, and came after 300.
  expect(vitals.loopDelayMs()).toBeGreaterThan(150);
  vitals.close();
  const count = block.values[sumAt + 1];
  await sleep(250);
  expect(block.values[sumAt + 1]).toBe(count);
});
