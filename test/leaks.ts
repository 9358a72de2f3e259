/**
 * Setup file of every suite: when its last test is over, nothing of it may be left in the process that ran it: no
 * socket, server, pipe, timer (of those that keep a process alive), child process or worker thread beyond what there
 * was before, which is what vitest itself holds. Whatever still closes is given time; what stays fails the suite.
 * What a broker process may not keep is in `e2e/broker.ts`.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, expect } from 'vitest';

const PATIENCE_MS = 4000;
const LOOK_MS = 20;

const workers = new Set<Worker>();

process.on('worker', worker => {
  workers.add(worker);
  worker.once('exit', () => workers.delete(worker));
});

/** How many there are of each kind. */
type Held = ReadonlyMap<string, number>;

function held(): Held {
  const counts = new Map<string, number>();
  for (const name of process.getActiveResourcesInfo()) counts.set(name, (counts.get(name) ?? 0) + 1);
  counts.set('child process', childPids().length);
  counts.set('worker thread', workers.size);
  return counts;
}

/** Linux tells for each thread which processes it has started; those that nobody has waited for are among them. */
function childPids(): string[] {
  return readdirSync('/proc/self/task').flatMap(thread => {
    try {
      return readFileSync(`/proc/self/task/${thread}/children`, 'utf8').split(' ').filter(Boolean);
    } catch {
      return []; // the thread has ended meanwhile
    }
  });
}

function beyond(before: Held): Record<string, number> {
  const left = [...held()].map(([name, count]) => [name, count - (before.get(name) ?? 0)] as const);
  return Object.fromEntries(left.filter(([, count]) => count > 0));
}

let before: Held = new Map();

beforeAll(() => {
  // A timer that runs now is vitest's own and short; the ones it keeps do not keep a process alive.
  before = new Map([...held()].filter(([name]) => name !== 'Timeout'));
});

// The first hook to be registered, hence the last to run: after all that a suite closes by itself.
afterAll(async () => {
  const deadline = performance.now() + PATIENCE_MS;
  while (Object.keys(beyond(before)).length > 0 && performance.now() < deadline)
    await new Promise(resolve => setTimeout(resolve, LOOK_MS));
  expect(beyond(before), 'left behind by this suite').toEqual({});
}, 2 * PATIENCE_MS);
