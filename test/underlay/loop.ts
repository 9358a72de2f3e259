import type { Env, Log } from '../../src/base/env.js';
import { environmentHash } from '../../src/underlay/environment.js';
import type { Address, HostId, Message, Packet, Path } from '../../src/underlay/message.js';
import { DEFAULT_TIMING } from '../../src/underlay/timing.js';
import { type HostEvent, Underlay, type UnderlayOptions } from '../../src/underlay/underlay.js';
import { VirtualTime } from './virtual-time.js';

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

/** True when the packet does not arrive. */
export type Fault = (from: LoopHost, to: LoopHost, path: Path, messages: readonly Message[]) => boolean;

const DELAY_MS = 1;

/** A few machines in one virtual time: the smallest world in which a cluster can live. test/sim is the large one. */
export class Loop extends VirtualTime<LoopHost> {
  fault: Fault = () => false;
  packets = 0;
  readonly random: { u32(): number };

  constructor(seed = 1) {
    super();
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

  protected override dueMs(host: LoopHost): number {
    return host.isPaused || host.isStopped ? Number.POSITIVE_INFINITY : host.machine.nextDeadlineMs();
  }

  protected override tick(host: LoopHost): void {
    host.machine.tick();
    this.flush(host);
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
