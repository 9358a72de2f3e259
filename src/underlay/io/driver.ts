import { assert } from '../../base/assert.js';
import type { Env } from '../../base/env.js';
import { HybridClock } from '../../base/hlc.js';
import type { CrdtMessage } from '../../crdt/message.js';
import { decodePacket, encodePacket, PACKET_MESSAGES_MAX } from '../codec.js';
import { environmentHash } from '../environment.js';
import type { Address, HostId, Message, Packet, Path } from '../message.js';
import { messageBytes, PACKET_BYTES } from '../message-size.js';
import { DATAGRAM_BYTES_MAX, STREAM_PACKET_BYTES_MAX } from '../transport.js';
import type { HostEvent, Ready, Send, UnderlayMachine } from '../underlay.js';
import { type SeedResolution, SeedResolver } from './resolve.js';
import { Seal } from './seal.js';
import { openSockets, type SocketOptions, type SocketStats, type SocketTransport } from './sockets.js';
import type { StreamTls } from './stream-tls.js';

/**
 * Runs the machine on the real network: opens and decodes what arrives, obeys `ready()` after each input, keeps one
 * timer for `nextDeadlineMs()`, and asks for the seeds' addresses. All of it on the main thread.
 *
 * What layers above do to the machine goes through `act`, so that its outcome is obeyed at once.
 */
export interface DriverOptions {
  /** Its `address` is what other hosts use; `sockets` is what is bound here. */
  readonly machine: UnderlayMachine;
  readonly env: Env;
  /** `cluster.env`. */
  readonly environment: string;
  readonly sockets: SocketOptions;
  /** As `cluster.key` has them, the sealing one first; none: packets travel in the clear. */
  readonly keys: readonly string[];
  /** As the operator wrote them (`resolve.ts`). */
  readonly seeds: readonly string[];
  /** Shared with the layers above, so that their stamps follow what was heard. */
  readonly clock?: HybridClock;
}

/** May call `act`; what that brings is told after the call returns. */
export interface DriverSink {
  event(event: HostEvent): void;
  payload(from: HostId, channel: string, bytes: Uint8Array): void;
  crdt(from: HostId, map: string, message: CrdtMessage): void;
}

/** Counted since the start. Bytes are the transport's payload: envelope included, headers of IP, UDP, TCP not. */
export interface DriverCounters {
  datagramsIn: number;
  datagramBytesIn: number;
  datagramsOut: number;
  datagramBytesOut: number;
  streamPacketsIn: number;
  streamBytesIn: number;
  streamPacketsOut: number;
  streamBytesOut: number;
  /** By reason: not opened by any key, taken before, clock too far off, no envelope of ours. */
  refusedKey: number;
  refusedReplay: number;
  refusedStale: number;
  refusedMalformed: number;
  /** Opened, but no packet of this protocol. */
  undecodable: number;
  unreachableDatagram: number;
  unreachableStream: number;
  /** Messages that did not fit a datagram and went by stream. */
  promoted: number;
  /** Messages above the largest stream packet: not sent. */
  tooLarge: number;
}

/** Longest sleep, milliseconds: a machine without a deadline is looked at now and then. */
const SLEEP_MAX_MS = 60_000;

/** Rounds of callbacks that cause each other before the event loop has its turn. */
const ROUNDS_MAX = 64;

/** How long a goodbye may take to reach the kernel and be acknowledged, milliseconds. */
const FLUSH_MS = 500;

export class UnderlayDriver {
  readonly machine: UnderlayMachine;
  readonly counters: DriverCounters = {
    datagramsIn: 0,
    datagramBytesIn: 0,
    datagramsOut: 0,
    datagramBytesOut: 0,
    streamPacketsIn: 0,
    streamBytesIn: 0,
    streamPacketsOut: 0,
    streamBytesOut: 0,
    refusedKey: 0,
    refusedReplay: 0,
    refusedStale: 0,
    refusedMalformed: 0,
    undecodable: 0,
    unreachableDatagram: 0,
    unreachableStream: 0,
    promoted: 0,
    tooLarge: 0,
  };
  private readonly options: DriverOptions;
  private readonly sink: DriverSink;
  private readonly seal: Seal;
  private readonly clock: HybridClock;
  private readonly environment: number;
  private transport: SocketTransport | undefined;
  private resolver: SeedResolver | undefined;
  private timer: NodeJS.Timeout | undefined;
  private armedMs = Number.POSITIVE_INFINITY;
  private isObeying = false;
  private leaving: (() => void)[] = [];
  private state: 'new' | 'started' | 'closed' = 'new';

  /** Throws SHOAL_CLUSTER_KEY. */
  constructor(options: DriverOptions, sink: DriverSink) {
    this.options = options;
    this.sink = sink;
    this.machine = options.machine;
    this.seal = new Seal(options.keys);
    this.clock = options.clock ?? new HybridClock();
    this.environment = environmentHash(options.environment);
  }

  /** Throws SHOAL_LISTEN_IN_USE, SHOAL_LISTEN_FAILED, SHOAL_TLS_CERTIFICATE. Once only. */
  async start(): Promise<void> {
    assert(this.state === 'new', 'a driver starts once');
    this.state = 'started';
    const { sockets, seeds, env } = this.options;
    const transport = await openSockets(sockets, {
      packet: (bytes, from, path) => this.receive(bytes, from, path),
      unreachable: (to, path) => this.unreachable(to, path),
    });
    if (this.isClosed) return transport.close();
    this.transport = transport;
    this.resolver = new SeedResolver({
      seeds,
      bind: { host: sockets.host, port: transport.port },
      log: env.log,
      changed: addresses => this.act(machine => machine.setSeeds(addresses)),
    });
    this.resolver.start();
    this.act(machine => machine.tick());
  }

  /** Does something to the machine and then what the machine wants of it. */
  act<T>(action: (machine: UnderlayMachine) => T): T {
    const outcome = action(this.machine);
    this.obey();
    return outcome;
  }

  /** Says goodbye; resolves when it was heard or took too long. To be closed afterwards. */
  async leave(): Promise<void> {
    if (this.state !== 'started') return;
    const left = new Promise<void>(resolve => this.leaving.push(resolve));
    this.act(machine => machine.leave());
    await left;
    await this.transport?.flush(FLUSH_MS);
  }

  /** Silent from now on; resolves when the ports are free. */
  async close(): Promise<void> {
    this.state = 'closed';
    clearTimeout(this.timer);
    this.resolver?.close();
    this.settleLeave();
    await this.transport?.close();
  }

  /** New certificates for connections from now on, where there were some from the start. Throws SHOAL_TLS_CERTIFICATE. */
  renewTls(tls: StreamTls): void {
    this.transport?.renewTls(tls);
  }

  /** Other keys from now on, where there were some from the start. Throws SHOAL_CLUSTER_KEY. */
  renewKeys(keys: readonly string[]): void {
    this.seal.renew(keys);
  }

  /** What the sockets hold and have counted; undefined before the start. */
  stats(): SocketStats | undefined {
    return this.transport?.stats();
  }

  seeds(): readonly SeedResolution[] {
    return this.resolver?.states() ?? [];
  }

  private get isClosed(): boolean {
    return this.state === 'closed';
  }

  /** False: nothing of ours. */
  private receive(bytes: Uint8Array, from: Address, path: Path): boolean {
    if (this.isClosed) return true;
    const { counters, machine } = this;
    if (path === 'datagram') {
      counters.datagramsIn++;
      counters.datagramBytesIn += bytes.length;
    } else {
      counters.streamPacketsIn++;
      counters.streamBytesIn += bytes.length;
    }
    const wallMs = this.options.env.clock.wallMs();
    const opened = this.seal.open(bytes, wallMs);
    if (opened.kind !== 'ok') {
      this.refuse(opened.kind, from);
      return false;
    }
    const packet = decodePacket(opened.bytes);
    if (packet === undefined) {
      counters.undecodable++;
      this.act(() => machine.receiveSealed(from, 'malformed'));
      return false;
    }
    if (packet.environment === this.environment) this.clock.observe(packet.hlc, wallMs);
    machine.receive(packet, from, path);
    this.obey();
    return true;
  }

  private refuse(why: 'key' | 'replay' | 'stale' | 'malformed', from: Address): void {
    const { counters, machine } = this;
    if (why === 'key') counters.refusedKey++;
    else if (why === 'replay') counters.refusedReplay++;
    else if (why === 'stale') counters.refusedStale++;
    else counters.refusedMalformed++;
    this.act(() => machine.receiveSealed(from, why === 'stale' ? 'replay' : why));
  }

  private unreachable(to: Address, path: Path): void {
    if (this.isClosed) return;
    if (path === 'datagram') this.counters.unreachableDatagram++;
    else this.counters.unreachableStream++;
    this.machine.unreachable(to, path);
    this.obey();
  }

  private obey(): void {
    if (this.isObeying || this.transport === undefined || this.isClosed) return;
    this.isObeying = true;
    let round = 0;
    try {
      for (; round < ROUNDS_MAX; round++) {
        const ready = this.machine.ready();
        if (isEmpty(ready)) break;
        for (const send of ready.sends) this.send(send);
        this.tell(ready);
      }
    } finally {
      this.isObeying = false;
    }
    if (this.isClosed) return;
    if (round === ROUNDS_MAX) setImmediate(() => this.obey());
    if (this.leaving.length > 0 && this.machine.left()) this.settleLeave();
    this.arm();
  }

  private tell({ events, payloads, crdt }: Ready): void {
    for (const event of events) this.sink.event(event);
    for (const { from, channel, bytes } of payloads) this.sink.payload(from, channel, bytes);
    for (const { from, map, message } of crdt) this.sink.crdt(from, map, message);
  }

  private arm(): void {
    const deadlineMs = this.machine.nextDeadlineMs();
    if (this.timer !== undefined && deadlineMs === this.armedMs) return;
    clearTimeout(this.timer);
    this.armedMs = deadlineMs;
    const waitMs = Math.ceil(deadlineMs - this.options.env.clock.monotonicMs());
    this.timer = setTimeout(
      () => {
        this.timer = undefined;
        this.act(machine => machine.tick());
      },
      Math.min(Math.max(waitMs, 0), SLEEP_MAX_MS),
    );
  }

  private settleLeave(): void {
    const { leaving } = this;
    this.leaving = [];
    for (const resolve of leaving) resolve();
  }

  /** Cuts what goes to one address into packets that fit, by the estimate. */
  private send({ to, path, messages }: Send): void {
    const bytesMax = path === 'datagram' ? DATAGRAM_BYTES_MAX : STREAM_PACKET_BYTES_MAX;
    let start = 0;
    let bytes = PACKET_BYTES;
    for (let at = 0; at < messages.length; at++) {
      const more = messageBytes(messages[at]!);
      if (at > start && (bytes + more > bytesMax || at - start === PACKET_MESSAGES_MAX)) {
        this.sendPacket(to, path, messages.slice(start, at));
        start = at;
        bytes = PACKET_BYTES;
      }
      bytes += more;
    }
    if (start < messages.length) this.sendPacket(to, path, start === 0 ? messages : messages.slice(start));
  }

  /** The estimate may be wrong: what does not fit after all goes in two halves, a single message by stream. */
  private sendPacket(to: Address, path: Path, messages: readonly Message[]): void {
    const { counters, seal } = this;
    const wallMs = this.options.env.clock.wallMs();
    const packet: Packet = {
      environment: this.environment,
      from: this.machine.self.id,
      incarnation: this.machine.self.incarnation,
      hlc: this.clock.next(wallMs),
      wallMs,
      messages,
    };
    const encoded = encodePacket(packet);
    const bytes = encoded.length + seal.overheadBytes;
    if (bytes > (path === 'datagram' ? DATAGRAM_BYTES_MAX : STREAM_PACKET_BYTES_MAX)) {
      if (messages.length > 1) {
        const middle = messages.length >> 1;
        this.sendPacket(to, path, messages.slice(0, middle));
        this.sendPacket(to, path, messages.slice(middle));
      } else if (path === 'datagram') {
        counters.promoted++;
        this.sendPacket(to, 'stream', messages);
      } else counters.tooLarge++;
      return;
    }
    if (path === 'datagram') {
      counters.datagramsOut++;
      counters.datagramBytesOut += bytes;
    } else {
      counters.streamPacketsOut++;
      counters.streamBytesOut += bytes;
    }
    this.transport!.send(to, path, seal.seal(encoded, path, wallMs));
  }
}

function isEmpty({ sends, events, payloads, crdt }: Ready): boolean {
  return sends.length === 0 && events.length === 0 && payloads.length === 0 && crdt.length === 0;
}
