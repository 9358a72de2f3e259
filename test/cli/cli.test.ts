import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { loadConfig } from '../../src/node/config.js';
import { parsePasswords } from '../../src/plugin/credentials.js';
import { COMMAND, type Outcome, RunningCommand } from './command.js';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'shoalmq-cli-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

function run(args: string[], input = '', env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const command = new RunningCommand(process.execPath, [COMMAND, ...args], directory, env);
  command.child.stdin.end(input);
  return command.outcome();
}

const packageJson = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

describe('shoalmq', () => {
  it('teaches by examples', async () => {
    for (const args of [['--help'], ['start', '--help']]) {
      const { code, stdout } = await run(args);
      expect(code).toBe(0);
      expect(stdout).toContain('$ shoalmq start --set listeners.tcp.port=1884');
      expect(stdout).toContain('SHOALMQ_LISTENERS__TCP__PORT=1884');
    }
    expect((await run(['passwd', '--help'])).stdout).toContain('--scram');
  });

  it('prints its version', async () => {
    expect((await run(['version'])).stdout).toBe(`${packageJson.version}\n`);
    expect((await run(['--version'])).stdout).toBe(`${packageJson.version}\n`);
  });

  it.each([[['strat']], [['start', '--colour']], [['passwd', 'file']], [[]]])(
    'refuses %j and says why',
    async args => {
      const { code, stderr } = await run(args);
      expect(code).toBe(1);
      expect(stderr).toMatch(/error: |Usage: /);
    },
  );
});

describe('check-config', () => {
  it('prints the effective configuration as YAML that reads back the same', async () => {
    writeFileSync(join(directory, 'a.yaml'), 'limits:\n  qosMax: 1\n');
    const args = ['check-config', '-c', 'a.yaml', '--set', 'node.name=n1', '-s', 'threads.pin=0,1'];
    const { code, stdout, stderr } = await run(args, '', { SHOALMQ_LISTENERS__TCP__PORT: '1999' });
    expect([code, stderr]).toEqual([0, '']);
    const shown = parse(stdout);
    expect(shown).toMatchObject({
      node: { name: 'n1' },
      limits: { qosMax: 1 },
      listeners: { tcp: { port: 1999 } },
    });
    writeFileSync(join(directory, 'b.yaml'), stdout);
    expect(loadConfig({ file: join(directory, 'b.yaml'), set: [], env: {} })).toEqual(shown);
  });

  it('takes the file from SHOALMQ_CONFIG', async () => {
    writeFileSync(join(directory, 'c.yaml'), 'node: {name: from-file}\n');
    const { stdout } = await run(['check-config'], '', { SHOALMQ_CONFIG: 'c.yaml' });
    expect(parse(stdout).node.name).toBe('from-file');
  });

  it.each([
    [['--set', 'limits.qosMax=5'], 'SHOAL_CONFIG_INVALID: limits.qosMax is "5" (from --set)'],
    [['-c', 'none.yaml'], 'SHOAL_CONFIG_UNREADABLE: cannot read none.yaml'],
    [
      ['--set', 'listeners.tcp.host=0.0.0.0'],
      'SHOAL_INSECURE_LISTENER: listeners.tcp would serve other machines',
    ],
    [['--set', 'auth.passwordFile=none'], 'SHOAL_AUTH_FILE: cannot read none'],
    [['--set', 'auth.plugin=none.mjs'], 'SHOAL_AUTH_PLUGIN: cannot load none.mjs'],
    [
      [
        ...['--set', 'listeners.tls.enabled=true', '--set', 'listeners.tls.certFile=none.pem'],
        ...['--set', `listeners.tls.keyFile=${fileURLToPath(import.meta.url)}`],
      ],
      'SHOAL_TLS_CERTIFICATE: tls: cannot read the certificate file none.pem (ENOENT)',
    ],
    [
      [
        ...['--set', 'listeners.tls.enabled=true', '--set', 'listeners.tls.certFile=c.pem'],
        ...['--set', 'listeners.tls.keyFile=k.pem', '--set', 'listeners.tls.passphraseFile=none.txt'],
      ],
      'SHOAL_TLS_CERTIFICATE: tls: cannot read the passphrase file none.txt (ENOENT)',
    ],
  ])('refuses %j in one line with a remedy', async (args, message) => {
    const { code, stderr } = await run(['check-config', ...args]);
    expect(code).toBe(1);
    expect(stderr).toContain(`shoalmq: ${message}`);
    expect(stderr).toMatch(/^[^\n]+\. Remedy: [^\n]+\n$/);
    expect(stderr).not.toContain('    at ');
  });
});

describe('config-keys', () => {
  it('lists the keys, also as a table', async () => {
    expect((await run(['config-keys'])).stdout).toMatch(
      /^listeners\.tcp\.port +1883\n +port; 0 takes any free one;/m,
    );
    const { stdout } = await run(['config-keys', '--markdown']);
    const lines = stdout.trimEnd().split('\n');
    expect(lines.slice(0, 2)).toEqual(['| key | default | takes | meaning |', '| --- | --- | --- | --- |']);
    for (const line of lines) expect(line.match(/(?<!\\)\|/g), line).toHaveLength(5);
    const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
    expect(readme).toContain(`<!-- config:begin -->\n${stdout}<!-- config:end -->`);
  });

  it('does not mind a reader that leaves', async () => {
    const command = new RunningCommand(
      '/bin/sh',
      ['-c', `"${process.execPath}" "${COMMAND}" config-keys | head -1`],
      directory,
    );
    const { stdout, stderr } = await command.outcome();
    expect([stdout.split('\n').length, stderr]).toEqual([2, '']);
  });
});

describe('passwd', () => {
  const file = () => join(directory, 'passwords');
  const users = () => parsePasswords(readFileSync(file(), 'utf8'), 'passwords');

  it('reads a password from standard input, for both kinds', async () => {
    expect(await run(['passwd', '--stdin', 'passwords', 'alice'], 'secret\nrest')).toMatchObject({
      code: 0,
      stderr: '',
    });
    expect(await run(['passwd', '--stdin', '--scram', 'passwords', 'acme/bob'], 'secret')).toMatchObject({
      code: 0,
    });
    expect(users().get('alice')?.argon2).toMatch(/^\$argon2id\$/);
    expect(users().get('acme/bob')?.scram?.iterations).toBe(4096);
    expect(await run(['passwd', '--delete', 'passwords', 'alice'])).toMatchObject({ code: 0 });
    expect([...users().keys()]).toEqual(['acme/bob']);
    const again = await run(['passwd', '--delete', 'passwords', 'alice']);
    expect(again).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('passwords has no user "alice"'),
    });
  });

  it('refuses an empty or endless password, a bad name, and no terminal', async () => {
    expect((await run(['passwd', '--stdin', 'x', 'a'], '\n')).stderr).toContain('the password is empty');
    expect((await run(['passwd', '--stdin', 'x', 'a'], 'y'.repeat(200_000))).stderr).toContain('too long');
    expect((await run(['passwd', '--stdin', 'x', 'a:b'], 'y')).stderr).toContain('cannot contain');
    expect((await run(['passwd', 'x', 'a'])).stderr).toContain('use --stdin');
  });

  /** `script` gives the command a terminal. */
  async function typed(first: string, second: string): Promise<Outcome> {
    const line = `"${process.execPath}" "${COMMAND}" passwd typed carol`;
    const command = new RunningCommand('script', ['-qec', line, '/dev/null'], directory);
    await command.waitFor(/Password for carol: /);
    command.child.stdin.write(first);
    if (second !== '') {
      await command.waitFor(/Once more: /);
      command.child.stdin.write(second);
    }
    return command.outcome();
  }

  it('asks twice at a terminal and shows nothing of it', async () => {
    const { code, stdout } = await typed('hunteX\u007fr2\r', 'hunter2\r');
    expect(code).toBe(0);
    expect(stdout).not.toMatch(/hunt|r2/);
    expect(readFileSync(join(directory, 'typed'), 'utf8')).toMatch(/^carol:\$argon2id\$/);
    const before = readFileSync(join(directory, 'typed'), 'utf8');
    const different = await typed('one\r', 'two\r');
    expect(different).toMatchObject({ code: 1, stdout: expect.stringContaining('not the same') });
    expect(await typed('one\u0003', '')).toMatchObject({ code: 130 });
    expect(readFileSync(join(directory, 'typed'), 'utf8')).toBe(before);
  });
});
