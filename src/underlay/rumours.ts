import { IdTable } from './id-table.js';
import type { HostId, Message } from './message.js';
import { messageBytes } from './message-size.js';

/** Hosts that are talked about at once; above that, what was told most often is dropped. */
export const RUMOURS_MAX = 16_384;

/** Times that a rumour is told, over the logarithm of the size (SWIM, section 4.1). */
const RETRANSMIT_MULTIPLIER = 4;

/** Rumours that are looked at to fill one datagram: small ones behind a large one get a chance, but not all. */
const SCAN_MAX = 64;

/** A rumour above this does not fit into a datagram and goes by stream. */
const LARGE_BYTES = 1_000;

/** Rumours under way that make a host busy, as in a storm of joins; and how often it may then hear one again. */
const BUSY_RUMOURS = 32;
const INTEREST = 3;
const BUSY_TELLINGS = 3;

/** No rumour is smaller. */
const RUMOUR_BYTES_MIN = 32;

type Talk = Extract<Message, { kind: 'alive' | 'suspect' | 'gone' }>;

interface Rumour {
  readonly id: HostId;
  readonly message: Talk;
  readonly bytes: number;
  told: number;
  /** Its level is a ring through a head that is no rumour itself. */
  before: Rumour;
  after: Rumour;
}

/** How often each host tells a rumour in a cluster of `hosts`. */
export function tellingsMax(hosts: number): number {
  return RETRANSMIT_MULTIPLIER * Math.ceil(Math.log10(hosts + 1));
}

/**
 * What is passed on: at most one rumour for each host, the newest. Those told least come first, so that news overtakes
 * what is nearly done (SWIM, section 4.1). Told often enough, a rumour is forgotten: the host map repairs the rest.
 */
export class Rumours {
  private readonly byHost = new IdTable<Rumour>();
  /** By the number of tellings; the rumours of each level in the order of coming there. */
  private readonly levels: (Rumour | undefined)[] = [];
  private readonly chosen: Rumour[] = [];
  private large = 0;

  /** Whether something waits that no datagram can carry. */
  get hasLarge(): boolean {
    return this.large > 0;
  }

  get size(): number {
    return this.byHost.size;
  }

  has(id: HostId): boolean {
    return this.byHost.get(id) !== undefined;
  }

  /**
   * Replaces what is said of the host. `isMinor`: should this host be busy, telling it a few times is enough, since the
   * host map brings it as well.
   */
  add(id: HostId, message: Talk, hosts: number, isMinor: boolean): void {
    this.drop(id);
    if (this.byHost.size >= RUMOURS_MAX) this.dropMostTold();
    const isBusy = isMinor && this.byHost.size >= BUSY_RUMOURS;
    const told = isBusy ? Math.max(0, tellingsMax(hosts) - BUSY_TELLINGS) : 0;
    const rumour = newRumour(id, message, messageBytes(message));
    this.byHost.set(id, rumour);
    if (rumour.bytes > LARGE_BYTES) this.large += 1;
    this.append(rumour, told);
  }

  /** Nobody is left to tell, and who comes later shall not hear what was true then. */
  clear(): void {
    this.byHost.clear();
    this.levels.length = 0;
    this.large = 0;
  }

  drop(id: HostId): void {
    const rumour = this.byHost.get(id);
    if (rumour !== undefined) this.forget(rumour);
  }

  /**
   * Somebody else told it as well. While there is much to tell that ends a rumour early: those who hear it a third time
   * lose interest (Demers et al. 1987, section 1.4), and the host map finds the few that were missed.
   */
  heardAgain(id: HostId, hosts: number): void {
    if (this.byHost.size < BUSY_RUMOURS) return;
    const rumour = this.byHost.get(id);
    if (rumour === undefined) return;
    const limit = tellingsMax(hosts);
    this.raise(rumour, rumour.told + Math.ceil(limit / INTEREST), limit);
  }

  /**
   * Appends to `out` what fits into `budgetBytes` for `to`, and counts it as told. Returns the bytes that it takes.
   * Nobody is told that it is alive itself. A rumour larger than `budgetBytes` is left for a larger one.
   */
  take(to: HostId, budgetBytes: number, hosts: number, out: Message[]): number {
    const { chosen, levels } = this;
    let left = budgetBytes;
    let scanned = 0;
    for (let told = 0; told < levels.length && left >= RUMOUR_BYTES_MIN && scanned < SCAN_MAX; told++) {
      const head = levels[told];
      if (head === undefined) continue;
      for (let rumour = head.after; rumour !== head; rumour = rumour.after) {
        if (left < RUMOUR_BYTES_MIN || ++scanned > SCAN_MAX) break;
        if (rumour.bytes > left || (rumour.id === to && rumour.message.kind === 'alive')) continue;
        left -= rumour.bytes;
        chosen.push(rumour);
      }
    }
    const limit = tellingsMax(hosts);
    for (const rumour of chosen) {
      out.push(rumour.message);
      this.raise(rumour, rumour.told + 1, limit);
    }
    chosen.length = 0;
    return budgetBytes - left;
  }

  private raise(rumour: Rumour, told: number, limit: number): void {
    if (told >= limit) {
      this.forget(rumour);
      return;
    }
    unlink(rumour);
    this.append(rumour, told);
  }

  private append(rumour: Rumour, told: number): void {
    rumour.told = told;
    const head = (this.levels[told] ??= newRumour(0, NOTHING, 0));
    rumour.before = head.before;
    rumour.after = head;
    head.before.after = rumour;
    head.before = rumour;
  }

  private forget(rumour: Rumour): void {
    unlink(rumour);
    this.byHost.delete(rumour.id);
    if (rumour.bytes > LARGE_BYTES) this.large -= 1;
  }

  private dropMostTold(): void {
    for (let told = this.levels.length - 1; told >= 0; told--) {
      const head = this.levels[told];
      if (head === undefined || head.after === head) continue;
      this.forget(head.after);
      return;
    }
  }
}

/** What the head of a ring says, which nobody hears. */
const NOTHING: Talk = { kind: 'suspect', id: 0, incarnation: 0, by: 0 };

function newRumour(id: HostId, message: Talk, bytes: number): Rumour {
  const rumour = { id, message, bytes, told: 0 } as Rumour;
  rumour.before = rumour;
  rumour.after = rumour;
  return rumour;
}

function unlink(rumour: Rumour): void {
  rumour.before.after = rumour.after;
  rumour.after.before = rumour.before;
}
