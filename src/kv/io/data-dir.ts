import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { ShoalError } from '../../base/errors.js';
import type { Closable } from '../../base/scope.js';
import { STORAGE_VERSION } from './lmdb-engine.js';

/**
 * The data directory of a node: made, locked for one process, and marked with the version of what is in it.
 *
 * The lock is a file that names its holder. Node has no flock, so whether a holder still lives is told by its
 * process: same machine start, same process namespace, and a process of that number that began at that time.
 * Where that cannot be seen (another container, a network file system), by a heartbeat: the holder touches the
 * file every `HEARTBEAT_MS`, and is taken for dead after `SILENCE_MS`. The file appears whole (a hard link), and
 * a stale one is moved aside by a rename whose result is looked at, so two that start at once do not both win.
 *
 * Throws SHOAL_DATA_DIR_UNUSABLE, SHOAL_DATA_DIR_LOCKED, SHOAL_STORAGE_VERSION.
 */
export class DataDir implements Closable {
  readonly path: string;
  private readonly lockPath: string;
  private readonly mark: string;
  private readonly heartbeat: NodeJS.Timeout;
  private closed = false;

  constructor(path: string) {
    this.path = path;
    this.lockPath = join(path, 'lock');
    this.mark = JSON.stringify(selfMark());
    try {
      makeDirectory(path);
      this.lock();
    } catch (cause) {
      if (cause instanceof ShoalError) throw cause;
      throw new ShoalError('SHOAL_DATA_DIR_UNUSABLE', `cannot use ${path}: ${String(cause)}`, { cause });
    }
    try {
      checkVersion(path);
    } catch (error) {
      this.unlock();
      throw error;
    }
    this.heartbeat = setInterval(() => this.touch(), HEARTBEAT_MS);
    this.heartbeat.unref();
  }

  private lock(): void {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      if (this.tryLink()) return;
      const holder = readOrNothing(this.lockPath);
      if (holder === undefined) continue;
      if (isAlive(holder, this.lockPath)) throw this.locked(holder);
      this.moveAside(holder);
    }
    throw new ShoalError('SHOAL_DATA_DIR_LOCKED', `${this.path} is being locked by others all the time`);
  }

  /** Makes the lock file appear with its content, or not at all. */
  private tryLink(): boolean {
    const own = `${this.lockPath}.${process.pid}`;
    writeFileSync(own, this.mark);
    try {
      linkSync(own, this.lockPath);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw error;
    } finally {
      unlinkSync(own);
    }
  }

  private moveAside(stale: string): void {
    const aside = `${this.lockPath}.stale.${process.pid}`;
    try {
      renameSync(this.lockPath, aside);
    } catch {
      return; // another process was quicker
    }
    const moved = readOrNothing(aside);
    if (moved !== stale && moved !== undefined) {
      // It was the lock of somebody who was quicker: back with it.
      linkSync(aside, this.lockPath);
      unlinkSync(aside);
      throw this.locked(moved);
    }
    unlinkSync(aside);
  }

  private locked(holder: string): ShoalError {
    const pid = parseMark(holder)?.pid ?? 'unknown';
    return new ShoalError('SHOAL_DATA_DIR_LOCKED', `${this.path} is in use by process ${pid}`);
  }

  private touch(): void {
    try {
      const now = new Date();
      utimesSync(this.lockPath, now, now);
    } catch {
      // The directory is gone or read-only; the databases will say so.
    }
  }

  private unlock(): void {
    if (readOrNothing(this.lockPath) === this.mark) unlinkSync(this.lockPath);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.heartbeat);
    this.unlock();
  }
}

/** With its parents. Node's own `recursive` never ends where a directory says ENOENT to a new entry, as /proc does. */
function makeDirectory(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || existsSync(dirname(path))) throw error;
    makeDirectory(dirname(path));
    makeDirectory(path);
  }
}

const HEARTBEAT_MS = 2000;
const SILENCE_MS = 10_000;
const ATTEMPTS_MAX = 10;

interface Mark {
  readonly pid: number;
  /** Clock ticks from the machine's start to the process's; '' where it cannot be read. */
  readonly startedAt: string;
  readonly bootId: string;
  readonly pidNamespace: string;
}

function selfMark(): Mark {
  return {
    pid: process.pid,
    startedAt: startOf(process.pid) ?? '',
    bootId: readOrNothing('/proc/sys/kernel/random/boot_id')?.trim() ?? '',
    pidNamespace: pidNamespace(),
  };
}

function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return '';
  }
}

/** Field 22 of /proc/pid/stat; the name before it may hold anything but its closing parenthesis is the last. */
function startOf(pid: number): string | undefined {
  const stat = readOrNothing(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

function readOrNothing(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function parseMark(text: string): Mark | undefined {
  try {
    const mark = JSON.parse(text) as Mark;
    return typeof mark.pid === 'number' ? mark : undefined;
  } catch {
    return undefined;
  }
}

function isAlive(holder: string, lockPath: string): boolean {
  const mark = parseMark(holder);
  const self = selfMark();
  if (
    mark === undefined ||
    mark.startedAt === '' ||
    mark.bootId !== self.bootId ||
    mark.pidNamespace !== self.pidNamespace
  )
    return isHeard(lockPath);
  return startOf(mark.pid) === mark.startedAt;
}

function isHeard(lockPath: string): boolean {
  try {
    return Date.now() - statSync(lockPath).mtimeMs < SILENCE_MS;
  } catch {
    return false;
  }
}

function checkVersion(path: string): void {
  const file = join(path, 'version');
  const found = readOrNothing(file);
  if (found === undefined) {
    mark(file);
    return;
  }
  const version = Number(found);
  if (!Number.isSafeInteger(version) || version < 1)
    throw new ShoalError('SHOAL_STORAGE_CORRUPT', `${file} does not hold a version`);
  if (version > STORAGE_VERSION)
    throw new ShoalError(
      'SHOAL_STORAGE_VERSION',
      `${path} has version ${version}, this is ${STORAGE_VERSION}`,
    );
  if (version < STORAGE_VERSION) mark(file);
}

/** From here on an older program refuses it. */
function mark(file: string): void {
  writeFileSync(`${file}.new`, `${STORAGE_VERSION}\n`);
  renameSync(`${file}.new`, file);
}
