import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { askAdmin } from '../../src/node/admin-client.js';
import type { RangeRow, RangesReport, StoresReport } from '../../src/node/kv-view.js';
import { checkByKey, verdictWords } from '../sim/linearizability.js';
import { threadBreaker } from './breakage.js';
import { sleep } from './client/client.js';
import { ClusterHost, eventually, expectWhole } from './cluster-host.js';
import { MapLoad } from './map-load.js';

/**
 * One story, told in order: three nodes of the product, with nothing set but where they find each other. They make the
 * map's range and its three voters by themselves, and lose nothing of what they acknowledged while nodes are killed,
 * threads die, and all of them are restarted in turn.
 */

const START_MS = 40_000;
const STEP_MS = 120_000;
const NEWS_MS = 8_000;
/** A node settles after 5 s, begins a key space after 5 to 10, and adds a voter each few seconds. */
const FORMED_MS = 45_000;
const BACK_MS = 5_000;
/** Without a hand-over a range waits for an election; this is the machine's own bad moments. */
const HANDED_OVER_MS = 2_500;
const LOAD = { keys: 12, workers: 2, pauseMs: 20 };

const NAMES = ['a', 'b', 'c'];
const breakers = new Map(NAMES.map(name => [name, threadBreaker()]));
const measured: string[] = [];
const hosts: ClusterHost[] = [];
let load: MapLoad;

const ranges = (host: ClusterHost) => askAdmin<RangesReport>(host.port, 'GET', '/kv/ranges');
const stores = (host: ClusterHost) => askAdmin<StoresReport>(host.port, 'GET', '/kv/stores');
const seconds = (ms: number) => `${(ms / 1_000).toFixed(2)} s`;

async function mapRange(host: ClusterHost): Promise<RangeRow> {
  const found = (await ranges(host)).ranges.filter(({ service }) => service === 'map');
  expect(found.length).toBe(1);
  return found[0]!;
}

/** All see one range with three voters that live, under one leader. */
async function expectFormed(withinMs: number): Promise<void> {
  await eventually(withinMs, async () => {
    for (const host of hosts) {
      const { state, leader, members } = await mapRange(host);
      expect([state, leader === null]).toEqual(['well', false]);
      expect(members.map(({ name, role, alive }) => `${name} ${role} ${alive}`).sort()).toEqual(
        hosts.map(({ name }) => `apply-0@${name} voter true`).sort(),
      );
    }
  });
}

async function leader(): Promise<ClusterHost> {
  for (const host of hosts) {
    if (host.broker.process === undefined) continue;
    const name = (await mapRange(host)).leader?.name;
    const found = hosts.find(other => name === `apply-0@${other.name}`);
    if (found !== undefined) return found;
  }
  throw new Error('nobody leads');
}

beforeAll(async () => {
  for (const name of NAMES) hosts.push(await ClusterHost.make(name, hosts[0], {}, breakers.get(name)!.env));
  await Promise.all(hosts.map(({ broker }) => broker.start()));
  await expectWhole(hosts, NEWS_MS);
}, START_MS);
afterEach(context => {
  if (context.task.result?.state !== 'fail') return;
  for (const { name, broker } of hosts) console.error(`log of ${name}:\n${broker.log()}`);
});
afterAll(async () => {
  await load?.rest();
  const exits = await Promise.all(hosts.map(({ broker }) => broker.stop()));
  for (const { broker } of hosts) broker.removeFiles();
  console.log(`the replicated storage in three nodes:${measured.map(row => `\n  ${row}`).join('')}`);
  expect(exits).toEqual(hosts.map(() => ({ code: 0, signal: null })));
}, START_MS);

describe('three nodes', () => {
  it('make one range for the map, with three voters, by themselves', { timeout: STEP_MS }, async () => {
    const beganMs = performance.now();
    await expectFormed(FORMED_MS);
    measured.push(`one range with three voters after ${seconds(performance.now() - beganMs)}`);
    for (const host of hosts) {
      const found = (await stores(host)).stores;
      expect(found.map(({ name, state }) => `${name} ${state}`).sort()).toEqual(
        hosts.flatMap(({ name }) => [`apply-0@${name} alive`, `match-0@${name} alive`]).sort(),
      );
      expect(found.filter(({ isOwn }) => isOwn).map(({ name }) => name)).toEqual([
        `apply-0@${host.name}`,
        `match-0@${host.name}`,
      ]);
    }
  });

  it('give through one what was kept through another', { timeout: STEP_MS }, async () => {
    for (const [at, host] of hosts.entries()) {
      expect((await host.kv('put', 'greeting', `hello ${at}`)).code).toBe(0);
      for (const other of hosts)
        expect(await other.kv('get', 'greeting')).toMatchObject({ code: 0, stdout: `hello ${at}` });
    }
    expect((await hosts[1]!.kv('delete', 'greeting')).code).toBe(0);
    expect((await hosts[2]!.kv('get', 'greeting')).code).not.toBe(0);
  });
});

describe('under load', () => {
  it('a leader that is killed is replaced, and comes back with its data', { timeout: STEP_MS }, async () => {
    load = new MapLoad(hosts, LOAD);
    await load.backSince(performance.now(), hosts, BACK_MS);
    await sleep(1_000);
    const victim = await leader();
    const others = hosts.filter(host => host !== victim);
    const before = (await stores(others[0]!)).stores.find(({ name }) => name === `apply-0@${victim.name}`)!;
    await victim.broker.kill9();
    const backMs = await load.backSince(performance.now(), others, 4 * BACK_MS);
    measured.push(`the leader is killed: the others write after ${seconds(backMs)}`);
    expect(backMs).toBeLessThan(BACK_MS);
    await victim.broker.launch();
    const againMs = await load.backSince(performance.now(), [victim], 4 * BACK_MS);
    measured.push(`it runs again: it writes after ${seconds(againMs)}`);
    await expectWhole(hosts, NEWS_MS);
    await expectFormed(NEWS_MS);
    const { id } = (await stores(others[0]!)).stores.find(({ name }) => name === before.name)!;
    expect(id).toBe(before.id);
  });

  it('a store thread that dies comes back, and the node goes on', { timeout: STEP_MS }, async () => {
    const victim = await leader();
    // Threads of a process in the order of their start: mqtt-0, match-0, apply-0.
    breakers.get(victim.name)!.break(3);
    await eventually(NEWS_MS, async () => {
      expect(await victim.broker.metric('shoalmq_thread_restarts_total')).toBe(1);
    });
    const backMs = await load.backSince(performance.now(), hosts, 4 * BACK_MS);
    measured.push(`a store thread dies: all write after ${seconds(backMs)}`);
    expect(backMs).toBeLessThan(BACK_MS);
    await expectFormed(NEWS_MS);
  });

  it('all are restarted in turn, and hand over what they lead', { timeout: STEP_MS }, async () => {
    for (const host of [...hosts]) {
      const others = hosts.filter(other => other !== host);
      const wasLeader = (await leader()) === host;
      const sinceMs = performance.now();
      expect(await host.broker.stop()).toEqual({ code: 0, signal: null });
      await load.backSince(performance.now(), others, BACK_MS);
      const gapMs = load.longestGap(sinceMs, others);
      measured.push(
        `${host.name} is stopped${wasLeader ? ', which led' : ''}: no write for ${seconds(gapMs)} at the most`,
      );
      expect(gapMs).toBeLessThan(HANDED_OVER_MS);
      await host.broker.launch();
      await load.backSince(performance.now(), hosts, 4 * BACK_MS);
      await expectWhole(hosts, NEWS_MS);
      await expectFormed(4 * NEWS_MS);
    }
  });

  it('nothing was lost, and nothing old was read', { timeout: STEP_MS }, async () => {
    await load.rest();
    expect(await load.reread(hosts[0]!)).toBe(true);
    const wrong = checkByKey(load.operations, 0);
    expect(wrong && `register ${wrong.key}: ${verdictWords(wrong.verdict)}`).toBeUndefined();
    measured.push(`${load.operations.length} operations, linearizable`);
  });
});

describe('a node that is put out', () => {
  it('keeps its stores to itself, and the others go on', { timeout: STEP_MS }, async () => {
    const [a, b, c] = hosts as [ClusterHost, ClusterHost, ClusterHost];
    expect((await b.command('evict', 'c')).code).toBe(0);
    await eventually(NEWS_MS, async () => {
      expect((await c.members()).standing).toBe('evicted');
      const own = (await stores(c)).stores.filter(({ state }) => state === 'alive');
      expect(own.map(({ name }) => name).sort()).toEqual(['apply-0@c', 'match-0@c']);
    });
    expect((await c.kv('put', 'x', 'y')).code).not.toBe(0);
    await eventually(NEWS_MS, async () => {
      expect((await a.kv('put', 'x', 'z')).code).toBe(0);
      expect((await b.kv('get', 'x')).stdout).toBe('z');
    });
  });
});
