import { decodeAnswer, encodeOrder, type Order, type OrderAnswer } from '../../../src/kv/balance/order.js';
import { Steward } from '../../../src/kv/balance/steward.js';
import { Cluster, type Host, registerKey, SERVICE } from '../replicated/cluster.js';

/** Real stores with their stewards, who hear each other at once. Balancers stand still until `isSettled`. */
export class Stewards {
  readonly cluster: Cluster;
  readonly stewards: Steward[];
  readonly map = new Map<string, Uint8Array>();
  /** Indices of stores that the underlay does not see. */
  readonly lost = new Set<number>();
  /** Ranges that are the stores' own. */
  readonly sole = new Set<number>();
  /** Others that hear what is published. */
  readonly listeners: ((key: string, bytes: Uint8Array | undefined) => void)[] = [];
  splitKey: Uint8Array = new Uint8Array();

  constructor(stores = 3) {
    this.cluster = new Cluster({ stores });
    this.stewards = this.cluster.hosts.map((host, index) => this.stewardOf(host, index));
    this.look();
  }

  private stewardOf({ store }: Host, index: number): Steward {
    return new Steward({
      store,
      env: this.cluster.env,
      account: {
        host: 100 + index,
        name: `apply-0@${'abcde'[index]}`,
        cores: 2,
        draining: false,
        services: [SERVICE],
      },
      services: [{ start: registerKey(''), end: Uint8Array.of(SERVICE + 1) }],
      loadOf: () => ({
        ...{ bytes: 0, writesPerSecond: 0, queriesPerSecond: 0, queryMicros: 0, fanOut: 0 },
        splitKey: this.splitKey,
      }),
      isSole: range => this.sole.has(range),
      publish: changes => {
        for (const { key, bytes } of changes) this.put(key, bytes);
      },
    });
  }

  put(key: string, bytes: Uint8Array | undefined): void {
    if (bytes === undefined) this.map.delete(key);
    else this.map.set(key, bytes);
    for (const steward of this.stewards ?? []) steward.board.hear(key, bytes);
    for (const hear of this.listeners) hear(key, bytes);
  }

  /** All look, and hear what the others say. */
  look(): void {
    const hosts = new Set(this.stewards.map((_, index) => 100 + index));
    for (const index of this.lost) hosts.delete(100 + index);
    for (const [index, steward] of this.stewards.entries()) {
      if (this.lost.has(index)) continue;
      steward.board.hostsAre(hosts);
      steward.tick();
    }
  }

  lose(index: number): void {
    this.lost.add(index);
    this.cluster.cut(index);
  }

  idOf(index: number): number {
    return this.cluster.hosts[index]!.store.id;
  }

  order(index: number, order: Order): OrderAnswer {
    this.look();
    return decodeAnswer(this.stewards[index]!.order(encodeOrder(order)))!;
  }

  /** Of the range's leader. */
  leader(range: number): number {
    return this.cluster.hosts.indexOf(this.cluster.leaderOf(range)!);
  }

  why(index: number, order: Order): string {
    const answer = this.order(index, order);
    return answer.kind === 'refused' ? answer.why : answer.kind;
  }
}
