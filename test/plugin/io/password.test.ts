import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import { hash } from '@node-rs/argon2';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Credentials, parsePasswords } from '../../../src/plugin/credentials.js';
import { PasswordAuthenticator, type PasswordOptions } from '../../../src/plugin/io/password.js';
import { deriveScramKeys, parseClientFirst, ScramExchange } from '../../../src/plugin/io/scram.js';
import type { AuthDecision } from '../../../src/plugin/plugin.js';
import { requestOf } from '../request.js';

const CHEAP = { memoryCost: 8, timeCost: 1, parallelism: 1 };
const bytes = (text: string) => Buffer.from(text);

let nowMs = 0;
const clock = { wallMs: () => nowMs, monotonicMs: () => nowMs };
let users: Map<string, Credentials>;

beforeAll(async () => {
  const alice = await hash('wonder', CHEAP);
  const bob = await hash('builder', CHEAP);
  users = parsePasswords(`alice:${alice}\nacme/bob:${bob}\n`, 'p');
  users.get('alice')!.scram = await deriveScramKeys('wonder', Buffer.from('0123456789abcdef'), 10);
});

function authenticator(change: Partial<PasswordOptions> = {}): PasswordAuthenticator {
  const options = {
    anonymous: false,
    verificationsMax: 2,
    queueMax: 8,
    cacheEntriesMax: 4,
    cacheSeconds: 60,
  };
  return new PasswordAuthenticator(users, { ...options, ...change }, clock);
}

function login(on: PasswordAuthenticator, userName: string | undefined, password?: string) {
  return on.authenticate(
    requestOf({ userName, password: password === undefined ? undefined : bytes(password) }),
  );
}

const wrong = { kind: 'refuse', reasonCode: 0x86, reason: 'bad user name or password' };

describe('PasswordAuthenticator', () => {
  it('accepts the right password, into the tenant of the login', async () => {
    const auth = authenticator();
    expect(await login(auth, 'alice', 'wonder')).toEqual({
      kind: 'accept',
      tenant: 'default',
      user: 'alice',
    });
    expect(await login(auth, 'acme/bob', 'builder')).toEqual({ kind: 'accept', tenant: 'acme', user: 'bob' });
  });

  it('refuses everything else in the same words', async () => {
    const auth = authenticator();
    for (const [user, password] of [
      ['alice', 'builder'],
      ['alice', ''],
      ['alice', undefined],
      ['bob', 'builder'],
      ['nobody', 'wonder'],
      ['', 'wonder'],
      [undefined, 'wonder'],
    ] as const) {
      expect(await login(auth, user, password), `${user} ${password}`).toEqual(wrong);
    }
    expect(await login(auth, undefined)).toMatchObject({ kind: 'refuse', reasonCode: 0x87 });
  });

  it('lets anonymous clients in only when told to, and knows certificates', async () => {
    expect(login(authenticator({ anonymous: true }), undefined)).toEqual({
      kind: 'accept',
      tenant: 'default',
      user: '',
    });
    const certificate = { commonName: 'acme/meter', fingerprint256: '', serialNumber: '' };
    expect(authenticator().authenticate(requestOf({ certificate }))).toEqual({
      kind: 'accept',
      tenant: 'acme',
      user: 'meter',
    });
    expect(
      await authenticator().authenticate(requestOf({ certificate, userName: 'alice', password: bytes('x') })),
    ).toEqual(wrong);
  });

  it('spends a verification on unknown users', async () => {
    const auth = authenticator({ verificationsMax: 1, queueMax: 0 });
    const first = login(auth, 'nobody', 'x');
    expect(first).toBeInstanceOf(Promise);
    expect(login(auth, 'alice', 'wonder')).toMatchObject({ kind: 'refuse', reasonCode: 0x89 });
    await first;
  });

  it('runs so many at once, lets so many wait, and refuses the rest as busy', async () => {
    const auth = authenticator({ verificationsMax: 2, queueMax: 3, cacheEntriesMax: 0 });
    const answers = await Promise.all(Array.from({ length: 9 }, () => login(auth, 'alice', 'wonder')));
    const kinds = answers.map(({ kind }) => kind);
    expect(kinds).toEqual([...Array(5).fill('accept'), ...Array(4).fill('refuse')]);
    expect(await login(auth, 'alice', 'wonder')).toMatchObject({ kind: 'accept' });
  });

  it('remembers a right password for a while, for that user, password and hash only', async () => {
    const auth = authenticator();
    nowMs = 1000;
    expect(login(auth, 'alice', 'wonder')).toBeInstanceOf(Promise);
    await login(auth, 'alice', 'wonder');
    expect(login(auth, 'alice', 'wonder')).toMatchObject({ kind: 'accept' });
    expect(await login(auth, 'alice', 'wander')).toEqual(wrong);
    expect(await login(auth, 'acme/bob', 'wonder')).toEqual(wrong);

    const changed = new Map(users);
    changed.set('alice', { argon2: await hash('other', CHEAP), scram: undefined });
    auth.replace(changed);
    expect(await login(auth, 'alice', 'wonder')).toEqual(wrong);
    auth.replace(users);
    await login(auth, 'alice', 'wonder');
    nowMs += 60_000;
    const afterwards = login(auth, 'alice', 'wonder');
    expect(afterwards).toBeInstanceOf(Promise);
    await afterwards;
  });

  it('refuses a user who was deleted while the password was being verified', async () => {
    const auth = authenticator();
    const answer = login(auth, 'alice', 'wonder');
    auth.replace(new Map());
    expect(await answer).toEqual(wrong);
  });

  it('bounds what it remembers', async () => {
    const auth = authenticator({ cacheEntriesMax: 1 });
    await login(auth, 'alice', 'wonder');
    await login(auth, 'acme/bob', 'builder');
    expect(login(auth, 'acme/bob', 'builder')).not.toBeInstanceOf(Promise);
    const evicted = login(auth, 'alice', 'wonder');
    expect(evicted).toBeInstanceOf(Promise);
    await evicted;
  });
});

/** The client's side of RFC 5802, written from the RFC alone. */
function clientFinal(serverFirst: string, bare: string, password: string, binding = 'n,,'): string {
  const [, nonce, salt, iterations] = /^r=([^,]+),s=([^,]+),i=(\d+)$/.exec(serverFirst)!;
  const mac = (key: Buffer, text: string) => createHmac('sha256', key).update(text).digest();
  const salted = pbkdf2Sync(password, Buffer.from(salt!, 'base64'), Number(iterations), 32, 'sha256');
  const clientKey = mac(salted, 'Client Key');
  const withoutProof = `c=${bytes(binding).toString('base64')},r=${nonce}`;
  const signature = mac(
    createHash('sha256').update(clientKey).digest(),
    `${bare},${serverFirst},${withoutProof}`,
  );
  const proof = Buffer.from(clientKey.map((byte, index) => byte ^ signature[index]!));
  return `${withoutProof},p=${proof.toString('base64')}`;
}

describe('SCRAM-SHA-256', () => {
  it('speaks the example of RFC 7677, section 3', async () => {
    const keys = await deriveScramKeys('pencil', Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64'), 4096);
    const first = parseClientFirst(bytes('n,,n=user,r=rOprNGfwEbeRWgbNEkqO'))!;
    const exchange = new ScramExchange(first, keys, '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0');
    expect(exchange.serverFirst.toString()).toBe(
      'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
    );
    const final = exchange.finish(
      bytes(
        'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
      ),
    );
    expect(final?.toString()).toBe('v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=');
  });

  function begin(auth: PasswordAuthenticator, name: string, header = 'n,,') {
    const bare = `n=${name},r=abc`;
    const decision = auth.authenticate(
      requestOf({ authMethod: 'SCRAM-SHA-256', authData: bytes(header + bare) }),
    ) as AuthDecision;
    if (decision.kind !== 'continue') throw new Error(`refused: ${JSON.stringify(decision)}`);
    return { bare, decision, serverFirst: Buffer.from(decision.data).toString() };
  }

  it('lets in who proves the password, once', () => {
    const auth = authenticator();
    const { bare, decision, serverFirst } = begin(auth, 'alice');
    const final = bytes(clientFinal(serverFirst, bare, 'wonder'));
    const answer = auth.continue(decision.exchange, final);
    expect(answer).toMatchObject({ kind: 'accept', tenant: 'default', user: 'alice' });
    expect(auth.continue(decision.exchange, final)).toMatchObject({ kind: 'refuse', reasonCode: 0x87 });
  });

  it('refuses a wrong password, another nonce, another binding, and nonsense', () => {
    const auth = authenticator();
    const refused = { kind: 'refuse', reasonCode: 0x87 };
    const one = begin(auth, 'alice');
    expect(
      auth.continue(one.decision.exchange, bytes(clientFinal(one.serverFirst, one.bare, 'wander'))),
    ).toMatchObject(refused);
    const two = begin(auth, 'alice');
    expect(
      auth.continue(two.decision.exchange, bytes(clientFinal(one.serverFirst, one.bare, 'wonder'))),
    ).toMatchObject(refused);
    const three = begin(auth, 'alice');
    expect(
      auth.continue(
        three.decision.exchange,
        bytes(clientFinal(three.serverFirst, three.bare, 'wonder', 'y,,')),
      ),
    ).toMatchObject(refused);
    for (const data of [undefined, bytes(''), bytes('p=x'), bytes('c=biws,r=abc,p=AA==')]) {
      expect(auth.continue(begin(auth, 'alice').decision.exchange, data)).toMatchObject(refused);
    }
    expect(auth.continue({}, undefined)).toMatchObject(refused);
  });

  it('shows an unknown user a salt that is like a real one and never changes', () => {
    const [one, two] = [begin(authenticator(), 'nobody'), begin(authenticator(), 'nobody')];
    const shape = (text: string) => text.replace(/^r=[^,]+/, '');
    expect(shape(one.serverFirst)).toBe(shape(two.serverFirst));
    expect(shape(one.serverFirst)).not.toBe(shape(begin(authenticator(), 'nobody2').serverFirst));
    expect(shape(one.serverFirst)).toMatch(/^,s=[A-Za-z0-9+/]{22}==,i=10$/);
    const auth = authenticator();
    const { decision, serverFirst, bare } = begin(auth, 'nobody');
    expect(auth.continue(decision.exchange, bytes(clientFinal(serverFirst, bare, 'wonder')))).toMatchObject({
      kind: 'refuse',
    });
  });

  it.each([
    'n,,n=user',
    'p=tls-unique,,n=user,r=abc',
    'n,a=other,n=user,r=abc',
    'n,,m=ext,n=user,r=abc',
    'n,,n=us=er,r=abc',
    'n,,n=,r=abc',
    'n,,n=user,r=',
    'n,,n=user,r=a b',
    `n,,n=user,r=${'x'.repeat(257)}`,
    '',
  ])('refuses the first message %j', text => {
    expect(parseClientFirst(bytes(text))).toBeUndefined();
  });

  it('takes names with escaped characters', () => {
    expect(parseClientFirst(bytes('y,a=a=2Cb,n=a=2Cb,r=x'))).toMatchObject({
      login: 'a,b',
      gs2Header: 'y,a=a=2Cb,',
    });
    expect(parseClientFirst(bytes('n,,n=a=3Db,r=x,z=ext'))).toMatchObject({ login: 'a=b', nonce: 'x' });
  });
});
