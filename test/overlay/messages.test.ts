import { describe, expect, it } from 'vitest';
import type { Agent, AgentOutput } from '../../src/overlay/agent.js';
import { decodeLinkMessage } from '../../src/overlay/codec.js';
import { MESSAGE_BYTES_MAX } from '../../src/overlay/limits.js';
import { Cluster, type Host, halves, type Sent, text } from './cluster.js';

const NONE = text('');

/** Hosts whose members are all called `peer`, seen by all. */
function start(count: number, seed = 1): { cluster: Cluster; hosts: Host[]; agents: Agent[] } {
  const all = Cluster.of(count, 'raft', seed);
  for (const [at, host] of all.hosts.entries())
    all.cluster.act(host, () => all.agents[at]!.register('peer', NONE));
  all.cluster.runUntil(() => all.agents.every(agent => agent.members().length === count), 10_000);
  return all;
}

function sendText(from: Agent, to: Host, words: string) {
  return from.unicast('peer', to.id, 'peer', text(words), 'reliable');
}

function series(count: number, prefix = ''): string[] {
  return Array.from({ length: count }, (_, at) => `${prefix}${at}`);
}

function carriesData({ messages }: Sent): boolean {
  return messages.some(
    message => message.kind === 'payload' && decodeLinkMessage(message.bytes)?.kind === 'data',
  );
}

describe('messages', () => {
  it('reach one member, those of a name, and all, the own ones as well', () => {
    const { cluster, hosts, agents } = start(3);
    cluster.act(hosts[0]!, () => agents[0]!.register('other', NONE));
    cluster.runUntil(() => agents.every(agent => agent.members().length === 4), 5_000);
    for (const reliability of ['reliable', 'best-effort'] as const) {
      cluster.act(hosts[0]!, () => {
        expect(agents[0]!.unicast('peer', hosts[1]!.id, 'peer', text('one'), reliability)).toBe('sent');
        expect(agents[0]!.unicast('peer', hosts[0]!.id, 'other', text('own'), reliability)).toBe('sent');
        expect(agents[0]!.unicast('peer', hosts[1]!.id, 'other', text('no'), reliability)).toBe(
          'no-such-member',
        );
        expect(agents[0]!.unicast('peer', 12345, 'peer', text('no'), reliability)).toBe('no-such-member');
      });
      cluster.act(hosts[1]!, () =>
        expect(agents[1]!.multicast('peer', 'peer', text('some'), reliability)).toEqual([]),
      );
      cluster.act(hosts[2]!, () =>
        expect(agents[2]!.broadcast('peer', text('all'), reliability)).toEqual([]),
      );
      cluster.runFor(100);
      const from = (host: Host, to: string) => host.texts(to).sort();
      expect(from(hosts[0]!, 'peer')).toEqual(['all', 'some']);
      expect(from(hosts[0]!, 'other')).toEqual(['all', 'own']);
      expect(from(hosts[1]!, 'peer')).toEqual(['all', 'one', 'some']);
      expect(from(hosts[2]!, 'peer')).toEqual(['all', 'some']);
      const [message] = hosts[1]!.take('message');
      expect(message!.from).toEqual({ host: expect.any(Number), member: 'peer' });
      for (const host of hosts) host.outputs.length = 0;
    }
    expect(() => agents[0]!.broadcast('nobody', NONE, 'reliable')).toThrow('is a member of this host');
  });

  it('arrive once and in order over a network that loses and doubles half of everything', () => {
    const { cluster, hosts, agents } = start(2, 5);
    const random = () => cluster.random.u32() / 2 ** 32;
    cluster.fault = sent => {
      if (!sent.messages.some(({ kind }) => kind === 'payload')) return false;
      // A copy that comes later, as from a connection that broke.
      if (random() < 0.3) cluster.repeat(sent, random() * 3_000);
      return random() < 0.5;
    };
    const words = series(60);
    for (const one of words) {
      cluster.act(hosts[0]!, () => expect(sendText(agents[0]!, hosts[1]!, one)).toBe('sent'));
      cluster.runFor(20);
    }
    cluster.runUntil(() => hosts[1]!.texts('peer').length === 60, 600_000);
    expect(hosts[1]!.texts('peer')).toEqual(words);
    cluster.fault = () => false;
    cluster.runFor(20_000);
    expect(hosts[1]!.texts('peer')).toEqual(words);
    expect(hosts[0]!.overlay.entries().unacknowledged).toBe(0);
    expect(hosts[0]!.overlay.retries).toBeGreaterThan(0);
  });

  it('are best effort at most once, whatever the network doubles', () => {
    const { cluster, hosts, agents } = start(2);
    cluster.fault = sent => {
      if (carriesData(sent)) cluster.repeat(sent, (cluster.random.u32() % 50) + 1);
      return false;
    };
    const words = series(500);
    for (const one of words) {
      cluster.act(hosts[0]!, () =>
        agents[0]!.unicast('peer', hosts[1]!.id, 'peer', text(one), 'best-effort'),
      );
      cluster.runFor(1);
    }
    cluster.runFor(1_000);
    expect(hosts[1]!.texts('peer').sort()).toEqual(words.sort());
  });

  it('have a definite end when the host goes, and a new beginning when it comes back', () => {
    const { cluster, hosts, agents } = start(4);
    cluster.act(hosts[0]!, () => sendText(agents[0]!, hosts[3]!, 'before'));
    cluster.runFor(100);
    cluster.fault = halves(hosts, 3);
    cluster.act(hosts[0]!, () => {
      for (const one of series(3, 'lost-')) sendText(agents[0]!, hosts[3]!, one);
    });
    cluster.runUntil(() => agents[0]!.hosts().length === 3, 60_000);
    expect(hosts[0]!.take('undelivered')).toEqual([
      { kind: 'undelivered', agent: 'raft', host: hosts[3]!.id, messages: 3 },
    ]);
    expect(sendText(agents[0]!, hosts[3]!, 'nowhere')).toBe('no-such-member');
    cluster.runFor(30_000);
    cluster.fault = () => false;
    cluster.runUntil(() => agents[0]!.members().length === 4, 60_000);
    cluster.act(hosts[0]!, () => sendText(agents[0]!, hosts[3]!, 'after'));
    cluster.runFor(5_000);
    expect(hosts[3]!.texts('peer')).toEqual(['before', 'after']);
    expect(hosts[0]!.overlay.entries().unacknowledged).toBe(0);
  });

  it('do not come twice when only their acknowledgements were lost', () => {
    const { cluster, hosts, agents } = start(3);
    // Acknowledgements are lost, so that the sender holds what has arrived.
    cluster.fault = ({ from, to }) => from === hosts[2] && to === hosts[0];
    cluster.act(hosts[0]!, () => sendText(agents[0]!, hosts[2]!, 'first'));
    cluster.runFor(30_000);
    expect(hosts[2]!.texts('peer')).toEqual(['first']);
    cluster.fault = () => false;
    cluster.runFor(30_000);
    cluster.act(hosts[0]!, () => sendText(agents[0]!, hosts[2]!, 'second'));
    cluster.runFor(5_000);
    expect(hosts[2]!.texts('peer')).toEqual(['first', 'second']);
  });

  it('are refused when too much is unacknowledged, and go on when it is not any more', () => {
    const { cluster, hosts, agents } = start(2);
    cluster.fault = carriesData;
    const large = new Uint8Array(MESSAGE_BYTES_MAX);
    const outcomes = cluster.act(hosts[0]!, () =>
      series(6).map(() => agents[0]!.unicast('peer', hosts[1]!.id, 'peer', large, 'reliable')),
    );
    expect(outcomes).toEqual(['sent', 'sent', 'sent', 'sent', 'full', 'full']);
    expect(agents[0]!.multicast('peer', 'peer', large, 'reliable')).toEqual([hosts[1]!.id]);
    cluster.fault = () => false;
    cluster.runFor(20_000);
    expect(hosts[1]!.take('message').map(({ bytes }) => bytes.length)).toEqual(
      series(4).map(() => large.length),
    );
    expect(cluster.act(hosts[0]!, () => sendText(agents[0]!, hosts[1]!, 'more'))).toBe('sent');
    const larger = new Uint8Array(MESSAGE_BYTES_MAX + 1);
    expect(() => agents[0]!.unicast('peer', hosts[1]!.id, 'peer', larger, 'reliable')).toThrow(
      'at most 1046528 bytes',
    );
  });

  it('go again soon when the driver tells that the stream has broken', () => {
    const { cluster, hosts, agents } = start(2);
    cluster.fault = carriesData;
    cluster.act(hosts[0]!, () => sendText(agents[0]!, hosts[1]!, 'hello'));
    cluster.runFor(10);
    cluster.fault = () => false;
    cluster.act(hosts[0]!, overlay => overlay.unreachable(hosts[1]!.address, 'stream'));
    expect(cluster.runUntil(() => hosts[1]!.texts('peer').length === 1, 10_000)).toBeLessThan(150);
  });

  it('count the empty ones, too', () => {
    const { cluster, hosts, agents } = start(2);
    cluster.fault = carriesData;
    let taken = 0;
    cluster.act(hosts[0]!, () => {
      while (agents[0]!.unicast('peer', hosts[1]!.id, 'peer', NONE, 'reliable') === 'sent') taken++;
    });
    expect(taken).toBeGreaterThan(20_000);
    expect(taken).toBeLessThan(33_000);
    cluster.fault = () => false;
    cluster.runFor(30_000);
    expect(hosts[1]!.take('message')).toHaveLength(taken);
  });

  it('are told to a listener, who may answer in the same turn', () => {
    const cluster = new Cluster();
    const heard: AgentOutput[] = [];
    const ping = cluster.start('ping');
    const answers = cluster.start('pong', output => {
      heard.push(output);
      if (output.kind === 'message')
        answers.overlay
          .host('raft')
          .unicast('peer', output.from.host, output.from.member, output.bytes, 'reliable');
    });
    const agents = [ping, answers].map(host =>
      cluster.act(host, overlay => {
        const agent = overlay.host('raft');
        agent.register('peer', NONE);
        return agent;
      }),
    );
    cluster.runUntil(() => agents.every(agent => agent.members().length === 2), 10_000);
    cluster.act(ping, () => sendText(agents[0]!, answers, 'hello'));
    expect(cluster.runUntil(() => ping.texts('peer').length === 1, 1_000)).toBeLessThan(5);
    expect(ping.texts('peer')).toEqual(['hello']);
    expect(answers.outputs).toEqual([]);
    expect(heard.filter(({ kind }) => kind === 'member-joined')).toHaveLength(2);
  });
});
