import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

/** What `generate.sh` is written for; others lay out their code differently. */
const FLATC = 'flatc version 2.0.8';
const found = spawnSync('flatc', ['--version'], { encoding: 'utf8' }).stdout?.trim() ?? 'no flatc';
const schemaFolder = new URL('../../src/schema/', import.meta.url).pathname;

describe.skipIf(found !== FLATC)(`the schema (skipped where there is no ${FLATC}; here: ${found})`, () => {
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'shoalmq-schema-'));
  });

  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it('is what the committed code was generated from', () => {
    execFileSync(join(schemaFolder, 'generate.sh'), [folder]);
    const code = (from: string) =>
      readdirSync(from)
        .sort()
        .map(name => [name, readFileSync(join(from, name), 'utf8')]);
    expect(code(join(schemaFolder, 'gen'))).toEqual(code(folder));
  });

  it.each([
    ['underlay.fbs', 'next.fbs'],
    ['rpc.fbs', 'next-rpc.fbs'],
    ['kv.fbs', 'next-kv.fbs'],
  ])('%s may become test/schema/%s, which a test of evolution speaks', (now, later) => {
    const next = new URL(later, import.meta.url).pathname;
    const run = spawnSync('flatc', ['--conform', join(schemaFolder, now), next], { encoding: 'utf8' });
    expect([run.status, run.stdout, run.stderr]).toEqual([0, '', '']);
  });
});
