import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { chmodSync, linkSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Log } from '../base/env.js';
import { ShoalError } from '../base/errors.js';
import type { Closable } from '../base/scope.js';

/**
 * What the commands need to find and to enter the administration port of a node, in its data directory:
 * `admin.token` (who can read it, may; made at the first start and kept) and `admin.url` (there while the node runs).
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
 * The token of this data directory, made if there is none.
 *
 * @throws ShoalError SHOAL_ADMIN_TOKEN when the file cannot be used.
 */
export function ensureToken(dataDir: string, log: Log): string {
  const file = tokenFile(dataDir);
  try {
    makeToken(file);
    const mode = statSync(file).mode & 0o777;
    if ((mode & 0o077) !== 0) {
      chmodSync(file, PRIVATE);
      log.warn(
        { file, mode: mode.toString(8) },
        'others could read the token for administration; closed again',
      );
    }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ShoalError('SHOAL_ADMIN_TOKEN', `cannot keep a token in ${file}: ${reason}`, { cause });
  }
  return readToken(file);
}

/** Appears whole or not at all, and never in place of one that is there. */
function makeToken(file: string): void {
  const own = `${file}.${process.pid}`;
  try {
    writeFileSync(own, `${randomBytes(TOKEN_BYTES).toString('base64url')}\n`, { mode: PRIVATE, flag: 'wx' });
    linkSync(own, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(own, { force: true });
  }
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
