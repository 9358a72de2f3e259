import { decodeMessage, encodeMessage } from '../../src/kv/raft/codec.js';
import type { Configuration, ReplicaId } from '../../src/kv/raft/configuration.js';
import { members } from '../../src/kv/raft/configuration.js';
import type { Message } from '../../src/kv/raft/message.js';
import type { RaftLimits, RaftTiming } from '../../src/kv/raft/settings.js';
import { VarintWriter } from '../../src/kv/raft/varint.js';
import { KvClient } from './kv-client.js';
import { INITIAL } from './kv-registers.js';
import type { KvReplica } from './kv-replica.js';
import { emptyState, type Write } from './kv-storage.js';
import { KvStore } from './kv-store.js';
import { configurationWords, kvFormat, messageWords } from './kv-trace.js';
import { GroupTruth } from './kv-truth.js';
import { checkByKey, type KeyedOperation, verdictWords } from './linearizability.js';
import { Network } from './network.js';
import { NodeClock } from './node.js';
import type { SeededRandom } from './random.js';
import { fail } from './underlay-checkers.js';
import { World } from './world.js';

export interface KvSettings {
  readonly stores: number;
  readonly groups: number;
  readonly clients: number;
  readonly keysPerGroup: number;
  readonly timing: RaftTiming;
  readonly limits: RaftLimits;
  /** Messages go through the codec. */
  readonly isEncoded: boolean;
  /** Each packet is noted in the trace. */
  readonly isTraced: boolean;
  /** Committed entries are applied in the transaction that a ready asks for, or in a later one within this time. */
  readonly isAppliedLater: boolean;
  readonly applyMsMax: number;
  /** What comes within this time is one turn. */
  readonly turnMsMax: number;
  /** Applied entries that a log keeps at most, about. */
  readonly compactAfter: number;
  readonly stateMsMax: number;
  readonly stateDoubled: number;
  /** How far a clock is from the true rate, at most. */
  readonly drift: number;
  readonly deadlineMs: number;
}

interface Seat {
  readonly group: number;
  readonly store: KvStore;
  /** Once a configuration behind this is committed, it is known whether the seat is taken. */
  readonly askedIndex: number;
  hasBeenIn: boolean;
  /** Is in no configuration any more, or never was in one and never will be. */
  isOut: boolean;
  isGone: boolean;
}

const OPERATOR_SESSION = 1_000_000;

/** Stores with replicas of several groups, their clients, and the truth about all of it. */
export class KvWorld {
  readonly time: World;
  readonly network: Network;
  readonly random: SeededRandom;
  readonly settings: KvSettings;
  readonly stores: KvStore[] = [];
  readonly truths: GroupTruth[] = [];
  readonly clients: KvClient[] = [];
  /** The latest committed configuration of each group. */
  readonly configurations: { index: number; configuration: Configuration }[] = [];
  /** Clients begin new operations. */
  isWorking = true;
  thinkMs = 400;
  /** Probability that a request or an answer is lost between client and store. */
  clientLoss = 0;
  /** Probability that a message between stores comes seconds late, across all cuts. */
  lateness = 0;
  /** Probability that a message with entries is lost, while all small ones pass. */
  appendLoss = 0;
  /** How long a state is on its way at most; a network that is too slow for states is a fault, which ends in the calm. */
  stateMsMax: number;
  /** Faults that were planned come no more. */
  isCalm = false;
  /** From when on no operation may remain without an answer. */
  calmSinceMs = Number.POSITIVE_INFINITY;
  messages = 0;
  unknownCount = 0;
  readonly #seats = new Map<ReplicaId, Seat>();
  #lastReplica = 0;
  #lastValue = INITIAL;
  #lastChange = 0;

  constructor(seed: number, settings: KvSettings) {
    this.time = new World(seed);
    this.settings = settings;
    this.stateMsMax = settings.stateMsMax;
    this.random = this.time.random.fork('kv');
    this.network = new Network(this.time);
    this.network.isTraced = settings.isTraced;
    this.time.trace.format = kvFormat;
    const clocks = this.random.fork('clocks');
    for (let at = 0; at < settings.stores; at += 1) {
      const node = this.network.addNode(`s${at + 1}`, `s${at + 1}`);
      const driftPpm = clocks.between(-settings.drift, settings.drift) * 1e6;
      node.clock = new NodeClock(this.time, clocks.between(0, 1e6), 0, driftPpm);
      this.stores.push(new KvStore(this, at, node));
    }
    for (let group = 0; group < settings.groups; group += 1) this.#found(group);
    for (let at = 0; at < settings.clients; at += 1) {
      const home = at % 2 === 0 ? this.random.pick(this.stores) : undefined;
      this.clients.push(new KvClient(this, at + 1, 0.3, home));
    }
    // Somebody reads everywhere: who was forgotten by the others is still asked.
    for (const store of this.stores)
      this.clients.push(new KvClient(this, this.clients.length + 1, 0.95, store));
  }

  /** A new group on one to five stores. */
  #found(group: number): void {
    const wanted = this.random.pick([1, 2, 3, 3, 3, 3, 3, 4, 5, 5]);
    const stores = this.random.sample(this.stores, wanted);
    const voters = stores.map(store => this.seat(group, store, 0));
    const configuration = { voters, outgoing: [], learners: [] };
    this.truths.push(new GroupTruth(group, configuration));
    this.configurations.push({ index: 0, configuration });
    stores.forEach((store, at) => {
      const write: Write = { kind: 'create', replica: voters[at]!, group, state: emptyState(configuration) };
      this.#seats.get(voters[at]!)!.hasBeenIn = true;
      store.disk.see(write);
      store.disk.commit([write], () => {});
    });
  }

  start(): void {
    // What was founded is on the disks.
    this.time.run(1_000);
    for (const store of this.stores) store.start();
    for (const client of this.clients) client.live();
    this.#sweep();
  }

  /** A name for a replica that will be asked for in entry `askedIndex`; it begins to live when it is first written to. */
  seat(group: number, store: KvStore, askedIndex: number): ReplicaId {
    this.#lastReplica += 1;
    const seat = { group, store, askedIndex, isOut: false, hasBeenIn: false, isGone: false };
    this.#seats.set(this.#lastReplica, seat);
    return this.#lastReplica;
  }

  storeOf(replica: ReplicaId): KvStore | undefined {
    return this.#seats.get(replica)?.store;
  }

  groupOf(replica: ReplicaId): number {
    return this.#seats.get(replica)!.group;
  }

  isGone(replica: ReplicaId): boolean {
    return this.#seats.get(replica)?.isGone !== false;
  }

  truthOf(replica: ReplicaId): GroupTruth {
    return this.truths[this.groupOf(replica)]!;
  }

  replicasOn(store: KvStore, group: number): ReplicaId[] {
    const found: ReplicaId[] = [];
    for (const [replica, seat] of this.#seats)
      if (seat.store === store && seat.group === group && !seat.isGone) found.push(replica);
    return found;
  }

  /** Who believes to lead the group, the one of the highest term first. */
  leaders(group: number): KvReplica[] {
    return this.stores
      .flatMap(store => [...store.replicas.values()])
      .filter(replica => replica.group === group && replica.isLeader)
      .sort((left, right) => right.raft.term - left.raft.term);
  }

  /** A store of the group's latest committed configuration. */
  someStore(group: number, random: SeededRandom): KvStore | undefined {
    const { configuration } = this.configurations[group]!;
    return this.storeOf(random.pick(members(configuration)));
  }

  /** An entry with a configuration is applied somewhere. */
  configured(group: number, index: number, configuration: Configuration): void {
    const latest = this.configurations[group]!;
    if (index <= latest.index) return;
    this.configurations[group] = { index, configuration };
    const now = members(configuration);
    for (const [replica, seat] of this.#seats) {
      if (seat.group !== group) continue;
      if (now.includes(replica)) seat.hasBeenIn = true;
      else if (seat.hasBeenIn || index > seat.askedIndex) seat.isOut = true;
    }
    this.time.trace.note('event', `g${group}`, `is ${configurationWords(configuration)} since ${index}`);
  }

  /** Asks a leader for this configuration. */
  change(leader: KvReplica, voters: readonly ReplicaId[], learners: readonly ReplicaId[]): void {
    const { group } = leader;
    this.#lastChange += 1;
    const words = `is asked for ${configurationWords({ voters, outgoing: [], learners })}`;
    const store = this.storeOf(leader.id)!;
    store.note(group, leader.id, words);
    store.command(leader, () => leader.raft.change({ voters, learners }, OPERATOR_SESSION, this.#lastChange));
  }

  /** Now and then removed replicas go; until then they may disturb. */
  #sweep(): void {
    this.time.after(this.random.between(1_000, 15_000), () => {
      for (const [replica, seat] of this.#seats) {
        if (!seat.isOut || seat.isGone || this.random.chance(0.5) || !seat.store.node.isResponsive) continue;
        seat.isGone = true;
        seat.store.destroy(replica);
      }
      this.#sweep();
    });
  }

  groupOfKey(key: number): number {
    return Math.floor(key / 100);
  }

  pickKey(random: SeededRandom): number {
    return random.below(this.settings.groups) * 100 + random.below(this.settings.keysPerGroup);
  }

  /** Each value is written once. */
  newValue(): number {
    this.#lastValue += 1;
    return this.#lastValue;
  }

  countMessage(message: Message): void {
    this.messages += 1;
    if (message.from === message.to) fail(`replica ${message.from} sends itself a message`);
  }

  /** As the receiver reads it. */
  passed(message: Message): Message {
    if (!this.settings.isEncoded) return message;
    const writer = new VarintWriter(256);
    encodeMessage(writer, message);
    const bytes = writer.copy();
    const read = decodeMessage(bytes, 0, bytes.length);
    if (read === undefined) fail(`a message that its own codec cannot read: ${messageWords(message)}`);
    return read;
  }

  /** A client gave up. */
  unknown(words: string, { startedAt }: KeyedOperation): void {
    this.unknownCount += 1;
    this.time.trace.note('event', 'client', `gives up: ${words}`);
    if (startedAt >= this.calmSinceMs) fail(`liveness: in the calm ${words}, and was not answered`);
  }

  /** What must hold of all answers so far. */
  checkHistories(): void {
    const history = this.clients.flatMap(client =>
      client.open === undefined ? client.history : [...client.history, client.open],
    );
    const wrong = checkByKey(history, INITIAL);
    if (wrong !== undefined) fail(`the history of register ${wrong.key} is ${verdictWords(wrong.verdict)}`);
  }

  /** In words where replicas of a group are not the same; undefined when all are. */
  difference(): string | undefined {
    for (const [group, { configuration }] of this.configurations.entries()) {
      if (configuration.outgoing.length > 0) return `group ${group} is in a joint configuration`;
      const [leader] = this.leaders(group);
      if (leader === undefined) return `group ${group} has no leader`;
      for (const member of members(configuration)) {
        const replica = this.storeOf(member)!.replicas.get(member);
        if (replica === undefined) return `replica ${member} of group ${group} does not live`;
        const { applied, hash, lastIndex } = replica.storage;
        const { storage } = leader;
        if (applied !== storage.applied || hash !== storage.hash || lastIndex !== applied)
          return `group ${group}: ${member} has ${lastIndex} and applied ${applied}, ${leader.id} ${storage.lastIndex} and ${storage.applied}`;
      }
    }
    return undefined;
  }
}
