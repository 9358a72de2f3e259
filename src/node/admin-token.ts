import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ShoalError } from '../base/errors.js';
import type { Closable } from '../base/scope.js';

/**
 * What the commands need to find and to enter the administration port of a node, in its data directory:
 * `admin.token` (who can read it, may; another one at each start) and `admin.url` (there while the node runs).
 */

const TOKEN_BYTES = 32;
const TOKEN_PATTERN = /^[\w.~+/=-]{32,256}$/;
const FILE_BYTES_MAX = 1_024;
const PRIVATE = 0o600;

export function tokenFile(dataDir: string): string {
  return join(dataDir, 'admin.token');
}

function urlFile(dataDir: string): string {
  return join(dataDir, 'admin.url');
}

/**
 * A token for this run of the node, in its data directory, which the caller has locked. New at each start: what a
 * command sends to a port that somebody else took after a crash opens nothing.
 *
 * @throws ShoalError SHOAL_ADMIN_TOKEN when the file cannot be written.
 */
export function renewToken(dataDir: string): string {
  const file = tokenFile(dataDir);
  const token = randomBytes(TOKEN_BYTES).toString('base64url');
  const own = `${file}.new`;
  try {
    rmSync(own, { force: true });
    writeFileSync(own, `${token}\n`, { mode: PRIVATE, flag: 'wx' });
    renameSync(own, file);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ShoalError('SHOAL_ADMIN_TOKEN', `cannot keep a token in ${file}: ${reason}`, { cause });
  }
  return token;
}

/** @throws ShoalError SHOAL_ADMIN_TOKEN when there is none in the file. */
export function readToken(file: string): string {
  const token = readSmall(file)?.trim();
  if (token === undefined)
    throw new ShoalError('SHOAL_ADMIN_UNREACHABLE', `cannot read the token in ${file}`);
  if (!TOKEN_PATTERN.test(token)) throw new ShoalError('SHOAL_ADMIN_TOKEN', `${file} does not hold a token`);
  return token;
}

/** Same length and time whatever is given. */
export function isToken(token: string, given: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(token), digest(given));
}

/** Tells the commands where the node is, until it is closed. */
export function announceUrl(dataDir: string, url: string): Closable {
  const file = urlFile(dataDir);
  writeFileSync(file, `${url}\n`, { mode: PRIVATE });
  return { close: () => rmSync(file, { force: true }) };
}

/** Where the node of this data directory is, or was when it died; undefined when it has none or was stopped. */
export function announcedUrl(dataDir: string): string | undefined {
  const url = readSmall(urlFile(dataDir))?.trim();
  return url !== undefined && /^http:\/\/\S+$/.test(url) ? url : undefined;
}

function readSmall(file: string): string | undefined {
  try {
    return statSync(file).size > FILE_BYTES_MAX ? '' : readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
