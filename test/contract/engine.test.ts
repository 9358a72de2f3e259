import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { LmdbEngine } from '../../src/kv/io/lmdb-engine.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import { engineContract } from './engine.js';

const root = mkdtempSync(join(tmpdir(), 'shoal-engine-'));
let opened = 0;
afterAll(() => rmSync(root, { recursive: true, force: true }));

engineContract('MemoryEngine', () => new MemoryEngine());
engineContract('LmdbEngine', () => new LmdbEngine({ path: join(root, `${opened++}`), durability: 'flush' }));
