import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from './broker.js';
import { KvFleet, seconds } from './kv-fleet.js';
import { sharedMs } from './kv-history.js';
import { KvProcess } from './kv-process.js';

/**
 * Three real processes with a store each and one that only calls: they find each other by seeds, make the key space and
 * its three voters by themselves, and go on when the one that leads is killed. The bounds are the issue's.
 */

const START_MS = 60_000;
const SCENARIO_MS = 120_000;
const FORMED_MS = 30_000;
const BACK_MS = 5_000;
const KILLS = 3;
const LOAD = { registers: 8, workers: 4, pauseMs: 10, deadlineMs: 4_000, padding: 0 };

let directory: string;
let fleet: KvFleet;
const measured: string[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'shoalmq-kv-'));
  const ports = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const seeds = ports.slice(0, 2).map(port => `127.0.0.1:${port}`);
  const make = async (name: string, port: number, isStore: boolean): Promise<KvProcess> =>
    new KvProcess({
      ...{ name, host: '127.0.0.1', port, rpcPort: await freePort(), seeds },
      ...(isStore ? { data: join(directory, name) } : {}),
      rules: { bootstrapAfterMs: 1_000 },
      history: join(directory, `${name}.history`),
    });
  const stores: KvProcess[] = [];
  for (const [at, name] of ['a', 'b', 'c'].entries()) stores.push(await make(name, ports[at]!, true));
  fleet = new KvFleet(stores, [await make('caller', ports[3]!, false)]);
  await Promise.all(fleet.all.map(one => one.start()));
}, START_MS);
afterEach(context => {
  if (context.task.result?.state !== 'fail') return;
  for (const one of fleet.all) console.error(`log of ${one.name}:\n${one.words()}`);
});
afterAll(async () => {
  await fleet.close();
  rmSync(directory, { recursive: true, force: true });
  console.log(`the replicated storage in three processes:${measured.map(row => `\n  ${row}`).join('')}`);
}, START_MS);

describe('three stores in three processes', () => {
  it('make one range with three voters by themselves', { timeout: SCENARIO_MS }, async () => {
    const tookMs = await fleet.formed(3, FORMED_MS);
    measured.push(`one range with three voters after ${seconds(tookMs)}`);
  });

  it('lose nothing when the leader is killed, and are back within 5 s', {
    timeout: SCENARIO_MS,
  }, async () => {
    await fleet.load(fleet.all, LOAD);
    await fleet.backSince(sharedMs(), fleet.all);
    for (let kill = 0; kill < KILLS; kill++) {
      await sleep(1_000);
      const victim = await fleet.leader();
      const others = fleet.all.filter(one => one !== victim);
      await victim.kill9();
      const backMs = await fleet.backSince(sharedMs(), others);
      measured.push(`the leader dies: answers for all others after ${seconds(backMs)}`);
      expect(backMs).toBeLessThan(BACK_MS);
      await victim.start();
      await fleet.load([victim], LOAD);
      const againMs = await fleet.backSince(sharedMs(), [victim]);
      measured.push(`it starts again: its own callers have answers after ${seconds(againMs)}`);
    }
    await fleet.rest();
    await fleet.formed(3, FORMED_MS);
    measured.push(fleet.verdict());
  });
});
