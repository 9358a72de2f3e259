import { availableParallelism } from 'node:os';
import { describe, expect, it } from 'vitest';
import { defaultConfig } from '../../src/node/config.js';
import { allowedCpus, parseCpuList } from '../../src/node/cpus.js';
import { planThreads } from '../../src/node/thread-plan.js';

const plan = (cpus: number, threads: object = {}, first = 0) =>
  planThreads(
    { ...defaultConfig().threads, ...threads },
    Array.from({ length: cpus }, (_, index) => first + index),
  );

/** CPUs of main, the mqtt, the match and the apply threads. */
const cpus = (found: ReturnType<typeof plan>) =>
  Array.from({ length: 1 + found.mqtt + found.match + found.apply }, (_, peer) => found.cpuOf(peer));

describe('the number of threads', () => {
  it.each([
    [1, 1],
    [2, 1],
    [3, 1],
    [4, 2],
    [16, 14],
  ])('on %i cores is %i for mqtt, by itself, and one for each store', (cores, mqtt) => {
    expect(plan(cores)).toMatchObject({ mqtt, match: 1, apply: 1 });
  });

  it('is what the settings say, whatever the machine', () => {
    expect(plan(2, { mqtt: 5, match: 2, apply: 3 })).toMatchObject({ mqtt: 5, match: 2, apply: 3 });
  });
});

describe('CPUs', () => {
  it('are given by themselves where every thread but main can have its own', () => {
    expect(cpus(plan(4))).toEqual([-1, 0, 1, 2, 3]);
    expect(cpus(plan(6, {}, 8))).toEqual([-1, 8, 9, 10, 11, 12, 13]);
    expect(cpus(plan(16, { mqtt: 4 }))).toEqual([-1, 0, 1, 2, 3, 4, 5]);
  });

  it('are not given by themselves where there are few, or more threads than CPUs', () => {
    for (const count of [1, 2, 3]) expect(cpus(plan(count))).toEqual([-1, -1, -1, -1]);
    expect(cpus(plan(4, { mqtt: 3 }))).toEqual([-1, -1, -1, -1, -1, -1]);
  });

  it('are not given where that is off, and are taken in turn from a list', () => {
    expect(cpus(plan(16, { mqtt: 2, pin: 'off' }))).toEqual([-1, -1, -1, -1, -1]);
    expect(cpus(plan(2, { mqtt: 3, pin: [4, 9] }))).toEqual([-1, 4, 9, 4, 9, 4]);
  });
});

describe('the CPUs that there are', () => {
  it('are read from the list of the kernel', () => {
    expect(parseCpuList('0')).toEqual([0]);
    expect(parseCpuList('0-3,8,10-11')).toEqual([0, 1, 2, 3, 8, 10, 11]);
  });

  it('are those that this process may use', () => {
    expect(allowedCpus().length).toBe(availableParallelism());
  });
});
