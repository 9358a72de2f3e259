import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { median, metric, spread } from '../../perf/statistics.js';

describe('median', () => {
  it('is the middle, or the mean of the two middle values', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([10, 1, 2, 4])).toBe(3);
    expect(median([7])).toBe(7);
    expect(median([])).toBeNaN();
  });

  it('has as many values above as below, whatever their order', () => {
    fc.assert(
      fc.property(fc.array(fc.integer(), { minLength: 1 }), values => {
        const middle = median(values);
        const below = values.filter(v => v < middle).length;
        const above = values.filter(v => v > middle).length;
        expect(below).toBeLessThanOrEqual(values.length / 2);
        expect(above).toBeLessThanOrEqual(values.length / 2);
      }),
    );
  });

  it('leaves its argument alone', () => {
    const values = [3, 1, 2];
    median(values);
    expect(values).toEqual([3, 1, 2]);
  });
});

describe('spread', () => {
  it('is the range in units of the median', () => {
    expect(spread([90, 100, 120])).toBeCloseTo(0.3);
    expect(spread([5])).toBe(0);
    expect(spread([])).toBeNaN();
  });
});

describe('metric', () => {
  it('follows a dotted path to a number and nothing else', () => {
    const result = { latencyUs: { p99: 12.5, name: 'x' }, seconds: 3 };
    expect(metric(result, 'latencyUs.p99')).toBe(12.5);
    expect(metric(result, 'seconds')).toBe(3);
    expect(metric(result, 'latencyUs.name')).toBeUndefined();
    expect(metric(result, 'latencyUs.p50')).toBeUndefined();
    expect(metric(result, 'seconds.p50')).toBeUndefined();
    expect(metric(undefined, 'seconds')).toBeUndefined();
  });
});
