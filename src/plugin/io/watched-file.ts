import { readFile, stat } from 'node:fs/promises';
import type { Log } from '../../base/env.js';
import { ShoalError } from '../../base/errors.js';
import type { Closable } from '../../base/scope.js';

const FILE_BYTES_MAX = 256 * 1024 * 1024;

/**
 * A file that may be changed while it is in use. It is looked at every `pollMs`; its new content replaces the
 * old only when it parses, so a half-edited file never locks anybody out. Polling works on every file system
 * and with every way of replacing a file, which change notifications do not.
 */
export class WatchedFile implements Closable {
  private readonly path: string;
  private readonly apply: (text: string) => void;
  private readonly log: Log;
  private timer: NodeJS.Timeout | undefined;
  private seen: string;
  private looking: Promise<void> | undefined;

  private constructor(path: string, seen: string, apply: (text: string) => void, log: Log) {
    this.path = path;
    this.seen = seen;
    this.apply = apply;
    this.log = log;
  }

  /**
   * Reads the file and hands its text to `apply`, again after each change.
   *
   * @throws ShoalError SHOAL_AUTH_FILE when it cannot be read, and whatever `apply` throws.
   */
  static async open(
    path: string,
    apply: (text: string) => void,
    log: Log,
    pollMs = 2000,
  ): Promise<WatchedFile> {
    let text: string;
    let seen: string;
    try {
      seen = await fingerprint(path);
      text = await readFile(path, 'utf8');
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new ShoalError('SHOAL_AUTH_FILE', `cannot read ${path}: ${reason}`, { cause });
    }
    apply(text);
    const file = new WatchedFile(path, seen, apply, log);
    file.timer = setInterval(() => void file.look(), pollMs);
    file.timer.unref();
    return file;
  }

  /** Looks now, without waiting for the next poll. */
  look(): Promise<void> {
    this.looking ??= this.reread().finally(() => {
      this.looking = undefined;
    });
    return this.looking;
  }

  private async reread(): Promise<void> {
    try {
      const now = await fingerprint(this.path);
      if (now === this.seen) return;
      this.seen = now;
      this.apply(await readFile(this.path, 'utf8'));
      this.log.info({ file: this.path }, 'reread a changed file');
    } catch (error) {
      if (this.seen === UNREADABLE && !(error instanceof ShoalError)) return;
      if (!(error instanceof ShoalError)) this.seen = UNREADABLE;
      const reason = error instanceof Error ? error.message : String(error);
      this.log.error(
        { file: this.path, reason },
        'a changed file cannot be used, what it said before stays in force',
      );
    }
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.looking;
  }
}

/** Stands for "the last attempt failed", so that the failure is logged once and the next success is noticed. */
const UNREADABLE = '';

async function fingerprint(path: string): Promise<string> {
  const { mtimeNs, size, ino } = await stat(path, { bigint: true });
  if (size > FILE_BYTES_MAX) throw new Error(`it is larger than ${FILE_BYTES_MAX} bytes`);
  return `${mtimeNs}:${size}:${ino}`;
}
