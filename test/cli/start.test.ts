import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { COMMAND, RunningCommand } from './command.js';

let directory: string;
let running: RunningCommand[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'shoalmq-start-'));
  running = [];
});
afterEach(async () => {
  for (const command of running) await command.kill();
  rmSync(directory, { recursive: true });
});

const FREE_PORTS = ['listeners.tcp.port=0', 'listeners.ws.port=0', 'metrics.port=0'];

function start(...set: string[]): RunningCommand {
  const args = [...FREE_PORTS, ...set].flatMap(entry => ['--set', entry]);
  const command = new RunningCommand(process.execPath, [COMMAND, 'start', ...args], directory);
  running.push(command);
  return command;
}

function listening(): Promise<Server> {
  const server = createServer();
  return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server)));
}

describe('shoalmq start', () => {
  it('prints one line per listener and how to try it', async () => {
    const command = start('node.name=n1');
    await command.waitFor(/^ws .*\n/m);
    expect(command.stdout).toMatch(/^ShoalMQ \d+\.\d+\.\d+, node n1, data in \.\/data$/m);
    expect(command.stdout).toMatch(
      /^tcp {2}127\.0\.0\.1:(\d+) +mosquitto_sub -h 127\.0\.0\.1 -p \1 -t 'demo\/#' -v$/m,
    );
    expect(command.stdout).toMatch(
      /^ws {3}127\.0\.0\.1:(\d+) +MQTT\.js: mqtt\.connect\('ws:\/\/127\.0\.0\.1:\1\/mqtt'\)$/m,
    );
  });

  it.each(['SIGTERM', 'SIGINT'] as const)('stops in order on %s, with exit code 0', async signal => {
    const command = start('log.format=json');
    await command.waitFor(/^ws .*\n/m);
    command.child.kill(signal);
    const { code, stderr } = await command.outcome();
    expect(code).toBe(0);
    expect(stderr).toMatch(/"msg":"stopped"/);
  });

  it('survives SIGHUP without a terminal', async () => {
    const command = start('log.format=json');
    await command.waitFor(/^ws .*\n/m);
    command.child.kill('SIGHUP');
    await command.waitFor(/SIGHUP: files of passwords/, 'stderr');
    command.child.kill('SIGTERM');
    expect(await command.outcome()).toMatchObject({ code: 0 });
  });

  it.each(['listeners.tcp.port', 'listeners.ws.port', 'metrics.port'])(
    'says in one line that %s is taken',
    async key => {
      const server = await listening();
      const address = server.address();
      const port = typeof address === 'object' ? address?.port : 0;
      const { code, stderr } = await start(`${key}=${port}`, 'log.level=silent').outcome();
      server.close();
      expect(code).toBe(1);
      expect(stderr).toMatch(/^shoalmq: SHOAL_LISTEN_IN_USE: [^\n]+ Remedy: [^\n]+\n$/);
      expect(stderr).toContain(String(port));
    },
  );

  it('says in one line that the data directory is in use', async () => {
    const first = start();
    await first.waitFor(/^ws .*\n/m);
    const { code, stderr } = await start('log.level=silent').outcome();
    expect(code).toBe(1);
    expect(stderr).toMatch(/^shoalmq: SHOAL_DATA_DIR_LOCKED: [^\n]+ Remedy: [^\n]+\n$/);
  });

  it('refuses to open to other machines by accident', async () => {
    const { code, stderr, stdout } = await start('listeners.ws.host=0.0.0.0').outcome();
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^shoalmq: SHOAL_INSECURE_LISTENER: listeners\.ws [^\n]+\n$/);
  });

  it.each([
    ['key', ['certFile=none.pem', 'keyFile=none.key']],
    ['passphrase', ['certFile=c.pem', 'keyFile=c.key', 'passphraseFile=none.txt']],
  ])('says in one line that the file of a %s is missing', async (what, files) => {
    const tls = ['enabled=true', 'port=0', ...files].map(entry => `listeners.tls.${entry}`);
    const { code, stderr } = await start(...tls, 'log.level=silent').outcome();
    expect(code).toBe(1);
    expect(stderr).toMatch(/^shoalmq: SHOAL_TLS_CERTIFICATE: [^\n]+ Remedy: [^\n]+\n$/);
    expect(stderr).toContain(`cannot read the ${what} file none.`);
  });
});
