import { afterEach, describe, expect, it } from 'vitest';
import type { Cluster } from '../../src/node/cluster.js';
import { FRESH_MS } from '../../src/underlay/io/seal.js';
import { freePort } from '../e2e/broker.js';
import { startCluster } from './cluster-nodes.js';

const LOOK = { timeout: 10_000 };
const KEY = 'cluster.key=a pass phrase of some length';

let started: Cluster[] = [];
afterEach(async () => {
  for (const cluster of started.reverse()) await cluster.close();
  started = [];
});

/** Two nodes with one secret; the clock of the second is ahead of the first's. */
async function two(aheadMs: number): Promise<[Cluster, Cluster]> {
  const [port, other] = [await freePort(), await freePort()];
  const right = await startCluster(port, port, 0, [KEY]);
  started.push(right);
  const ahead = await startCluster(other, port, aheadMs, [KEY]);
  started.push(ahead);
  return [right, ahead];
}

const wrongs = async (cluster: Cluster) =>
  (await cluster.doctor()).filter(({ severity }) => severity === 'wrong').map(({ what }) => what);

describe('a clock that is wrong', () => {
  it('by seconds keeps nobody out, and the doctor of both names it', { timeout: 30_000 }, async () => {
    const [right, ahead] = await two(30_000);
    await expect.poll(() => right.view().members.length, LOOK).toBe(2);
    const off = (name: string, way: string) =>
      expect.stringMatching(new RegExp(`^Clocks differ.*: ${name} \\(.*\\) is (29\\.9|30\\.\\d) s ${way}`));
    const name = ({ address }: Cluster) => `n${address.split(':')[1]}`;
    await expect.poll(() => wrongs(right), LOOK).toContainEqual(off(name(ahead), 'ahead'));
    await expect.poll(() => wrongs(ahead), LOOK).toContainEqual(off(name(right), 'behind'));
  });

  it('by more than what is fresh keeps a sealed node out, and the doctor says why', {
    timeout: 30_000,
  }, async () => {
    const [right, ahead] = await two(FRESH_MS + 60_000);
    const why = expect.stringMatching(
      /Since the start, [1-9]\d* packets had a clock too far from this node's/,
    );
    await expect.poll(() => wrongs(right), LOOK).toContainEqual(why);
    expect([right, ahead].map(cluster => cluster.view().members.length)).toEqual([1, 1]);
  });
});
