import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Answer, openAdminServer, type Route } from '../../src/node/admin-server.js';
import type { HttpListener } from '../../src/node/http.js';
import { rangesReport, storesReport } from '../../src/node/kv-view.js';
import { landscapeOf, NOW_MS } from '../node/kv-stores.js';
import { COMMAND, type Outcome, RunningCommand } from './command.js';

const TOKEN = 'a'.repeat(43);

let directory: string;
let server: HttpListener;
/** What routes were asked, and what they answer instead of 200 {}. */
const asked: [string, unknown][] = [];
const answers = new Map<string, Answer>();

const PATHS = [
  ...['GET /kv/ranges', 'GET /kv/stores', 'GET /kv/balancers', 'GET /kv/rules', 'POST /kv/balancers'],
  ...['POST /kv/rules', 'POST /kv/transfer', 'POST /kv/split', 'POST /kv/merge', 'POST /kv/move'],
  ...['POST /kv/recover', 'POST /kv/forget', 'POST /kv/map/get', 'POST /kv/map/put'],
  ...['POST /kv/map/delete', 'POST /kv/map/list'],
];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'shoalmq-kv-cli-'));
  writeFileSync(join(directory, 'token'), TOKEN, { mode: 0o600 });
  const routes = new Map<string, Route>(
    PATHS.map(path => [
      path,
      body => {
        asked.push([path, body]);
        return answers.get(path) ?? { status: 200, body: {} };
      },
    ]),
  );
  server = await openAdminServer({ host: '127.0.0.1', port: 0, token: TOKEN, routes });
  const landscape = landscapeOf(3, [{ id: 40, stores: [1, 2, 3] }], { 3: { alive: false } });
  answers.set('GET /kv/ranges', { status: 200, body: rangesReport(landscape) });
  answers.set('GET /kv/stores', { status: 200, body: storesReport(landscape, [1], NOW_MS) });
});
afterAll(async () => {
  await server.close();
  rmSync(directory, { recursive: true });
});

async function kv(...args: string[]): Promise<Outcome> {
  asked.length = 0;
  const node = ['--url', `http://127.0.0.1:${server.port}`, '--token-file', 'token'];
  return await new RunningCommand(process.execPath, [COMMAND, 'kv', ...args, ...node], directory).outcome();
}

/** One answer, for the next commands. */
function answer(path: string, body: object, status = 200): void {
  answers.set(path, { status, body });
}

describe('shoalmq kv', () => {
  it('teaches by examples', async () => {
    const help = async (...args: string[]) =>
      (await new RunningCommand(process.execPath, [COMMAND, 'kv', ...args, '--help'], directory).outcome())
        .stdout;
    expect(await help()).toContain('$ shoalmq kv ranges --set node.dataDir=data/a');
    expect(await help('move')).toContain('$ shoalmq kv move 1x7q apply-0@a apply-0@d');
    expect(await help('recover')).toContain('LOSES DATA');
    expect(await help('put')).toContain('Exit codes: 0 done; 1 not done');
    expect(await help('rules', 'set')).toContain('$ shoalmq kv rules set voters=5');
    expect(await help('balancers', 'stop')).toContain('$ shoalmq kv balancers stop merge');
  }, 30_000);

  it('shows ranges and stores, also to programs', async () => {
    const { code, stdout } = await kv('ranges');
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^14 +map .*degraded +apply-0@a/m)]);
    const json = JSON.parse((await kv('ranges', '--json')).stdout);
    expect(json.ranges[0]).toMatchObject({ id: '14', state: 'degraded', leader: { name: 'apply-0@a' } });
    expect((await kv('stores')).stdout).toMatch(/^ +apply-0@c .*lost/m);
  }, 30_000);

  it('gives orders, and says what became of them', async () => {
    answer('POST /kv/transfer', { state: 'done' });
    expect(await kv('transfer', '14', 'apply-0@b')).toMatchObject({
      code: 0,
      stdout: 'apply-0@b leads range 14\n',
    });
    expect(asked).toEqual([['POST /kv/transfer', { range: '14', to: 'apply-0@b' }]]);
    answer('POST /kv/split', { state: 'begun' });
    expect((await kv('split', '14', 'orders/')).stdout).toMatch(/^begun, and not seen done yet/);
    expect(asked).toEqual([['POST /kv/split', { range: '14', key: 'orders/' }]]);
    answer('POST /kv/merge', { error: 'its neighbour is elsewhere' }, 409);
    const { code, stderr } = await kv('merge', '14');
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/SHOAL_ADMIN_REFUSED: its neighbour is elsewhere\./),
    ]);
  }, 30_000);

  it('does nothing dangerous that nobody has confirmed', async () => {
    for (const args of [
      ['recover', '14', 'apply-0@a'],
      ['forget', 'apply-0@c'],
    ]) {
      const { code, stderr } = await kv(...args);
      expect([code, stderr]).toEqual([1, expect.stringContaining('say --yes')]);
      expect(asked.map(([path]) => path)).toEqual(['GET /kv/ranges']);
    }
    answer('POST /kv/recover', { state: 'done' });
    expect((await kv('recover', '14', 'apply-0@a', '--yes')).stdout).toContain(
      'apply-0@a leads range 14 alone',
    );
    expect(asked.at(-1)).toEqual(['POST /kv/recover', { range: '14', store: 'apply-0@a', forced: false }]);
    await kv('recover', '14', 'apply-0@a', '--yes', '--force');
    expect(asked.at(-1)).toEqual(['POST /kv/recover', { range: '14', store: 'apply-0@a', forced: true }]);
    expect((await kv('forget', 'apply-0@c', '-y')).stdout).toBe('apply-0@c is forgotten\n');
  }, 30_000);

  it('has commands below commands that take the same options', async () => {
    expect((await kv('balancers', 'stop', 'merge')).stdout).toBe('merge is stopped on all nodes\n');
    expect(asked).toEqual([['POST /kv/balancers', { name: 'merge', running: false }]]);
    answer('POST /kv/rules', { rules: [{ name: 'voters', value: 5, initial: 3 }] });
    expect((await kv('rules', 'set', 'voters=5', 'placementSlack=0.5')).stdout).toMatch(/^\* {2}voters +5/m);
    expect(asked).toEqual([['POST /kv/rules', { set: { voters: 5, placementSlack: 0.5 } }]]);
    await kv('rules', 'unset', 'voters');
    expect(asked).toEqual([['POST /kv/rules', { unset: ['voters'] }]]);
    for (const wrong of [['voters'], ['voters=many'], ['voters=5', 'voters=3']])
      expect((await kv('rules', 'set', ...wrong)).code).toBe(1);
    expect(asked).toEqual([]);
  }, 30_000);

  it('keeps values, and says by its exit code what became of them', async () => {
    answer('POST /kv/map/put', { outcome: 'done', revision: 7 });
    expect(await kv('put', 'a', 'näher')).toMatchObject({ code: 0, stdout: 'done, revision 7\n' });
    const value = Buffer.from('näher').toString('base64');
    expect(asked).toEqual([['POST /kv/map/put', { key: 'a', value, timeoutMs: 5000 }]]);
    await kv('put', 'a', 'b', '--expect', '0', '--timeout', '100');
    expect(asked[0]![1]).toMatchObject({ expected: 0, timeoutMs: 100 });
    answer('POST /kv/map/put', { outcome: 'not-done', why: 'no store' });
    expect(await kv('put', 'a', 'b')).toMatchObject({ code: 1, stderr: 'shoalmq: not done: no store\n' });
    answer('POST /kv/map/delete', { outcome: 'unknown', why: 'no answer' });
    expect(await kv('delete', 'a')).toMatchObject({ code: 2, stderr: 'shoalmq: unknown: no answer\n' });
  }, 30_000);

  it('gives them back byte for byte', async () => {
    const value = Buffer.from('näher\u0001').toString('base64');
    answer('POST /kv/map/get', { outcome: 'found', revision: 1, modifiedAtMs: 0, value });
    expect(await kv('get', 'a')).toMatchObject({ code: 0, stdout: 'näher\u0001' });
    expect(JSON.parse((await kv('get', 'a', '--json')).stdout)).toMatchObject({ revision: 1, value });
    answer('POST /kv/map/get', { outcome: 'absent' });
    expect(await kv('get', 'a')).toMatchObject({ code: 1, stdout: '', stderr: 'shoalmq: there is no a\n' });
    answer('POST /kv/map/list', { outcome: 'listed', entries: [], more: false });
    expect((await kv('list', 'a/', '--after', 'a/1', '--limit', '5')).stdout).toBe('No keys.\n');
    expect(asked[0]![1]).toEqual({ prefix: 'a/', after: 'a/1', entriesMax: 5, timeoutMs: 5000 });
  }, 30_000);
});
