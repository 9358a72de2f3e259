import { mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Auth, type AuthSettings, openAuth } from '../../../src/plugin/io/auth.js';
import { deletePassword, setPassword } from '../../../src/plugin/io/password-edit.js';
import { requestOf } from '../request.js';

let directory: string;
let entries: string[];
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'shoalmq-auth-'));
});
afterAll(() => rmSync(directory, { recursive: true }));
beforeEach(() => {
  entries = [];
});

const record = (_fields: object, message: string) => void entries.push(message);
const env = {
  clock: { wallMs: () => 0, monotonicMs: () => 0 },
  random: { u32: () => 0 },
  log: { debug: record, info: record, warn: record, error: record },
};
const limits = { authVerificationsMax: 2, authQueueMax: 9, authCacheEntriesMax: 9, authCacheSeconds: 60 };

async function using(auth: AuthSettings['auth'], run: (opened: Auth) => unknown): Promise<void> {
  const opened = await openAuth({ auth, limits }, env);
  try {
    await run(opened);
  } finally {
    await opened.close();
  }
}

/** Writes a file so that it certainly looks changed. */
let ticks = 0;
function write(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  ticks += 1;
  utimesSync(path, ticks, ticks);
  return path;
}

const identity = { tenant: 'default', user: 'a', clientId: 'c', attributes: {} };

describe('openAuth', () => {
  it('lets everybody in by default, and only certificates when anonymous is forbidden', async () => {
    await using({}, ({ authenticator }) => {
      expect(authenticator.authenticate(requestOf({}))).toMatchObject({ kind: 'accept' });
    });
    await using({ anonymous: false }, ({ authenticator }) => {
      expect(authenticator.authenticate(requestOf({}))).toMatchObject({ kind: 'refuse' });
    });
  });

  it('rereads changed files, and keeps the old content when the new one is broken', async () => {
    const aclFile = write('acl', 'user a\ntopic x\n');
    await using({ aclFile }, async auth => {
      expect(auth.authorizer.mayPublish(identity, 'x', 0, false)).toBe(true);
      write('acl', 'nonsense y\n');
      await auth.reload();
      expect(auth.authorizer.mayPublish(identity, 'x', 0, false)).toBe(true);
      expect(entries).toEqual([expect.stringContaining('stays in force')]);
      await auth.reload();
      expect(entries).toHaveLength(1);
      rmSync(aclFile);
      await auth.reload();
      await auth.reload();
      expect(entries).toHaveLength(2);
      write('acl', 'user a\ntopic y\n');
      await auth.reload();
      expect(auth.authorizer.mayPublish(identity, 'x', 0, false)).toBe(false);
      expect(auth.authorizer.mayPublish(identity, 'y', 0, false)).toBe(true);
    });
  });

  it('follows a password file that "passwd" edits', async () => {
    const passwordFile = join(directory, 'passwords');
    await setPassword(passwordFile, 'alice', 'one', 'argon2');
    await using({ passwordFile }, async auth => {
      const login = (password: string) =>
        auth.authenticator.authenticate(requestOf({ userName: 'alice', password: Buffer.from(password) }));
      expect(await login('one')).toMatchObject({ kind: 'accept', user: 'alice' });
      await setPassword(passwordFile, 'alice', 'two', 'argon2');
      await auth.reload();
      expect(await login('one')).toMatchObject({ kind: 'refuse' });
      expect(await login('two')).toMatchObject({ kind: 'accept' });
      expect(await deletePassword(passwordFile, 'alice')).toBe(true);
      await auth.reload();
      expect(await login('two')).toMatchObject({ kind: 'refuse' });
    });
  });

  it('refuses files that are missing or wrong', async () => {
    const code = expect.objectContaining({ code: 'SHOAL_AUTH_FILE' });
    await expect(openAuth({ auth: { passwordFile: join(directory, 'none') }, limits }, env)).rejects.toThrow(
      code,
    );
    await expect(openAuth({ auth: { aclFile: write('bad', 'x y') }, limits }, env)).rejects.toThrow(code);
  });

  it('takes hooks from a module, and closes them', async () => {
    const plugin = write(
      'hooks.mjs',
      `export const hooks = {
        authenticator: {
          authenticate: ({ userName }) => ({ kind: 'accept', tenant: 'mine', user: userName ?? 'none' }),
          continue: () => ({ kind: 'refuse', reasonCode: 0x87, reason: '' }),
        },
        authorizer: { version: 1, mayPublish: () => false, maySubscribe: () => true },
        close() { globalThis.shoalTestHooksClosed = true; },
      };`,
    );
    await using({ plugin }, ({ authenticator, authorizer }) => {
      expect(authenticator.authenticate(requestOf({}))).toEqual({
        kind: 'accept',
        tenant: 'mine',
        user: 'none',
      });
      expect(authorizer.mayPublish(identity, 'x', 0, false)).toBe(false);
    });
    expect((globalThis as { shoalTestHooksClosed?: boolean }).shoalTestHooksClosed).toBe(true);
    await expect(openAuth({ auth: { plugin, passwordFile: 'p' }, limits }, env)).rejects.toThrow(
      'would not be used',
    );
  });

  it.each([
    ['export const x = 1;', {}, 'does not export "hooks"'],
    ['syntax error', {}, 'cannot load'],
    ['export const hooks = {};', {}, 'has no authenticator'],
    ['export const hooks = { authenticator: {} };', {}, 'without authenticate()'],
    ['export const hooks = { authorizer: {} };', { anonymous: true }, 'without mayPublish()'],
    [
      'export const hooks = { authorizer: { mayPublish() {}, maySubscribe() {} } };',
      { anonymous: true, aclFile: 'a' },
      'auth.aclFile would not be used',
    ],
  ])('refuses the module %j', async (source, auth, message) => {
    const plugin = write(`bad-${ticks}.mjs`, source);
    await expect(openAuth({ auth: { ...auth, plugin }, limits }, env)).rejects.toThrow(message);
  });
});

describe('setPassword and deletePassword', () => {
  it('keep comments and other lines, replace one kind, and protect the file', async () => {
    const file = join(directory, 'edited');
    await setPassword(file, 'alice', 'x', 'argon2');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    writeFileSync(file, `# mine\n${readFileSync(file, 'utf8')}`);
    await setPassword(file, 'bob', 'y', 'scram');
    await setPassword(file, 'alice', 'z', 'scram');
    const before = readFileSync(file, 'utf8').split('\n');
    await setPassword(file, 'alice', 'w', 'argon2');
    const after = readFileSync(file, 'utf8').split('\n');
    expect(after.map(line => line.slice(0, 12))).toEqual([
      '# mine',
      'alice:$argon',
      'bob:SCRAM-SH',
      'alice:SCRAM-',
      '',
    ]);
    expect([after[0], after[2], after[3]]).toEqual([before[0], before[2], before[3]]);
    expect(after[1]).not.toBe(before[1]);
    expect(await deletePassword(file, 'nobody')).toBe(false);
    expect(await deletePassword(file, 'alice')).toBe(true);
    expect(readFileSync(file, 'utf8')).toMatch(/^# mine\nbob:SCRAM-SHA-256\$[^\n]+\n$/);
  });

  it('refuse what would not work', async () => {
    const file = join(directory, 'refused');
    await expect(setPassword(file, 'a:b', 'x', 'argon2')).rejects.toThrow('cannot contain');
    await expect(setPassword(file, 'a', '', 'argon2')).rejects.toThrow('the password is empty');
    await expect(setPassword(file, 'a', 'x'.repeat(65_536), 'argon2')).rejects.toThrow('longer');
    await expect(deletePassword(file, 'a')).rejects.toThrow('ENOENT');
    await expect(setPassword(join(directory, 'no', 'file'), 'a', 'x', 'argon2')).rejects.toThrow(
      'cannot write',
    );
    const other = write('other', 'not a password file\n');
    await expect(setPassword(other, 'a', 'x', 'argon2')).rejects.toThrow('line 1');
    expect(readFileSync(other, 'utf8')).toBe('not a password file\n');
  });
});
