import { ShoalError } from '../base/errors.js';
import { DEFAULT_TENANT } from './plugin.js';

/**
 * The password file: one credential a line, `LOGIN:SECRET`; empty lines and lines that begin with `#` are
 * skipped. A login may have one line of each kind:
 *
 *     alice:$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH                      user name and password in CONNECT
 *     alice:SCRAM-SHA-256$4096:SALT$STOREDKEY:SERVERKEY                   enhanced authentication (RFC 7677)
 *     acme/bob:$argon2id$…                                                user bob of tenant acme
 *
 * The second form is the one of RFC 5803. Neither holds a password, but both are worth stealing: keep the file
 * readable by the broker alone.
 */

/** What RFC 5802 keeps of a password. */
export interface ScramKeys {
  readonly iterations: number;
  readonly salt: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

export interface Credentials {
  /** PHC string of argon2id. */
  argon2: string | undefined;
  scram: ScramKeys | undefined;
}

export const SCRAM_METHOD = 'SCRAM-SHA-256';

/** Longest login: a CONNECT user name is no longer. */
export const LOGIN_BYTES_MAX = 65_535;

/** Iterations above this would let one client's computation be made absurd by a typing error. */
const SCRAM_ITERATIONS_MAX = 10_000_000;
const SHA256_BYTES = 32;

/** The login `tenant/user`, or `user` alone in the default tenant. */
export function splitLogin(login: string): { tenant: string; user: string } {
  const at = login.indexOf('/');
  if (at <= 0) return { tenant: DEFAULT_TENANT, user: login };
  return { tenant: login.slice(0, at), user: login.slice(at + 1) };
}

/** The reverse of {@link splitLogin}. */
export function joinLogin(tenant: string, user: string): string {
  return tenant === DEFAULT_TENANT ? user : `${tenant}/${user}`;
}

/** Why `login` cannot stand in a password file, or undefined when it can. */
export function loginFault(login: string): string | undefined {
  if (login === '') return 'the user name is empty';
  if (Buffer.byteLength(login) > LOGIN_BYTES_MAX)
    return `the user name is longer than ${LOGIN_BYTES_MAX} bytes`;
  if (login.startsWith('#')) return 'a user name cannot begin with #';
  if (login !== login.trim()) return 'a user name cannot begin or end with a blank';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[:\u0000-\u001f\u007f]/.test(login)) return 'a user name cannot contain ":" or control characters';
  if (login.startsWith(`${DEFAULT_TENANT}/`))
    return `users of tenant ${DEFAULT_TENANT} are written without it`;
  if (login.endsWith('/') && login.indexOf('/') === login.length - 1)
    return 'the user name after the tenant is empty';
  return undefined;
}

/** One line of the file. */
export interface PasswordLine {
  readonly login: string;
  readonly kind: 'argon2' | 'scram';
}

/** Which credential a line holds; undefined for a comment, an empty line or something else. */
export function passwordLine(line: string): PasswordLine | undefined {
  if (line.startsWith('#')) return undefined;
  const at = line.indexOf(':');
  if (at < 0) return undefined;
  const secret = line.slice(at + 1);
  if (secret.startsWith('$argon2id$')) return { login: line.slice(0, at), kind: 'argon2' };
  if (secret.startsWith(`${SCRAM_METHOD}$`)) return { login: line.slice(0, at), kind: 'scram' };
  return undefined;
}

/**
 * Reads a whole file. Argon2 strings are checked for their form only.
 *
 * @throws ShoalError SHOAL_AUTH_FILE naming file and line, never the secret.
 */
export function parsePasswords(text: string, file: string): Map<string, Credentials> {
  const entries = new Map<string, Credentials>();
  const lines = text.split('\n');
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index]!.replace(/\r$/, '');
    if (line.trim() === '' || line.startsWith('#')) continue;
    const fault = addLine(entries, line);
    if (fault !== undefined) throw new ShoalError('SHOAL_AUTH_FILE', `${file} line ${index + 1}: ${fault}`);
  }
  return entries;
}

function addLine(entries: Map<string, Credentials>, line: string): string | undefined {
  const found = passwordLine(line);
  if (!found) return `not of the form LOGIN:$argon2id$… or LOGIN:${SCRAM_METHOD}$…`;
  const { login, kind } = found;
  const fault = loginFault(login);
  if (fault !== undefined) return fault;
  const secret = line.slice(login.length + 1);
  const entry: Credentials = entries.get(login) ?? { argon2: undefined, scram: undefined };
  if (entry[kind] !== undefined) return `a second ${kind} line for ${JSON.stringify(login)}`;
  if (kind === 'argon2') {
    if (
      !/^\$argon2id\$v=19\$m=\d{1,8},t=\d{1,4},p=\d{1,3}\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,}$/.test(
        secret,
      )
    ) {
      return 'not a whole argon2id hash';
    }
    entry.argon2 = secret;
  } else {
    const keys = parseScram(secret);
    if (!keys) return `not a whole ${SCRAM_METHOD} entry`;
    entry.scram = keys;
  }
  entries.set(login, entry);
  return undefined;
}

function parseScram(secret: string): ScramKeys | undefined {
  const parts = /^SCRAM-SHA-256\$(\d{1,8}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$/.exec(
    secret,
  );
  if (!parts) return undefined;
  const [, iterations, salt, storedKey, serverKey] = parts;
  const keys: ScramKeys = {
    iterations: Number(iterations),
    salt: Buffer.from(salt!, 'base64'),
    storedKey: Buffer.from(storedKey!, 'base64'),
    serverKey: Buffer.from(serverKey!, 'base64'),
  };
  const whole = keys.storedKey.length === SHA256_BYTES && keys.serverKey.length === SHA256_BYTES;
  const sane = keys.iterations >= 1 && keys.iterations <= SCRAM_ITERATIONS_MAX && keys.salt.length > 0;
  return whole && sane ? keys : undefined;
}

/** The secret part of a line. */
export function formatScram({ iterations, salt, storedKey, serverKey }: ScramKeys): string {
  const text = (bytes: Buffer) => bytes.toString('base64');
  return `${SCRAM_METHOD}$${iterations}:${text(salt)}$${text(storedKey)}:${text(serverKey)}`;
}
