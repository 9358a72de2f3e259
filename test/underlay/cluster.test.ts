import { describe, expect, it, vi } from 'vitest';
import { rendezvousPick } from '../../src/base/rendezvous.js';
import { Replicator } from '../../src/crdt/anti-entropy.js';
import { cluster, Loop, seeEachOther } from './loop.js';

describe('a cluster', () => {
  it('forms through one seed, with one event for each host', () => {
    const loop = new Loop();
    for (let at = 0; at < 10; at++) loop.start(`h${at}`, {}, ['h0:4800']);
    loop.runUntil(() => seeEachOther(loop.hosts), 5_000);
    expect(seeEachOther(loop.hosts)).toBe(true);
    for (const host of loop.hosts)
      expect(host.takeEvents().sort()).toEqual(host.view().map(name => `joined ${name}`));
    expect(seeEachOther(loop.hosts)).toBe(true);
    loop.runFor(60_000);
    for (const host of loop.hosts) expect(host.takeEvents()).toEqual([]);
  });

  it('forms when the seed comes up last', () => {
    const loop = new Loop();
    for (let at = 1; at < 5; at++) loop.start(`h${at}`, {}, ['h0:4800']);
    loop.runFor(2 * 3_600_000);
    loop.start('h0');
    loop.runUntil(() => seeEachOther(loop.hosts), 60_000);
    expect(seeEachOther(loop.hosts)).toBe(true);
  });

  it('finds out in under ten seconds that one of three is dead', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const loop = cluster(3, seed);
      const [a, b, c] = loop.hosts as [
        (typeof loop.hosts)[0],
        (typeof loop.hosts)[0],
        (typeof loop.hosts)[0],
      ];
      loop.runFor(5_000);
      loop.stop(c);
      expect(loop.runUntil(() => seeEachOther([a, b]), 60_000)).toBeLessThan(10_000);
      loop.runFor(60_000);
      expect(a.takeEvents()).toEqual(['suspected h2', 'gone h2 failed']);
      expect(b.takeEvents()).toEqual(['suspected h2', 'gone h2 failed']);
    }
  });

  it('removes the record of a dead one once, by one survivor', () => {
    const removals = vi.spyOn(Replicator.prototype, 'remove');
    for (let seed = 1; seed <= 10; seed++) {
      const loop = cluster(8, seed);
      loop.runFor(5_000);
      const victim = loop.hosts[seed % 8]!;
      removals.mockClear();
      loop.stop(victim);
      const survivors = loop.hosts.filter(host => host !== victim);
      loop.runUntil(() => seeEachOther(survivors), 60_000);
      loop.runFor(60_000);
      expect(removals.mock.calls).toEqual([[`h:${victim.id.toString(36)}`]]);
    }
    removals.mockRestore();
  });

  it('removes the record of a dead one also when who should have done it died as well', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const loop = cluster(8, seed);
      loop.runFor(5_000);
      const victim = loop.hosts[0]!;
      const others = loop.hosts.slice(1);
      const remover = rendezvousPick(
        victim.id,
        others.map(({ id }) => id),
      );
      loop.stop(victim);
      loop.runFor(2_000);
      loop.stop(others.find(({ id }) => id === remover)!);
      loop.runFor(60_000);
      const left = others.filter(({ id }) => id !== remover);
      expect(left.map(({ machine }) => machine.entries().mapKeys)).toEqual(left.map(() => 6));
    }
  });

  it('heals after a cut, and loses nobody on the way', () => {
    const loop = cluster(10);
    const [left, right] = [loop.hosts.slice(0, 5), loop.hosts.slice(5)];
    loop.fault = (from, to) => left.includes(from) !== left.includes(to);
    loop.runFor(600_000);
    expect(seeEachOther(left) && seeEachOther(right)).toBe(true);
    for (const host of loop.hosts) host.takeEvents();
    loop.fault = () => false;
    loop.runUntil(() => seeEachOther(loop.hosts), 30_000);
    expect(seeEachOther(loop.hosts)).toBe(true);
    loop.runFor(60_000);
    for (const host of loop.hosts) {
      const events = host.takeEvents();
      expect(events.filter(line => line.startsWith('joined'))).toHaveLength(5);
      expect(events.filter(line => /gone|suspected/.test(line))).toEqual([]);
    }
    expect(loop.hosts.some(({ machine }) => machine.counters.mapRepairs > 0)).toBe(true);
  });

  it('tells leaving apart from failure', () => {
    const loop = cluster(5);
    const [leaver, ...others] = loop.hosts as [(typeof loop.hosts)[0], ...typeof loop.hosts];
    leaver.machine.leave();
    loop.flush(leaver);
    loop.runUntil(() => leaver.machine.left(), 5_000);
    expect(leaver.machine.left()).toBe(true);
    loop.stop(leaver);
    loop.runFor(60_000);
    for (const host of others) {
      expect(host.takeEvents()).toEqual(['gone h0 left']);
      expect(host.machine.lostHosts()).toEqual([]);
      expect(host.machine.entries().mapKeys).toBe(4);
    }
  });

  it('keeps an evicted host out until it starts again', () => {
    const loop = cluster(5);
    const [first, , out] = loop.hosts as [
      (typeof loop.hosts)[0],
      (typeof loop.hosts)[0],
      (typeof loop.hosts)[0],
    ];
    first.machine.evict(out.id);
    loop.flush(first);
    loop.runFor(60_000);
    const rest = loop.hosts.filter(host => host !== out);
    expect(seeEachOther(rest)).toBe(true);
    expect(out.takeEvents()).toEqual(['self-evicted']);
    loop.stop(out);
    const again = loop.start('h2', {}, ['h0:4800']);
    loop.runUntil(() => seeEachOther([...rest, again]), 10_000);
    expect(seeEachOther([...rest, again])).toBe(true);
  });

  it('knows a restarted host at once, and purges the identity that it had', () => {
    const loop = cluster(5);
    loop.stop(loop.hosts[2]!);
    loop.runFor(100);
    const again = loop.start('h2', {}, ['h0:4800']);
    const live = loop.hosts.filter(host => !host.isStopped);
    expect(loop.runUntil(() => seeEachOther(live), 5_000)).toBeLessThan(2_000);
    loop.runFor(60_000);
    for (const host of live) {
      if (host === again) continue;
      expect(host.takeEvents().sort()).toEqual(['gone h2 replaced', 'joined h2']);
      expect(host.machine.entries().mapKeys).toBe(5);
    }
  });

  it('does not waver when some links work in one direction only', () => {
    const loop = cluster(6);
    const [a, b] = loop.hosts;
    loop.fault = (from, to) => from === a && to === b;
    loop.runFor(300_000);
    expect(seeEachOther(loop.hosts)).toBe(true);
    for (const host of loop.hosts)
      expect(host.takeEvents().filter(line => line.startsWith('gone'))).toEqual([]);
    expect(a!.machine.hosts().find(({ record }) => record.id === b!.id)).toMatchObject({ oneWay: true });
  });

  it('evicts no healthy host because another one pauses', () => {
    const loop = cluster(8);
    const [slow, ...healthy] = loop.hosts as [(typeof loop.hosts)[0], ...typeof loop.hosts];
    for (let minutes = 0; minutes < 5; minutes++) {
      slow.isPaused = true;
      loop.runFor(10_000);
      loop.resume(slow);
      loop.runFor(50_000);
    }
    expect(seeEachOther(loop.hosts)).toBe(true);
    for (const host of loop.hosts)
      for (const line of host.takeEvents()) if (line.startsWith('gone')) expect(line).toBe('gone h0 failed');
    expect(healthy.every(host => host.machine.healthScore() <= 2)).toBe(true);
  });
});
