/** Small disks that can be filled: a tmpfs each, apart from all other files so that no sweep finds one mounted. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MARK = 'shoalmq-disk-';
const SIZE = '64m';

export class SmallDisk {
  readonly path: string;
  private readonly filler: string;
  private readonly directory: string;

  constructor() {
    sweep();
    this.directory = mkdtempSync(join(tmpdir(), `${MARK}${process.pid}-`));
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE}`, 'shoalmq', this.directory]);
    this.path = join(this.directory, 'data');
    this.filler = join(this.directory, 'filler');
  }

  /** Not a byte is left. */
  fill(): void {
    const { bavail, bsize } = statfsSync(this.directory);
    try {
      writeFileSync(this.filler, Buffer.alloc(bavail * bsize, 1));
    } catch (error) {
      // Whoever writes meanwhile takes some of it.
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    }
  }

  free(): void {
    rmSync(this.filler, { force: true });
  }

  close(): void {
    remove(this.directory);
  }
}

function remove(directory: string): void {
  // Lazily: a process that was killed this moment may still hold a file.
  execFileSync('umount', ['--lazy', directory]);
  rmSync(directory, { recursive: true, force: true });
}

/** What runs that were killed have left. */
function sweep(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = new RegExp(`^${MARK}(\\d+)-`).exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    try {
      remove(join(tmpdir(), name));
    } catch {
      // Another run sweeps at the same time, or it is not mounted any more.
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
