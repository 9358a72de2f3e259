import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { askAdmin } from '../../src/node/admin-client.js';
import type { ServicesReport } from '../../src/node/services-view.js';
import type { TrafficReport } from '../../src/node/traffic.js';
import { freePort, type Settings } from './broker.js';
import { ClusterHost, eventually, expectKilled, expectWhole } from './cluster-host.js';

/** One story, told in order: three processes that call each other, and what an operator sees of that. */

const START_MS = 40_000;
/** News of a member takes about a second; the rest is for a machine that is busy with other things. */
const NEWS_MS = 8_000;
/** In which directives are in effect everywhere. */
const TRAFFIC_MS = 2_000;

let a: ClusterHost;
let b: ClusterHost;
let c: ClusterHost;
let deaf: ClusterHost;
const all: ClusterHost[] = [];

async function made(name: string, seed: ClusterHost | undefined, set: Settings): Promise<ClusterHost> {
  const host = await ClusterHost.make(name, seed, set);
  all.push(host);
  return host;
}

beforeAll(async () => {
  a = await made('a', undefined, {});
  b = await made('b', a, {});
  c = await made('c', a, { 'rpc.groups': 'canary' });
  await Promise.all([a, b, c].map(({ broker }) => broker.start()));
  await expectWhole([a, b, c], NEWS_MS);
}, START_MS);
afterEach(context => {
  if (context.task.result?.state !== 'fail') return;
  for (const { name, broker } of all) console.error(`log of ${name}:\n${broker.log()}`);
});
afterAll(async () => {
  const exits = await Promise.all(all.map(({ broker }) => broker.stop()));
  for (const { broker } of all) broker.removeFiles();
  expect(exits).toEqual(all.map(() => ({ code: 0, signal: null })));
}, START_MS);

const services = (host: ClusterHost) => askAdmin<ServicesReport>(host.port, 'GET', '/services');

async function directivesOf(host: ClusterHost) {
  const { services: known } = await askAdmin<TrafficReport>(host.port, 'GET', '/traffic');
  return known.find(({ name }) => name === 'node')?.directives ?? [];
}

/** Of the service `node`, by the names of their hosts. */
async function servers(host: ClusterHost) {
  const found = (await services(host)).services.find(({ name }) => name === 'node');
  return found?.servers ?? [];
}

const namesOf = async (host: ClusterHost) => (await servers(host)).map(server => server.host);

describe('three nodes', () => {
  it('find the servers of all, and how they are', { timeout: 30_000 }, async () => {
    for (const host of [a, b, c]) {
      await eventually(NEWS_MS, async () => {
        const rows = await servers(host);
        expect(rows.map(row => row.host)).toEqual(['a', 'b', 'c']);
        expect(rows.map(row => row.groups)).toEqual([[], [], ['canary']]);
        for (const { state, health, load, isLocal, host: name } of rows) {
          expect([state, health, isLocal]).toEqual(['serving', 0, name === host.name]);
          expect(load!.residentBytes).toBeGreaterThan(2 ** 20);
        }
        expect(rows.some(({ begun, isLocal }) => begun > 0 && !isLocal)).toBe(true);
      });
    }
    const { code, stdout } = await b.services();
    expect(code).toBe(0);
    expect(stdout).toMatch(/^SERVICE +NODE +ADDRESS +GROUPS +STATE/);
    expect(stdout).toMatch(/^node +c +127\.0\.0\.1:\d+ +canary +serving/m);
    expect(stdout).toContain('2 services, 9 servers; the calls are those of b, which was asked.');
    const json = JSON.parse((await b.services('--json')).stdout) as ServicesReport;
    expect(json.services.map(({ name }) => name)).toEqual(['kv', 'node']);
  });

  it('show each other as members with health and load', { timeout: 30_000 }, async () => {
    await eventually(NEWS_MS, async () => {
      for (const { members } of await Promise.all([a, b, c].map(host => host.members()))) {
        expect(members.map(({ health }) => health)).toEqual([0, 0, 0]);
        for (const { load } of members) expect(load!.utilization).toBeLessThanOrEqual(1);
      }
    });
  });

  it('have nothing that is wrong, from any of them', { timeout: 30_000 }, async () => {
    for (const host of [a, b, c])
      await eventually(NEWS_MS, async () => {
        expect((await host.findings()).filter(({ severity }) => severity === 'wrong')).toEqual([]);
      });
  });
});

describe('traffic directives', () => {
  it('are in effect everywhere within two seconds, set and unset on any node', {
    timeout: 60_000,
  }, async () => {
    for (const [at, host] of [a, b, c].entries()) {
      const prefix = `tenant-${at}`;
      expect(await host.traffic('set', prefix, 'canary=7', '=3')).toMatchObject({
        code: 0,
        stdout: 'done for kv, node\n',
      });
      await eventually(TRAFFIC_MS, async () => {
        for (const other of [a, b, c])
          expect(await directivesOf(other)).toContainEqual({ prefix, weights: { canary: 7, '': 3 } });
      });
    }
    expect((await c.traffic('get', 'tenant-0')).stdout).toMatch(
      /^SERVICE.*\nkv +tenant-0\* +canary=7 =3\nnode +tenant-0\* +canary=7 =3\n$/,
    );
    expect((await b.traffic('unset', 'tenant-0')).code).toBe(0);
    await eventually(TRAFFIC_MS, async () => {
      for (const other of [a, b, c])
        expect((await directivesOf(other)).map(({ prefix }) => prefix)).toEqual(['tenant-1', 'tenant-2']);
    });
  });

  it('are refused with words where they make no sense', { timeout: 30_000 }, async () => {
    expect(await a.traffic('set', 'x', 'canary=11')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('GROUP=0 to GROUP=10'),
    });
    expect(await a.traffic('set', 'x', 'canary=1', '--service', 'nobody')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('neither serves nor calls nobody; it knows kv, node'),
    });
  });
});

describe('a host whose RPC port is not where it says', () => {
  it('is named by the doctor of the others, also by those that were told of it', {
    timeout: 60_000,
  }, async () => {
    const port = await freePort();
    // It tells the others its advertised host, and listens at another one.
    const planted = { 'cluster.advertise': '127.0.0.1', 'rpc.host': '127.0.0.2', 'rpc.port': port };
    deaf = await made('deaf', a, planted);
    await deaf.broker.start();
    await expectWhole([a, b, c, deaf], NEWS_MS);
    const words = `Gossip reaches deaf (${deaf.address}), but its RPC port 127.0.0.1:${port} does not answer`;
    await eventually(NEWS_MS, async () => {
      expect(await a.findings()).toContainEqual({
        severity: 'wrong',
        what: expect.stringMatching(
          `^${words.replace(/[().]/g, '\\$&')} \\([a-z-]+: .*nobody listens on that port\\.$`,
        ),
        remedy: expect.stringContaining('cluster.advertise'),
      });
    });
    const { code, stdout } = await a.command('doctor');
    expect([code, stdout.replaceAll(/\s+/g, ' ')]).toEqual([1, expect.stringContaining(words)]);
    // Itself it calls the others well, and hears from them what it cannot see.
    const seen = (await deaf.findings()).map(({ what }) => what);
    expect(seen).toContainEqual(expect.stringMatching(/^Seen from a\b.*: Gossip reaches deaf/));
    const members = (await a.members()).members.map(({ name, health }) => [name, health]);
    expect(members).toEqual([
      ['a', 0],
      ['b', 0],
      ['c', 0],
      ['deaf', null],
    ]);
    expect((await servers(a)).find(({ host }) => host === 'deaf')?.state).toBe('disconnected');
    await deaf.broker.stop();
    await eventually(NEWS_MS, async () => expect(await namesOf(a)).toEqual(['a', 'b', 'c']));
  });
});

describe('a node that goes', () => {
  it('by kill -9 leaves the list of servers, and comes back to it', { timeout: 60_000 }, async () => {
    await expectKilled(b, 12_000, [a, c], namesOf, ['a', 'c']);
    await b.broker.launch();
    await eventually(NEWS_MS, async () => expect(await namesOf(a)).toEqual(['a', 'b', 'c']));
    // A new process has the directives of those that were there.
    await eventually(NEWS_MS, async () => {
      expect((await directivesOf(b)).map(({ prefix }) => prefix)).toEqual(['tenant-1', 'tenant-2']);
    });
  });

  it('by a signal has left it before it ends', { timeout: 60_000 }, async () => {
    expect(await c.broker.stop()).toEqual({ code: 0, signal: null });
    await eventually(1_000, async () => expect(await namesOf(a)).toEqual(['a', 'b']));
    for (const { name, servers: left } of (await services(a)).services)
      expect([name, ...left.map(({ state }) => state)]).toEqual([name, ...left.map(() => 'serving')]);
    await c.broker.launch();
    await eventually(NEWS_MS, async () => expect(await namesOf(a)).toEqual(['a', 'b', 'c']));
  });

  it('by the operator knows no services any more', { timeout: 30_000 }, async () => {
    expect((await c.command('leave')).code).toBe(0);
    expect((await c.services()).stdout).toContain('c is in no cluster any more (left)');
    expect(await c.traffic('set', 'x', 'canary=1')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('in no cluster any more: left'),
    });
    await eventually(NEWS_MS, async () => expect(await namesOf(a)).toEqual(['a', 'b']));
  });
});
