import { describe, expect, it } from 'vitest';
import { cluster, seeEachOther } from './loop.js';

describe('a cluster', () => {
  it('forms through one seed, with one event for each host', () => {
    const loop = cluster(10);
    expect(seeEachOther(loop.hosts)).toBe(true);
    expect(loop.nowMs).toBeLessThan(5_000);
    console.log('formed', loop.nowMs, loop.packets);
  });

  it('finds out that one of three is dead in under ten seconds', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const loop = cluster(3, seed);
      const [a, b, c] = loop.hosts;
      loop.runFor(5_000);
      loop.stop(c!);
      const took = loop.runUntil(() => seeEachOther([a!, b!]), 60_000);
      console.log('dead', seed, took, a!.takeEvents(), b!.takeEvents());
      expect(took).toBeLessThan(10_000);
      loop.runFor(60_000);
      expect(a!.takeEvents()).toEqual([]);
    }
  });

  it('heals after a cut', () => {
    const loop = cluster(10);
    const left = new Set(loop.hosts.slice(0, 5));
    loop.fault = (from, to) => left.has(from) !== left.has(to);
    const took = loop.runUntil(
      () => seeEachOther(loop.hosts.slice(0, 5)) && seeEachOther(loop.hosts.slice(5)),
      120_000,
    );
    console.log('cut', took);
    loop.runFor(60_000);
    expect(seeEachOther(loop.hosts.slice(0, 5))).toBe(true);
    loop.fault = () => false;
    for (const h of loop.hosts) h.takeEvents();
    const healed = loop.runUntil(() => seeEachOther(loop.hosts), 60_000);
    console.log(
      'healed',
      healed,
      loop.hosts.map(h => h.takeEvents().length),
    );
    loop.runFor(60_000);
    console.log(
      'after',
      loop.hosts.map(h => h.takeEvents()),
    );
    expect(seeEachOther(loop.hosts)).toBe(true);
  });
});
