import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from './cluster-host.js';
import { definite, EchoFleet, serversOf, unnoticed } from './echo/echo-fleet.js';
import { EchoProcess } from './echo/echo-process.js';
import { ipOf, Network, type Place } from './netns/network.js';
import { whatForbidsScenarios } from './netns/required.js';

/**
 * Calls over a network that breaks: five processes in network namespaces, a service on two of them, all five call it
 * while the network is cut and mended. Where a cut leaves a server on both sides, no idempotent call may fail.
 *
 * `SHOALMQ_REQUIRE_NETNS=1` makes it a failure that the machine forbids such networks.
 */

const HOSTS = 5;
const PORT = 4_800;
const RPC_PORT = 4_900;
/** The machine carries ten processes when another suite runs beside this one. */
const PAUSE_MS = 40;

/** In which the underlay finds that a host is dead. */
const DETECTED_MS = 10_000;
/** In which halves see only themselves; see cluster-netns.test.ts. */
const APART_MS = 60_000;
const HEALED_MS = 30_000;
/** The pauses between two attempts to connect grow to ten seconds, and an attempt may take three. */
const RECONNECTED_MS = 15_000;
const LOSS_MS = 15_000;
const LOSS_SHARE = 0.1;

const START_MS = 90_000;
const SCENARIO_MS = 180_000;

const forbidden = await whatForbidsScenarios();
const measured: string[] = [];
const places = new Map<EchoProcess, Place>();
let network: Network;
let fleet: EchoFleet;
/** Two servers, and three who only call. */
let s1: EchoProcess;
let s2: EchoProcess;
let c1: EchoProcess;
let c2: EchoProcess;
let c3: EchoProcess;

const placeOf = (one: EchoProcess) => places.get(one)!;
const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;

async function openFleet(): Promise<void> {
  network = await Network.make();
  const seeds = [1, 2].map(at => `${ipOf(at)}:${PORT}`);
  const all: EchoProcess[] = [];
  for (let at = 1; at <= HOSTS; at++) {
    const name = `n${at}`;
    const place = await network.add(name, at);
    await network.plugIn(place);
    const ports = { port: PORT, rpcPort: RPC_PORT };
    const settings = {
      name,
      host: place.ip,
      ...ports,
      seeds,
      journal: join(network.files, `${name}.journal`),
    };
    const process = new EchoProcess(settings, ['ip', 'netns', 'exec', place.namespace]);
    places.set(process, place);
    all.push(process);
  }
  [s1, c1, s2, c2, c3] = all as [EchoProcess, EchoProcess, EchoProcess, EchoProcess, EchoProcess];
  fleet = new EchoFleet(all, PAUSE_MS);
}

/** Yields what it has measured. */
function scenario(name: string, act: () => Promise<string>): void {
  it(name, { timeout: SCENARIO_MS }, async () => {
    measured.push(`${name}: ${await act()}`);
  });
}

describe.skipIf(forbidden !== undefined)('a service on two of five processes in network namespaces', () => {
  beforeAll(openFleet, START_MS);
  beforeEach(async () => {
    await network.heal();
    await network.plugIn(placeOf(s1));
    await fleet.settle([s1, s2]);
    expect(serversOf(await fleet.load(fleet.all))).toEqual([s1.serverId, s2.serverId].sort());
  }, START_MS);
  afterEach(async context => {
    if (context.task.result?.state === 'fail')
      for (const one of fleet.all) console.error(`log of ${one.name}:\n${one.words()}`);
    expect(await fleet.untruths()).toEqual([]);
  }, START_MS);
  afterAll(async () => {
    await fleet.close();
    await network.close();
    console.log(`calls in network namespaces:${measured.map(row => `\n  ${row}`).join('')}`);
  }, START_MS);

  scenario('cut into 2 and 3, a server on each side', cutInTwo);
  scenario('one without a server is cut off', cutOff);
  scenario('the cable of a server is pulled', pullCable);
  scenario('a caller is not heard by a server that all others reach', cutOneWay);
  scenario('10 % loss everywhere for 15 s', loseSome);
});

async function cutInTwo(): Promise<string> {
  const [left, right] = [
    [s1, c1],
    [s2, c2, c3],
  ];
  await network.cut(left!.map(placeOf), right!.map(placeOf));
  const apart = await Promise.all([fleet.agree(left!, [s1], APART_MS), fleet.agree(right!, [s2], APART_MS)]);
  const during = unnoticed(await fleet.laps(fleet.all));
  await network.heal();
  const healed = await fleet.agree(fleet.all, [s1, s2], HEALED_MS);
  const since = await fleet.laps(fleet.all);
  await sleep(2_000);
  const after = await fleet.rested(fleet.all);
  expect(serversOf(after)).toEqual([s1.serverId, s2.serverId].sort());
  const healing = unnoticed([...since, ...after]);
  expect(during.longestMs).toBeLessThan(DETECTED_MS);
  expect(healing.longestMs).toBeLessThan(DETECTED_MS);
  const halves = apart.map(seconds).join(' and ');
  return `${during.words}; halves see only their own after ${halves}, both servers ${seconds(healed)} after the heal; meanwhile ${healing.words}`;
}

/** Its calls get a definite answer while it is alone, and the others notice nothing. */
async function cutOff(): Promise<string> {
  const others = fleet.all.filter(one => one !== c3);
  await network.cut([placeOf(c3)], others.map(placeOf));
  const alone = await fleet.agree([c3], [], APART_MS);
  const seen = unnoticed(await fleet.laps(others));
  definite(await fleet.laps([c3]));
  const sinceMs = performance.now();
  const asked = { method: 'any', requests: ['anybody'], deadlineMs: 5_000 } as const;
  expect(await c3.tell('ask', asked)).toEqual(['server-not-found: echo: no server is known']);
  const refusedMs = performance.now() - sinceMs;
  await network.heal();
  const healed = await fleet.agree(fleet.all, [s1, s2], HEALED_MS);
  definite(await fleet.laps([c3]));
  await sleep(1_000);
  unnoticed(await fleet.rested(fleet.all));
  return `it knows after ${seconds(alone)}, refuses in ${Math.round(refusedMs)} ms, and calls both ${seconds(healed)} after the heal; the others meanwhile: ${seen.words}`;
}

/** No goodbye, no reset: connections that nobody answers on. */
async function pullCable(): Promise<string> {
  const others = fleet.all.filter(one => one !== s1);
  await network.unplug(placeOf(s1));
  const gone = await fleet.agree(others, [s2], APART_MS);
  const seen = unnoticed(await fleet.laps(others));
  expect(seen.longestMs).toBeLessThan(DETECTED_MS);
  await network.plugIn(placeOf(s1));
  const back = await fleet.agree(fleet.all, [s1, s2], HEALED_MS);
  return `${seen.words}; out of the view everywhere after ${seconds(gone)}, back ${seconds(back)} after it is plugged in`;
}

/** The underlay rightly says that the server lives: only the caller's connection can tell. */
async function cutOneWay(): Promise<string> {
  await network.deafen(placeOf(s1), [placeOf(c3)]);
  const isOut = async () => {
    const row = (await c3.tell('servers', {})).find(({ id }) => id === s1.serverId);
    return row?.isBroken;
  };
  const outMs = performance.now();
  await eventually(DETECTED_MS, async () => expect(await isOut()).toBe(true));
  const out = performance.now() - outMs;
  await sleep(5_000);
  const seen = unnoticed(await fleet.laps(fleet.all));
  expect(seen.longestMs).toBeLessThan(DETECTED_MS);
  expect(await c3.tell('hosts', {})).toEqual(fleet.all.map(({ name }) => name));
  await network.heal();
  const back = await fleet.agree(fleet.all, [s1, s2], RECONNECTED_MS);
  return `out of the caller's rotation after ${seconds(out)}, ${seen.words}; back ${seconds(back)} after the heal`;
}

async function loseSome(): Promise<string> {
  await Promise.all(fleet.all.map(one => network.lose(placeOf(one), LOSS_SHARE)));
  await sleep(LOSS_MS);
  const dropped = await Promise.all(fleet.all.map(one => network.dropped(placeOf(one))));
  await network.heal();
  expect(Math.min(...dropped), 'packets lost by each').toBeGreaterThan(0);
  const seen = unnoticed(await fleet.rested(fleet.all));
  return `${dropped.reduce((sum, count) => sum + count)} packets lost, ${seen.words}`;
}
