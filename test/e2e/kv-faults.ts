/** What happens to stores and their network, drawn from one seed. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { SeededRandom } from '../sim/random.js';
import type { KvFleet } from './kv-fleet.js';
import type { KvProcess } from './kv-process.js';
import type { SmallDisk } from './netns/kv-disk.js';
import type { Network, Place } from './netns/network.js';

export interface Scene {
  readonly network: Network;
  readonly fleet: KvFleet;
  readonly beganMs: number;
  readonly places: ReadonlyMap<KvProcess, Place>;
  readonly disks: ReadonlyMap<KvProcess, SmallDisk>;
  /** Has a store that starts again work as before. */
  revived(store: KvProcess): Promise<void>;
}

type Fault = (scene: Scene, victims: readonly KvProcess[], random: SeededRandom) => Promise<string>;

const names = (some: readonly KvProcess[]) => some.map(({ name }) => name).join(' ');

async function kill(_: Scene, victims: readonly KvProcess[]): Promise<string> {
  await Promise.all(victims.map(one => one.kill9()));
  return `kill -9 ${names(victims)}`;
}

async function stop(_: Scene, victims: readonly KvProcess[]): Promise<string> {
  for (const one of victims) one.stop();
  return `SIGSTOP ${names(victims)}`;
}

function placesOf({ places }: Scene, some: readonly KvProcess[]): Place[] {
  return some.map(one => places.get(one)!);
}

async function partition(scene: Scene, victims: readonly KvProcess[]): Promise<string> {
  const others = scene.fleet.all.filter(one => !victims.includes(one));
  await scene.network.cut(placesOf(scene, victims), placesOf(scene, others));
  return `cut off ${names(victims)}`;
}

async function deafen(scene: Scene, victims: readonly KvProcess[], random: SeededRandom): Promise<string> {
  const others = scene.fleet.all.filter(one => !victims.includes(one));
  const isDeaf = random.chance(0.5);
  const [ears, mouths] = isDeaf ? [victims, others] : [others, victims];
  for (const place of placesOf(scene, ears)) await scene.network.deafen(place, placesOf(scene, mouths));
  return `${names(victims)} ${isDeaf ? 'hear nothing' : 'are not heard'}`;
}

async function fill({ disks }: Scene, victims: readonly KvProcess[]): Promise<string> {
  for (const one of victims) disks.get(one)!.fill();
  return `disk full at ${names(victims)}`;
}

const FAULTS: readonly Fault[] = [kill, stop, partition, deafen, fill];

/** One to two of them, each on stores of its own choice among `victims`; in words. */
export async function befall(
  scene: Scene,
  victims: readonly KvProcess[],
  random: SeededRandom,
): Promise<string> {
  const words: string[] = [];
  const first = random.below(FAULTS.length);
  const second = random.chance(0.4) ? random.below(FAULTS.length) : first;
  for (const at of new Set([first, second])) {
    const some = victims.filter(() => random.chance(0.7));
    words.push(await FAULTS[at]!(scene, some.length === 0 ? victims : some, random));
    if (random.chance(0.5)) await sleep(random.between(0, 1_000));
  }
  return words.join(', ');
}

/** Nothing is wrong any more when it is done; who was killed runs. In words, what only the stores could tell. */
export async function mend({ network, fleet, disks, revived }: Scene): Promise<string> {
  for (const disk of disks.values()) disk.free();
  for (const one of fleet.stores) one.goOn();
  const living = fleet.stores.filter(one => one.isRunning);
  const full = (await Promise.all(living.map(one => one.tell('look', {})))).map((seen, at) => {
    return seen.full === 0 ? '' : `, ${living[at]!.name} has found no room ${seen.full} times`;
  });
  await network.heal();
  const dead = fleet.stores.filter(one => !one.isRunning);
  await Promise.all(dead.map(one => one.start()));
  await Promise.all(dead.map(revived));
  return full.join('');
}
