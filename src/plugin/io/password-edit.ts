import { randomBytes } from 'node:crypto';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { hash } from '@node-rs/argon2';
import { ShoalError } from '../../base/errors.js';
import { formatScram, loginFault, parsePasswords, passwordLine } from '../credentials.js';
import { deriveScramKeys } from './scram.js';

/** A CONNECT cannot carry more. */
export const PASSWORD_BYTES_MAX = 65_535;

export type PasswordKind = 'argon2' | 'scram';

/**
 * Sets the password of `login`, replacing its line of that kind or adding one; makes the file if there is none.
 *
 * @throws ShoalError SHOAL_AUTH_FILE when the name or password cannot be used, or the file is not a password file.
 */
export async function setPassword(
  file: string,
  login: string,
  password: string,
  kind: PasswordKind,
): Promise<void> {
  const fault = loginFault(login) ?? passwordFault(password);
  if (fault !== undefined) throw new ShoalError('SHOAL_AUTH_FILE', fault);
  const secret = kind === 'argon2' ? await hash(password) : formatScram(await deriveScramKeys(password));
  const lines = await readLines(file, 'may be missing');
  const fresh = `${login}:${secret}`;
  const at = lines.findIndex(line => isOf(line, login, kind));
  if (at >= 0) lines[at] = fresh;
  else lines.push(fresh);
  await replaceFile(file, lines);
}

/** Deletes every line of `login`; false when there was none. */
export async function deletePassword(file: string, login: string): Promise<boolean> {
  const lines = await readLines(file, 'must exist');
  const kept = lines.filter(line => !isOf(line, login));
  if (kept.length === lines.length) return false;
  await replaceFile(file, kept);
  return true;
}

function isOf(line: string, login: string, kind?: PasswordKind): boolean {
  const found = passwordLine(line);
  return found?.login === login && (kind === undefined || found.kind === kind);
}

function passwordFault(password: string): string | undefined {
  if (password === '') return 'the password is empty';
  if (Buffer.byteLength(password) > PASSWORD_BYTES_MAX)
    return `the password is longer than ${PASSWORD_BYTES_MAX} bytes`;
  return undefined;
}

async function readLines(file: string, presence: 'may be missing' | 'must exist'): Promise<string[]> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' && presence === 'may be missing') return [];
    throw new ShoalError('SHOAL_AUTH_FILE', `cannot read ${file}: ${message}`, { cause });
  }
  parsePasswords(text, file);
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

/** Whole or not at all, also over a crash: a new file is written, flushed, and renamed over the old one. */
async function replaceFile(file: string, lines: readonly string[]): Promise<void> {
  const fresh = `${file}.${randomBytes(6).toString('hex')}.new`;
  try {
    const mode = await stat(file).then(
      found => found.mode & 0o777,
      () => 0o600,
    );
    const handle = await open(fresh, 'wx', mode);
    try {
      await handle.writeFile(lines.map(line => `${line}\n`).join(''));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(fresh, file);
    const directory = await open(dirname(file), 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  } catch (cause) {
    await rm(fresh, { force: true });
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ShoalError('SHOAL_AUTH_FILE', `cannot write ${file}: ${reason}`, { cause });
  }
}
