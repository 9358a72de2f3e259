import { assert } from '../../src/base/assert.js';
import type { Address, Path } from '../../src/underlay/message.js';
import { DATAGRAM_BYTES_MAX } from '../../src/underlay/transport.js';
import type { Actor } from './event-queue.js';
import { SimNode } from './node.js';
import type { SeededRandom } from './random.js';
import { Stream } from './stream.js';
import type { World } from './world.js';

/** What a packet costs beside its own bytes: IPv4 and UDP. */
const DATAGRAM_HEADER_BYTES = 28;

export interface LinkSettings {
  /** One way, milliseconds. */
  readonly delayMs: number;
  /** Added to the delay: uniform in [0, jitterMs), which also reorders. */
  readonly jitterMs: number;
  /** Probabilities of a datagram, or of a segment of a stream, which is sent again then. */
  readonly loss: number;
  readonly doubled: number;
  /** Probability of an extra delay of up to `STRAGGLE_MS`. */
  readonly straggling: number;
}

/** Two racks of one data centre. */
export const LAN: LinkSettings = { delayMs: 0.4, jitterMs: 0.6, loss: 0, doubled: 0, straggling: 0 };

const STRAGGLE_MS = 50;

/** Bytes a millisecond that leave a node: 1 Gbit/s. */
const EGRESS_BYTES_PER_MS = 125_000;

export type Nodes = 'all' | ReadonlySet<number>;

/** Changes the links from some nodes to some others, in this direction only. */
export interface LinkRule {
  readonly from: Nodes;
  readonly to: Nodes;
  /** Both paths when not said. */
  readonly path?: Path;
  readonly isCut?: boolean;
  /** Cut for `downMs`, then not for `upMs`, and so on. */
  readonly flapping?: { readonly upMs: number; readonly downMs: number; readonly offsetMs: number };
  readonly settings?: Partial<LinkSettings>;
}

interface Flight {
  readonly from: SimNode;
  readonly to: SimNode;
  readonly payload: unknown;
  readonly bytes: number;
}

/** Of datagrams. */
export interface NetworkCounters {
  datagrams: number;
  lost: number;
  doubled: number;
  blocked: number;
  /** Arrived where nobody read them. */
  unread: number;
}

export class Network implements Actor {
  readonly world: World;
  readonly nodes: SimNode[] = [];
  readonly counters: NetworkCounters = {
    datagrams: 0,
    lost: 0,
    doubled: 0,
    blocked: 0,
    unread: 0,
  };
  settings: LinkSettings = LAN;
  /** Whether each packet is noted in the trace. */
  isTraced = true;
  readonly random: SeededRandom;
  readonly #byAddress = new Map<Address, SimNode>();
  readonly #rules = new Set<LinkRule>();
  readonly #streams = new Map<number, Stream>();
  /** Group of each node while the network is cut into parts; undefined when it is whole. */
  #groups: Int32Array | undefined;

  constructor(world: World) {
    this.world = world;
    this.random = world.random.fork('network');
  }

  addNode(label: string, address: Address): SimNode {
    assert(!this.#byAddress.has(address), 'two nodes at one address');
    const node = new SimNode(this.world, this.nodes.length, label, address);
    this.nodes.push(node);
    this.#byAddress.set(address, node);
    return node;
  }

  nodeAt(address: Address): SimNode | undefined {
    return this.#byAddress.get(address);
  }

  /** Cuts the network into parts; nodes that are in none of them form one more. */
  partition(parts: readonly (readonly SimNode[])[]): void {
    const groups = new Int32Array(this.nodes.length);
    parts.forEach((part, at) => {
      for (const node of part) groups[node.index] = at + 1;
    });
    this.#groups = groups;
    this.world.trace.note(
      'event',
      'network',
      `cut into parts of ${parts.map(part => part.length).join(', ')}`,
    );
  }

  /** Returns what takes the rule away again. */
  addRule(rule: LinkRule, words: string): () => void {
    this.#rules.add(rule);
    this.world.trace.note('event', 'network', words);
    return () => {
      if (this.#rules.delete(rule)) this.world.trace.note('event', 'network', `no more: ${words}`);
    };
  }

  /** No parts, no rules, the given settings everywhere. */
  heal(settings: LinkSettings = LAN): void {
    this.#groups = undefined;
    this.#rules.clear();
    this.settings = settings;
    this.world.trace.note('event', 'network', 'whole again');
  }

  isBlocked(from: SimNode, to: SimNode, path: Path): boolean {
    const groups = this.#groups;
    if (groups !== undefined && (groups[from.index] ?? 0) !== (groups[to.index] ?? 0)) return true;
    for (const rule of this.#rules) {
      if (applies(rule, from, to, path) && isDown(rule, this.world.nowMs)) return true;
    }
    return false;
  }

  settingsOf(from: SimNode, to: SimNode, path: Path): LinkSettings {
    let settings = this.settings;
    for (const rule of this.#rules) {
      if (rule.settings !== undefined && applies(rule, from, to, path))
        settings = { ...settings, ...rule.settings };
    }
    return settings;
  }

  /** One way, from now: the wait for the line, the bytes on it, the link, its jitter. */
  transitMs(from: SimNode, settings: LinkSettings, bytes: number): number {
    const nowMs = this.world.nowMs;
    const leavesMs = (from.egressFreeMs > nowMs ? from.egressFreeMs : nowMs) + bytes / EGRESS_BYTES_PER_MS;
    from.egressFreeMs = leavesMs;
    let transitMs = leavesMs - nowMs + settings.delayMs + settings.jitterMs * this.random.fraction();
    if (this.random.chance(settings.straggling)) transitMs += STRAGGLE_MS * this.random.fraction();
    return transitMs;
  }

  /** `bytes`: of the packet, headers of UDP and IP excluded. */
  send(from: SimNode, to: Address, path: Path, payload: unknown, bytes: number): void {
    const target = this.#byAddress.get(to);
    if (this.isTraced)
      this.world.trace.note('packet', from.label, path === 'stream' ? '=>' : '->', {
        to: target?.label ?? to,
        payload,
      });
    if (path === 'stream') this.#sendStream(from, to, target, payload, bytes);
    else this.#sendDatagram(from, to, target, payload, bytes);
  }

  #sendDatagram(
    from: SimNode,
    address: Address,
    to: SimNode | undefined,
    payload: unknown,
    bytes: number,
  ): void {
    if (bytes > DATAGRAM_BYTES_MAX) {
      this.world.after(0, () => from.unreachable(address, 'datagram'));
      return;
    }
    this.counters.datagrams += 1;
    from.packetsSent += 1;
    from.bytesSent += bytes + DATAGRAM_HEADER_BYTES;
    if (to === undefined) {
      this.world.after(0, () => from.unreachable(address, 'datagram'));
      return;
    }
    if (this.isBlocked(from, to, 'datagram')) {
      this.counters.blocked += 1;
      return;
    }
    const settings = this.settingsOf(from, to, 'datagram');
    if (this.random.chance(settings.loss)) {
      this.counters.lost += 1;
      if (this.isTraced) this.world.trace.note('packet', to.label, `lost one of ${from.label}`);
      return;
    }
    const flight: Flight = { from, to, payload, bytes };
    this.world.plan(this.world.nowMs + this.transitMs(from, settings, bytes), this, 0, flight);
    if (this.random.chance(settings.doubled)) {
      this.counters.doubled += 1;
      this.world.plan(this.world.nowMs + this.transitMs(from, settings, bytes), this, 0, flight);
    }
  }

  #sendStream(
    from: SimNode,
    address: Address,
    to: SimNode | undefined,
    payload: unknown,
    bytes: number,
  ): void {
    if (to === undefined) {
      this.world.after(this.settings.delayMs, () => from.unreachable(address, 'stream'));
      return;
    }
    const key = from.index * 65_536 + to.index;
    let stream = this.#streams.get(key);
    if (stream?.life !== from.life) {
      stream = new Stream(this, from, to);
      this.#streams.set(key, stream);
    }
    stream.send(payload, bytes);
  }

  happen(_: number, payload: unknown): void {
    const { from, to, payload: packet, bytes } = payload as Flight;
    if (!to.arrive(packet, bytes, from.address, 'datagram')) this.counters.unread += 1;
  }
}

function isIn(nodes: Nodes, node: SimNode): boolean {
  return nodes === 'all' || nodes.has(node.index);
}

function applies(rule: LinkRule, from: SimNode, to: SimNode, path: Path): boolean {
  return (rule.path === undefined || rule.path === path) && isIn(rule.from, from) && isIn(rule.to, to);
}

function isDown({ isCut, flapping }: LinkRule, nowMs: number): boolean {
  if (isCut === true) return true;
  if (flapping === undefined) return false;
  return (nowMs + flapping.offsetMs) % (flapping.upMs + flapping.downMs) < flapping.downMs;
}
