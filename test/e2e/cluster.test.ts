import { randomBytes } from 'node:crypto';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { get, type Settings } from './broker.js';
import { sleep } from './client/client.js';
import { ClusterHost, eventually, expectKilled, expectWhole } from './cluster-host.js';

/** One story, told in order: three processes on one machine, and what an operator does to them. */

const START_MS = 40_000;
/** To join, or to hear news: about a second; the rest is for a machine that is busy with other things. */
const NEWS_MS = 8_000;
/** A node that stays alone says so after ten seconds. */
const ALONE_MS = 15_000;

let a: ClusterHost;
let b: ClusterHost;
let c: ClusterHost;
const all: ClusterHost[] = [];

async function made(...args: Parameters<typeof ClusterHost.make>): Promise<ClusterHost> {
  const host = await ClusterHost.make(...args);
  all.push(host);
  return host;
}

let directory: string;
let sealed: Settings;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'shoalmq-e2e-cluster-'));
  const keyFile = join(directory, 'cluster.key');
  writeFileSync(keyFile, `${randomBytes(32).toString('base64')}\n`, { mode: 0o600 });
  sealed = { 'cluster.keyFile': keyFile };
  a = await made('a', undefined, sealed);
  b = await made('b', a, sealed);
  c = await made('c', a, sealed);
  // The seed last: whoever comes first waits for it.
  await Promise.all([b, c].map(({ broker }) => broker.start()));
  await a.broker.start();
}, START_MS);
afterEach(context => {
  if (context.task.result?.state !== 'fail') return;
  for (const { name, broker } of all) console.error(`log of ${name}:\n${broker.log()}`);
});
afterAll(async () => {
  const exits = await Promise.all(all.map(({ broker }) => broker.stop()));
  for (const { broker } of all) broker.removeFiles();
  rmSync(directory, { recursive: true });
  expect(exits).toEqual(all.map(() => ({ code: 0, signal: null })));
}, START_MS);

const namesOf = async (host: ClusterHost) => (await host.members()).members.map(({ name }) => name);

describe('three nodes', () => {
  it('form a cluster, and each shows all of them', { timeout: 30_000 }, async () => {
    await expectWhole([a, b, c], NEWS_MS);
    const shown = await Promise.all([a, b, c].map(host => host.command('members')));
    for (const [index, { code, stdout, stderr }] of shown.entries()) {
      expect([code, stderr]).toEqual([0, '']);
      const lines = stdout.trimEnd().split('\n');
      expect(lines.slice(1, 4).map(line => line.slice(0, 4))).toEqual(
        ['a', 'b', 'c'].map((name, at) => `${at === index ? '*' : ' '}  ${name}`),
      );
      expect(lines[4]).toMatch(/^3 hosts in default; \* is [abc], which was asked\.$/);
    }
    const { stdout } = await b.command('members', '--json');
    expect(JSON.parse(stdout)).toMatchObject({ self: { name: 'b', address: b.address }, standing: 'member' });
  });

  it('are well, say the doctor and the metrics', { timeout: 30_000 }, async () => {
    const ill = async () => (await a.findings()).filter(({ severity }) => severity === 'wrong');
    await eventually(NEWS_MS, async () => expect(await ill()).toEqual([]));
    expect((await a.command('doctor')).code).toBe(0);
    expect(await b.broker.metric('shoalmq_cluster_hosts', /state="alive"/)).toBe(3);
    expect(await b.broker.metric('shoalmq_cluster_probes_total')).toBeGreaterThan(0);
    const prints = [a, b, c].map(({ broker }) => broker.metric('shoalmq_cluster_view_fingerprint'));
    expect(new Set(await Promise.all(prints)).size).toBe(1);
  });

  it('let nobody without the token ask', async () => {
    const url = `${a.port.url}/cluster/members`;
    expect((await fetch(url)).status).toBe(401);
    expect((await fetch(url, { headers: { Authorization: 'Bearer x' } })).status).toBe(401);
  });
});

describe('a node that dies', () => {
  it('is gone within ten seconds, looked for, and told of', { timeout: 30_000 }, async () => {
    const watching = a.watch();
    try {
      await watching.waitFor(/^3 hosts in default/m);
      await expectKilled(c, 10_000, [a, b], namesOf, ['a', 'b']);
      await watching.waitFor(/^2 hosts in default/m);
      watching.child.kill('SIGINT');
      expect(await watching.outcome()).toMatchObject({ signal: 'SIGINT', stderr: '' });
    } finally {
      await watching.kill();
    }
    expect((await a.members()).lost).toMatchObject([{ name: 'c', address: c.address }]);
    const { code, stdout } = await a.command('doctor');
    expect(code).toBe(1);
    expect(stdout.replaceAll(/\s+/g, ' ')).toContain('is lost for');
    expect(a.broker.log()).toContain('a host is lost');
  });

  it('is replaced at its address when it starts again', { timeout: 40_000 }, async () => {
    await c.broker.launch();
    await expectWhole([a, b, c], NEWS_MS);
    const before = (await c.members()).self.id;
    await c.broker.kill9();
    await c.broker.launch();
    await expectWhole([a, b, c], NEWS_MS);
    const [, , row] = (await a.members()).members;
    expect([row!.address, row!.id]).toEqual([c.address, (await c.members()).self.id]);
    expect(row!.id).not.toBe(before);
  });
});

describe('a node that is told to stop', () => {
  it('has left before its process ends', { timeout: 40_000 }, async () => {
    expect(await b.broker.stop()).toEqual({ code: 0, signal: null });
    expect([await namesOf(a), await namesOf(c)]).toEqual([
      ['a', 'c'],
      ['a', 'c'],
    ]);
    expect((await a.members()).lost).toEqual([]);
    expect(a.broker.log()).toContain('a host has left the cluster');
    await b.broker.launch();
    await expectWhole([a, b, c], NEWS_MS);
  });
});

describe('an operator', () => {
  it('evicts a host by its name, and it stays out until it is restarted', { timeout: 60_000 }, async () => {
    const { code, stdout } = await a.command('evict', 'c');
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^evicted c \(127\.0\.0\.1:\d+, id \d+\)\n$/)]);
    await eventually(NEWS_MS, async () => expect((await c.members()).standing).toBe('evicted'));
    expect(await namesOf(c)).toEqual(['c']);
    await expectWhole([a, b], NEWS_MS);
    // Longer than a join, a probe and a round of seeds need.
    await sleep(3_000);
    await expectWhole([a, b], 0);
    // Its own clients are served.
    expect((await get(c.broker.metricsPort, '/readyz')).status).toBe(200);
    expect((await c.command('doctor')).stdout).toContain('evicted by an operator');
    const told = c.broker
      .log()
      .split('\n')
      .filter(line => line.includes('evicted'));
    expect(told).toEqual([expect.stringContaining('restart it to come back')]);
    await c.broker.restart();
    await expectWhole([a, b, c], NEWS_MS);
  });

  it('is told who there is when nobody is called so', async () => {
    const { code, stderr } = await a.command('evict', 'nobody');
    expect(code).toBe(1);
    expect(stderr).toContain('no host of the cluster is called "nobody"; there are a, b, c.');
  });

  it('lets a node leave, and it goes on alone', { timeout: 30_000 }, async () => {
    const { code, stdout } = await b.command('leave');
    expect([code, stdout]).toEqual([0, expect.stringContaining('b has left the cluster and goes on alone')]);
    await expectWhole([a, c], NEWS_MS);
    expect(await b.members()).toMatchObject({ standing: 'left', members: [{ name: 'b' }] });
    expect((await get(b.broker.metricsPort, '/readyz')).status).toBe(200);
    expect((await b.command('evict', 'a')).stderr).toContain('there are b.');
  });
});

describe('a cluster key that changes', () => {
  const [A, B] = ['the secret of the first year', 'the secret of the second year'];
  it('is reread from its file by running nodes, and what cannot be used changes nothing', {
    timeout: 60_000,
  }, async () => {
    const files = ['d', 'e'].map(name => join(directory, `${name}.key`));
    const write = (file: string, text: string) => {
      writeFileSync(`${file}.new`, text);
      renameSync(`${file}.new`, file);
    };
    for (const file of files) write(file, A);
    const d = await made('d', undefined, { 'cluster.keyFile': files[0]! });
    const e = await made('e', d, { 'cluster.keyFile': files[1]! });
    const both = [d, e];
    await Promise.all(both.map(({ broker }) => broker.start()));
    await expectWhole(both, NEWS_MS);
    const rereadBy = ({ broker }: ClusterHost, words: string) => broker.log().split(words).length - 1;
    let changes = 0;
    for (const text of [`${A}\n${B}`, `${B}\n${A}`, B]) {
      for (const file of files) write(file, text);
      changes += 1;
      await eventually(NEWS_MS, async () => {
        expect(both.map(host => rereadBy(host, 'reread a changed file'))).toEqual([changes, changes]);
      });
    }
    write(files[0]!, 'hunter2');
    await eventually(NEWS_MS, async () => {
      expect(rereadBy(d, 'what it said before stays in force')).toBe(1);
    });
    // A host that has only the new secret is let in: it is the one in force.
    const f = await made('f', d, { 'cluster.key': B });
    await f.broker.start();
    await expectWhole([d, e, f], NEWS_MS);
    for (const { broker } of [d, e]) {
      expect(await broker.metric('shoalmq_cluster_refused_packets_total', /reason="key"/)).toBe(0);
      expect(broker.log()).not.toMatch(/hunter2|first year|second year|is lost/);
    }
  });
});

describe('strangers', () => {
  it('of another cluster.env or with another key stay out, and the doctor says why', {
    timeout: 60_000,
  }, async () => {
    const other = await made('other', a, { ...sealed, 'cluster.env': 'staging' });
    const stranger = await made('stranger', a, { 'cluster.key': 'a pass phrase of some length' });
    await Promise.all([other, stranger].map(({ broker }) => broker.start()));
    await eventually(NEWS_MS, async () => {
      const told = (await a.findings()).map(({ what }) => what).join('\n');
      expect(told).toContain(
        `another cluster.env tried to join and were refused: ${other.address} (staging)`,
      );
      expect(told).toContain(
        `sealed with another key, or with none, were dropped; they came from: 127.0.0.1:`,
      );
      const refused = (await other.findings()).map(({ what }) => what).join('\n');
      expect(refused).toContain(`This node was refused by hosts of another cluster.env: ${a.address}`);
      const unheard = (await stranger.findings()).map(({ what }) => what).join('\n');
      expect(unheard).toContain(`The seed ${a.address} has never answered`);
    });
    expect([await namesOf(other), await namesOf(stranger)]).toEqual([['other'], ['stranger']]);
    await expectWhole([a, c], 0);
    for (const { broker } of [a, stranger]) expect(broker.log()).not.toContain('pass phrase');
    expect(a.broker.log()).toContain('a host of another environment (cluster.env) knocked and was refused');
    // Nobody answers what is sealed with another key, so its own log is where one looks.
    await eventually(ALONE_MS, async () => {
      expect(stranger.broker.log().split('alone: no seed answers')).toHaveLength(2);
    });
  });
});
