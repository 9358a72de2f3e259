import { afterEach, describe, expect, it } from 'vitest';
import type { Agent } from '../../src/overlay/agent.js';
import { Cluster, type Host, halves, text } from './cluster.js';

const NONE = text('');
let made: { hosts: Host[]; agents: Agent[] } | undefined;

function start(count: number, seed = 1) {
  const all = Cluster.of(count, 'dist', seed);
  made = all;
  return all;
}

function names(agent: Agent, host?: Host): string[] {
  return agent
    .members()
    .filter(one => host === undefined || one.host === host.id)
    .map(({ name }) => name);
}

function isEverywhere(agents: readonly Agent[], count: number): () => boolean {
  return () => agents.every(agent => agent.members().length === count);
}

afterEach(() => {
  made?.agents.forEach((agent, at) => {
    const host = made!.hosts[at]!;
    if (!host.isStopped) host.replay(agent.name).compare(agent);
  });
  made = undefined;
});

describe('membership', () => {
  it('shows a member to all hosts of the agent, and to no others', () => {
    const { cluster, hosts, agents } = start(3);
    const other = cluster.start('other');
    const elsewhere = other.overlay.host('inbox');
    cluster.act(hosts[1]!, () => agents[1]!.register('store', text('a')));
    cluster.runUntil(isEverywhere(agents, 1), 5_000);
    expect(agents.map(agent => names(agent))).toEqual([['store'], ['store'], ['store']]);
    cluster.runFor(3_000);
    expect(elsewhere.members()).toEqual([]);
    expect(elsewhere.hosts()).toEqual([other.id]);
    expect(agents[0]!.hosts()).toEqual(hosts.map(({ id }) => id).sort((a, b) => a - b));
  });

  it('tells each change of metadata once, and shows the later', () => {
    const { cluster, hosts, agents } = start(3);
    cluster.act(hosts[0]!, () => agents[0]!.register('store', text('a')));
    cluster.runUntil(isEverywhere(agents, 1), 5_000);
    cluster.act(hosts[0]!, () => agents[0]!.register('store', text('b')));
    cluster.runFor(2_000);
    expect(hosts[2]!.take('member-joined')).toHaveLength(1);
    const updates = hosts[2]!.take('member-updated');
    expect(updates.map(({ member }) => Buffer.from(member.metadata).toString())).toEqual(['b']);
    cluster.act(hosts[0]!, () => agents[0]!.deregister('store'));
    cluster.runFor(2_000);
    expect(hosts[2]!.take('member-left')).toHaveLength(1);
    expect(agents.map(agent => agent.members().length)).toEqual([0, 0, 0]);
  });

  it('forgets the members of a host in the turn in which the host is gone, and their records later', () => {
    const { cluster, hosts, agents } = start(4);
    for (const [at, host] of hosts.entries()) cluster.act(host, () => agents[at]!.register('store', NONE));
    cluster.runUntil(isEverywhere(agents, 4), 5_000);
    cluster.stop(hosts[3]!);
    const live = agents.slice(0, 3);
    cluster.runUntil(() => live.every(agent => agent.hosts().length === 3), 30_000);
    expect(live.map(agent => names(agent))).toEqual([3, 3, 3].map(() => ['store', 'store', 'store']));
    cluster.runFor(40_000);
    for (const host of hosts.slice(0, 3)) expect(host.overlay.entries().agentKeys).toBe(3);
  });

  it('brings all back after a cut, and nobody sees members of its own half go', () => {
    const { cluster, hosts, agents } = start(6);
    for (const [at, host] of hosts.entries())
      cluster.act(host, () => agents[at]!.register(`store-${at}`, NONE));
    cluster.runUntil(isEverywhere(agents, 6), 5_000);
    cluster.fault = halves(hosts, 3);
    cluster.runUntil(isEverywhere(agents, 3), 60_000);
    cluster.runFor(60_000);
    // Each half has removed what the other had written.
    for (const host of hosts) expect(host.overlay.entries().agentKeys).toBe(3);
    for (const host of hosts) host.outputs.length = 0;
    cluster.fault = () => false;
    const tookMs = cluster.runUntil(isEverywhere(agents, 6), 60_000);
    expect(tookMs).toBeLessThan(30_000);
    cluster.runFor(30_000);
    expect(isEverywhere(agents, 6)()).toBe(true);
    for (const host of hosts) {
      expect(host.take('member-left')).toEqual([]);
      expect(host.take('member-joined')).toHaveLength(3);
      expect(host.overlay.entries().agentKeys).toBe(6);
    }
  });

  it('does not bring back what was withdrawn while the network was cut', () => {
    const { cluster, hosts, agents } = start(6);
    for (const [at, host] of hosts.entries())
      cluster.act(host, () => agents[at]!.register(`store-${at}`, NONE));
    cluster.runUntil(isEverywhere(agents, 6), 5_000);
    cluster.fault = halves(hosts, 3);
    cluster.runUntil(isEverywhere(agents, 3), 60_000);
    cluster.act(hosts[4]!, () => agents[4]!.deregister('store-4'));
    cluster.runFor(60_000);
    cluster.fault = () => false;
    cluster.runUntil(isEverywhere(agents, 5), 60_000);
    cluster.runFor(30_000);
    expect(agents.map(agent => names(agent, hosts[4]))).toEqual([[], [], [], [], [], []]);
    expect(isEverywhere(agents, 5)()).toBe(true);
  });

  it('takes a host out that leaves the agent, and in when it comes back, without what it had registered', () => {
    const { cluster, hosts, agents } = start(3);
    for (const [at, host] of hosts.entries()) cluster.act(host, () => agents[at]!.register('store', NONE));
    cluster.runUntil(isEverywhere(agents, 3), 5_000);
    cluster.act(hosts[2]!, overlay => overlay.unhost('dist'));
    hosts[2]!.replays.delete('dist');
    cluster.runFor(3_000);
    expect(agents[0]!.hosts()).toHaveLength(2);
    expect(names(agents[0]!)).toEqual(['store', 'store']);
    expect(hosts[0]!.take('member-left').map(({ member }) => member.host)).toEqual([hosts[2]!.id]);
    cluster.act(hosts[2]!, overlay => overlay.host('dist').register('other', NONE));
    cluster.runFor(3_000);
    for (const agent of agents) expect(names(agent)).toEqual(['other', 'store', 'store']);
    expect(hosts[0]!.take('host-left')).toHaveLength(1);
  });

  it('withdraws what it had registered even where nobody noticed that it left the agent for a moment', () => {
    const { cluster, hosts, agents } = start(3);
    cluster.act(hosts[2]!, () => agents[2]!.register('store', NONE));
    cluster.runUntil(isEverywhere(agents, 1), 5_000);
    hosts[2]!.replays.clear();
    cluster.act(hosts[2]!, overlay => {
      overlay.unhost('dist');
      overlay.host('dist');
    });
    cluster.runFor(5_000);
    expect(agents.map(agent => agent.members().length)).toEqual([0, 0, 0]);
    expect(hosts[0]!.take('host-left')).toEqual([]);
  });

  it('works where datagrams do not get through', () => {
    const { cluster, hosts, agents } = start(3);
    cluster.fault = ({ from, to, path }) => path === 'datagram' && (from === hosts[2] || to === hosts[2]);
    cluster.runFor(1_000);
    cluster.act(hosts[2]!, () => agents[2]!.register('store', NONE));
    cluster.act(hosts[0]!, () => agents[0]!.register('store', NONE));
    expect(cluster.runUntil(isEverywhere(agents, 2), 20_000)).toBeLessThan(10_000);
  });

  it('refuses what breaks a limit of its own', () => {
    const { cluster, hosts, agents } = start(2);
    expect(() => hosts[0]!.overlay.host('Not a name')).toThrow('no name of an agent');
    expect(() => agents[0]!.register('', NONE)).toThrow('1 to 128');
    expect(() => agents[0]!.register('store', new Uint8Array(4_097))).toThrow('4096 bytes');
    for (let at = 0; at < 256; at++) agents[0]!.register(`m${at}`, NONE);
    expect(() => agents[0]!.register('one-more', NONE)).toThrow('at most 256 members');
    expect(agents[0]!.members()).toHaveLength(256);
    cluster.flush(hosts[0]!);
  });
});
