import { isSoleVoter, type ReplicaId } from '../../src/kv/raft/configuration.js';
import type { Message } from '../../src/kv/raft/message.js';
import { Raft } from '../../src/kv/raft/raft.js';
import { ENTRY, type Entry, type Ready, type Refusal } from '../../src/kv/raft/ready.js';
import { type Command, encodeCommand } from './kv-registers.js';
import type { ReplicaStorage, State, Write } from './kv-storage.js';
import type { KvStore } from './kv-store.js';
import { OPERATION } from './linearizability.js';
import { fail } from './underlay-checkers.js';

/** One try of a client. */
export interface Request {
  readonly group: number;
  readonly session: number;
  readonly sequence: number;
  readonly command: Command;
  /** Of a read. */
  readonly mode: 'index' | 'lease';
  readonly untilMs: number;
  readonly answer: (answer: Answer) => void;
}

export type Answer =
  | { readonly kind: 'done'; readonly seen: number | undefined }
  | { readonly kind: 'refused'; readonly leader: ReplicaId };

const READIES_PER_TURN_MAX = 1_000;
const WAITING_MAX = 256;
const LOG_ENTRIES_MAX = 20_000;

/** What a driver does: obeys the machine's `Ready` over the simulated disk, and answers clients. */
export class KvReplica {
  readonly id: ReplicaId;
  readonly group: number;
  readonly raft: Raft;
  readonly storage: ReplicaStorage;
  readonly #store: KvStore;
  readonly #proposals = new Map<string, Request[]>();
  readonly #reads = new Map<number, Request>();
  #contexts = 0;
  /** Reads that wait until enough is applied. */
  #readable: { readonly index: number; readonly request: Request }[] = [];
  /** Committed, to be applied later. */
  #toApply: Entry[] = [];
  #staged: State | undefined;
  #commitBefore = 0;
  #termBefore = 0;
  /** Own entries are durable up to here. */
  #durableIndex: number;
  /** Entries up to here were committed by nobody but this replica's own disk: their effects wait for it. */
  #hiddenIndex = 0;
  #hidden: { readonly untilIndex: number; readonly effect: () => void }[] = [];

  constructor(store: KvStore, storage: ReplicaStorage) {
    this.#store = store;
    this.storage = storage;
    this.id = storage.replica;
    this.group = storage.group;
    this.#durableIndex = storage.lastIndex;
    const { timing, limits } = store.world.settings;
    this.raft = new Raft({ id: this.id, log: storage, timing, limits, env: store.env });
  }

  /** What only its own disk has committed, and no one was told before a crash, is committed all the same. */
  tellApplied(): void {
    const truth = this.#store.truth(this.group);
    for (let index = truth.lastCommitted + 1; index <= this.storage.applied; index += 1)
      truth.commits(this.id, this.raft.term, this.storage.entry(index)!);
  }

  get isLeader(): boolean {
    return this.raft.isLeader;
  }

  request(request: Request): void {
    const { session, sequence, command } = request;
    if (command.kind === OPERATION.READ) {
      this.#contexts += 1;
      this.#reads.set(this.#contexts, request);
      this.raft.read(this.#contexts, request.mode);
      return;
    }
    const key = `${session}/${sequence}`;
    const waiting = this.#proposals.get(key);
    if (waiting === undefined) this.#proposals.set(key, [request]);
    else waiting.push(request);
    this.raft.propose(session, sequence, encodeCommand(command));
  }

  /** The state has come whole. */
  receive(state: State): void {
    this.#staged = state;
    this.raft.snapshotReceived(state.meta);
  }

  tick(): void {
    this.raft.tick();
    if (this.#proposals.size + this.#reads.size + this.#readable.length > WAITING_MAX) this.#forgetLate();
  }

  /** Does what the machine wants; what it writes goes into the store's transaction. */
  turn(writes: Write[], durable: (() => void)[]): void {
    this.observe();
    for (let at = 0; ; at += 1) {
      const ready = this.raft.ready();
      if (ready === undefined) break;
      if (at === READIES_PER_TURN_MAX) fail(`${this.#store.label}: replica ${this.id} is never done`);
      this.#obey(ready, writes, durable);
    }
    this.#staged = undefined;
    this.#compact(writes);
    this.observe();
    if (this.isLeader) this.#store.truth(this.group).leads(this.storage, this.raft.term);
  }

  /** Applies what waits; `count` entries at most. */
  applySome(count: number, writes: Write[]): void {
    const entries = this.#toApply.splice(0, count);
    if (entries.length > 0) this.#apply(entries, writes);
  }

  get isApplying(): boolean {
    return this.#toApply.length > 0;
  }

  /** What holds after every input. */
  observe(): void {
    const { raft } = this;
    if (raft.commitIndex < this.#commitBefore || raft.term < this.#termBefore)
      fail(
        `group ${this.group}: ${this.id} goes back from commit ${this.#commitBefore} in term ${this.#termBefore} ` +
          `to ${raft.commitIndex} in term ${raft.term}`,
      );
    this.#commitBefore = raft.commitIndex;
    this.#termBefore = raft.term;
    if (this.storage.length > LOG_ENTRIES_MAX)
      fail(`the log of ${this.id} has ${this.storage.length} entries`);
  }

  #obey(ready: Ready, writes: Write[], durable: (() => void)[]): void {
    const { number, hardState, entries, snapshot, messages, afterDurable, committed } = ready;
    for (const message of messages) this.#send(message);
    if (snapshot !== undefined) this.#install(snapshot.index, snapshot.term, writes);
    if (entries.length > 0) {
      const chains = this.#store.truth(this.group).appends(this.storage, entries);
      this.#durableIndex = Math.min(this.#durableIndex, entries[0]!.index - 1);
      this.#write({ kind: 'append', replica: this.id, entries, chains }, writes);
    }
    if (hardState !== undefined) this.#write({ kind: 'hard-state', replica: this.id, hardState }, writes);
    if (committed.length > 0) this.#commit(committed, writes);
    for (const { context, index } of ready.reads) {
      const request = this.#reads.get(context);
      this.#reads.delete(context);
      if (request !== undefined) this.#readable.push({ index, request });
    }
    this.#answerReads();
    for (const refusal of ready.refusals) this.#refuse(refusal);
    // What was only told by the own disk may be lost with it, and must not be sent as committed.
    const state = ready.snapshotsWanted.length > 0 ? this.storage.state() : undefined;
    const { lastIndex } = this.storage;
    durable.push(() => {
      if (this.#store.replicas.get(this.id) !== this) return;
      this.#durableIndex = Math.max(this.#durableIndex, Math.min(lastIndex, this.storage.lastIndex));
      this.#showHidden();
      for (const message of afterDurable) this.#send(message);
      for (const to of ready.snapshotsWanted) this.#store.sendState(this, to, state!);
      this.raft.durable(number);
    });
  }

  #send(message: Message): void {
    this.#store.send(this.group, message);
  }

  #write(write: Write, writes: Write[]): void {
    this.#store.disk.see(write);
    writes.push(write);
  }

  #install(index: number, term: number, writes: Write[]): void {
    const state = this.#staged;
    if (state === undefined || state.meta.index !== index || state.meta.term !== term)
      fail(`group ${this.group}: ${this.id} wants a state of ${index} that was not received`);
    this.#store.truth(this.group).installs(this.storage, index, term);
    this.#write({ kind: 'install', replica: this.id, state }, writes);
    this.#durableIndex = 0;
    this.#toApply = [];
    this.#store.note(this.group, this.id, `takes the state of ${index}`);
  }

  #commit(committed: readonly Entry[], writes: Write[]): void {
    const truth = this.#store.truth(this.group);
    const { term } = this.raft;
    const last = committed.at(-1)!.index;
    if (isSoleVoter(this.raft.configuration, this.id)) this.#hiddenIndex = Math.max(this.#hiddenIndex, last);
    this.#show(() => {
      for (const entry of committed) truth.commits(this.id, term, entry);
    });
    if (this.#store.world.settings.isAppliedLater) this.#toApply.push(...committed);
    else this.#apply(committed, writes);
  }

  #apply(entries: readonly Entry[], writes: Write[]): void {
    for (const entry of entries) {
      if (entry.index !== this.storage.applied + 1)
        fail(`group ${this.group}: ${this.id} is to apply ${entry.index} after ${this.storage.applied}`);
      const isNew = entry.kind !== ENTRY.EMPTY && !this.storage.sessions.has(entry.session, entry.sequence);
      this.#write({ kind: 'apply', replica: this.id, entries: [entry] }, writes);
      const { hash } = this.storage;
      this.#show(() => this.#store.truth(this.group).applied(this.storage.replica, hash, entry, isNew));
      if (entry.kind === ENTRY.CONFIGURATION)
        this.#show(() => this.#store.world.configured(this.group, entry.index, this.storage.configuration));
      if (entry.kind === ENTRY.COMMAND) this.#answerProposal(entry);
    }
    this.raft.applied(entries.at(-1)!.index);
    this.#answerReads();
  }

  #answerProposal({ session, sequence }: Entry): void {
    const key = `${session}/${sequence}`;
    const requests = this.#proposals.get(key);
    if (requests === undefined) return;
    this.#proposals.delete(key);
    const seen = this.storage.registers.answered(session, sequence);
    this.#show(() => {
      for (const { answer } of requests) answer({ kind: 'done', seen });
    });
  }

  #answerReads(): void {
    const { applied, registers } = this.storage;
    if (this.#readable.length === 0) return;
    this.#readable = this.#readable.filter(({ index, request }) => {
      if (index > applied) return true;
      const seen = registers.get(request.command.key);
      this.#show(() => request.answer({ kind: 'done', seen }));
      return false;
    });
  }

  #refuse({ what, session, sequence, leader }: Refusal): void {
    if (what === 'read') {
      this.#reads.get(sequence)?.answer({ kind: 'refused', leader });
      this.#reads.delete(sequence);
    } else if (what === 'proposal') {
      const key = `${session}/${sequence}`;
      for (const { answer } of this.#proposals.get(key) ?? []) answer({ kind: 'refused', leader });
      this.#proposals.delete(key);
    }
  }

  /** Now, or once it cannot be lost any more. */
  #show(effect: () => void): void {
    if (this.#hiddenIndex <= this.#durableIndex) effect();
    else this.#hidden.push({ untilIndex: this.#hiddenIndex, effect });
  }

  #showHidden(): void {
    while (this.#hidden.length > 0 && this.#hidden[0]!.untilIndex <= this.#durableIndex)
      this.#hidden.shift()!.effect();
  }

  #compact(writes: Write[]): void {
    const { compactAfter } = this.#store.world.settings;
    const { applied, snapshot } = this.storage;
    if (applied - snapshot.index < compactAfter || this.#hidden.length > 0) return;
    const index = applied - this.#store.random.below(Math.ceil(compactAfter / 2));
    this.#write({ kind: 'compact', replica: this.id, index }, writes);
    this.raft.compacted(index);
  }

  #forgetLate(): void {
    const { nowMs } = this.#store.world.time;
    for (const [key, requests] of this.#proposals)
      if (requests.every(({ untilMs }) => untilMs < nowMs)) this.#proposals.delete(key);
    for (const [context, { untilMs }] of this.#reads) if (untilMs < nowMs) this.#reads.delete(context);
    this.#readable = this.#readable.filter(({ request }) => request.untilMs >= nowMs);
  }
}
