import type { Env } from '../../src/base/env.js';
import { Rpc } from '../../src/rpc/rpc.js';
import { SeededRandom } from '../crdt/seeded.js';
import { Landscape } from './landscape.js';
import { Network } from './network.js';

interface Event {
  readonly atMs: number;
  readonly order: number;
  run(): void;
}

export interface WorldOptions {
  /** Longest way of one message, milliseconds; the shortest is a tenth of it. */
  readonly delayMs?: number;
  /** From a change of a member or map until another node hears of it. */
  readonly gossipMs?: number;
  /** From the death of a node until the others are told. */
  readonly detectionMs?: number;
}

export interface Node {
  readonly id: number;
  readonly address: string;
  readonly rpc: Rpc;
  isAlive: boolean;
  /** It does nothing and answers nothing, but its connections stand. */
  isFrozen: boolean;
}

/** A few nodes in virtual time: events, turns, alarms, all of one seed. */
export class World {
  nowMs = 1_000;
  readonly random: SeededRandom;
  readonly nodes: Node[] = [];
  readonly network: Network;
  readonly landscape: Landscape;
  readonly warnings: string[] = [];
  private readonly events: Event[] = [];
  private readonly turns: (() => void)[] = [];
  private order = 0;

  constructor(seed: number, { delayMs = 2, gossipMs = 20, detectionMs = 4_000 }: WorldOptions = {}) {
    this.random = new SeededRandom(seed);
    this.network = new Network(this, delayMs);
    this.landscape = new Landscape(this, gossipMs, detectionMs);
  }

  addNode(): Node {
    const id = this.nodes.length + 1;
    const address = `10.0.0.${id}:4900`;
    const env: Env = {
      clock: { monotonicMs: () => this.nowMs, wallMs: () => this.nowMs },
      random: new SeededRandom(this.random.u32()),
      log: {
        debug: () => {},
        info: () => {},
        warn: (_fields, message) => this.warnings.push(message),
        error: (_fields, message) => this.warnings.push(message),
      },
    };
    const node: { -readonly [K in keyof Node]: Node[K] } = {
      id,
      address,
      rpc: undefined as unknown as Rpc,
      isAlive: true,
      isFrozen: false,
    };
    node.rpc = new Rpc({
      self: id,
      address,
      version: '1',
      env,
      transport: this.network.transport(node),
      overlay: this.landscape.hostOf(node),
      soon: run => this.turns.push(run),
    });
    this.nodes.push(node);
    return node;
  }

  after(delayMs: number, run: () => void): void {
    const event = { atMs: this.nowMs + delayMs, order: this.order++, run };
    let at = this.events.length;
    while (at > 0 && this.events[at - 1]!.atMs > event.atMs) at--;
    this.events.splice(at, 0, event);
  }

  /** Runs for so many milliseconds of virtual time. */
  run(forMs: number): void {
    const untilMs = this.nowMs + forMs;
    for (;;) {
      this.settle();
      const alarmMs = Math.min(
        Number.POSITIVE_INFINITY,
        ...this.awake().map(({ rpc }) => rpc.nextDeadlineMs()),
      );
      const nextMs = Math.min(this.events[0]?.atMs ?? Number.POSITIVE_INFINITY, alarmMs);
      if (nextMs > untilMs) break;
      this.nowMs = Math.max(this.nowMs, nextMs);
      while (this.events.length > 0 && this.events[0]!.atMs <= this.nowMs) {
        this.events.shift()!.run();
        this.settle();
      }
      for (const { rpc } of this.awake()) {
        rpc.tick();
        this.settle();
      }
    }
    this.nowMs = untilMs;
  }

  runUntil(holds: () => boolean, forMs: number): boolean {
    for (let left = forMs; left > 0 && !holds(); left -= 5) this.run(5);
    return holds();
  }

  /** Dead at once: its connections break, the overlay tells after its detection time. */
  kill(node: Node): void {
    node.isAlive = false;
    this.network.breakAll(node, 'now');
    this.landscape.died(node);
  }

  /** Connections stand, nothing is answered. */
  freeze(node: Node): void {
    node.isFrozen = true;
    this.landscape.died(node);
  }

  node(address: string): Node | undefined {
    return this.nodes.find(node => node.address === address && node.isAlive);
  }

  private awake(): Node[] {
    return this.nodes.filter(({ isAlive, isFrozen }) => isAlive && !isFrozen);
  }

  private settle(): void {
    for (let run = this.turns.shift(); run !== undefined; run = this.turns.shift()) run();
  }
}
