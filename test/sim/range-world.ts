import { DEFAULT_RULES, type Rules } from '../../src/kv/balance/rules.js';
import { encodeSteering, RULES_KEY, type Steering } from '../../src/kv/balance/rules-entry.js';
import type { RaftTiming } from '../../src/kv/raft/settings.js';
import type { ReplicaLimits } from '../../src/kv/replicated/replica.js';
import type { SnapshotLimits } from '../../src/kv/replicated/snapshot.js';
import { stateSpans } from '../../src/kv/replicated/spans.js';
import type { Attempt } from '../../src/kv/route/client.js';
import { type KeyedOperation, operationWords } from './linearizability.js';
import { Network } from './network.js';
import { NodeClock, type SimNode } from './node.js';
import type { SeededRandom } from './random.js';
import { RangeClient } from './range-client.js';
import { type RangeOperation, Recoveries } from './range-recovery.js';
import { RangeStoreNode, WHOLE } from './range-store.js';
import { fail } from './underlay-checkers.js';
import { World } from './world.js';

export interface RangeSettings {
  readonly stores: number;
  readonly clients: number;
  readonly registers: number;
  /** Operations that a client has under way at once. */
  readonly pipeline: number;
  readonly timing: Partial<RaftTiming>;
  readonly limits: Partial<ReplicaLimits>;
  readonly snapshots: Partial<SnapshotLimits>;
  readonly rules: Rules;
  readonly drift: number;
  readonly deadlineMs: number;
}

/** Small enough that a few dozen registers make several ranges, which come together again. */
export const BUSY_RULES: Rules = {
  ...DEFAULT_RULES,
  replaceAfterMs: 20_000,
  deadAfterMs: 5000,
  bootstrapAfterMs: 6000,
  splitBytes: 8000,
  mergeBytes: 4000,
  settleMs: 15_000,
};

/** Stores with all that keeps their ranges, and clients; everything is the product's but the disk and the network. */
export class RangeWorld {
  readonly time: World;
  readonly network: Network;
  readonly random: SeededRandom;
  readonly settings: RangeSettings;
  readonly stores: RangeStoreNode[] = [];
  readonly clients: RangeClient[] = [];
  isWorking = true;
  thinkMs = 300;
  /** Share of the clients' attempts that come once more, late. */
  lateness = 0;
  isCalm = false;
  /** Nothing is broken from then on. */
  calmFromMs = Number.POSITIVE_INFINITY;
  calmSinceMs = Number.POSITIVE_INFINITY;
  readonly #byStore = new Map<number, SimNode>();
  readonly #leaders = new Map<string, string>();
  readonly recoveries = new Recoveries(this);
  #lastValue = 0;
  #steerings = 0;

  constructor(seed: number, settings: RangeSettings) {
    this.time = new World(seed);
    this.settings = settings;
    this.random = this.time.random.fork('ranges');
    this.network = new Network(this.time);
    this.network.isTraced = false;
    const clocks = this.random.fork('clocks');
    const addNode = (label: string) => {
      const node = this.network.addNode(label, label);
      const driftPpm = clocks.between(-settings.drift, settings.drift) * 1e6;
      node.clock = new NodeClock(this.time, clocks.between(0, 1e6), 0, driftPpm);
      return node;
    };
    for (let at = 1; at <= settings.stores; at++)
      this.stores.push(new RangeStoreNode(this, addNode(`s${at}`)));
    for (let at = 1; at <= settings.clients; at++)
      this.clients.push(new RangeClient(this, addNode(`c${at}`), at));
  }

  start(): void {
    for (const store of this.stores) store.start();
    for (const client of this.clients) client.start();
  }

  note(who: string, words: string): void {
    this.time.trace.note('event', who, words);
  }

  named(store: number, node: SimNode): void {
    this.#byStore.set(store, node);
  }

  nodeOf(store: number): SimNode | undefined {
    return this.#byStore.get(store);
  }

  /** Each value is written once. */
  newValue(): number {
    return ++this.#lastValue;
  }

  leads(range: number, term: number, who: string): void {
    const key = `${range} ${term}`;
    const known = this.#leaders.get(key);
    if (known === undefined) {
      this.#leaders.set(key, who);
      this.note(who, `leads range ${range.toString(36)} in term ${term}`);
    } else if (known !== who) fail(`range ${range} has two leaders in term ${term}: ${known} and ${who}`);
  }

  unanswered(operation: KeyedOperation): void {
    this.note('client', `does not know: ${operationWords(operation)}`);
    if (operation.startedAt >= this.calmSinceMs)
      fail(`liveness: in the calm ${operationWords(operation)} had no answer`);
  }

  notDone(operation: KeyedOperation): void {
    if (operation.startedAt >= this.calmSinceMs)
      fail(`liveness: in the calm ${operationWords(operation)} was not done`);
  }

  get ranges(): number {
    return new Set(this.stores.flatMap(({ replicas }) => replicas.map(({ rangeId }) => rangeId))).size;
  }

  /** Written by an operator, on some node. */
  steer(steering: Omit<Steering, 'atMs'>): void {
    const living = this.stores.filter(({ node }) => node.isResponsive);
    if (living.length === 0) return;
    const { gossip, node } = this.random.pick(living);
    const atMs = ++this.#steerings;
    gossip.write(RULES_KEY, encodeSteering({ ...steering, atMs }), 1e12 + atMs);
    this.note(node.label, `is told new rules: ${JSON.stringify(steering)}`);
  }

  /** A store did what the attempt wants. */
  serves(attempt: Attempt, who: string): void {
    this.recoveries.serves(attempt, who);
  }

  operations(): readonly RangeOperation[] {
    return this.clients.flatMap(({ history, open }) => [...history, ...open]);
  }

  checkHistories(): void {
    const operations = this.operations();
    for (let key = 0; key < this.settings.registers; key++)
      this.recoveries.check(
        key,
        operations.filter(operation => operation.key === key),
      );
  }

  /** What is not as it has to be when all is calm; undefined if nothing is. */
  difference(): string | undefined {
    const wanted = Math.min(this.settings.rules.voters, this.settings.stores);
    let covered: Uint8Array = WHOLE.start;
    const leading = this.stores.flatMap(({ replicas }) => replicas.filter(({ isLeader }) => isLeader));
    leading.sort((a, b) => Buffer.compare(a.descriptor!.boundary.start, b.descriptor!.boundary.start));
    for (const leader of leading) {
      const { boundary, members, changing, merging, id } = leader.descriptor!;
      const name = `range ${id.toString(36)}`;
      if (Buffer.compare(boundary.start, covered) !== 0)
        return `${name} does not begin where the one before ends`;
      covered = boundary.end;
      if (changing || merging !== undefined) return `${name} is ${changing ? 'changing' : 'merging'}`;
      if (members.length !== wanted) return `${name} has ${members.length} members`;
      const states = members.map(({ store }) => this.stateAt(store, id, leader.raft.lastIndex));
      if (new Set(states).size !== 1) return `${name} differs: ${states.join(' | ')}`;
    }
    if (Buffer.compare(covered, WHOLE.end) !== 0)
      return 'the last range does not end where the key space does';
    const held = this.stores.reduce((sum, { replicas }) => sum + replicas.length, 0);
    if (held !== leading.length * wanted) return `${held} replicas for ${leading.length} ranges`;
    return undefined;
  }

  /** All that a replica stores beside its log, as a text. */
  private stateAt(store: number, range: number, index: number): string {
    const node = this.stores.find(one => one.store.id === store);
    const replica = node?.store.replica(range);
    if (replica?.descriptor === undefined || replica.appliedIndex !== index)
      return `${node?.node.label} is at ${replica?.appliedIndex} of ${index}`;
    const parts: string[] = [];
    for (const { start, end } of stateSpans(replica.descriptor))
      node!.engine.scan(
        start,
        end,
        (key, value) =>
          parts.push(`${Buffer.from(key).toString('hex')}=${Buffer.from(value).toString('hex')}`) > 0,
      );
    return parts.join();
  }
}
