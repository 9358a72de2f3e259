import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import {
  COMMIT_OPERATIONS,
  CONNECTIONS,
  CounterBlock,
  DELIVERIES,
  DROP,
  DROPS,
  METRIC_SLOTS,
  METRICS,
  total,
  VIOLATION,
  VIOLATIONS,
} from '../../src/base/metrics.js';
import { labelCombinations } from '../../src/node/prometheus.js';

describe('METRICS', () => {
  it('gives every family its own values, without gaps', () => {
    let next = 0;
    for (const { base, size } of METRICS) {
      expect(base).toBe(next);
      next += size;
    }
    expect(next).toBe(METRIC_SLOTS);
  });

  it('has names and help as Prometheus wants them', () => {
    expect(new Set(METRICS.map(({ name }) => name)).size).toBe(METRICS.length);
    for (const { name, help, type } of METRICS) {
      expect(name).toMatch(/^shoalmq_[a-z_]+$/);
      expect(name.endsWith('_total'), name).toBe(type === 'counter');
      expect(help).toMatch(/^[A-Z].*\.$/);
    }
  });

  it('has label values in the order of the tables', () => {
    const labelAt = (base: number, offset: number) =>
      labelCombinations(METRICS.find(family => family.base === base)!).find(
        ({ index }) => index === base + offset,
      )?.labels;
    expect(labelAt(DROPS, DROP.SLOW_CONSUMER)).toEqual({ reason: 'slow_consumer' });
    expect(labelAt(VIOLATIONS, VIOLATION.TRANSPORT)).toEqual({ reason: 'transport' });
    expect(labelAt(DELIVERIES, 2)).toEqual({ qos: '2' });
    expect(labelAt(CONNECTIONS, 3)).toEqual({ transport: 'wss' });
  });
});

describe('CounterBlock', () => {
  it('puts observations into the bucket whose bound they do not exceed', () => {
    const block = new CounterBlock();
    const { bounds } = METRICS.find(({ base }) => base === COMMIT_OPERATIONS)!;
    expect(bounds.slice(0, 4)).toEqual([1, 2, 4, 8]);
    for (const value of [1, 2, 3, 4, 1e9]) block.observe(COMMIT_OPERATIONS, value);
    const buckets = block.values.slice(COMMIT_OPERATIONS, COMMIT_OPERATIONS + bounds.length + 1);
    expect([...buckets.slice(0, 4), buckets.at(-1)]).toEqual([1, 1, 2, 0, 1]);
    const sumAt = COMMIT_OPERATIONS + bounds.length + 1;
    expect([...block.values.slice(sumAt, sumAt + 2)]).toEqual([1_000_000_010, 5]);
    expect(total([block], 0, METRIC_SLOTS)).toBe(5 + 5 + 1_000_000_010);
  });

  it('refuses the constant of a counter, and memory of another size', () => {
    expect(() => new CounterBlock().observe(DROPS, 1)).toThrow('constant of a histogram');
    expect(() => new CounterBlock(new SharedArrayBuffer(8))).toThrow('one float64 per metric slot');
  });

  it('is seen by the main thread while another one counts', async () => {
    const block = new CounterBlock();
    const source = `const { workerData } = require('node:worker_threads');
      const values = new Float64Array(workerData.memory);
      for (let turn = 0; turn < 100000; turn += 1) values[workerData.at] += 1;`;
    const worker = new Worker(source, {
      eval: true,
      workerData: { memory: block.memory, at: DELIVERIES + 1 },
    });
    await new Promise(resolve => worker.once('exit', resolve));
    expect(total([block, new CounterBlock()], DELIVERIES, 3)).toBe(100_000);
  });
});
