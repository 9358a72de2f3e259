import { describe, expect, it } from 'vitest';
import { Agenda } from '../../src/rpc/agenda.js';
import type { RpcResult } from '../../src/rpc/failure.js';
import { Rpc, type RunningServer } from '../../src/rpc/rpc.js';
import type { RpcEndpoint } from '../../src/rpc/transport.js';
import { Cluster, type Host, halves } from '../overlay/cluster.js';
import { seededRandom } from '../underlay/loop.js';
import { bank, handlers } from './bank.js';
import { InProcessTransport } from './one-process.js';

/** Nodes whose agents are real, and whose calls go from hand to hand. */
class Nodes {
  readonly cluster = new Cluster(7);
  readonly rpcs: Rpc[] = [];
  private readonly endpoints = new Map<string, RpcEndpoint>();
  private readonly turns: (() => void)[] = [];

  start(count: number): Host[] {
    const hosts = Array.from({ length: count }, (_, at) => this.cluster.start(`h${at}`));
    for (const host of hosts) this.rpcs.push(this.makeRpc(host));
    this.until(() => hosts.every(({ overlay }) => overlay.hosts().length === count), 30_000);
    return hosts;
  }

  serve(at: number, id: string, groups: string[] = []): RunningServer {
    const all = handlers({
      turn: (_request, reply) => reply.done(id),
      at: (_request, reply) => reply.done(id),
    });
    return this.rpcs[at]!.serve(bank, all, { id, groups });
  }

  /** Ids of the servers that each node knows. */
  known(): string[] {
    return this.rpcs.map(rpc =>
      rpc
        .view('bank')
        .servers()
        .map(({ announcement }) => announcement.id)
        .join(' '),
    );
  }

  /** The time that it took. */
  until(holds: () => boolean, maxMs: number): number {
    const step = 10;
    let ms = 0;
    for (this.settle(); !holds() && ms < maxMs; ms += step) {
      this.cluster.runFor(step);
      this.settle();
    }
    return holds() ? ms : Number.POSITIVE_INFINITY;
  }

  /** Answers of one call from each node: who has answered, or the code of the failure. */
  ask(tenant: string): (string | undefined)[] {
    return this.results(tenant).map(result => (result?.kind === 'ok' ? result.value : result?.kind));
  }

  /** The same in words, '' for answers. */
  details(tenant: string): string[] {
    return this.results(tenant).map(result => (result?.kind === 'ok' ? '' : result!.detail));
  }

  private results(tenant: string): (RpcResult<string> | undefined)[] {
    const answers = this.rpcs.map((): RpcResult<string>[] => []);
    this.rpcs.forEach((rpc, at) => {
      rpc.client(bank).turn.call('x', { tenant }, result => answers[at]!.push(result));
    });
    this.settle();
    return answers.map(([result]) => result);
  }

  private settle(): void {
    this.cluster.hosts.forEach((host, at) => {
      this.rpcs[at]?.onAgentOutputs(host.outputs.splice(0));
      this.rpcs[at]?.tick();
    });
    for (let run = this.turns.shift(); run !== undefined; run = this.turns.shift()) run();
  }

  private makeRpc(host: Host): Rpc {
    const { cluster } = this;
    const quiet = () => {};
    const clock = { monotonicMs: () => cluster.nowMs, wallMs: () => cluster.nowMs };
    const soon = (run: () => void) => void this.turns.push(run);
    const address = `${host.name}:4900`;
    const rpc = new Rpc({
      self: host.id,
      address,
      version: '1',
      env: {
        clock,
        random: seededRandom(host.id % 1_000_003),
        log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
      },
      transport: new InProcessTransport(this.endpoints, new Agenda(clock, { soon, wake: quiet })),
      overlay: host.overlay,
      soon,
      overlayUsed: () => cluster.flush(host),
    });
    this.endpoints.set(address, rpc.endpoint);
    return rpc;
  }
}

describe('on the real overlay', () => {
  it('all find all servers, and lose those that go or die', () => {
    const nodes = new Nodes();
    const hosts = nodes.start(5);
    nodes.serve(0, 's0');
    const server = nodes.serve(1, 's1');
    nodes.serve(2, 's2');
    expect(nodes.until(() => nodes.known().every(list => list === 's0 s1 s2'), 5_000)).toBeLessThan(2_000);
    expect(nodes.ask('')).toEqual([
      's0',
      's1',
      's2',
      expect.stringMatching(/^s/),
      expect.stringMatching(/^s/),
    ]);
    server.close();
    expect(nodes.until(() => nodes.known().every(list => list === 's0 s2'), 5_000)).toBeLessThan(2_000);
    nodes.cluster.stop(hosts[2]!);
    const others = () => nodes.known().filter((_, at) => at !== 2);
    expect(nodes.until(() => others().every(list => list === 's0'), 60_000)).toBeLessThan(30_000);
  });

  it('a cut splits the list, and a heal brings it back', () => {
    const nodes = new Nodes();
    const hosts = nodes.start(4);
    nodes.serve(0, 's0');
    nodes.serve(3, 's3');
    nodes.until(() => nodes.known().every(list => list === 's0 s3'), 5_000);
    nodes.cluster.fault = halves(hosts, 2);
    const isCut = () => nodes.known().join(',') === 's0,s0,s3,s3';
    expect(nodes.until(isCut, 120_000)).toBeLessThan(60_000);
    nodes.cluster.fault = () => false;
    expect(nodes.until(() => nodes.known().every(list => list === 's0 s3'), 120_000)).toBeLessThan(60_000);
    expect(nodes.ask('')).toEqual(['s0', expect.stringMatching(/^s/), expect.stringMatching(/^s/), 's3']);
  });

  it('a directive is in effect everywhere within two seconds, the longest prefix before others', () => {
    const nodes = new Nodes();
    nodes.start(5);
    nodes.serve(0, 'red', ['red']);
    nodes.serve(1, 'blue', ['blue']);
    nodes.until(() => nodes.known().every(list => list === 'blue red'), 5_000);
    expect(new Set(nodes.ask('acme-1'))).toEqual(new Set(['server-not-found']));
    const answers = (tenant: string, id: string) => () => nodes.ask(tenant).every(answer => answer === id);
    const view = (at: number) => nodes.rpcs[at]!.view('bank');
    view(4).setTraffic('ac', { red: 1 });
    expect(nodes.until(answers('acme-1', 'red'), 5_000)).toBeLessThan(2_000);
    view(3).setTraffic('acme-', { blue: 1 });
    expect(nodes.until(answers('acme-1', 'blue'), 5_000)).toBeLessThan(2_000);
    expect([answers('acne', 'red')(), answers('other', 'server-not-found')()]).toEqual([true, true]);
    // Nobody is in the group, or it gets nothing: a refusal that says so, at every node.
    view(0).setTraffic('acme-', { green: 10, blue: 0 });
    const words = 'bank: the directive for tenants "acme-*" (green: 10, blue: 0) leaves none of 2 servers';
    const isRefused = () => nodes.details('acme-1').every(detail => detail === words);
    expect(nodes.until(isRefused, 5_000)).toBeLessThan(2_000);
    view(2).unsetTraffic('acme-');
    expect(nodes.until(answers('acme-1', 'red'), 5_000)).toBeLessThan(2_000);
    view(1).unsetTraffic('ac');
    expect(nodes.until(answers('acme-1', 'server-not-found'), 5_000)).toBeLessThan(2_000);
  });

  it('a directive gets about although one packet of five is lost', () => {
    const nodes = new Nodes();
    nodes.start(6);
    nodes.serve(0, 'red', ['red']);
    nodes.serve(1, 'blue', ['blue']);
    nodes.until(() => nodes.known().every(list => list === 'blue red'), 5_000);
    nodes.cluster.fault = ({ path }) => path === 'datagram' && nodes.cluster.random.u32() % 5 === 0;
    for (let round = 0; round < 10; round++) {
      const id = round % 2 === 0 ? 'red' : 'blue';
      nodes.rpcs[round % 6]!.view('bank').setTraffic('', { [id]: 1 });
      const isThere = () => nodes.ask('acme').every(answer => answer === id);
      expect(nodes.until(isThere, 10_000)).toBeLessThan(2_000);
    }
  });
});
