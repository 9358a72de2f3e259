import { describe, expect, it } from 'vitest';
import type { Agent, SharedMap } from '../../src/overlay/agent.js';
import { Cluster, type Host, halves, text } from './cluster.js';

function start(count: number): { cluster: Cluster; hosts: Host[]; agents: Agent[]; maps: SharedMap[] } {
  const all = Cluster.of(count, 'kv');
  return { ...all, maps: all.agents.map(agent => agent.map('stores')) };
}

function content(map: SharedMap): Record<string, string> {
  return Object.fromEntries([...map.keys()].sort().map(key => [key, Buffer.from(map.get(key)!).toString()]));
}

function isEverywhere(maps: readonly SharedMap[], expected: Record<string, string>): () => boolean {
  return () => maps.every(map => JSON.stringify(content(map)) === JSON.stringify(expected));
}

describe('shared maps', () => {
  it('hold what any host writes, and tell which keys changed', () => {
    const { cluster, hosts, agents, maps } = start(3);
    cluster.act(hosts[0]!, () => {
      maps[0]!.set('a', text('1'), false);
      maps[0]!.set('b', text('2'), true);
      agents[0]!.map('other').set('c', text('3'), false);
    });
    cluster.runUntil(isEverywhere(maps, { a: '1', b: '2' }), 5_000);
    cluster.runFor(1_000);
    expect(content(maps[2]!)).toEqual({ a: '1', b: '2' });
    expect(content(agents[2]!.map('other'))).toEqual({ c: '3' });
    expect(maps[2]!.ownerOf('a')).toBeUndefined();
    expect(maps[2]!.ownerOf('b')).toBe(hosts[0]!.id);
    expect(maps[2]!.ownerOf('c')).toBeUndefined();
    const changed = hosts[2]!.take('map-changed').map(({ map, keys }) => [map, [...keys].sort()]);
    expect(changed.sort()).toEqual([
      ['other', ['c']],
      ['stores', ['a', 'b']],
    ]);
    cluster.act(hosts[1]!, () => maps[1]!.delete('a'));
    cluster.runUntil(isEverywhere(maps, { b: '2' }), 5_000);
    expect(content(maps[0]!)).toEqual({ b: '2' });
    expect(hosts[2]!.take('map-changed').map(({ keys }) => keys)).toEqual([['a']]);
    expect(agents[0]!.members()).toEqual([]);
  });

  it('let the later of concurrent writes win, everywhere the same', () => {
    const { cluster, hosts, maps } = start(4);
    cluster.fault = halves(hosts, 2);
    cluster.act(hosts[0]!, () => maps[0]!.set('rule', text('early'), false));
    cluster.runFor(10);
    cluster.act(hosts[3]!, () => maps[3]!.set('rule', text('late'), false));
    cluster.runFor(1_000);
    cluster.fault = () => false;
    cluster.runUntil(isEverywhere(maps, { rule: 'late' }), 30_000);
    expect(maps.map(content)).toEqual([0, 1, 2, 3].map(() => ({ rule: 'late' })));
    cluster.act(hosts[0]!, () => maps[0]!.set('rule', text('again'), false));
    cluster.runUntil(isEverywhere(maps, { rule: 'again' }), 5_000);
    expect(content(maps[3]!)).toEqual({ rule: 'again' });
  });

  it('lose what a host owns when it goes, and keep what belongs to nobody', () => {
    const { cluster, hosts, maps } = start(4);
    cluster.act(hosts[3]!, () => {
      maps[3]!.set('mine', text('1'), true);
      maps[3]!.set('ours', text('2'), false);
    });
    cluster.runUntil(isEverywhere(maps, { mine: '1', ours: '2' }), 5_000);
    cluster.stop(hosts[3]!);
    cluster.runUntil(isEverywhere(maps.slice(0, 3), { ours: '2' }), 30_000);
    cluster.runFor(40_000);
    expect(maps.slice(0, 3).map(content)).toEqual([0, 1, 2].map(() => ({ ours: '2' })));
    for (const host of hosts.slice(0, 3)) expect(host.overlay.entries().agentKeys).toBe(1);
  });

  it('bring back what is owned after a cut', () => {
    const { cluster, hosts, maps } = start(4);
    cluster.act(hosts[3]!, () => maps[3]!.set('mine', text('1'), true));
    cluster.runUntil(isEverywhere(maps, { mine: '1' }), 5_000);
    cluster.fault = halves(hosts, 2);
    cluster.runUntil(isEverywhere(maps.slice(0, 2), {}), 60_000);
    cluster.runFor(40_000);
    expect(hosts[0]!.overlay.entries().agentKeys).toBe(0);
    cluster.fault = () => false;
    expect(cluster.runUntil(isEverywhere(maps, { mine: '1' }), 60_000)).toBeLessThan(30_000);
    cluster.runFor(30_000);
    expect(maps.map(content)).toEqual([0, 1, 2, 3].map(() => ({ mine: '1' })));
  });

  it('pass an owned entry to who writes it later, and the first owner does not fight', () => {
    const { cluster, hosts, maps } = start(3);
    cluster.act(hosts[0]!, () => maps[0]!.set('leader', text('h0'), true));
    cluster.runUntil(isEverywhere(maps, { leader: 'h0' }), 5_000);
    cluster.act(hosts[1]!, () => maps[1]!.set('leader', text('h1'), true));
    cluster.runUntil(isEverywhere(maps, { leader: 'h1' }), 5_000);
    cluster.runFor(5_000);
    expect(maps.map(map => map.ownerOf('leader'))).toEqual([1, 1, 1].map(() => hosts[1]!.id));
    cluster.stop(hosts[1]!);
    cluster.runUntil(isEverywhere([maps[0]!, maps[2]!], {}), 30_000);
    cluster.runFor(60_000);
    expect(content(maps[2]!)).toEqual({});
  });

  it('keep the entry that another host owns when somebody deletes it', () => {
    const { cluster, hosts, maps } = start(3);
    cluster.act(hosts[0]!, () => maps[0]!.set('mine', text('1'), true));
    cluster.runUntil(isEverywhere(maps, { mine: '1' }), 5_000);
    cluster.act(hosts[1]!, () => maps[1]!.delete('mine'));
    cluster.runFor(5_000);
    expect(maps.map(content)).toEqual([0, 1, 2].map(() => ({ mine: '1' })));
    cluster.act(hosts[0]!, () => maps[0]!.delete('mine'));
    cluster.runUntil(isEverywhere(maps, {}), 5_000);
    cluster.runFor(40_000);
    expect(maps.map(content)).toEqual([{}, {}, {}]);
    for (const host of hosts) expect(host.take('map-changed')).toHaveLength(2);
  });

  it('withdraw many entries at once', () => {
    const { cluster, hosts, maps } = start(3);
    const keys = Array.from({ length: 500 }, (_, at) => `range-${at}`);
    cluster.act(hosts[0]!, () => {
      for (const key of keys) maps[0]!.set(key, text('1'), true);
    });
    cluster.runUntil(() => [...maps[2]!.keys()].length === 500, 10_000);
    cluster.act(hosts[0]!, () => {
      for (const key of keys) maps[0]!.delete(key);
    });
    expect(cluster.runUntil(isEverywhere(maps, {}), 10_000)).toBeLessThan(5_000);
  });

  it('are bounded', () => {
    const { cluster, hosts, agents, maps } = start(2);
    expect(() => agents[0]!.map('No')).toThrow('no name of a map');
    expect(() => maps[0]!.set('', text(''), false)).toThrow('1 to 256');
    expect(() => maps[0]!.set('k'.repeat(257), text(''), false)).toThrow('1 to 256');
    expect(() => maps[0]!.set('k', new Uint8Array(16_385), false)).toThrow('16384 bytes');
    let at = 0;
    while (maps[0]!.set(`key-${at}`, text(''), false)) at++;
    expect(at).toBe(32_768);
    expect(maps[0]!.set('key-0', text('1'), false)).toBe(true);
    agents[0]!.register('late', text(''));
    expect(agents[0]!.members()).toHaveLength(1);
    cluster.flush(hosts[0]!);
    expect(cluster.runUntil(() => [...maps[1]!.keys()].length === at, 120_000)).toBeLessThan(60_000);
    expect(maps[1]!.set('one-more', text(''), false)).toBe(false);
  });
});
