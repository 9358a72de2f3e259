import { DEFAULT_RULES, type Rules } from '../../src/kv/balance/rules.js';
import type { RaftTiming } from '../../src/kv/raft/settings.js';
import type { ReplicaLimits } from '../../src/kv/replicated/replica.js';
import type { SnapshotLimits } from '../../src/kv/replicated/snapshot.js';
import { stateSpans } from '../../src/kv/replicated/spans.js';
import { checkByKey, type KeyedOperation, operationWords, verdictWords } from './linearizability.js';
import { Network } from './network.js';
import { NodeClock, type SimNode } from './node.js';
import type { SeededRandom } from './random.js';
import { RangeClient } from './range-client.js';
import { RangeStoreNode, WHOLE } from './range-store.js';
import { fail } from './underlay-checkers.js';
import { World } from './world.js';

export interface RangeSettings {
  readonly stores: number;
  readonly clients: number;
  readonly registers: number;
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
  isCalm = false;
  calmSinceMs = Number.POSITIVE_INFINITY;
  readonly #byStore = new Map<number, SimNode>();
  readonly #leaders = new Map<string, string>();
  #lastValue = 0;

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
    return new Set(this.stores.flatMap(({ store }) => [...store.replicas].map(({ rangeId }) => rangeId)))
      .size;
  }

  checkHistories(): void {
    const history = this.clients.flatMap(({ history: past, open }) =>
      open === undefined ? past : [...past, open],
    );
    const wrong = checkByKey(history, 0);
    if (wrong !== undefined) fail(`the history of register ${wrong.key} is ${verdictWords(wrong.verdict)}`);
  }

  /** What is not as it has to be when all is calm; undefined if nothing is. */
  difference(): string | undefined {
    const wanted = Math.min(this.settings.rules.voters, this.settings.stores);
    let covered: Uint8Array = WHOLE.start;
    const leading = this.stores.flatMap(one => [...one.store.replicas].filter(({ isLeader }) => isLeader));
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
    const held = this.stores.reduce((sum, { store }) => sum + [...store.replicas].length, 0);
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
