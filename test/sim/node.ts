import type { Clock } from '../../src/base/env.js';
import type { Address, Path } from '../../src/underlay/message.js';
import type { Actor } from './event-queue.js';
import type { World } from './world.js';

/** A program in the simulation. It is called one thing at a time and schedules itself by `nextWakeMs`. */
export interface Process {
  receive(payload: unknown, from: Address, path: Path): void;
  unreachable(to: Address, path: Path): void;
  wake(): void;
  /** On the node's monotonic clock; Infinity for never. */
  nextWakeMs(): number;
}

/** Wall clock of the world's beginning: Friday, 2 January 2026, noon UTC. */
const EPOCH_MS = Date.UTC(2026, 0, 2, 12);

/** What the kernel keeps for a process that does not read: about Linux's default socket buffers. */
const HELD_DATAGRAM_BYTES_MAX = 212_992;
const HELD_STREAM_BYTES_MAX = 1_048_576;

/** A timer comes a bit late, never early. */
const TIMER_LATE_MS = 0.05;

export class NodeClock implements Clock {
  readonly #world: World;
  /** Added to the wall clock; a change is a jump. */
  skewMs = 0;
  readonly #rate: number;
  readonly #startMs: number;

  /** `driftPpm`: microseconds that it gains in each second. */
  constructor(world: World, startMs: number, skewMs: number, driftPpm: number) {
    this.#world = world;
    this.#startMs = startMs;
    this.skewMs = skewMs;
    this.#rate = 1 + driftPpm / 1e6;
  }

  wallMs(): number {
    return Math.floor(EPOCH_MS + this.skewMs + this.#world.nowMs * this.#rate);
  }

  monotonicMs(): number {
    return this.#startMs + this.#world.nowMs * this.#rate;
  }

  /** When the monotonic clock will show it, in the world's time. */
  worldMs(monotonicMs: number): number {
    return (monotonicMs - this.#startMs) / this.#rate;
  }
}

interface Held {
  readonly payload: unknown;
  readonly from: Address;
  readonly path: Path;
}

/** An address in the network, at which processes live one after another. */
export class SimNode implements Actor {
  readonly index: number;
  readonly label: string;
  readonly address: Address;
  clock: NodeClock;
  /** One more with each process that starts here; connections belong to one life. */
  life = 0;
  isPaused = false;
  /** Headers of IP, UDP and TCP included. */
  bytesSent = 0;
  packetsSent = 0;
  /** When the line is free for the next byte to leave. */
  egressFreeMs = 0;
  readonly #world: World;
  #process: Process | undefined;
  #held: Held[] = [];
  #heldBytes = { datagram: 0, stream: 0 };
  /** Time of the earliest planned wake-up; later ones that are still in the queue are stale. */
  #wakeAtMs = Number.POSITIVE_INFINITY;

  constructor(world: World, index: number, label: string, address: Address) {
    this.#world = world;
    this.index = index;
    this.label = label;
    this.address = address;
    this.clock = new NodeClock(world, 0, 0, 0);
  }

  get isUp(): boolean {
    return this.#process !== undefined;
  }

  /** Up and not paused. */
  get isResponsive(): boolean {
    return this.#process !== undefined && !this.isPaused;
  }

  start(process: Process): void {
    this.life += 1;
    this.#process = process;
    this.isPaused = false;
    this.settle();
  }

  kill(): void {
    this.#process = undefined;
    this.isPaused = false;
    this.#forget();
  }

  /** SIGSTOP: what comes waits in the kernel as long as there is room, and timers fire late. */
  pause(): void {
    this.isPaused = true;
  }

  /** SIGCONT. */
  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    const held = this.#held;
    this.#forget();
    const process = this.#process;
    if (process === undefined) return;
    if (this.#isDue(process)) process.wake();
    for (const { payload, from, path } of held) this.#process?.receive(payload, from, path);
    this.settle();
  }

  /** False when nobody lives here or the process does not read and its buffer is full. */
  arrive(payload: unknown, bytes: number, from: Address, path: Path): boolean {
    if (this.#process === undefined) return false;
    if (!this.isPaused) {
      this.#process.receive(payload, from, path);
      this.settle();
      return true;
    }
    const max = path === 'datagram' ? HELD_DATAGRAM_BYTES_MAX : HELD_STREAM_BYTES_MAX;
    if (this.#heldBytes[path] + bytes > max) return false;
    this.#heldBytes[path] += bytes;
    this.#held.push({ payload, from, path });
    return true;
  }

  unreachable(to: Address, path: Path): void {
    // A paused process would hear of it on resuming; a hint that is lost does no harm.
    if (!this.isResponsive) return;
    this.#process?.unreachable(to, path);
    this.settle();
  }

  /** Plans the wake-up that the process wants; to be called when something outside has moved it. */
  settle(): void {
    if (this.#process === undefined) return;
    const wantedMs = this.clock.worldMs(this.#process.nextWakeMs()) + TIMER_LATE_MS;
    const atMs = wantedMs > this.#world.nowMs ? wantedMs : this.#world.nowMs + TIMER_LATE_MS;
    if (atMs >= this.#wakeAtMs || atMs === Number.POSITIVE_INFINITY) return;
    this.#wakeAtMs = atMs;
    this.#world.plan(atMs, this, 0, undefined);
  }

  happen(): void {
    if (this.#wakeAtMs !== this.#world.nowMs) return;
    this.#wakeAtMs = Number.POSITIVE_INFINITY;
    const process = this.#process;
    if (process === undefined || this.isPaused) return;
    if (this.#isDue(process)) process.wake();
    this.settle();
  }

  #isDue(process: Process): boolean {
    return process.nextWakeMs() <= this.clock.monotonicMs();
  }

  #forget(): void {
    this.#held = [];
    this.#heldBytes = { datagram: 0, stream: 0 };
  }
}
