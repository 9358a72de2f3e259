import type { Env } from '../../src/base/env.js';
import { HybridClock } from '../../src/base/hlc.js';
import { decodePacket, encodePacket } from '../../src/underlay/codec.js';
import { environmentHash } from '../../src/underlay/environment.js';
import type { Address, Message, Packet, Path } from '../../src/underlay/message.js';
import { messageBytes, PACKET_BYTES } from '../../src/underlay/message-size.js';
import { DATAGRAM_BYTES_MAX, STREAM_PACKET_BYTES_MAX } from '../../src/underlay/transport.js';
import {
  type HostEvent,
  type Ready,
  type Send,
  Underlay,
  type UnderlayMachine,
  type UnderlayOptions,
} from '../../src/underlay/underlay.js';
import type { Network } from './network.js';
import type { Process, SimNode } from './node.js';
import { ViewReplay } from './underlay-checkers.js';

/** Form, hint, time, nonce and tag of a sealed packet: what the codec's bytes lack on the wire. */
export const SEAL_BYTES = 34;

/** Told of everything that happens to one host. */
export interface HostSink {
  event(host: SimHost, event: HostEvent): void;
  fault(host: SimHost, words: string): void;
}

export type SimMachine = UnderlayMachine & { entries(): Readonly<Record<string, number>> };

/** What a suite of a layer above does to hosts: its machine stands on the underlay, and is driven in its place. */
export interface Upper {
  wrap(underlay: Underlay, env: Env, clock: HybridClock): SimMachine;
  /** The host runs. */
  started(host: SimHost): void;
  turn(host: SimHost, ready: Ready): void;
}

/** One life of a host: the machine, and the simulated driver that obeys it. */
export class SimHost implements Process {
  readonly node: SimNode;
  readonly machine: SimMachine;
  readonly replay: ViewReplay;
  readonly options: UnderlayOptions;
  readonly startedMs: number;
  /** World's time of the end of the last pause. */
  resumedMs = Number.NEGATIVE_INFINITY;
  packetsSent = 0;
  logLines = 0;
  /** Views and events are compared at each event: for small clusters. */
  readonly #isStrict: boolean;
  readonly #isEncoded: boolean;
  readonly #network: Network;
  readonly #sink: HostSink;
  readonly #environment: number;
  readonly #hybrid = new HybridClock();
  readonly #upper: Upper | undefined;

  constructor(
    network: Network,
    node: SimNode,
    options: UnderlayOptions,
    sink: HostSink,
    settings: { readonly isStrict: boolean; readonly isEncoded: boolean; readonly upper: Upper | undefined },
  ) {
    this.#network = network;
    this.node = node;
    this.options = options;
    this.#sink = sink;
    this.#isStrict = settings.isStrict;
    this.#isEncoded = settings.isEncoded;
    this.#upper = settings.upper;
    this.#environment = environmentHash(options.environment);
    this.startedMs = network.world.nowMs;
    const random = network.world.random.fork(`host ${options.id}`);
    const note = (level: string) => (fields: object, message: string) => {
      this.logLines += 1;
      network.world.trace.note('event', node.label, `${level}: ${message} ${JSON.stringify(fields)}`);
    };
    const log = { debug: () => {}, info: note('info'), warn: note('warn'), error: note('error') };
    const env = { clock: node.clock, random, log };
    const underlay = new Underlay(options, env);
    this.machine = this.#upper?.wrap(underlay, env, this.#hybrid) ?? underlay;
    this.replay = new ViewReplay(node.label, options.id);
  }

  receive(payload: unknown, from: Address, path: Path): void {
    const packet = this.#isEncoded ? decodePacket(payload as Uint8Array) : (payload as Packet);
    if (packet === undefined) return this.#sink.fault(this, 'a packet does not decode');
    this.#hybrid.observe(packet.hlc, this.node.clock.wallMs());
    this.machine.receive(packet, from, path);
    this.obey();
  }

  unreachable(to: Address, path: Path): void {
    this.machine.unreachable(to, path);
    this.obey();
  }

  wake(): void {
    this.machine.tick();
    this.obey();
  }

  nextWakeMs(): number {
    return this.machine.nextDeadlineMs();
  }

  /** Does what the machine wants; to be called after each call into it. */
  obey(): void {
    const ready = this.machine.ready();
    for (const send of ready.sends) this.#send(send);
    this.#upper?.turn(this, ready);
    if (ready.events.length === 0) return;
    for (const event of ready.events) {
      this.#network.world.trace.note('event', this.node.label, event.kind, event);
      this.replay.apply(event);
    }
    if (this.#isStrict) this.replay.compare(this.machine.hosts());
    for (const event of ready.events) this.#sink.event(this, event);
  }

  #send({ to, path, messages }: Send): void {
    const bytesMax = path === 'datagram' ? DATAGRAM_BYTES_MAX : STREAM_PACKET_BYTES_MAX;
    let from = 0;
    let bytes = PACKET_BYTES;
    for (let at = 0; at < messages.length; at += 1) {
      const more = messageBytes(messages[at]!);
      if (bytes + more > bytesMax && at > from) {
        this.#sendPacket(to, path, messages.slice(from, at), bytes);
        from = at;
        bytes = PACKET_BYTES;
      }
      bytes += more;
    }
    this.#sendPacket(to, path, from === 0 ? messages : messages.slice(from), bytes);
  }

  #sendPacket(to: Address, path: Path, messages: readonly Message[], bytesGuessed: number): void {
    const { id } = this.options;
    const packet: Packet = {
      environment: this.#environment,
      from: id,
      incarnation: this.machine.self.incarnation,
      hlc: this.#hybrid.next(this.node.clock.wallMs()),
      wallMs: this.node.clock.wallMs(),
      messages,
    };
    const encoded = this.#isEncoded ? encodePacket(packet) : undefined;
    const bytes = encoded === undefined ? bytesGuessed : encoded.length + SEAL_BYTES;
    const bytesMax = path === 'datagram' ? DATAGRAM_BYTES_MAX : STREAM_PACKET_BYTES_MAX;
    if (bytes > bytesMax && messages.length > 1) {
      // Sizes were estimates: the driver finds out and makes two packets of it.
      const half = messages.length >> 1;
      this.#sendPacket(to, path, messages.slice(0, half), bytesGuessed);
      this.#sendPacket(to, path, messages.slice(half), bytesGuessed);
      return;
    }
    if (bytes > bytesMax)
      this.#sink.fault(this, `a ${path} packet of ${bytes} bytes with one ${messages[0]!.kind}`);
    this.packetsSent += 1;
    this.#network.send(this.node, to, path, encoded ?? packet, bytes);
  }
}
