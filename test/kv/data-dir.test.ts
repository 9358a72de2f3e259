import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ShoalError } from '../../src/base/errors.js';
import { DataDir } from '../../src/kv/io/data-dir.js';
import { STORAGE_VERSION } from '../../src/kv/io/lmdb-engine.js';

const root = mkdtempSync(join(tmpdir(), 'shoal-dir-'));
let made = 0;
const fresh = () => join(root, `${made++}`);
afterAll(() => rmSync(root, { recursive: true, force: true }));

function codeOf(path: string): string {
  try {
    new DataDir(path).close();
  } catch (error) {
    if (error instanceof ShoalError) return error.code;
    throw error;
  }
  return 'none';
}

describe('DataDir', () => {
  it('is held by one at a time and let go', () => {
    const path = fresh();
    const held = new DataDir(path);
    expect(codeOf(path)).toBe('SHOAL_DATA_DIR_LOCKED');
    held.close();
    held.close();
    expect(codeOf(path)).toBe('none');
  });

  it('takes over from a process that was killed', async () => {
    const path = fresh();
    new DataDir(path).close();
    const child = spawn('sleep', ['60']);
    const stat = readFileSync(`/proc/${child.pid}/stat`, 'utf8');
    const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    const held = new DataDir(path);
    const mark = JSON.parse(readFileSync(join(path, 'lock'), 'utf8'));
    held.close();
    writeFileSync(join(path, 'lock'), JSON.stringify({ ...mark, pid: child.pid, startedAt: started }));
    expect(codeOf(path)).toBe('SHOAL_DATA_DIR_LOCKED');
    child.kill('SIGKILL');
    await new Promise(resolve => child.on('exit', resolve));
    expect(codeOf(path)).toBe('none');
  });

  it('is not fooled by another process with the same number', () => {
    const path = fresh();
    const held = new DataDir(path);
    const mark = JSON.parse(readFileSync(join(path, 'lock'), 'utf8'));
    held.close();
    writeFileSync(join(path, 'lock'), JSON.stringify({ ...mark, startedAt: '1' }));
    expect(codeOf(path)).toBe('none');
  });

  it('goes by the heartbeat for a holder that it cannot see', () => {
    const path = fresh();
    const held = new DataDir(path);
    const mark = JSON.parse(readFileSync(join(path, 'lock'), 'utf8'));
    held.close();
    const lock = join(path, 'lock');
    for (const text of [JSON.stringify({ ...mark, bootId: 'elsewhere' }), 'torn']) {
      writeFileSync(lock, text);
      expect(codeOf(path)).toBe('SHOAL_DATA_DIR_LOCKED');
      const past = new Date(Date.now() - 60_000);
      utimesSync(lock, past, past);
      expect(codeOf(path)).toBe('none');
    }
  });

  it('refuses a newer version and lets the lock go', () => {
    const path = fresh();
    new DataDir(path).close();
    writeFileSync(join(path, 'version'), '99\n');
    expect(codeOf(path)).toBe('SHOAL_STORAGE_VERSION');
    writeFileSync(join(path, 'version'), '1\n');
    expect(codeOf(path)).toBe('none');
  });

  it('says in an older one that it is of this version now', () => {
    const path = fresh();
    new DataDir(path).close();
    const version = readFileSync(join(path, 'version'), 'utf8');
    expect(Number(version)).toBe(STORAGE_VERSION);
    writeFileSync(join(path, 'version'), '1\n');
    new DataDir(path).close();
    expect(readFileSync(join(path, 'version'), 'utf8')).toBe(version);
  });

  it('says that a directory cannot be used', () => {
    const path = fresh();
    writeFileSync(path, '');
    expect(codeOf(path)).toBe('SHOAL_DATA_DIR_UNUSABLE');
    expect(codeOf(join(path, 'below'))).toBe('SHOAL_DATA_DIR_UNUSABLE');
  });

  it.skipIf(process.platform !== 'linux')(
    'says so, too, where nothing can be made, and does not try for ever',
    () => {
      expect(codeOf('/proc/x')).toBe('SHOAL_DATA_DIR_UNUSABLE');
      expect(codeOf('/proc/x/y')).toBe('SHOAL_DATA_DIR_UNUSABLE');
    },
  );

  it('is made with what is above it', () => {
    const path = fresh();
    expect([codeOf(join(path, 'a', 'b')), codeOf(join(path, 'a', 'b'))]).toEqual(['none', 'none']);
  });
});
