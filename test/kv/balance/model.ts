import type { Command, Sight } from '../../../src/kv/balance/balancer.js';
import { Governor } from '../../../src/kv/balance/governor.js';
import {
  type Landscape,
  MEMBER,
  type Member,
  type RangeLoad,
  type ReplicaAccount,
  type StoreAccount,
} from '../../../src/kv/balance/landscape.js';
import { DEFAULT_RULES, type Rules } from '../../../src/kv/balance/rules.js';
import type { Boundary } from '../../../src/kv/range.js';

export const IDLE: RangeLoad = {
  bytes: 0,
  writesPerSecond: 0,
  queriesPerSecond: 0,
  queryMicros: 0,
  fanOut: 0,
  splitKey: new Uint8Array(),
  epochSinceMs: 0,
};

interface ModelStore {
  readonly id: number;
  alive: boolean;
  sinceMs: number;
  draining: boolean;
  readonly governor: Governor;
  /** Commands that it has heard of. */
  seen: number;
}

interface ModelRange {
  readonly id: number;
  epoch: number;
  boundary: Boundary;
  genesis: number;
  pristine: boolean;
  members: Member[];
  membersAt: number;
  leader: number;
  term: number;
  load: RangeLoad;
}

/**
 * Ranges and stores as a balancer sees them, where every command is carried out at once and everybody knows it. What a
 * real range would refuse throws: a balancer must not ask for it.
 */
export class Model {
  readonly stores: ModelStore[] = [];
  ranges: ModelRange[] = [];
  /** Replicas that are left over: store, and the account it still gives. */
  readonly leftOver = new Map<number, ReplicaAccount[]>();
  /** Of stores that do not take ranges of all services. */
  readonly servicesOf = new Map<number, readonly number[]>();
  rules: Rules = DEFAULT_RULES;
  nowMs = 1_000_000;
  readonly commands: Command[] = [];
  private ids = 100;
  readonly services: readonly Boundary[];

  constructor(stores: number, services: readonly Boundary[] = [between('a', 'b')]) {
    this.services = services;
    for (let i = 1; i <= stores; i++) this.addStore();
  }

  addStore(): ModelStore {
    const store: ModelStore = {
      id: this.stores.length + 1,
      alive: true,
      sinceMs: this.nowMs,
      draining: false,
      governor: new Governor(),
      seen: 0,
    };
    this.stores.push(store);
    return store;
  }

  kill(id: number): void {
    const store = this.store(id);
    store.alive = false;
    store.sinceMs = this.nowMs;
    for (const range of this.ranges) {
      if (range.leader !== id) continue;
      const heir = this.alive(range).find(member => member.role === MEMBER.VOTER);
      if (heir !== undefined) range.leader = heir.store;
      range.term++;
    }
  }

  addRange(start: string, end: string, stores: readonly number[], load: Partial<RangeLoad> = {}): ModelRange {
    const range: ModelRange = {
      id: ++this.ids,
      epoch: 1,
      boundary: between(start, end),
      genesis: 7,
      pristine: false,
      members: stores.map(store => ({ replica: ++this.ids, store, role: MEMBER.VOTER })),
      membersAt: 1,
      leader: stores[0]!,
      term: 1,
      load: { ...IDLE, epochSinceMs: this.nowMs, ...load },
    };
    this.ranges.push(range);
    return range;
  }

  landscape(): Landscape {
    return { stores: this.stores.map(store => this.account(store)) };
  }

  private account({ id, alive, sinceMs, draining }: ModelStore): StoreAccount {
    const replicas = this.ranges
      .filter(range => range.members.some(member => member.store === id))
      .map(range => this.replica(range, id));
    const left = this.leftOver.get(id) ?? [];
    return {
      store: id,
      alive,
      sinceMs,
      draining,
      cores: 2,
      name: `n${id}`,
      services: this.servicesOf.get(id) ?? this.services.map(({ start }) => start[0]!),
      replicas: [...replicas, ...left].sort((a, b) => a.range - b.range),
    };
  }

  replica(range: ModelRange, store: number): ReplicaAccount {
    const { id, epoch, boundary, term, members, membersAt, genesis, pristine, leader, load } = range;
    const leads = leader === store;
    return {
      range: id,
      epoch,
      boundary,
      replica: members.find(member => member.store === store)!.replica,
      leads,
      term,
      members,
      membersAt,
      genesis,
      pristine,
      changing: false,
      sole: false,
      load: leads ? load : { ...IDLE, bytes: load.bytes },
      silent: leads
        ? members
            .filter(member => !this.store(member.store).alive)
            .map(({ replica, store: lost }) => ({ replica, sinceMs: this.store(lost).sinceMs }))
        : [],
    };
  }

  sight(self: number): Sight {
    return {
      self,
      landscape: this.landscape(),
      rules: this.rules,
      nowMs: this.nowMs,
      services: this.services,
      spread: (self * 0.37) % 1,
    };
  }

  /** Lets all living stores decide, time and again, until nothing was done for `calmMs`. Throws when that never comes. */
  settle(calmMs = 120_000): void {
    let lastMs = this.nowMs;
    for (let round = 0; round < 50_000; round++) {
      for (const store of this.stores) {
        const isNews = store.seen < this.commands.length;
        if (!store.alive || (this.nowMs < store.governor.nextDeadlineMs && !isNews)) continue;
        store.seen = this.commands.length;
        const sight = this.sight(store.id);
        const command = store.governor.decide(sight);
        if (command === undefined) continue;
        this.commands.push(command);
        this.carryOut(store.id, command);
        store.governor.finished(true, this.nowMs, sight.spread);
        lastMs = this.nowMs;
      }
      if (this.nowMs - lastMs > calmMs) return;
      this.nowMs += 500;
    }
    throw new Error(`never at rest; the last were ${JSON.stringify(this.commands.slice(-6))}`);
  }

  private carryOut(self: number, command: Command): void {
    if (command.kind === 'bootstrap') {
      const { start, end } = command.boundary;
      const range = this.addRange('', '', [self], { epochSinceMs: this.nowMs });
      range.boundary = { start, end };
      range.pristine = true;
      return;
    }
    if (command.kind === 'retire') {
      const left = this.leftOver.get(self)!.filter(replica => replica.replica !== command.replica);
      this.leftOver.set(self, left);
      return;
    }
    const range = this.ranges.find(({ id }) => id === command.range)!;
    if (command.kind === 'discard') {
      if (!range.pristine) throw new Error('a range that holds data was to be discarded');
      this.ranges = this.ranges.filter(other => other !== range);
      return;
    }
    if (range.leader !== self) throw new Error(`${command.kind} by a store that does not lead`);
    if (command.kind === 'transfer') this.transfer(range, command.to);
    else if (command.kind === 'change')
      this.change(range, command.voters, command.learners, command.membersAt);
    else if (command.kind === 'split') this.split(range, command.key);
    else this.merge(range, command.upper, self);
  }

  private transfer(range: ModelRange, to: number): void {
    const heir = range.members.find(member => member.store === to && member.role === MEMBER.VOTER);
    if (heir === undefined || !this.store(to).alive) throw new Error('a transfer to no living voter');
    range.leader = to;
    range.term++;
  }

  private change(
    range: ModelRange,
    voters: readonly number[],
    learners: readonly number[],
    at: number,
  ): void {
    if (at !== range.membersAt) throw new Error('a change of members that are no more');
    if (this.alive(range).length * 2 <= range.members.length) throw new Error('a change without a majority');
    if (new Set([...voters, ...learners]).size !== voters.length + learners.length)
      throw new Error('a store twice in a range');
    const member = (store: number, role: number): Member => {
      const known = range.members.find(one => one.store === store);
      if (known === undefined && !this.store(store).alive) throw new Error('a new member on a lost store');
      return { replica: known?.replica ?? ++this.ids, store, role };
    };
    range.members = [
      ...voters.map(store => member(store, MEMBER.VOTER)),
      ...learners.map(store => member(store, MEMBER.LEARNER)),
    ];
    range.membersAt++;
    if (!voters.includes(range.leader)) {
      range.leader = voters.find(store => this.store(store).alive)!;
      range.term++;
    }
  }

  private split(range: ModelRange, key: Uint8Array): void {
    const { start, end } = range.boundary;
    const half = (load: RangeLoad): RangeLoad => ({
      ...load,
      bytes: load.bytes / 2,
      writesPerSecond: load.writesPerSecond / 2,
      queriesPerSecond: load.queriesPerSecond / 2,
      queryMicros: load.queryMicros / 2,
      fanOut: load.fanOut / 2,
      epochSinceMs: this.nowMs,
    });
    range.load = half(range.load);
    range.epoch++;
    const upper: ModelRange = {
      ...range,
      id: ++this.ids,
      boundary: { start: key, end },
      members: range.members.map(member => ({ ...member, replica: ++this.ids })),
    };
    range.boundary = { start, end: key };
    for (const one of [range, upper]) one.load = { ...one.load, splitKey: middle(one.boundary) };
    this.ranges.push(upper);
  }

  private merge(lower: ModelRange, upperId: number, self: number): void {
    const upper = this.ranges.find(({ id }) => id === upperId)!;
    const stores = (range: ModelRange) => range.members.map(({ store }) => store).sort();
    if (upper.leader !== self || stores(upper).join() !== stores(lower).join())
      throw new Error('a merge of ranges that are not together');
    if (Buffer.compare(lower.boundary.end, upper.boundary.start) !== 0) throw new Error('a merge over a gap');
    lower.boundary = { start: lower.boundary.start, end: upper.boundary.end };
    lower.epoch = Math.max(lower.epoch, upper.epoch) + 1;
    lower.load = {
      ...lower.load,
      bytes: lower.load.bytes + upper.load.bytes,
      writesPerSecond: lower.load.writesPerSecond + upper.load.writesPerSecond,
      epochSinceMs: this.nowMs,
    };
    this.ranges = this.ranges.filter(range => range !== upper);
  }

  alive(range: ModelRange): readonly Member[] {
    return range.members.filter(({ store }) => this.store(store).alive);
  }

  private store(id: number): ModelStore {
    return this.stores[id - 1]!;
  }
}

export function between(start: string, end: string): Boundary {
  return { start: Buffer.from(start), end: Buffer.from(end) };
}

/** A key about half way: a byte is appended where the two are neighbours. */
function middle({ start, end }: Boundary): Uint8Array {
  const value = (bytes: Uint8Array) => {
    let sum = 0;
    for (let i = 0; i < 6; i++) sum = sum * 256 + (bytes[i] ?? 0);
    return sum;
  };
  const between = Math.floor((value(start) + value(end)) / 2);
  const key = Buffer.alloc(6);
  key.writeUIntBE(between, 0, 6);
  return key;
}
