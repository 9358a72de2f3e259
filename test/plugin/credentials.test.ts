import { describe, expect, it } from 'vitest';
import { joinLogin, loginFault, parsePasswords, splitLogin } from '../../src/plugin/credentials.js';

const HASH = '$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U5p1vhHkQE';
const KEY = Buffer.alloc(32, 7).toString('base64');
const SCRAM = `SCRAM-SHA-256$4096:c2FsdA==$${KEY}:${KEY}`;

describe('parsePasswords', () => {
  it('reads both kinds, comments, blank lines and CRLF', () => {
    const entries = parsePasswords(`# users\r\n\r\nalice:${HASH}\r\nalice:${SCRAM}\nacme/bob:${SCRAM}`, 'p');
    expect([...entries.keys()]).toEqual(['alice', 'acme/bob']);
    expect(entries.get('alice')?.argon2).toBe(HASH);
    expect(entries.get('alice')?.scram).toMatchObject({ iterations: 4096, salt: Buffer.from('salt') });
    expect(entries.get('acme/bob')?.argon2).toBeUndefined();
  });

  it.each([
    ['alice', 'line 1: not of the form'],
    ['alice:secret', 'line 1: not of the form'],
    [`a:${HASH}\na:${HASH}`, 'line 2: a second argon2 line for "a"'],
    ['a:$argon2id$v=19$m=8', 'not a whole argon2id hash'],
    ['a:SCRAM-SHA-256$0:c2FsdA==$a:b', 'not a whole SCRAM-SHA-256 entry'],
    [`:${HASH}`, 'the user name is empty'],
    [`default/a:${HASH}`, 'written without it'],
  ])('refuses %j', (text, message) => {
    expect(() => parsePasswords(text, 'p')).toThrow(message);
  });

  it('never shows the secret', () => {
    expect(() => parsePasswords('alice:hunter2', 'p')).not.toThrow(/hunter2/);
  });
});

describe('logins', () => {
  it('splits and joins tenant and user', () => {
    for (const login of ['alice', 'acme/alice', 'acme/a/b', '/x']) {
      const { tenant, user } = splitLogin(login);
      expect(joinLogin(tenant, user)).toBe(login);
    }
    expect(splitLogin('acme/a/b')).toEqual({ tenant: 'acme', user: 'a/b' });
    expect(splitLogin('/x')).toEqual({ tenant: 'default', user: '/x' });
  });

  it('refuses names that a line cannot hold', () => {
    for (const login of ['', '#a', ' a', 'a ', 'a:b', 'a\nb', 'acme/', 'x'.repeat(65_536)]) {
      expect(loginFault(login), login.slice(0, 9)).toBeTypeOf('string');
    }
    for (const login of ['a', 'ä ö', 'acme/b', 'a@b.example']) expect(loginFault(login)).toBeUndefined();
  });
});
