import type { Random } from '../base/env.js';
import { below } from './chance.js';
import type { Member } from './members.js';

/** Hosts that are to be probed out of turn. */
const URGENT_MAX = 64;

/**
 * Whom to probe next: round-robin over a shuffled list that is shuffled anew after each round, newcomers at random
 * places, so that a host waits for less than two rounds (SWIM, section 4.3). Members that are gone are left out when
 * their turn comes, and suspects as long as there are others: they are reminded (see suspicion.ts), and after a large
 * failure the turns are needed for those that nobody has found dead yet.
 */
export class ProbeList {
  private readonly random: Random;
  private list: Member[] = [];
  private next = 0;
  private readonly urgent = new Set<Member>();
  private wasUrgent = false;

  constructor(random: Random) {
    this.random = random;
  }

  get size(): number {
    return this.list.length + this.urgent.size;
  }

  /** `alive`: members now, by which the list is kept from growing when hosts come and go within one round. */
  add(member: Member, alive: number): void {
    if (this.list.length > 2 * alive + URGENT_MAX) this.shuffle();
    const { list } = this;
    const at = below(this.random, list.length + 1);
    list.push(member);
    list[list.length - 1] = list[at]!;
    list[at] = member;
  }

  /** Puts a member to the front; those of the round still get every other turn. */
  hasten(member: Member): void {
    if (this.urgent.size < URGENT_MAX) this.urgent.add(member);
  }

  take(): Member | undefined {
    if (!this.wasUrgent) {
      for (const member of this.urgent) {
        this.urgent.delete(member);
        if (member.index < 0) continue;
        this.wasUrgent = true;
        return member;
      }
    }
    this.wasUrgent = false;
    let suspect: Member | undefined;
    for (let round = 0; round < 2; round++) {
      while (this.next < this.list.length) {
        const member = this.list[this.next++]!;
        if (member.index < 0) continue;
        if (member.suspicion === null) return member;
        suspect ??= member;
      }
      this.shuffle();
    }
    return suspect;
  }

  private shuffle(): void {
    const list = this.list.filter(member => member.index >= 0);
    for (let at = list.length - 1; at > 0; at--) {
      const other = below(this.random, at + 1);
      const member = list[at]!;
      list[at] = list[other]!;
      list[other] = member;
    }
    this.list = list;
    this.next = 0;
  }
}
