import { Replicator, type Send } from '../../src/crdt/anti-entropy.js';
import type { OrMapLimits, ReplicatorOptions } from '../../src/crdt/crdt.js';
import { meshNeighbours } from '../../src/crdt/mesh.js';
import { type CrdtMessage, crdtMessageBytes } from '../../src/crdt/message.js';
import { OrMap } from '../../src/crdt/or-map.js';
import { SeededRandom, text } from './seeded.js';

interface Packet {
  readonly atMs: number;
  readonly order: number;
  readonly from: number;
  readonly to: number;
  /** Undefined: the node's alarm, void if its deadline is another by then. */
  readonly message: CrdtMessage | undefined;
}

export interface Weather {
  /** Probabilities. */
  loss: number;
  duplication: number;
  /** Each packet takes between these, so later ones overtake. */
  latencyMinMs: number;
  latencyMaxMs: number;
}

/** Replicators on a network that may lose, repeat, reorder and cut: one seed, one story. */
export class Network {
  readonly random: SeededRandom;
  readonly nodes = new Map<number, Replicator>();
  /** Which side of a cut a node is on; packets between sides are lost. */
  readonly sides = new Map<number, number>();
  weather: Weather = { loss: 0, duplication: 0, latencyMinMs: 1, latencyMaxMs: 5 };
  nowMs = 0;
  /** Sent since they were last set to 0. */
  sentMessages = 0;
  sentBytes = 0;
  readonly sentByKind = new Map<string, number>();
  largestBytes = 0;
  /** Called after every step of a node. */
  onStep: ((id: number, node: Replicator, changed: readonly string[]) => void) | undefined;
  /** Called for every message sent. */
  onSend: ((from: number, send: Send) => void) | undefined;
  private readonly deadlines = new Map<number, number>();
  private readonly packets: Packet[] = [];
  private order = 0;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
  }

  add(options: Partial<ReplicatorOptions> = {}, limits: Partial<OrMapLimits> = {}): number {
    const id = this.random.replica();
    this.nodes.set(id, new Replicator(new OrMap(id, limits), new SeededRandom(this.random.u32()), options));
    this.sides.set(id, 0);
    return id;
  }

  /** Every node of a side gets its neighbours among those of its side. */
  mesh(): void {
    const sorted = new Map<number, number[]>();
    for (const id of [...this.nodes.keys()].sort((a, b) => a - b)) {
      const side = this.sides.get(id)!;
      sorted.set(side, [...(sorted.get(side) ?? []), id]);
    }
    for (const [id, node] of this.nodes) {
      node.setNeighbours(meshNeighbours(sorted.get(this.sides.get(id)!)!, id));
      this.settle(id);
    }
  }

  kill(id: number): void {
    this.nodes.delete(id);
    this.deadlines.delete(id);
  }

  act(id: number, action: (node: Replicator) => void): void {
    action(this.nodes.get(id)!);
    this.settle(id);
  }

  run(durationMs: number): void {
    const endMs = this.nowMs + durationMs;
    while (this.packets.length > 0 && this.packets[0]!.atMs <= endMs) {
      const packet = this.pop();
      this.nowMs = packet.atMs;
      this.deliver(packet);
    }
    this.nowMs = endMs;
  }

  /** Runs until all nodes of each side are equal; the time it took. */
  converge(limitMs: number, stepMs = 100): number {
    const startMs = this.nowMs;
    while (!this.isEqual()) {
      if (this.nowMs - startMs >= limitMs) throw new Error(`not equal after ${limitMs} ms`);
      this.run(stepMs);
    }
    return this.nowMs - startMs;
  }

  isEqual(): boolean {
    const roots = new Map<number, string>();
    for (const [id, { map }] of this.nodes) {
      const side = this.sides.get(id)!;
      const root = `${map.digest.low} ${map.digest.high} ${map.digest.count}`;
      if ((roots.get(side) ?? root) !== root) return false;
      roots.set(side, root);
    }
    return true;
  }

  private settle(id: number): void {
    const node = this.nodes.get(id)!;
    for (const send of node.takeSends()) this.post(id, send);
    const changed = node.takeChanges();
    this.onStep?.(id, node, changed);
    const deadlineMs = Math.max(this.nowMs, node.nextDeadlineMs());
    if (deadlineMs === this.deadlines.get(id) || deadlineMs === Number.POSITIVE_INFINITY) return;
    this.deadlines.set(id, deadlineMs);
    this.push({ atMs: deadlineMs, order: this.order++, from: id, to: id, message: undefined });
  }

  private post(from: number, { to, message }: Send): void {
    this.onSend?.(from, { to, message });
    const size = crdtMessageBytes(message);
    this.sentMessages++;
    this.sentBytes += size;
    this.largestBytes = Math.max(this.largestBytes, size);
    this.sentByKind.set(message.kind, (this.sentByKind.get(message.kind) ?? 0) + 1);
    if (this.sides.get(from) !== this.sides.get(to)) return;
    const { loss, duplication, latencyMinMs, latencyMaxMs } = this.weather;
    for (let copies = this.random.chance(duplication) ? 2 : 1; copies > 0; copies--) {
      if (this.random.chance(loss)) continue;
      const atMs = this.nowMs + latencyMinMs + this.random.below(latencyMaxMs - latencyMinMs + 1);
      this.push({ atMs, order: this.order++, from, to, message });
    }
  }

  private deliver({ atMs, from, to, message }: Packet): void {
    const node = this.nodes.get(to);
    if (node === undefined || this.sides.get(from) !== this.sides.get(to)) return;
    if (message !== undefined) node.receive(from, message, atMs);
    else if (this.deadlines.get(to) !== atMs) return;
    else {
      this.deadlines.delete(to);
      node.tick(atMs);
    }
    this.settle(to);
  }

  private push(packet: Packet): void {
    const heap = this.packets;
    let at = heap.length;
    heap.push(packet);
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (!before(packet, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = packet;
  }

  private pop(): Packet {
    const heap = this.packets;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function before(a: Packet, b: Packet): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/** All that a user sees of a map. */
export function contents(map: OrMap): Record<string, string[]> {
  return Object.fromEntries([...map.keys()].sort().map(key => [key, map.values(key).map(text)]));
}
