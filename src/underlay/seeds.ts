import type { Random } from '../base/env.js';
import { jittered } from './chance.js';
import type { Address, HostId, Path } from './message.js';
import type { SeedState, UnderlayTiming } from './underlay.js';

/** Seeds that are kept; the rest of a longer list is not asked. */
export const SEEDS_MAX = 256;

/** Every third join goes by stream, for networks that let no datagrams through. */
const STREAM_EVERY = 3;

export interface SeedTry {
  readonly address: Address;
  readonly path: Path;
}

interface Seed {
  readonly address: Address;
  /** Who answered a join at this address; 0 when nobody has. It may advertise itself otherwise. */
  host: HostId;
  answeredMs: number;
  tries: number;
  pauseMs: number;
  dueMs: number;
}

/**
 * Where to look for the cluster. A seed is asked to take this host in for as long as it is not in the view, however
 * long that lasts: so hosts may start in any order, and clusters that share a seed find each other.
 */
export class Seeds {
  private readonly random: Random;
  private readonly timing: UnderlayTiming;
  private readonly byAddress = new Map<Address, Seed>();
  nextMs = Number.POSITIVE_INFINITY;

  constructor(random: Random, timing: UnderlayTiming) {
    this.random = random;
    this.timing = timing;
  }

  /** Keeps what is known of seeds that stay. */
  set(addresses: readonly Address[], own: Address, nowMs: number): void {
    const wanted = new Set(addresses.filter(address => address !== own).slice(0, SEEDS_MAX));
    for (const address of this.byAddress.keys()) if (!wanted.has(address)) this.byAddress.delete(address);
    for (const address of wanted) {
      if (this.byAddress.has(address)) continue;
      const pauseMs = this.timing.seedRetryMs;
      this.byAddress.set(address, { address, host: 0, answeredMs: 0, tries: 0, pauseMs, dueMs: nowMs });
    }
    this.plan();
  }

  /** Seeds that are to be asked now. `isInView`: whether a seed at that address, or that host, is in the view. */
  due(nowMs: number, isInView: (address: Address, host: HostId) => boolean): SeedTry[] {
    const { seedRetryMs, seedRetryMaxMs } = this.timing;
    const ask: SeedTry[] = [];
    for (const seed of this.byAddress.values()) {
      if (seed.dueMs > nowMs) continue;
      if (isInView(seed.address, seed.host)) {
        seed.pauseMs = seedRetryMs;
        seed.dueMs = nowMs + jittered(this.random, seedRetryMaxMs);
        continue;
      }
      seed.tries += 1;
      seed.dueMs = nowMs + jittered(this.random, seed.pauseMs);
      seed.pauseMs = Math.min(seedRetryMaxMs, seed.pauseMs * 2);
      ask.push({ address: seed.address, path: seed.tries % STREAM_EVERY === 0 ? 'stream' : 'datagram' });
    }
    this.plan();
    return ask;
  }

  /** A host answered a join from `from`, and advertises itself as `advertised`. */
  onAnswer(from: Address, advertised: Address, host: HostId, wallMs: number): void {
    for (const address of from === advertised ? [from] : [from, advertised]) {
      const seed = this.byAddress.get(address);
      if (seed === undefined) continue;
      seed.host = host;
      seed.answeredMs = wallMs;
    }
  }

  /** A host has left the view: if it was a seed, it is looked for from now on. */
  onGone(address: Address, host: HostId, nowMs: number): void {
    for (const seed of this.byAddress.values()) {
      if (seed.address !== address && seed.host !== host) continue;
      seed.pauseMs = this.timing.seedRetryMs;
      seed.dueMs = nowMs + jittered(this.random, seed.pauseMs);
    }
    this.plan();
  }

  states(): SeedState[] {
    return [...this.byAddress.values()].map(({ address, answeredMs, tries }) => ({
      address,
      answeredMs,
      tries,
    }));
  }

  get size(): number {
    return this.byAddress.size;
  }

  private plan(): void {
    this.nextMs = Number.POSITIVE_INFINITY;
    for (const { dueMs } of this.byAddress.values()) if (dueMs < this.nextMs) this.nextMs = dueMs;
  }
}
