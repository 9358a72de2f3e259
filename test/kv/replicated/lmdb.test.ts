import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { LmdbEngine } from '../../../src/kv/io/lmdb-engine.js';
import { Cluster, registerKey } from './cluster.js';

const root = mkdtempSync(join(tmpdir(), 'shoal-raft-store-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe('stores on LMDB', () => {
  it('split, send states, merge, and are opened again', async () => {
    const open = (index: number) => new LmdbEngine({ path: join(root, `${index}`), durability: 'flush' });
    const cluster = new Cluster({
      engines: open,
      store: { limits: { logBytesMax: 600 }, snapshots: { chunkBytesMax: 200 } },
    });
    cluster.found(1, 'a', 'z', cluster.hosts.slice(0, 1));
    for (let i = 0; i < 20; i++) cluster.put(1, `${i % 2 === 0 ? 'b' : 'n'}${i}`, `${i}`);
    const { store } = cluster.hosts[0]!;
    const places = cluster.hosts.map(host => ({ store: host.store.id, role: 0 }));
    store.configure(1, 1, 1, places);
    cluster.until(
      () => store.replica(1)!.descriptor!.members.length === 3 && !store.replica(1)!.descriptor!.changing,
    );
    const child = cluster.leaderOf(1)!.store.split(1, cluster.epochOf(1), 1, 2, registerKey('m'));
    cluster.until(() => cluster.leaderOf(child) !== undefined);
    cluster.put(child, 'n21', 'x');
    cluster.run(1000);
    cluster.leaderOf(child)!.store.merge(child, 1, 1, 3);
    cluster.until(() => cluster.hosts.every(host => host.store.replica(child) === undefined));
    cluster.put(1, 'b22', 'x');
    cluster.run(1000);
    const held = cluster.held(cluster.hosts[0]!);
    expect(held).toHaveLength(22);
    for (const [index, host] of cluster.hosts.entries()) {
      expect(cluster.held(host)).toEqual(held);
      host.store.close();
      await (host.engine as LmdbEngine).close();
      cluster.restart(index, open(index));
    }
    cluster.until(() => cluster.leaderOf(1) !== undefined);
    expect(cluster.put(1, 'n21', 'y')).toBe('x');
    cluster.run(1000);
    for (const host of cluster.hosts) {
      expect(cluster.held(host)).toContain('n21=y');
      await (host.engine as LmdbEngine).close();
    }
  });
});
