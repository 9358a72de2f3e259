import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ShoalError } from '../../src/base/errors.js';
import { checkLmdbFile } from '../../src/kv/io/lmdb-check.js';
import { LmdbEngine } from '../../src/kv/io/lmdb-engine.js';

const root = mkdtempSync(join(tmpdir(), 'shoal-lmdb-'));
let made = 0;
afterAll(() => rmSync(root, { recursive: true, force: true }));

function fresh(): string {
  const path = join(root, `${made++}`);
  mkdirSync(path);
  return path;
}

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof ShoalError) return error.code;
    throw error;
  }
  return 'none';
}

function entries(engine: LmdbEngine): string {
  const out: string[] = [];
  engine.scan(Buffer.from('a'), Buffer.from('z'), (key, value) => {
    out.push(`${Buffer.from(key).toString('latin1')}=${Buffer.from(value).toString('latin1')}`);
    return true;
  });
  return out.join('\n');
}

async function content(path: string): Promise<string> {
  const engine = new LmdbEngine({ path, durability: 'flush' });
  try {
    return entries(engine);
  } finally {
    await engine.close();
  }
}

/** A database with small and large values, long keys, several levels and freed pages. */
async function sample(): Promise<string> {
  const path = fresh();
  const engine = new LmdbEngine({ path, durability: 'flush' });
  const nothing = () => undefined;
  engine.write(writer => {
    for (let i = 0; i < 1500; i++) writer.put(Buffer.from(`key/${i}`), Buffer.from(`value ${i} `.repeat(4)));
    for (let i = 0; i < 5; i++) writer.put(Buffer.from(`large/${i}`), Buffer.alloc(9000, i));
    for (let i = 0; i < 5; i++) writer.put(Buffer.from(`${'long'.repeat(600)}${i}`), Buffer.from(`${i}`));
  }, nothing);
  for (let round = 0; round < 4; round++)
    engine.write(writer => {
      for (let i = round; i < 1500; i += 7) writer.remove(Buffer.from(`key/${i}`));
    }, nothing);
  await engine.close();
  return path;
}

describe('LmdbEngine', () => {
  it('keeps what was written when it is opened again', async () => {
    const path = await sample();
    const first = await content(path);
    expect(first).toContain('key/1000=');
    expect(await content(path)).toBe(first);
    expect(checkLmdbFile(join(path, 'data.mdb'))).toBeGreaterThan(4);
  });

  it('reports a file that is cut short, wherever', async () => {
    const path = await sample();
    const file = join(path, 'data.mdb');
    const { size } = statSync(file);
    const whole = await content(path);
    for (let bytes = size - 4096; bytes > 0; bytes -= 4096 * 7) {
      const cut = fresh();
      copyFileSync(file, join(cut, 'data.mdb'));
      truncateSync(join(cut, 'data.mdb'), bytes);
      const code = codeOf(() => checkLmdbFile(join(cut, 'data.mdb')));
      // Only pages that are free may be missing.
      if (code === 'none') expect(await content(cut)).toBe(whole);
      else expect(code).toBe('SHOAL_STORAGE_CORRUPT');
    }
    const half = fresh();
    copyFileSync(file, join(half, 'data.mdb'));
    truncateSync(join(half, 'data.mdb'), Math.floor(size / 2));
    expect(codeOf(() => new LmdbEngine({ path: half, durability: 'flush' }))).toBe('SHOAL_STORAGE_CORRUPT');
  });

  it('takes a file that ends before a page that is counted but named by nobody, as a kill can leave it', async () => {
    const path = await sample();
    const file = join(path, 'data.mdb');
    const whole = await content(path);
    const bytes = readFileSync(file);
    for (const page of [0, 1]) {
      const lastPageAt = page * 4096 + 144;
      bytes.writeBigUInt64LE(bytes.readBigUInt64LE(lastPageAt) + 1n, lastPageAt);
    }
    writeFileSync(file, bytes);
    expect(codeOf(() => checkLmdbFile(file))).toBe('none');
    expect(await content(path)).toBe(whole);
  });

  it('reports altered bytes or serves exactly what was written', async () => {
    const path = await sample();
    const file = join(path, 'data.mdb');
    const bytes = readFileSync(file);
    const whole = await content(path);
    let reported = 0;
    let state = 12345;
    const random = (below: number) => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      return state % below;
    };
    const altered = fresh();
    const target = join(altered, 'data.mdb');
    writeFileSync(target, bytes);
    for (let run = 0; run < 400; run++) {
      // A third in the headers of pages, where LMDB itself would be led astray; the two first pages above all.
      const page = run % 4 === 0 ? random(2) : random(bytes.length / 4096);
      const at = page * 4096 + random(run % 3 === 0 ? 200 : 4096);
      const fd = openSync(target, 'r+');
      writeSync(fd, Buffer.of(bytes[at]! ^ (1 << random(8))), 0, 1, at);
      closeSync(fd);
      const code = codeOf(() => checkLmdbFile(target));
      if (code === 'none') {
        let opened = '';
        const openCode = codeOf(() => {
          const engine = new LmdbEngine({ path: altered, durability: 'flush' });
          opened = entries(engine);
          void engine.close();
        });
        if (openCode === 'none') expect(opened).toBe(whole);
        else expect(openCode).toBe('SHOAL_STORAGE_CORRUPT');
        await new Promise(resolve => setImmediate(resolve));
      } else {
        expect(code).toBe('SHOAL_STORAGE_CORRUPT');
        reported++;
      }
      writeFileSync(target, bytes);
    }
    expect(reported).toBeGreaterThan(40);
  });

  it('reports a page of zeros and a stale page', async () => {
    const path = await sample();
    const file = join(path, 'data.mdb');
    const bytes = readFileSync(file);
    let reported = 0;
    for (let page = 2; page * 4096 < bytes.length; page++) {
      const torn = Buffer.from(bytes);
      torn.fill(0, page * 4096, (page + 1) * 4096);
      const target = join(fresh(), 'data.mdb');
      writeFileSync(target, torn);
      if (codeOf(() => checkLmdbFile(target)) === 'SHOAL_STORAGE_CORRUPT') reported++;
      rmSync(target);
    }
    expect(reported).toBeGreaterThan(20);
  });

  it('finds nothing wrong with any file that it wrote itself', async () => {
    const path = fresh();
    let state = 99;
    const random = (below: number) => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      return (state >>> 8) % below;
    };
    for (let round = 0; round < 4; round++) {
      const engine = new LmdbEngine({ path, durability: round % 2 === 0 ? 'flush' : 'async' });
      for (let turn = 0; turn < 60; turn++) {
        const count = random(10) === 0 ? random(2000) : random(60);
        const removals = random(3);
        engine.write(
          writer => {
            for (let i = 0; i < count; i++) {
              const key = Buffer.from(`k${random(5000)}`);
              // Large values that shrink leave runs of pages longer than they need be.
              if (random(3) < removals) writer.remove(key);
              else writer.put(key, Buffer.alloc(random(20) === 0 ? random(30_000) : random(300)));
            }
          },
          () => undefined,
        );
        if (turn % 5 === 0) checkLmdbFile(join(path, 'data.mdb'));
      }
      await engine.close();
    }
    expect(checkLmdbFile(join(path, 'data.mdb'))).toBeGreaterThan(200);
  });

  it('refuses a newer format and a stranger', async () => {
    const path = fresh();
    const engine = new LmdbEngine({ path, durability: 'flush' });
    const newer = engine as unknown as { physicalPut(key: Uint8Array, value: Uint8Array): void };
    engine.write(
      () => newer.physicalPut(Uint8Array.of(0, 0x66), Buffer.from('484f414c09000000', 'hex')),
      () => undefined,
    );
    await engine.close();
    expect(codeOf(() => new LmdbEngine({ path, durability: 'flush' }))).toBe('SHOAL_STORAGE_VERSION');
    const other = fresh();
    writeFileSync(join(other, 'data.mdb'), 'not a database at all'.repeat(1000));
    expect(codeOf(() => new LmdbEngine({ path: other, durability: 'flush' }))).toBe('SHOAL_STORAGE_CORRUPT');
  });

  it('says that a directory cannot be made', () => {
    const path = fresh();
    writeFileSync(join(path, 'file'), '');
    expect(codeOf(() => new LmdbEngine({ path: join(path, 'file', 'db'), durability: 'flush' }))).toBe(
      'SHOAL_DATA_DIR_UNUSABLE',
    );
  });
});
