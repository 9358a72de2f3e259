import { describe, expect, it } from 'vitest';
import { contents, Network } from './network.js';
import { bytes } from './seeded.js';

describe('Replicator', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])('converges over a bad network, seed %i', seed => {
    const network = new Network(seed);
    const count = 2 + network.random.below(15);
    const ids = Array.from({ length: count }, () => network.add());
    network.weather = { loss: 0.2, duplication: 0.2, latencyMinMs: 1, latencyMaxMs: 120 };
    network.mesh();
    for (let phase = 0; phase < 3; phase++) {
      for (let i = 0; i < 200; i++) {
        const id = ids[network.random.below(count)]!;
        const key = `key ${network.random.below(40)}`;
        network.act(id, node => {
          if (network.random.chance(0.3)) node.remove(key);
          else node.set(key, bytes(`value ${i} of phase ${phase}`));
        });
        network.run(network.random.below(60));
      }
      if (phase === 0) {
        for (const id of ids) network.sides.set(id, network.random.below(2));
        network.mesh();
      } else if (phase === 1) {
        for (const id of ids) network.sides.set(id, 0);
        network.mesh();
      }
    }
    network.converge(60_000);
    const [first, ...others] = ids.map(id => contents(network.nodes.get(id)!.map));
    for (const other of others) expect(other).toEqual(first);
  });
});
