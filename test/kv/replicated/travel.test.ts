import { describe, expect, it } from 'vitest';
import { Cluster } from './cluster.js';
import { delay } from './delays.js';

const RANGE = 5;
const OPERATOR = 9;

/** A range of one member that gets a second one, while puts go on and frames take their time; gives the transfers. */
function travels(logBehindBytesMax: number): { readonly cluster: Cluster; readonly transfers: Set<number> } {
  const cluster = new Cluster({
    stores: 2,
    store: {
      limits: { logBytesMax: 1000, logBehindBytesMax, tailBytesMax: 100 },
      snapshots: { chunkBytesMax: 400, windowChunksMax: 2 },
    },
  });
  const [first, second] = cluster.hosts as [Cluster['hosts'][0], Cluster['hosts'][0]];
  cluster.found(RANGE, '', '\x7f', [first]);
  for (let i = 0; i < 200; i++) cluster.put(RANGE, `old${i}`, 'x'.repeat(20));
  delay(cluster, 100);
  const places = [first, second].map(({ store }) => ({ store: store.id, role: 0 }));
  first.store.configure(RANGE, OPERATOR, 1, places);
  const transfers = new Set<number>();
  for (let i = 0; i < 400; i++) {
    cluster.put(RANGE, `new${i % 50}`, 'y'.repeat(20) + i);
    cluster.run(50);
    const install = second.store.replica(RANGE)?.install;
    if (install !== undefined) transfers.add(install.transfer);
    if (second.store.replica(RANGE)?.raft.configuration.voters.length === 2) break;
  }
  return { cluster, transfers };
}

describe('a state that travels while puts go on', () => {
  it('is followed by the log, which is kept as long as it is needed', () => {
    const { cluster, transfers } = travels(1_000_000);
    expect(transfers.size).toBe(1);
    const [first, second] = cluster.hosts;
    cluster.run(2000);
    expect(second!.store.replica(RANGE)!.raft.configuration.voters).toHaveLength(2);
    expect(cluster.held(second!)).toEqual(cluster.held(first!));
    // What was kept goes with the next put behind it.
    cluster.put(RANGE, 'last', 'z');
    expect(first!.store.replica(RANGE)!.log.storedBytes).toBeLessThan(1100);
  });

  it('is given up as soon as the log behind it is too long to be kept', () => {
    const { cluster, transfers } = travels(1000);
    expect(transfers.size).toBeGreaterThan(1);
    const [first, second] = cluster.hosts;
    expect(first!.store.replica(RANGE)!.statesUnderWay.size).toBeLessThan(2);
    // Once the puts end it arrives.
    cluster.until(() => second!.store.replica(RANGE)?.raft.configuration.voters.length === 2);
    cluster.run(2000);
    expect(cluster.held(second!)).toEqual(cluster.held(first!));
  });
});
