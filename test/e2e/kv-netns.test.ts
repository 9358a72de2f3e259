import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { SeededRandom } from '../sim/random.js';
import { befall, mend, type Scene } from './kv-faults.js';
import { KvFleet, seconds } from './kv-fleet.js';
import { sharedMs } from './kv-history.js';
import { KvProcess } from './kv-process.js';
import { SmallDisk } from './netns/kv-disk.js';
import { ipOf, Network, type Place } from './netns/network.js';
import { whatForbidsScenarios } from './netns/required.js';

/**
 * The replicated storage under everything that happens to machines: stores in network namespaces, each on a disk of its
 * own, with callers in all of them and in two that nothing happens to. In rounds, drawn from a seed that is printed:
 * either to fewer than half of the stores, and the callers must go on within 5 s while it lasts; or to any of them, and
 * they must go on within 5 s of the mending. At the end everything that was ever answered must be explained.
 *
 * `SHOALMQ_REQUIRE_NETNS=1` makes it a failure that the machine forbids such networks; `SHOALMQ_KV_SECONDS` says how
 * long each cluster is tried (40), `SHOALMQ_KV_SEED` repeats the order of events, though not their times.
 */

const PORT = 4_800;
const RPC_PORT = 4_900;
const CALLERS = 2;
const FORMED_MS = 60_000;
const BACK_MS = 5_000;
const REST_MS = 30_000;
const TRIED_MS = 1_000 * Number(process.env.SHOALMQ_KV_SECONDS ?? 40);
const SEED = Number(process.env.SHOALMQ_KV_SEED ?? Date.now() % 1_000_000);
const LOAD = { registers: 20, workers: 3, pauseMs: 40, deadlineMs: 2_000, padding: 200 };

const forbidden = await whatForbidsScenarios();

let scene: Scene | undefined;
let story: string[] = [];

async function open(stores: number): Promise<Scene> {
  const network = await Network.make();
  const places = new Map<KvProcess, Place>();
  const disks = new Map<KvProcess, SmallDisk>();
  const all: KvProcess[] = [];
  for (let at = 1; at <= stores + CALLERS; at++) {
    const isStore = at <= stores;
    const name = isStore ? `s${at}` : `c${at - stores}`;
    const place = await network.add(name, at);
    await network.plugIn(place);
    const disk = isStore ? new SmallDisk() : undefined;
    const settings = {
      ...{ name, host: place.ip, port: PORT, rpcPort: RPC_PORT },
      seeds: [1, 2].map(number => `${ipOf(number)}:${PORT}`),
      ...(disk === undefined ? {} : { data: disk.path }),
      // All vote: whatever happens to fewer than half of the stores leaves a majority.
      rules: { bootstrapAfterMs: 1_000, voters: stores },
      history: join(network.files, `${name}.history`),
    };
    const process = new KvProcess(settings, ['ip', 'netns', 'exec', place.namespace]);
    places.set(process, place);
    if (disk !== undefined) disks.set(process, disk);
    all.push(process);
  }
  const fleet = new KvFleet(all.slice(0, stores), all.slice(stores));
  return { network, fleet, places, disks, beganMs: sharedMs(), revived: store => fleet.load([store], LOAD) };
}

/** What happened in words, and for how long callers waited where they must not. */
async function round(
  now: Scene,
  random: SeededRandom,
): Promise<{ readonly words: string; readonly ms: number }> {
  const { stores } = now.fleet;
  const few = Math.floor((stores.length - 1) / 2);
  const isFew = random.chance(0.5);
  const count = 1 + random.below(isFew ? few : stores.length);
  const victims = random.sample(stores, count);
  const beganMs = sharedMs();
  const what = await befall(now, victims, random);
  const lastMs = sharedMs();
  let ms = 0;
  let during = '';
  if (isFew) {
    ms = await now.fleet.backSince(lastMs);
    during = `, all callers go on ${seconds(ms)} later`;
  }
  await sleep(Math.max(0, random.between(500, 8_000) - (sharedMs() - lastMs)));
  const told = await mend(now);
  const mendedMs = sharedMs();
  const after = await now.fleet.backSince(mendedMs);
  const words = `${seconds(beganMs - now.beganMs)} ${what}${during}; mended after ${seconds(mendedMs - beganMs)}, all callers go on after ${seconds(after)}${told}`;
  return { words, ms: Math.max(ms, after) };
}

afterEach(async context => {
  if (scene === undefined) return;
  console.log(story.join('\n  '));
  if (context.task.result?.state === 'fail')
    for (const one of scene.fleet.all) console.error(`log of ${one.name}:\n${one.words()}`);
  for (const one of scene.fleet.stores) one.goOn();
  await scene.fleet.close();
  for (const disk of scene.disks.values()) disk.close();
  await scene.network.close();
  scene = undefined;
}, REST_MS);

describe.skipIf(forbidden !== undefined)('registers in network namespaces', () => {
  it.each([3, 5])(
    'on %i stores that are killed, stopped, cut off, deafened and full',
    { timeout: FORMED_MS + 2 * TRIED_MS + 4 * REST_MS },
    async stores => {
      const random = new SeededRandom(SEED).fork(String(stores));
      story = [`registers on ${stores} stores, SHOALMQ_KV_SEED=${SEED}:`];
      scene = await open(stores);
      const { fleet } = scene;
      await Promise.all(fleet.all.map(one => one.start()));
      story.push(`one range with ${stores} voters after ${seconds(await fleet.formed(stores, FORMED_MS))}`);
      await fleet.load(fleet.all, LOAD);
      await fleet.backSince(sharedMs(), fleet.all);
      const endMs = sharedMs() + TRIED_MS;
      const waits: number[] = [];
      while (sharedMs() < endMs) {
        const { words, ms } = await round(scene, random);
        story.push(words);
        waits.push(ms);
        await sleep(random.between(200, 3_000));
      }
      await fleet.rest();
      story.push(fleet.verdict());
      expect(Math.max(...waits), 'milliseconds until callers go on').toBeLessThan(BACK_MS);
    },
  );
});
