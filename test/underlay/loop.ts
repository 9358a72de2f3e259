import type { Env, Log } from '../../src/base/env.js';
import { environmentHash } from '../../src/underlay/environment.js';
import type { Address, HostId, Message, Packet, Path } from '../../src/underlay/message.js';
import { DEFAULT_TIMING } from '../../src/underlay/timing.js';
import { type HostEvent, Underlay, type UnderlayOptions } from '../../src/underlay/underlay.js';

/** Mulberry32: small, seeded, good enough to shake things. */
export function seededRandom(seed: number): { u32(): number } {
  let state = seed | 0;
  return {
    u32: () => {
      state = (state + 0x6d2b79f5) | 0;
      let x = Math.imul(state ^ (state >>> 15), 1 | state);
      x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
      return (x ^ (x >>> 14)) >>> 0;
    },
  };
}

export interface LogLine {
  readonly fields: object;
  readonly message: string;
}

export class LoopHost {
  readonly machine: Underlay;
  readonly address: Address;
  readonly environment: string;
  readonly events: HostEvent[] = [];
  readonly warnings: LogLine[] = [];
  /** Does not run, and does not read what arrives. */
  isPaused = false;
  isStopped = false;
  readonly held: (() => void)[] = [];

  constructor(machine: Underlay, address: Address, environment: string, warnings: LogLine[]) {
    this.machine = machine;
    this.address = address;
    this.environment = environment;
    this.warnings = warnings;
  }

  get id(): HostId {
    return this.machine.self.id;
  }

  /** Names of the other hosts of its view, in order. */
  view(): string[] {
    return this.machine
      .hosts()
      .filter(({ record }) => record.id !== this.id)
      .map(({ record }) => record.name)
      .sort();
  }

  takeEvents(): string[] {
    return this.events
      .splice(0)
      .map(event =>
        event.kind === 'self-evicted'
          ? 'self-evicted'
          : `${event.kind} ${event.host.name}${event.kind === 'gone' ? ` ${event.reason}` : ''}`,
      );
  }
}

interface Flight {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

/** True when the packet does not arrive. */
export type Fault = (from: LoopHost, to: LoopHost, path: Path, messages: readonly Message[]) => boolean;

const DELAY_MS = 1;

/** A few machines in one virtual time: the smallest world in which a cluster can live. test/sim is the large one. */
export class Loop {
  nowMs = 0;
  readonly hosts: LoopHost[] = [];
  fault: Fault = () => false;
  packets = 0;
  readonly random: { u32(): number };
  private readonly flights: Flight[] = [];
  private orders = 0;

  constructor(seed = 1) {
    this.random = seededRandom(seed);
  }

  start(name: string, changes: Partial<UnderlayOptions> = {}, seeds: readonly Address[] = []): LoopHost {
    const address = changes.address ?? `${name}:4800`;
    const environment = changes.environment ?? 'test';
    const warnings: LogLine[] = [];
    const quiet = () => {};
    const log: Log = {
      debug: quiet,
      info: quiet,
      error: quiet,
      warn: (fields, message) => warnings.push({ fields, message }),
    };
    const env: Env = {
      clock: { wallMs: () => 1_700_000_000_000 + this.nowMs, monotonicMs: () => this.nowMs },
      random: seededRandom(this.random.u32()),
      log,
    };
    const id = 1 + this.random.u32() * 1_000 + this.hosts.length;
    const machine = new Underlay(
      { id, name, address, version: '1.0.0', environment, timing: DEFAULT_TIMING, ...changes },
      env,
    );
    const host = new LoopHost(machine, address, environment, warnings);
    this.hosts.push(host);
    machine.setSeeds(seeds);
    this.flush(host);
    return host;
  }

  stop(host: LoopHost): void {
    host.isStopped = true;
  }

  resume(host: LoopHost): void {
    host.isPaused = false;
    for (const run of host.held.splice(0)) run();
  }

  /** Obeys what the machine wants after it was called from outside. */
  flush(host: LoopHost): void {
    const { sends, events } = host.machine.ready();
    host.events.push(...events);
    for (const { to, path, messages } of sends) this.carry(host, to, path, messages);
  }

  runFor(ms: number): void {
    this.runUntil(() => false, ms);
  }

  /** Runs until the condition holds, for `maxMs` at most. Returns the time that it took. */
  runUntil(isDone: () => boolean, maxMs: number): number {
    const startMs = this.nowMs;
    const endMs = startMs + maxMs;
    while (!isDone()) {
      let nextMs = this.flights[0]?.atMs ?? Number.POSITIVE_INFINITY;
      let next: LoopHost | undefined;
      for (const host of this.hosts) {
        if (host.isPaused || host.isStopped) continue;
        const dueMs = host.machine.nextDeadlineMs();
        if (dueMs >= nextMs) continue;
        nextMs = dueMs;
        next = host;
      }
      if (nextMs > endMs) {
        this.nowMs = endMs;
        break;
      }
      this.nowMs = Math.max(this.nowMs, nextMs);
      if (next === undefined) this.flights.shift()!.run();
      else {
        next.machine.tick();
        this.flush(next);
      }
    }
    return this.nowMs - startMs;
  }

  hostAt(address: Address): LoopHost | undefined {
    return this.hosts.find(host => host.address === address && !host.isStopped);
  }

  private carry(from: LoopHost, address: Address, path: Path, messages: readonly Message[]): void {
    this.packets += 1;
    const { id, incarnation } = from.machine.self;
    const packet: Packet = {
      environment: environmentHash(from.environment),
      from: id,
      incarnation,
      hlc: 0,
      wallMs: 1_700_000_000_000 + this.nowMs,
      messages,
    };
    this.after(DELAY_MS, () => {
      const to = this.hostAt(address);
      if (to === undefined || this.fault(from, to, path, messages)) return;
      const deliver = () => {
        to.machine.receive(packet, path === 'datagram' ? from.address : `${from.address}0`, path);
        this.flush(to);
      };
      if (to.isPaused) to.held.push(deliver);
      else deliver();
    });
  }

  private after(ms: number, run: () => void): void {
    const flight = { atMs: this.nowMs + ms, order: this.orders++, run };
    let at = this.flights.length;
    while (at > 0 && this.flights[at - 1]!.atMs > flight.atMs) at -= 1;
    this.flights.splice(at, 0, flight);
  }
}

/** Starts `count` hosts, the first of which is everybody's seed, and waits until all see all. */
export function cluster(count: number, seed = 1): Loop {
  const loop = new Loop(seed);
  for (let at = 0; at < count; at++) loop.start(`h${at}`, {}, ['h0:4800']);
  loop.runUntil(() => loop.hosts.every(host => host.view().length === count - 1), 60_000);
  for (const host of loop.hosts) host.takeEvents();
  return loop;
}

/** Whether each of the hosts sees all the others of them, and nobody else. */
export function seeEachOther(hosts: readonly LoopHost[]): boolean {
  return hosts.every(
    host =>
      host.machine.hosts().length === hosts.length &&
      hosts.every(other => host.machine.hosts().some(({ record }) => record.id === other.id)),
  );
}
