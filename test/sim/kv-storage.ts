import type { Configuration, ReplicaId } from '../../src/kv/raft/configuration.js';
import { decodeConfiguration } from '../../src/kv/raft/configuration-codec.js';
import {
  ENTRY,
  type Entry,
  type HardState,
  type SnapshotMeta,
  type StoredLog,
} from '../../src/kv/raft/ready.js';
import { mix, Registers } from './kv-registers.js';
import { Sessions } from './kv-sessions.js';

/** The state of a replica as it is sent to another one. */
export interface State {
  readonly meta: SnapshotMeta;
  readonly registers: Registers;
  readonly sessions: Sessions;
  /** Hash over all entries up to it (kv-truth.ts). */
  readonly chain: number;
}

/** One change of a replica's storage, done once to what is seen and once more to what is durable. */
export type Write =
  | { readonly kind: 'create'; readonly replica: ReplicaId; readonly group: number; readonly state: State }
  | { readonly kind: 'destroy'; readonly replica: ReplicaId }
  | { readonly kind: 'install'; readonly replica: ReplicaId; readonly state: State }
  | {
      readonly kind: 'append';
      readonly replica: ReplicaId;
      readonly entries: readonly Entry[];
      readonly chains: readonly number[];
    }
  | { readonly kind: 'hard-state'; readonly replica: ReplicaId; readonly hardState: HardState }
  | { readonly kind: 'apply'; readonly replica: ReplicaId; readonly entries: readonly Entry[] }
  | { readonly kind: 'compact'; readonly replica: ReplicaId; readonly index: number };

export const NO_CONFIGURATION: Configuration = { voters: [], outgoing: [], learners: [] };

export function emptyState(configuration: Configuration): State {
  const meta = { index: 0, term: 0, configuration };
  return { meta, registers: new Registers(), sessions: new Sessions(), chain: 0 };
}

/** What one replica has stored: its log and its registers. */
export class ReplicaStorage implements StoredLog {
  readonly replica: ReplicaId;
  readonly group: number;
  hardState: HardState = { term: 0, vote: 0, commit: 0 };
  snapshot: SnapshotMeta;
  applied: number;
  /** Of the entries up to `applied`. */
  configuration: Configuration;
  registers: Registers;
  sessions: Sessions;
  /** Of entries up to snapshot.index. */
  #base: number;
  #entries: Entry[] = [];
  #chains: number[] = [];

  constructor(replica: ReplicaId, group: number, state: State) {
    this.replica = replica;
    this.group = group;
    this.snapshot = state.meta;
    this.applied = state.meta.index;
    this.configuration = state.meta.configuration;
    this.registers = new Registers(state.registers);
    this.sessions = new Sessions(state.sessions);
    this.#base = state.chain;
  }

  clone(): ReplicaStorage {
    const copy = new ReplicaStorage(this.replica, this.group, this.state());
    copy.hardState = this.hardState;
    copy.snapshot = this.snapshot;
    copy.#base = this.#base;
    copy.#entries = [...this.#entries];
    copy.#chains = [...this.#chains];
    return copy;
  }

  /** As of `applied`. */
  state(): State {
    const { applied, configuration } = this;
    return {
      meta: { index: applied, term: this.term(applied)!, configuration },
      registers: new Registers(this.registers),
      sessions: new Sessions(this.sessions),
      chain: this.chain(applied)!,
    };
  }

  get lastIndex(): number {
    return this.snapshot.index + this.#entries.length;
  }

  /** Of all that replicas must agree on. */
  get hash(): number {
    return mix(this.registers.hash, this.sessions.hash);
  }

  get length(): number {
    return this.#entries.length;
  }

  entry(index: number): Entry | undefined {
    return this.#entries[index - this.snapshot.index - 1];
  }

  term(index: number): number | undefined {
    return index === this.snapshot.index ? this.snapshot.term : this.entry(index)?.term;
  }

  /** Hash over all entries from the first one to this; undefined where the log does not reach. */
  chain(index: number): number | undefined {
    return index === this.snapshot.index ? this.#base : this.#chains[index - this.snapshot.index - 1];
  }

  entries(from: number, to: number, bytesMax: number): readonly Entry[] {
    const { index } = this.snapshot;
    const found: Entry[] = [];
    let bytes = 0;
    for (let at = from; at <= to; at += 1) {
      const entry = this.#entries[at - index - 1]!;
      bytes += entry.data.length;
      if (found.length > 0 && bytes > bytesMax) break;
      found.push(entry);
    }
    return found;
  }

  write(write: Write): void {
    switch (write.kind) {
      case 'install':
        this.#install(write.state);
        break;
      case 'append': {
        const at = write.entries[0]!.index - this.snapshot.index - 1;
        this.#entries.splice(at, this.#entries.length, ...write.entries);
        this.#chains.splice(at, this.#chains.length, ...write.chains);
        break;
      }
      case 'hard-state':
        this.hardState = write.hardState;
        break;
      case 'apply':
        for (const entry of write.entries) this.#apply(entry);
        break;
      case 'compact':
        this.#compact(write.index);
        break;
      default:
        break;
    }
  }

  #install(state: State): void {
    this.snapshot = state.meta;
    this.applied = state.meta.index;
    this.configuration = state.meta.configuration;
    this.registers = new Registers(state.registers);
    this.sessions = new Sessions(state.sessions);
    this.#base = state.chain;
    this.#entries = [];
    this.#chains = [];
  }

  #apply(entry: Entry): void {
    this.applied = entry.index;
    if (entry.kind === ENTRY.CONFIGURATION) this.configuration = decodeConfiguration(entry.data)!;
    if (entry.kind === ENTRY.EMPTY) return;
    const isNew = this.sessions.apply(entry);
    if (isNew && entry.kind === ENTRY.COMMAND) this.registers.apply(entry);
  }

  /** The configuration is that of `index`, which may be before what is applied. */
  #compact(index: number): void {
    const count = index - this.snapshot.index;
    if (count <= 0) return;
    let { configuration } = this.snapshot;
    for (const entry of this.#entries.slice(0, count))
      if (entry.kind === ENTRY.CONFIGURATION) configuration = decodeConfiguration(entry.data)!;
    const meta = { index, term: this.term(index)!, configuration };
    this.#base = this.chain(index)!;
    this.#entries.splice(0, count);
    this.#chains.splice(0, count);
    this.snapshot = meta;
  }
}
