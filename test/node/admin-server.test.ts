import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { askAdmin, findAdmin } from '../../src/node/admin-client.js';
import { openAdminServer, type Route, type Routes } from '../../src/node/admin-server.js';
import { announcedUrl, announceUrl, readToken, renewToken, tokenFile } from '../../src/node/admin-token.js';
import { loadConfig } from '../../src/node/config.js';
import type { HttpListener } from '../../src/node/http.js';

const TOKEN = 'a'.repeat(43);
const bodies: unknown[] = [];
const routes: Routes = new Map<string, Route>([
  ['GET /thing', () => ({ status: 200, body: { thing: 1 } })],
  [
    'POST /thing',
    (body: unknown) => {
      bodies.push(body);
      return { status: 200, body: { done: true } };
    },
  ],
  ['GET /fails', () => Promise.reject(new Error('it failed'))],
]);

let server: HttpListener;
beforeAll(async () => {
  server = await openAdminServer({ host: '127.0.0.1', port: 0, token: TOKEN, routes });
});
afterAll(() => server.close());
beforeEach(() => {
  bodies.length = 0;
});

interface Asked {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

/** Sends just these headers, the Host header as well. */
function ask({
  method = 'GET',
  path = '/thing',
  headers,
  body,
}: Asked): Promise<{ status: number; body: string }> {
  const { port } = server;
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port,
        method,
        path,
        agent: false,
        setHost: false,
        headers: { Host: `127.0.0.1:${port}`, Authorization: `Bearer ${TOKEN}`, ...headers },
      },
      response => {
        let text = '';
        response.setEncoding('utf8').on('data', part => {
          text += part;
        });
        response.on('end', () => resolve({ status: response.statusCode!, body: text }));
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

describe('a request', () => {
  it('is answered with JSON', async () => {
    expect(await ask({})).toEqual({ status: 200, body: '{"thing":1}\n' });
    expect(await ask({ path: '/thing?x=1' })).toMatchObject({ status: 200 });
  });

  it.each([
    '',
    'Bearer',
    'Bearer wrong',
    `Bearer ${TOKEN}x`,
    `Bearer ${TOKEN.slice(1)}`,
    `Basic ${TOKEN}`,
    TOKEN,
  ])('with the authorization %j is refused before anything else', async Authorization => {
    const { status, body } = await ask({ path: '/nowhere', headers: { Authorization } });
    expect([status, JSON.parse(body)]).toEqual([401, { error: expect.stringContaining('token') }]);
  });

  it.each(['evil.example', 'evil.example:9465', '127.0.0.1.evil.example', 'localhost.evil', '[evil]', ''])(
    'for the host %j is refused, whatever it brings',
    async Host => {
      expect([421, 400]).toContain((await ask({ headers: { Host } })).status);
    },
  );

  it.each(['localhost', 'LOCALHOST:1', '127.0.0.1', '[::1]:9465', '10.0.0.1:80'])(
    'for the host %j is answered',
    async Host => {
      expect(await ask({ headers: { Host } })).toMatchObject({ status: 200 });
    },
  );

  it('for another path or by another method hears what there is', async () => {
    expect(await ask({ path: '/nowhere' })).toEqual({
      status: 404,
      body: '{"error":"there are GET /thing, POST /thing, GET /fails"}\n',
    });
    expect(await ask({ method: 'DELETE' })).toEqual({
      status: 405,
      body: '{"error":"/thing takes GET, POST"}\n',
    });
  });

  it('that fails is told so, and the server goes on', async () => {
    expect(await ask({ path: '/fails' })).toEqual({ status: 500, body: 'it failed\n' });
    expect(await ask({})).toMatchObject({ status: 200 });
  });
});

describe('a body', () => {
  it('reaches its route as what it says', async () => {
    await ask({ method: 'POST', body: '{"name":"b"}' });
    await ask({ method: 'POST' });
    expect(bodies).toEqual([{ name: 'b' }, undefined]);
  });

  it('that is no JSON or too long does not', async () => {
    expect(await ask({ method: 'POST', body: '{' })).toMatchObject({ status: 400 });
    const body = JSON.stringify('x'.repeat(140_000));
    expect(await ask({ method: 'POST', body })).toMatchObject({ status: 413 });
    expect(await ask({ method: 'POST', body: 'x'.repeat(3_000_000) }).catch(() => 'cut off')).toBeDefined();
    expect(bodies).toEqual([]);
    expect(await ask({})).toMatchObject({ status: 200 });
  });
});

describe('the token', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'shoalmq-admin-'));
    return () => rmSync(directory, { recursive: true });
  });

  it('is new at each start, and for this user alone', () => {
    const token = renewToken(directory);
    expect(token).toMatch(/^[\w-]{43}$/);
    chmodSync(tokenFile(directory), 0o644);
    const next = renewToken(directory);
    expect(next).not.toBe(token);
    expect(readToken(tokenFile(directory))).toBe(next);
    expect(statSync(tokenFile(directory)).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory)).toEqual(['admin.token']);
  });

  it.each(['', 'short', 'two words that are long enough to be a token'])('%j is none', content => {
    writeFileSync(tokenFile(directory), content);
    expect(() => readToken(tokenFile(directory))).toThrow(
      expect.objectContaining({ code: 'SHOAL_ADMIN_TOKEN' }),
    );
  });

  it('leads the commands to the node while it runs', async () => {
    const config = loadConfig({ set: [`node.dataDir=${directory}`], env: {} });
    const nobody = expect.objectContaining({ code: 'SHOAL_ADMIN_UNREACHABLE' });
    expect(() => findAdmin(config, {})).toThrow(nobody);
    const announced = announceUrl(directory, `http://127.0.0.1:${server.port}`);
    expect(() => findAdmin(config, {})).toThrow(nobody);
    writeFileSync(tokenFile(directory), `${TOKEN}\n`);
    const port = findAdmin(config, {});
    expect(await askAdmin(port, 'GET', '/thing')).toEqual({ thing: 1 });
    expect(await askAdmin(port, 'POST', '/thing', { id: 1 })).toEqual({ done: true });
    await announced.close();
    expect([announcedUrl(directory), existsSync(join(directory, 'admin.url'))]).toEqual([undefined, false]);
    expect(findAdmin(config, { url: port.url, tokenFile: tokenFile(directory) })).toEqual(port);
    expect(readFileSync(tokenFile(directory), 'utf8')).toContain(readToken(tokenFile(directory)));
  });

  it('that is wrong, a node that refuses, and one that is not there are told apart', async () => {
    const url = `http://127.0.0.1:${server.port}`;
    const refused = (words: string) => ({
      code: 'SHOAL_ADMIN_REFUSED',
      message: expect.stringContaining(words),
    });
    await expect(askAdmin({ url, token: 'wrong' }, 'GET', '/thing')).rejects.toMatchObject(refused('token'));
    await expect(askAdmin({ url, token: TOKEN }, 'GET', '/x')).rejects.toMatchObject(refused('there are'));
    await expect(askAdmin({ url, token: TOKEN }, 'GET', '/fails')).rejects.toMatchObject(
      refused('status 500'),
    );
    const nowhere = askAdmin({ url: 'http://127.0.0.1:9', token: TOKEN }, 'GET', '/thing');
    await expect(nowhere).rejects.toMatchObject({ code: 'SHOAL_ADMIN_UNREACHABLE' });
  });
});
