import type { Clock } from '../base/env.js';
import type { Closable } from '../base/scope.js';
import type { SeedResolution } from '../underlay/io/resolve.js';
import type { UnderlayMachine } from '../underlay/underlay.js';
import type { KvStanding } from './kv-store-thread.js';

/**
 * A node that finds a host settles so much later: what is in the shared map of the others is here by then, key spaces
 * that they have among it.
 */
const FOUND_MS = 5_000;
/** One whose seeds are all itself, or that has none, has nobody to look for; others may have it as theirs. */
const LONE_MS = 5_000;
/** One whose seeds do not answer waits for them: they may start at the same time, or be behind a cut that heals. */
const SILENT_MS = 60_000;

/** What a node that is not settled yet knows of the others. */
export interface Prospect {
  /** Somebody else is in its view. */
  readonly hasFound: boolean;
  /** There are seeds besides itself, or names that cannot be resolved. */
  readonly hasSeeds: boolean;
  /** Since when `hasFound` is what it is; since the start at first. */
  readonly sinceMs: number;
}

/** When it is settled if nothing changes before. */
export function settledAtMs({ hasFound, hasSeeds, sinceMs }: Prospect): number {
  if (hasFound) return sinceMs + FOUND_MS;
  return sinceMs + (hasSeeds ? SILENT_MS : LONE_MS);
}

/**
 * What the stores of this node are told of it in the underlay: which hosts there are, and whether the node is settled,
 * which it has to be before its stores may change anything: begin a key space, or give any other command.
 *
 * A node is settled once it has been with another host for a while, or alone for as long as `settledAtMs` says, and then
 * stays so until it leaves or is put out. Being alone is no hindrance for ever, since the first node of a cluster has to
 * be able to begin although it has the others as its seeds. That can begin a second key space where the others have one:
 * behind a cut, with an empty data directory. As long as nobody writes into it, it is discarded when they meet
 * (kv/balance/redundant.ts). A node that has ever seen a key space begins none alone or with others who have not: that is
 * remembered in its data directory (kv-begun.ts), since after a loss of power those that hold it may be the last to come.
 */
export class KvStandings implements Closable {
  private readonly machine: UnderlayMachine;
  private readonly seeds: () => readonly SeedResolution[];
  private readonly clock: Clock;
  private readonly tell: (standing: KvStanding) => void;
  private hasFound = false;
  private sinceMs: number;
  private isSettled = false;
  private told = '';
  private timer: NodeJS.Timeout | undefined;
  private isClosed = false;

  constructor(
    machine: UnderlayMachine,
    seeds: () => readonly SeedResolution[],
    clock: Clock,
    tell: (standing: KvStanding) => void,
  ) {
    this.machine = machine;
    this.seeds = seeds;
    this.clock = clock;
    this.tell = tell;
    this.sinceMs = clock.monotonicMs();
  }

  /** Once at the start, and when the view has changed. */
  look(): void {
    if (this.isClosed) return;
    const { machine } = this;
    const hosts = machine.hosts().map(({ record }) => record.id);
    const nowMs = this.clock.monotonicMs();
    const hasFound = hosts.length > 1;
    if (hasFound !== this.hasFound) this.sinceMs = nowMs;
    this.hasFound = hasFound;
    this.settle(nowMs);
    const form = `${this.isSettled} ${hosts.sort((a, b) => a - b).join(' ')}`;
    if (form === this.told) return;
    this.told = form;
    this.tell({ isSettled: this.isSettled, self: machine.self.id, hosts: new Set(hosts) });
  }

  private settle(nowMs: number): void {
    clearTimeout(this.timer);
    if (this.isSettled) return;
    const { hasFound, hasSeeds, sinceMs } = this;
    const dueMs = settledAtMs({ hasFound, hasSeeds, sinceMs });
    if (nowMs >= dueMs) this.isSettled = true;
    else this.timer = setTimeout(() => this.look(), Math.ceil(Math.min(dueMs - nowMs, LOOK_MS)));
  }

  private get hasSeeds(): boolean {
    const isOpen = this.seeds().some(({ addresses }) => addresses.length === 0);
    return isOpen || this.machine.seedStates().length > 0;
  }

  /** Nothing is told any more. */
  close(): void {
    this.isClosed = true;
    clearTimeout(this.timer);
  }
}

/** Names of seeds may resolve to something else meanwhile. */
const LOOK_MS = 1_000;
