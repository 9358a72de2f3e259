import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Lineage } from '../../src/kv/io/lineage.js';

const root = mkdtempSync(join(tmpdir(), 'shoal-lineage-'));
let made = 0;
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A data directory with the two stores of a node that ran `lives` times. */
class Directory {
  readonly path = join(root, `${made++}`);

  constructor(lives: number) {
    for (let i = 0; i < lives; i++) this.run().close();
  }

  open(): Lineage {
    return new Lineage(this.path, 'kept', 'derived');
  }

  /** To where both stores have opened their databases. */
  run(): Lineage {
    const lineage = this.open();
    for (const store of ['kept', 'derived']) this.fill(store);
    lineage.begun();
    return lineage;
  }

  fill(store: string): void {
    mkdirSync(join(this.path, store), { recursive: true });
    if (!existsSync(this.database(store))) writeFileSync(this.database(store), 'new');
  }

  database(store: string): string {
    return join(this.path, store, 'data.mdb');
  }

  remove(store: string): void {
    rmSync(join(this.path, store), { recursive: true });
  }

  /** A copy of one store now, to be put back by what is returned. */
  copy(store: string): () => void {
    const copy = join(root, `${made++}`);
    cpSync(join(this.path, store), copy, { recursive: true });
    return () => {
      this.remove(store);
      cpSync(copy, join(this.path, store), { recursive: true });
    };
  }
}

describe('Lineage', () => {
  it('sees two stores grow old together: stopped, killed, killed before they were begun, cut short at first', () => {
    const directory = new Directory(2);
    directory.run();
    directory.run();
    expect(directory.open().remake).toBe(false);
    expect(directory.open().remake).toBe(false);
    expect(readFileSync(directory.database('derived'), 'utf8')).toBe('new');

    const early = new Directory(0);
    early.open().close();
    expect(early.open().remake).toBe(false);
    early.fill('derived');
    expect(early.run().remake).toBe(false);
    expect(early.open().remake).toBe(false);
  });

  it('takes stores of before there were lives for what they are', () => {
    const directory = new Directory(0);
    for (const store of ['kept', 'derived']) directory.fill(store);
    const lineage = directory.run();
    expect(lineage.remake).toBe(false);
    lineage.close();
    expect(directory.open().remake).toBe(false);
  });

  it('has a derived store that was put away remade, again and again until it is begun', () => {
    const directory = new Directory(1);
    directory.remove('derived');
    expect(directory.open().remake).toBe(true);
    directory.fill('derived');
    expect(directory.open().remake).toBe(true);
    expect(existsSync(directory.database('derived'))).toBe(false);
    expect(directory.run().remake).toBe(true);
    expect(directory.run().remake).toBe(false);
  });

  it.each(['derived', 'kept'])(
    'has the derived store remade where an older copy of %s was put back',
    store => {
      const cold = new Directory(1);
      const [putBack, lineage] = [cold.copy(store), cold.run()];
      lineage.close();
      putBack();
      expect(cold.open().remake).toBe(true);
      expect(existsSync(cold.database('derived'))).toBe(false);

      // A copy of a store that was running, put back after a proper end.
      const hot = new Directory(1);
      const running = hot.run();
      const putHotBack = hot.copy(store);
      running.close();
      putHotBack();
      expect(hot.open().remake).toBe(true);
    },
  );

  it('refuses to begin without the kept store, and leaves the other as it is', () => {
    const directory = new Directory(1);
    directory.remove('kept');
    for (let i = 0; i < 2; i++)
      expect(() => directory.open()).toThrow(
        expect.objectContaining({
          code: 'SHOAL_STORAGE_CORRUPT',
          message: `${join(directory.path, 'kept')} is missing, ${join(directory.path, 'derived')} is there`,
        }),
      );
    expect(existsSync(directory.database('derived'))).toBe(true);
  });
});
