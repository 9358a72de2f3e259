import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ShoalError } from '../../base/errors.js';
import type { Closable } from '../../base/scope.js';

/**
 * Two stores of a data directory, of which one (`derived`) can be made again from the other (`kept`): whether they
 * still belong together. Each has a file with the name of the life that it is in, a random one that both get at each
 * start and at each proper end. A store that was put away, or replaced by an older copy of itself, is in another life
 * than its sibling. Then `derived` is emptied, and `remake` tells that its content is to be made again; until
 * {@link begun} says that this can no longer be forgotten, the two are of different lives.
 *
 * Not noticed: a copy from the very life that a crash ended, and a database that is replaced without the file beside
 * it. A crash between the two files looks like two lives, and costs a remaking.
 *
 * Throws SHOAL_STORAGE_CORRUPT where `kept` is missing, SHOAL_DATA_DIR_UNUSABLE. To be held under the lock (DataDir).
 */
export class Lineage implements Closable {
  readonly remake: boolean;
  private readonly kept: string;
  private readonly derived: string;
  private life = newLife();
  private together = false;

  constructor(dataDir: string, kept: string, derived: string) {
    this.kept = join(dataDir, kept);
    this.derived = join(dataDir, derived);
    const keptLife = lifeOf(this.kept);
    const derivedLife = lifeOf(this.derived);
    // Without a name it is what a first start left that was cut short.
    if (keptLife === undefined && derivedLife)
      throw new ShoalError('SHOAL_STORAGE_CORRUPT', `${this.kept} is missing, ${this.derived} is there`);
    this.remake = keptLife !== undefined && keptLife !== derivedLife;
    if (this.remake) this.empty();
    else if (keptLife !== undefined) this.begun();
  }

  private empty(): void {
    try {
      rmSync(this.derived, { recursive: true, force: true });
      enter(this.derived, this.life);
    } catch (cause) {
      throw unusable(this.derived, cause);
    }
  }

  /** Both stores are there, and `kept` has it durably that the other is to be made again where that is so. */
  begun(): void {
    if (this.together) return;
    try {
      enter(this.derived, this.life);
      enter(this.kept, this.life);
    } catch (cause) {
      throw unusable(this.kept, cause);
    }
    this.together = true;
  }

  /** To be called when both stores are closed. */
  close(): void {
    if (!this.together) return;
    this.together = false;
    this.life = newLife();
    try {
      this.begun();
    } catch {
      // No room, or the directory is gone: at worst the next start remakes what is there.
    }
  }
}

const LIFE_FILE = 'life';

function newLife(): string {
  return randomBytes(16).toString('hex');
}

/** '' for a store that has none yet; undefined where there is no store. */
function lifeOf(store: string): string | undefined {
  if (!existsSync(join(store, 'data.mdb'))) return undefined;
  try {
    return readFileSync(join(store, LIFE_FILE), 'utf8').trim();
  } catch {
    return '';
  }
}

function enter(store: string, life: string): void {
  const file = join(store, LIFE_FILE);
  mkdirSync(store, { recursive: true });
  writeFileSync(`${file}.new`, `${life}\n`, { flush: true });
  renameSync(`${file}.new`, file);
}

function unusable(path: string, cause: unknown): ShoalError {
  return new ShoalError('SHOAL_DATA_DIR_UNUSABLE', `cannot use ${path}: ${String(cause)}`, { cause });
}
