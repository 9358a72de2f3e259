import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { eventually, Fleet, HOSTS } from './netns/fleet.js';
import type { NetnsNode } from './netns/node.js';
import { whatForbidsScenarios } from './netns/required.js';

/**
 * The cluster with real processes on a real network that really breaks: five brokers in network namespaces. Each
 * scenario begins with all five in one cluster, and ends when all that live agree on who there is.
 *
 * `SHOALMQ_REQUIRE_NETNS=1` makes it a failure that the machine forbids such networks.
 */

/** What issue 3 promises of a cluster as small as this. */
const EVICTED_MS = 10_000;
const JOINED_MS = 10_000;
const HEALED_MS = 30_000;
/** Nothing is promised of this: the smaller part doubts itself first, since most of those whom it probes are silent. */
const APART_MS = 60_000;
/** The machine may be busy with other suites; what was measured is printed beside the bound. */
const BUSY_MS = 5_000;
/** News that need no detection: a rumour, a goodbye. */
const NEWS_MS = 5_000;

const PAUSE_MS = 20_000;
const LOSS_MS = 30_000;
const LOSS_SHARE = 0.2;
const ONE_WAY_MS = 15_000;
const FLAPS = 3;
const FLAP_MS = 2_500;
/** The doctor waits for a few turns of the probe list before it calls a link bad. */
const DOCTOR_MS = 60_000;
/** Longer than a join, a probe and a round of gossip need. */
const STAYS_OUT_MS = 4_000;

const START_MS = 90_000;
const SCENARIO_MS = 180_000;

const forbidden = await whatForbidsScenarios();

const measured: string[] = [];
let scenarios = 0;
let fleet: Fleet;

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
const span = (times: readonly number[]) => `first ${seconds(times[0]!)}, last ${seconds(times.at(-1)!)}`;

/** `act` yields what it has measured. */
function scenario(name: string, act: () => Promise<string>): void {
  scenarios += 1;
  it(name, { timeout: SCENARIO_MS }, async () => {
    const beganMs = performance.now();
    const result = await act();
    measured.push(`${name}: ${result} (took ${seconds(performance.now() - beganMs)})`);
  });
}

const placesOf = (nodes: readonly NetnsNode[]) => nodes.map(({ place }) => place);
const others = (...without: NetnsNode[]) => fleet.nodes.filter(node => !without.includes(node));

describe.skipIf(forbidden !== undefined)('five nodes in network namespaces', () => {
  beforeAll(async () => {
    fleet = await Fleet.make();
  }, START_MS);
  afterEach(context => {
    if (context.task.result?.state !== 'fail') return;
    for (const node of fleet.nodes) console.error(`log of ${node.name}:\n${node.log()}`);
  });
  afterAll(async () => {
    await fleet.close();
    const rows = measured.map(row => `\n  ${row}`).join('');
    console.log(`network namespaces: ${measured.length} of ${scenarios} scenarios ran and hold${rows}`);
  }, START_MS);

  scenario('all start at once', async () => {
    await Promise.all(fleet.nodes.map(node => node.kill9()));
    await fleet.startAll();
    return `all see all ${seconds(await fleet.agree(fleet.nodes, JOINED_MS))} after the last opened its port`;
  });

  describe('when all is well', () => {
    beforeEach(() => fleet.settle(), START_MS);

    scenario('kill -9 of one', killOne);
    scenario('SIGSTOP of one for 20 s', pauseOne);
    scenario('cut into 2 and 3', cutInTwo);
    scenario('cut into 2 and 1, with no seed left', cutWithoutSeeds);
    scenario('cut in one direction', cutOneWay);
    scenario('a firewall that lets only TCP, then only UDP through to one', cutOneProtocol);
    scenario('a link that flaps', flap);
    scenario('20 % loss everywhere for 30 s', loseSome);
    scenario("another machine takes a dead one's address", reuseAddress);
    scenario('restart of all at once', restartAll);
    scenario('an operator evicts one', evictOne);
  });
});

async function killOne(): Promise<string> {
  const victim = fleet.nodes[2]!;
  const atMs = Date.now();
  await victim.kill9();
  const times = await fleet.told(others(victim), 'failed', victim.name, atMs, EVICTED_MS + BUSY_MS);
  await fleet.agree(others(victim), NEWS_MS, [victim]);
  expect(fleet.losses(atMs)).toEqual(others(victim).map(({ name }) => `${name}: ${victim.name} failed`));
  return `evicted by the ${span(times)}`;
}

async function pauseOne(): Promise<string> {
  const victim = fleet.nodes[3]!;
  const ids = await fleet.ids();
  const atMs = Date.now();
  victim.signal('SIGSTOP');
  const times = await fleet.told(others(victim), 'failed', victim.name, atMs, EVICTED_MS + BUSY_MS);
  await fleet.agree(others(victim), NEWS_MS, [victim]);
  await sleep(atMs + PAUSE_MS - Date.now());
  victim.signal('SIGCONT');
  const back = await fleet.agree(fleet.nodes, HEALED_MS);
  expect(await fleet.ids(), 'nobody was restarted').toEqual(ids);
  expect(fleet.losses(atMs)).toEqual(others(victim).map(({ name }) => `${name}: ${victim.name} failed`));
  return `evicted by the ${span(times)}; back ${seconds(back)} after SIGCONT`;
}

async function cutInTwo(): Promise<string> {
  const ids = await fleet.ids();
  const atMs = Date.now();
  const [left, right] = [fleet.nodes.slice(0, 2), fleet.nodes.slice(2)];
  await fleet.network.cut(placesOf(left), placesOf(right));
  const apart = await Promise.all([fleet.agree(left, APART_MS, right), fleet.agree(right, APART_MS, left)]);
  // At once, while what each half has just told of the other is still fresh and crosses the healed cut.
  await fleet.network.heal();
  const healed = await fleet.agree(fleet.nodes, HEALED_MS);
  expect(await fleet.ids(), 'nobody was restarted').toEqual(ids);
  const across = (kind: string) =>
    [left, right].flatMap((half, at) =>
      half.flatMap(node => [right, left][at]!.map(other => `${node.name}: ${other.name} ${kind}`)),
    );
  expect(fleet.losses(atMs).sort(), 'each is lost once').toEqual(across('failed').sort());
  expect(fleet.joins(atMs).sort(), 'each comes back once').toEqual(across('joined').sort());
  return `halves see only themselves after ${apart.map(seconds).join(' and ')}; one cluster ${seconds(healed)} after the heal`;
}

/** Both seeds are dead for good, so that the parts have nothing to find each other by but what they remember. */
async function cutWithoutSeeds(): Promise<string> {
  const [seeds, [one, ...rest]] = [fleet.nodes.slice(0, 2), fleet.nodes.slice(2)];
  const [left, right] = [[one!], rest];
  await Promise.all(seeds.map(node => node.kill9()));
  await fleet.agree([...left, ...right], APART_MS, seeds);
  const atMs = Date.now();
  await fleet.network.cut(placesOf(left), placesOf(right));
  const alone = await Promise.all([
    fleet.agree(left, APART_MS, [...seeds, ...right]),
    fleet.agree(right, APART_MS, [...seeds, ...left]),
  ]);
  await fleet.network.heal();
  const healed = await fleet.agree([...left, ...right], HEALED_MS, seeds);
  expect(fleet.losses(atMs), 'each is lost once').toHaveLength(2 * left.length * right.length);
  return `parts see only themselves after ${alone.map(seconds).join(' and ')}; one cluster ${seconds(healed)} after the heal`;
}

/** `deaf` hears nothing from `unheard`, which hears all that `deaf` says. */
async function cutOneWay(): Promise<string> {
  const [deaf, unheard] = [fleet.nodes[0]!, fleet.nodes[1]!];
  const atMs = Date.now();
  await fleet.network.deafen(deaf.place, [unheard.place]);
  let words: string[] = [];
  const named = await eventually(DOCTOR_MS, async () => {
    words = await unheard.findings();
    expect(words).toContainEqual(
      expect.stringContaining(`The link to ${deaf.name} (${deaf.place.ip}:4800) works in one direction only`),
    );
  });
  await sleep(Math.max(0, atMs + ONE_WAY_MS - Date.now()));
  await fleet.agree(fleet.nodes, 0);
  expect(fleet.losses(atMs), 'the view does not oscillate').toEqual([]);
  await fleet.network.heal();
  const well = await eventually(DOCTOR_MS, async () => {
    expect([...(await unheard.findings()), ...(await deaf.findings())]).toEqual([]);
  });
  expect(fleet.losses(atMs)).toEqual([]);
  return `named by the doctor after ${seconds(named)}, nobody evicted; no finding ${seconds(well)} after the heal`;
}

async function cutOneProtocol(): Promise<string> {
  const [asked, walled] = [fleet.nodes[0]!, fleet.nodes[3]!];
  const atMs = Date.now();
  const named: number[] = [];
  for (const [protocol, words] of [
    [
      'udp',
      `${walled.name} (${walled.place.ip}:4800) is in the cluster, but TCP alone reaches it, UDP does not`,
    ],
    ['tcp', `UDP reaches ${walled.name} (${walled.place.ip}:4800), TCP does not (no answer)`],
  ] as const) {
    await fleet.network.block(protocol, walled.place, placesOf(others(walled)));
    named.push(
      await eventually(DOCTOR_MS, async () => {
        expect(await asked.findings()).toContainEqual(expect.stringContaining(words));
      }),
    );
    await fleet.network.heal();
    await eventually(DOCTOR_MS, async () => expect(await asked.findings()).toEqual([]));
  }
  await fleet.agree(fleet.nodes, 0);
  expect(fleet.losses(atMs)).toEqual([]);
  return `named by the doctor after ${named.map(seconds).join(' and ')}, nobody evicted`;
}

/** A link of one pair that comes and goes; all others are whole. */
async function flap(): Promise<string> {
  const [one, other] = [fleet.nodes[0]!.place, fleet.nodes[4]!.place];
  const atMs = Date.now();
  for (let turn = 0; turn < FLAPS; turn++) {
    await fleet.network.cut([one], [other]);
    await sleep(FLAP_MS);
    await fleet.network.heal();
    await sleep(FLAP_MS);
  }
  const calm = await fleet.agree(fleet.nodes, HEALED_MS);
  expect(fleet.losses(atMs), 'the view does not oscillate').toEqual([]);
  return `${FLAPS} times ${seconds(FLAP_MS)} without, nobody evicted; all alive ${seconds(calm)} after its end`;
}

async function loseSome(): Promise<string> {
  const atMs = Date.now();
  await Promise.all(fleet.nodes.map(({ place }) => fleet.network.lose(place, LOSS_SHARE)));
  await sleep(LOSS_MS);
  const dropped = await Promise.all(fleet.nodes.map(({ place }) => fleet.network.dropped(place)));
  await fleet.network.heal();
  expect(Math.min(...dropped), 'packets lost by each').toBeGreaterThan(0);
  const calm = await fleet.agree(fleet.nodes, HEALED_MS);
  expect(fleet.losses(atMs)).toEqual([]);
  const total = dropped.reduce((sum, count) => sum + count);
  return `${total} packets lost, nobody evicted; all alive ${seconds(calm)} after its end`;
}

async function reuseAddress(): Promise<string> {
  const { victim, newcomer, atMs } = await fleet.swapLast();
  const times = await fleet.told(others(newcomer), 'replaced', victim.name, atMs, NEWS_MS);
  await fleet.agree(fleet.nodes, HEALED_MS);
  const all = Date.now() - atMs;
  const told = others(newcomer).map(({ name }) => `${name}: ${victim.name} replaced`);
  expect(fleet.losses(atMs)).toEqual(told);
  return `the dead one replaced after: ${span(times)}; all see all after ${seconds(all)}`;
}

async function restartAll(): Promise<string> {
  const ids = [...(await fleet.ids()).values()];
  await Promise.all(fleet.nodes.map(node => node.kill9()));
  await fleet.startAll();
  const joined = await fleet.agree(fleet.nodes, JOINED_MS);
  const now = [...(await fleet.ids()).values()];
  expect(new Set([...ids, ...now]).size, 'each is a new identity').toBe(2 * HOSTS);
  return `all see all ${seconds(joined)} after the last opened its port`;
}

async function evictOne(): Promise<string> {
  const [operator, victim] = [fleet.nodes[0]!, fleet.nodes[3]!];
  const atMs = Date.now();
  await operator.evict(victim.name);
  const times = await fleet.told(others(victim), 'evicted', victim.name, atMs, NEWS_MS);
  await eventually(NEWS_MS, async () => expect((await victim.members()).standing).toBe('evicted'));
  await fleet.agree(others(victim), NEWS_MS);
  await sleep(STAYS_OUT_MS);
  await fleet.agree(others(victim), 0);
  expect(fleet.losses(atMs)).toEqual(others(victim).map(({ name }) => `${name}: ${victim.name} evicted`));
  await victim.stop();
  await victim.start();
  const back = await fleet.agree(fleet.nodes, JOINED_MS);
  return `out everywhere after: ${span(times)}; stays out; back ${seconds(back)} after its restart`;
}
