import { describe, expect, it } from 'vitest';
import { Agenda } from '../../src/rpc/agenda.js';

const clock = { monotonicMs: () => performance.now(), wallMs: () => 0 };

/** An endless chain of tasks, each added in the way `next` has, until a timer stops it; how long it was. */
async function chain(next: (add: () => void) => void): Promise<number> {
  const agenda = new Agenda(clock, {
    soon: queueMicrotask,
    later: run => void setImmediate(run),
    wake: () => {},
  });
  let tasks = 0;
  let isStopped = false;
  setTimeout(() => {
    isStopped = true;
  }, 5);
  return new Promise(resolve => {
    const add = () => agenda.soon(task);
    const task = {
      run: () => {
        tasks++;
        // It ends in any case: a test that hangs tells nobody why.
        if (isStopped || tasks === 20_000_000) resolve(tasks);
        else next(add);
      },
    };
    add();
  });
}

describe('an agenda', () => {
  it('lets timers run among tasks that add tasks', async () => {
    expect(await chain(add => add())).toBeLessThan(20_000_000);
  });

  it('lets timers run among callers who wait for promises', async () => {
    expect(await chain(add => void Promise.resolve().then(add))).toBeLessThan(20_000_000);
  });

  it('runs tasks in their order, in one turn as long as they are few', async () => {
    const turns: (() => void)[] = [];
    const agenda = new Agenda(clock, { soon: run => turns.push(run), wake: () => {} });
    const seen: number[] = [];
    for (let i = 0; i < 25_000; i++) agenda.soon({ run: () => void seen.push(i) });
    let count = 0;
    for (let run = turns.shift(); run !== undefined; run = turns.shift()) {
      run();
      count++;
    }
    expect(seen).toEqual(Array.from({ length: 25_000 }, (_, i) => i));
    expect([count, agenda.size]).toEqual([3, 0]);
  });
});
