import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openAdminServer, type Route } from '../../src/node/admin-server.js';
import { announceUrl } from '../../src/node/admin-token.js';
import type { HttpListener } from '../../src/node/http.js';
import { member, report } from '../node/cluster-rows.js';
import { COMMAND, type Outcome, RunningCommand } from './command.js';

const SECRET = 'correct horse battery staple';
const FREE_PORTS = [
  'listeners.tcp.port=0',
  'listeners.ws.enabled=false',
  'metrics.port=0',
  'admin.port=0',
  'rpc.port=0',
];

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'shoalmq-cluster-cli-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

function run(...args: string[]): Promise<Outcome> {
  return new RunningCommand(process.execPath, [COMMAND, ...args], directory).outcome();
}

/** Of a `start` that has to be refused. */
async function refusal(...set: string[]): Promise<string> {
  const args = [...FREE_PORTS, ...set].flatMap(entry => ['--set', entry]);
  const { code, stdout, stderr } = await run('start', ...args);
  expect([code, stdout]).toEqual([1, '']);
  const told = stderr.split('\n').filter(line => line !== '' && !line.startsWith('{'));
  expect(told).toHaveLength(1);
  expect(told[0]).toMatch(/^shoalmq: SHOAL_[A-Z_]+: .*\. Remedy: /);
  return told[0]!;
}

describe('shoalmq cluster', () => {
  it('teaches by examples', async () => {
    for (const args of [[], ['members'], ['evict'], ['leave'], ['doctor']]) {
      const { code, stdout } = await run('cluster', ...args, '--help');
      expect([code, stdout]).toEqual([0, expect.stringContaining('$ shoalmq cluster members --watch --set')]);
    }
    expect((await run('--help')).stdout).toContain('openssl rand -base64 32 > cluster.key');
  }, 30_000);

  it('teaches services and traffic by examples', async () => {
    expect((await run('services', '--help')).stdout).toContain('$ shoalmq services --json');
    for (const args of [[], ['set'], ['get'], ['unset']]) {
      const { code, stdout } = await run('traffic', ...args, '--help');
      expect([code, stdout]).toEqual([0, expect.stringContaining('$ shoalmq traffic set acme canary=1 =9')]);
    }
    const wrong = await run('traffic', 'set', 'acme', 'canary');
    expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining('GROUP=0 to GROUP=10')]);
    const nobody = await run('services', '--set', 'node.dataDir=nowhere');
    expect([nobody.code, nobody.stderr]).toEqual([1, expect.stringContaining('SHOAL_ADMIN_UNREACHABLE')]);
  }, 30_000);

  it.each([['members'], ['doctor'], ['leave'], ['evict', 'x']])(
    '%s without a node says how to name one',
    async (...args) => {
      const { code, stdout, stderr } = await run('cluster', ...args, '--set', 'node.dataDir=nowhere');
      expect([code, stdout]).toEqual([1, '']);
      expect(stderr).toMatch(
        /^shoalmq: SHOAL_ADMIN_UNREACHABLE: no node of a cluster runs on the data directory nowhere\. Remedy: .*--url.*\n$/,
      );
    },
  );

  it('takes the address and the token of a node outright, and says what is wrong with them', async () => {
    const token = join(directory, 'token');
    const at = ['--url', 'http://127.0.0.1:1', '--token-file', token];
    expect((await run('cluster', 'members', ...at)).stderr).toContain(`cannot read the token in ${token}`);
    writeFileSync(token, 'short');
    expect((await run('cluster', 'members', ...at)).stderr).toContain(`${token} does not hold a token`);
    writeFileSync(token, 'x'.repeat(43));
    expect((await run('cluster', 'members', ...at)).stderr).toContain('no answer from http://127.0.0.1:1 (');
  });
});

describe('a start as a host of a cluster', () => {
  it('is refused where strangers could join', async () => {
    const line = await refusal('cluster.host=0.0.0.0');
    expect(line).toContain(
      'SHOAL_INSECURE_CLUSTER: cluster.host would let anybody who reaches 0.0.0.0:4800 into',
    );
    expect(line).toContain('openssl rand -base64 32');
  });

  it('is refused where strangers could call it', async () => {
    const line = await refusal('cluster.host=0.0.0.0', `cluster.key=${SECRET}`);
    expect(line).toContain('SHOAL_INSECURE_RPC: rpc.host would let anybody who reaches 0.0.0.0:0 call');
    expect(line).toContain('rpc.tls.certFile');
  });

  it('is refused where another program has the port for calls', async () => {
    const server = createServer();
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const line = await refusal('cluster.enabled=true', `rpc.port=${port}`);
    expect(line).toContain(`SHOAL_LISTEN_IN_USE: rpc: cannot listen on 127.0.0.1:${port}`);
    await new Promise(resolve => server.close(resolve));
  });

  it('is refused with a weak key, which is not shown', async () => {
    expect(await refusal('cluster.key=hunter2')).not.toContain('hunter2');
  });

  it('is refused where another program has the port, by TCP or UDP', async () => {
    const server = createServer();
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const taken = expect.stringContaining(`SHOAL_LISTEN_IN_USE: cluster: 127.0.0.1:${port} is in use`);
    expect(await refusal(`cluster.port=${port}`)).toEqual(taken);
    await new Promise(resolve => server.close(resolve));
    const socket = createSocket('udp4');
    await new Promise<void>(resolve => socket.bind(port, '127.0.0.1', resolve));
    expect(await refusal(`cluster.port=${port}`)).toEqual(taken);
    await new Promise<void>(resolve => socket.close(resolve));
  }, 30_000);

  it('is refused where another node has the port for administration', async () => {
    const server = createServer();
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const other = 14_000 + (port % 1_000);
    expect(await refusal(`cluster.port=${other}`, `admin.port=${port}`)).toContain(
      `SHOAL_LISTEN_IN_USE: admin: 127.0.0.1:${port} is in use`,
    );
    await new Promise(resolve => server.close(resolve));
  });
});

describe('check-config', () => {
  it('shows no secret and checks it', async () => {
    const file = join(directory, 'key');
    writeFileSync(file, `${SECRET}\n`);
    const good = await run('check-config', '--set', `cluster.key=${SECRET}`);
    expect([good.code, good.stdout]).toEqual([0, expect.stringContaining('  key: (not shown)\n')]);
    const fromFile = await run('check-config', '--set', `cluster.keyFile=${file}`);
    expect([fromFile.code, fromFile.stdout]).toEqual([0, expect.stringContaining(`  keyFile: ${file}\n`)]);
    expect(good.stdout + good.stderr + fromFile.stdout + fromFile.stderr).not.toContain('horse');
    const bad = await run('check-config', '--set', 'cluster.keyFile=nothing');
    expect([bad.code, bad.stderr]).toEqual([
      1,
      expect.stringContaining('SHOAL_CLUSTER_KEY: cannot read cluster.keyFile'),
    ]);
    const open = await run('check-config', '--set', 'cluster.host=::');
    expect([open.code, open.stderr]).toEqual([1, expect.stringContaining('SHOAL_INSECURE_CLUSTER')]);
  }, 30_000);
});

describe('evict at a terminal', () => {
  const evicted: unknown[] = [];
  let node: HttpListener;
  beforeAll(async () => {
    const members = report([member('b'), member('c'), member('d', { name: 'c' })]);
    const routes = new Map<string, Route>([
      ['GET /cluster/members', () => ({ status: 200, body: members })],
      [
        'POST /cluster/evict',
        body => {
          evicted.push(body);
          return { status: 200, body: {} };
        },
      ],
    ]);
    writeFileSync(join(directory, 'admin.token'), 'x'.repeat(43));
    node = await openAdminServer({ host: '127.0.0.1', port: 0, token: 'x'.repeat(43), routes });
    announceUrl(directory, `http://127.0.0.1:${node.port}`);
  });
  afterAll(() => node.close());

  /** `script` gives the command a terminal. */
  async function typed(answer: string): Promise<Outcome> {
    const line = `"${process.execPath}" "${COMMAND}" cluster evict b --set node.dataDir=.`;
    const command = new RunningCommand('script', ['-qec', line, '/dev/null'], directory);
    await command.waitFor(/Evict b \(10\.0\.0\.98:4800, id 98\)\? It stays out .* \[y\/N\] /);
    command.child.stdin.write(answer);
    return command.outcome();
  }

  it('asks back, and does nothing but for a yes', async () => {
    for (const [answer, code] of [
      ['n\r', 1],
      ['\r', 1],
      ['\u0004', 1],
      ['\u0003', 130],
    ] as const)
      expect(await typed(answer), JSON.stringify(answer)).toMatchObject({ code });
    expect(evicted).toEqual([]);
    const yes = await typed('y\r');
    expect([yes.code, yes.stdout]).toEqual([0, expect.stringContaining('evicted b (10.0.0.98:4800, id 98)')]);
    expect(evicted.splice(0)).toEqual([{ id: 98 }]);
  }, 40_000);

  it('does not ask in a script, and takes an id where a name is not clear', async () => {
    const { code, stderr } = await run('cluster', 'evict', 'c', '--set', 'node.dataDir=.');
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining(
        '2 hosts are called c, name one by its id: 99 (10.0.0.99:4800), 100 (10.0.0.100:4800).',
      ),
    ]);
    expect(await run('cluster', 'evict', '100', '--set', 'node.dataDir=.')).toMatchObject({
      code: 0,
      stderr: '',
    });
    expect(evicted.splice(0)).toEqual([{ id: 100 }]);
  });
});
