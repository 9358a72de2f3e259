import type { Cluster } from './cluster.js';

/** Every frame takes so long from now on. */
export function delay(cluster: Cluster, delayMs: number): void {
  const under: { readonly atMs: number; readonly from: number; readonly to: number; frame: Uint8Array }[] =
    [];
  cluster.filter = (from, to, frame) => {
    under.push({ atMs: cluster.nowMs + delayMs, from, to, frame });
    return false;
  };
  const { hosts } = cluster;
  const settle = cluster.settle.bind(cluster);
  cluster.settle = () => {
    while (under.length > 0 && under[0]!.atMs <= cluster.nowMs) {
      const { from, to, frame } = under.shift()!;
      hosts[to]!.store.step(hosts[from]!.store.id, frame);
    }
    settle();
  };
}
