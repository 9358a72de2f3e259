/** Five brokers, each in a network namespace of its own, and what has to be true of them. */

import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { ipOf, Network } from './network.js';
import { NetnsNode, type News, Relay } from './node.js';

export const HOSTS = 5;
/** All know two of them: of any two halves, one may have none. */
const SEEDS = [1, 2].map(ipOf);
const LOOK_MS = 100;
/** For what a scenario has left to be well again. */
const SETTLE_MS = 60_000;

export class Fleet {
  readonly network: Network;
  /** Those that belong to it now. */
  readonly nodes: NetnsNode[];
  /** Another machine with the address of the last one; its cable is not plugged in. */
  private spare: NetnsNode;
  private readonly relay: Relay;

  private constructor(network: Network, relay: Relay, nodes: NetnsNode[], spare: NetnsNode) {
    this.network = network;
    this.relay = relay;
    this.nodes = nodes;
    this.spare = spare;
  }

  /** None runs yet. */
  static async make(): Promise<Fleet> {
    const network = await Network.make();
    const numbers = Array.from({ length: HOSTS }, (_, index) => index + 1);
    const nodes: NetnsNode[] = [];
    for (const number of numbers) {
      const place = await network.add(`n${number}`, number);
      await network.plugIn(place);
      nodes.push(new NetnsNode(network, `n${number}`, place, SEEDS));
    }
    const spare = new NetnsNode(network, 'newcomer', await network.add('newcomer', HOSTS), SEEDS);
    const relay = await Relay.open(network, numbers.map(ipOf));
    return new Fleet(network, relay, nodes, spare);
  }

  async close(): Promise<void> {
    for (const node of this.nodes) node.signal('SIGCONT');
    await Promise.all([...this.nodes, this.spare].map(node => node.stop()));
    await this.relay.close();
    await this.network.close();
  }

  /** All of them at once. */
  async startAll(): Promise<void> {
    await Promise.all(this.nodes.map(node => node.start()));
  }

  /** Mends whatever an earlier scenario has left, even one that failed, until the cluster is whole. */
  async settle(): Promise<void> {
    await this.network.heal();
    for (const node of this.nodes) node.signal('SIGCONT');
    await this.spare.kill9();
    await Promise.all(this.nodes.map(node => this.revive(node)));
    await this.agree(this.nodes, SETTLE_MS);
  }

  private async revive(node: NetnsNode): Promise<void> {
    if (node.isRunning && (await node.members()).standing === 'member') return;
    await node.kill9();
    await node.start();
  }

  /**
   * Kills the last node, and plugs in another machine with the same address that has run alone so far, unreached.
   * Yields the victim and when its address was in other hands.
   */
  async swapLast(): Promise<{ victim: NetnsNode; newcomer: NetnsNode; atMs: number }> {
    const victim = this.nodes.at(-1)!;
    const newcomer = this.spare;
    await newcomer.start();
    await victim.kill9();
    await this.network.unplug(victim.place);
    await this.network.plugIn(newcomer.place);
    this.nodes[HOSTS - 1] = newcomer;
    this.spare = victim;
    return { victim, newcomer, atMs: Date.now() };
  }

  // -- What has to be true -----------------------------------------------------------------------------------

  /** Ids by name, as each says of itself. */
  async ids(nodes: readonly NetnsNode[] = this.nodes): Promise<ReadonlyMap<string, number>> {
    const reports = await Promise.all(nodes.map(node => node.members()));
    return new Map(reports.map(({ self }) => [self.name, self.id]));
  }

  /**
   * Waits until all of `nodes` see exactly each other, alive and with the same identities, and look for `lost`.
   * Yields how long that took, milliseconds.
   */
  agree(nodes: readonly NetnsNode[], withinMs: number, lost: readonly NetnsNode[] = []): Promise<number> {
    const names = nodes.map(({ name }) => name).sort();
    const lostNames = lost.map(({ name }) => name).sort();
    return eventually(withinMs, async () => {
      const reports = await Promise.all(nodes.map(node => node.members()));
      for (const report of reports) {
        const seen = {
          by: report.self.name,
          standing: report.standing,
          members: report.members.map(({ name }) => name),
          states: [...new Set(report.members.map(({ state }) => state))],
          lost: report.lost.map(({ name }) => name),
        };
        const { by } = seen;
        expect(seen).toEqual({ by, standing: 'member', members: names, states: ['alive'], lost: lostNames });
      }
      expect(new Set(reports.map(({ fingerprint }) => fingerprint)).size, 'one set of identities').toBe(1);
    });
  }

  /** What each of them has told in its log since then, in its order, besides news of joins: `n1: n3 failed`. */
  losses(sinceMs: number): string[] {
    return this.news(sinceMs, kind => kind !== 'joined');
  }

  joins(sinceMs: number): string[] {
    return this.news(sinceMs, kind => kind === 'joined');
  }

  private news(sinceMs: number, isMeant: (kind: News['kind']) => boolean): string[] {
    return this.nodes.flatMap(node =>
      node.news
        .filter(({ atMs, kind }) => atMs >= sinceMs && isMeant(kind))
        .map(({ kind, host }) => `${node.name}: ${host} ${kind}`),
    );
  }

  /** When each of `nodes` told that about `host`, in order, milliseconds after `sinceMs`. Waits until all have. */
  async told(
    nodes: readonly NetnsNode[],
    kind: News['kind'],
    host: string,
    sinceMs: number,
    withinMs: number,
  ): Promise<number[]> {
    let times: number[] = [];
    await eventually(sinceMs + withinMs - Date.now(), async () => {
      const first = nodes.map(node =>
        node.news.find(entry => entry.atMs >= sinceMs && entry.kind === kind && entry.host === host),
      );
      const silent = nodes.filter((_, index) => first[index] === undefined).map(({ name }) => name);
      expect(silent, `have not told yet: ${host} ${kind}`).toEqual([]);
      times = first.map(entry => entry!.atMs - sinceMs).sort((left, right) => left - right);
    });
    return times;
  }
}

/** Looks until it holds, and yields how long that took; the last failure counts when it does not hold in time. */
export async function eventually(withinMs: number, look: () => Promise<void>): Promise<number> {
  const beganMs = performance.now();
  for (;;) {
    try {
      await look();
      return performance.now() - beganMs;
    } catch (error) {
      if (performance.now() - beganMs > withinMs) throw error;
      await sleep(LOOK_MS);
    }
  }
}
