import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMAND, type Outcome, RunningCommand } from './command.js';

const SECRET = 'correct horse battery staple';
const FREE_PORTS = ['listeners.tcp.port=0', 'listeners.ws.enabled=false', 'metrics.port=0', 'admin.port=0'];

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
