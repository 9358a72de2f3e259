import type { Configuration, ReplicaId } from '../../src/kv/raft/configuration.js';
import { decodeConfiguration } from '../../src/kv/raft/configuration-codec.js';
import { MESSAGE, type Message } from '../../src/kv/raft/message.js';
import { ENTRY, type Entry } from '../../src/kv/raft/ready.js';
import { entryHash, mix } from './kv-registers.js';
import type { ReplicaStorage, Write } from './kv-storage.js';
import { configurationWords } from './kv-trace.js';
import { fail } from './underlay-checkers.js';

/** One entry that some replica was told is committed. */
interface Committed {
  readonly term: number;
  readonly hash: number;
  /** The term of the replica that told it first: leaders of later terms must have the entry. */
  readonly toldTerm: number;
  readonly by: ReplicaId;
}

/** Of a log up to an entry: whose it was last, and whether it is on a disk or in two logs. */
interface Chain {
  readonly chain: number;
  readonly by: ReplicaId;
  readonly isLasting: boolean;
}

function chainKey({ term, index }: Entry): number {
  return term * 2 ** 28 + index;
}

/**
 * What is known to all of one group, which no replica knows: what is committed, who led which term, who voted for whom.
 * Every step of every replica is held against it. Figure 3.2 of the Raft thesis lists what must hold.
 */
export class GroupTruth {
  readonly group: number;
  /** Entry n at n - 1. */
  readonly #committed: Committed[] = [];
  readonly #leaders = new Map<number, ReplicaId>();
  /** By replica and term, as it became durable. */
  readonly #votes = new Map<string, ReplicaId>();
  /** The same, as it was told to candidates. */
  readonly #granted = new Map<string, ReplicaId>();
  /** Hash over a log up to an entry, by the entry's term and index: equal in all logs that have the entry. */
  readonly #chains = new Map<number, Chain>();
  /** Hash of the registers and sessions at an applied index. */
  readonly #states: number[] = [];
  /** Index at which a session's operation was applied, by both. */
  readonly #appliedAt = new Map<string, number>();
  readonly #durableCommit = new Map<ReplicaId, number>();

  /** The last one committed. */
  #configuration: Configuration;

  constructor(group: number, configuration: Configuration) {
    this.group = group;
    this.#configuration = configuration;
  }

  get lastCommitted(): number {
    return this.#committed.length;
  }

  /** How many terms had a leader. */
  get terms(): number {
    return this.#leaders.size;
  }

  /** To be called whenever a replica may have become leader. */
  leads(storage: ReplicaStorage, term: number): void {
    const { replica } = storage;
    const known = this.#leaders.get(term);
    if (known === replica) return;
    if (known !== undefined)
      this.#fail(`election safety: ${known} and ${replica} are both leader of term ${term}`);
    this.#leaders.set(term, replica);
    // What earlier leaders have committed is in the log of every later one.
    let index = this.#committed.length;
    while (index > 0 && this.#committed[index - 1]!.toldTerm >= term) index -= 1;
    if (index === 0 || index <= storage.snapshot.index) return;
    const { term: entryTerm, by } = this.#committed[index - 1]!;
    if (storage.term(index) !== entryTerm)
      this.#fail(
        `leader completeness: ${replica} leads term ${term} with entry ${index} of term ${storage.term(index)}, ` +
          `but ${by} was told that the one of term ${entryTerm} is committed`,
      );
  }

  /** Entries about to be written; the chains to write with them. */
  appends(storage: ReplicaStorage, entries: readonly Entry[]): number[] {
    const first = entries[0]!;
    let chain = storage.chain(first.index - 1);
    if (chain === undefined)
      this.#fail(`${storage.replica} appends ${first.index} to a log that ends at ${storage.lastIndex}`);
    if (first.index <= storage.applied)
      this.#fail(
        `state machine safety: ${storage.replica} replaces entry ${first.index}, applied up to ${storage.applied}`,
      );
    return entries.map((entry, at) => {
      if (entry.index !== first.index + at)
        this.#fail(`${storage.replica} appends entries with a gap before ${entry.index}`);
      chain = mix(chain!, entryHash(entry));
      const key = chainKey(entry);
      const known = this.#chains.get(key);
      const isSame = known?.chain === chain;
      // What a crash took from the only one who had it, term and all, may be written otherwise.
      const isOpen = known === undefined || (!known.isLasting && known.by === storage.replica);
      if (!isSame && !isOpen)
        this.#fail(
          `log matching: the log of ${storage.replica} up to entry ${entry.index} of term ${entry.term} is not that ` +
            'of others that have this entry',
        );
      const isLasting = known !== undefined && isSame && (known.isLasting || known.by !== storage.replica);
      this.#chains.set(key, { chain, by: storage.replica, isLasting });
      return chain;
    });
  }

  /** A replica at `term` is told that it may apply the entry. */
  commits(replica: ReplicaId, term: number, entry: Entry): void {
    const { index } = entry;
    const hash = entryHash(entry);
    const known = this.#committed[index - 1];
    if (known === undefined) {
      if (index !== this.#committed.length + 1)
        this.#fail(
          `state machine safety: ${replica} is told of entry ${index}, but nobody of the one before it`,
        );
      this.#committed.push({ term: entry.term, hash, toldTerm: term, by: replica });
      if (entry.kind === ENTRY.CONFIGURATION) this.#follows(index, decodeConfiguration(entry.data)!);
    } else if (known.hash !== hash)
      this.#fail(
        `state machine safety: ${replica} is to apply at ${index} an entry of term ${entry.term}, ${known.by} was told ` +
          `of another one, of term ${known.term}`,
      );
  }

  /** From one configuration to the next only by a joint one of both (thesis, 4.3). */
  #follows(index: number, next: Configuration): void {
    const last = this.#configuration;
    const { voters, outgoing } = next;
    const isRight =
      outgoing.length > 0
        ? last.outgoing.length === 0 && isSame(outgoing, last.voters)
        : last.outgoing.length > 0 && isSame(voters, last.voters) && isSame(next.learners, last.learners);
    if (!isRight)
      this.#fail(
        `joint consensus: the configuration of ${index}, ${configurationWords(next)}, does not follow from ` +
          configurationWords(last),
      );
    this.#configuration = next;
  }

  /** The replica has applied the entry, which gave a state of this hash; `isNew` when it was not taken for a repetition. */
  applied(replica: ReplicaId, hash: number, { index, session, sequence }: Entry, isNew: boolean): void {
    const known = this.#states[index];
    if (known === undefined) this.#states[index] = hash;
    else if (known !== hash)
      this.#fail(`replicas differ: the state of ${replica} at ${index} is not that of others there`);
    if (!isNew || session === 0) return;
    const key = `${session}/${sequence}`;
    const at = this.#appliedAt.get(key);
    if (at === undefined) this.#appliedAt.set(key, index);
    else if (at !== index)
      this.#fail(
        `applied twice: operation ${sequence} of session ${session}, at ${at} and by ${replica} at ${index}`,
      );
  }

  /** A received state is about to take the place of the replica's own. */
  installs(storage: ReplicaStorage, index: number, term: number): void {
    if (index < storage.applied)
      this.#fail(`state goes back: ${storage.replica} from ${storage.applied} to a state of ${index}`);
    const known = this.#committed[index - 1];
    if (index > 0 && known?.term !== term)
      this.#fail(`${storage.replica} gets a state of entry ${index}, term ${term}, which is not committed`);
  }

  /** A message leaves: what it promises must be on the sender's disk already (Raft's figure 2, "before responding"). */
  says(message: Message, seen: ReplicaStorage, durable: ReplicaStorage | undefined): void {
    const { kind, from, to, term } = message;
    if (kind === MESSAGE.VOTE_ANSWER && message.granted) {
      const key = `${from}/${term}`;
      const known = this.#granted.get(key) ?? to;
      if (known !== to) this.#fail(`votes: ${from} gives its vote of term ${term} to ${known} and to ${to}`);
      this.#granted.set(key, to);
      this.#mustKnow(durable, from, term, to);
    } else if (kind === MESSAGE.VOTE) this.#mustKnow(durable, from, term, from);
    else if (kind === MESSAGE.APPEND_ANSWER && message.rejected === 0) {
      const { match } = message;
      const isThere = durable !== undefined && durable.lastIndex >= match;
      const own = seen.chain(match);
      const isSame = own === undefined || durable?.chain(match) === undefined || durable.chain(match) === own;
      if (!isThere || (seen.hardState.term === term && !isSame))
        this.#fail(
          `persisted first: ${from} confirms entries up to ${match} to ${to}, which are not on its disk`,
        );
    }
  }

  #mustKnow(durable: ReplicaStorage | undefined, from: ReplicaId, term: number, vote: ReplicaId): void {
    const state = durable?.hardState;
    if (state !== undefined && (state.term > term || (state.term === term && state.vote === vote))) return;
    this.#fail(
      `persisted first: ${from} votes for ${vote} in term ${term}, but its disk knows nothing of it`,
    );
  }

  /** What can no longer be lost. */
  becameDurable(write: Write): void {
    if (write.kind === 'append') {
      write.entries.forEach((entry, at) => {
        this.#chains.set(chainKey(entry), { chain: write.chains[at]!, by: write.replica, isLasting: true });
      });
    }
    if (write.kind !== 'hard-state') return;
    const { replica, hardState } = write;
    const { term, vote, commit } = hardState;
    const commitBefore = this.#durableCommit.get(replica) ?? 0;
    if (commit < commitBefore)
      this.#fail(`commit: that of ${replica} goes back from ${commitBefore} to ${commit}`);
    this.#durableCommit.set(replica, commit);
    if (vote === 0) return;
    const key = `${replica}/${term}`;
    const known = this.#votes.get(key);
    if (known === undefined) this.#votes.set(key, vote);
    else if (known !== vote)
      this.#fail(`votes: ${replica} voted in term ${term} for ${known} and then for ${vote}`);
  }

  #fail(words: string): never {
    fail(`group ${this.group}: ${words}`);
  }
}

function isSame(left: readonly ReplicaId[], right: readonly ReplicaId[]): boolean {
  return left.length === right.length && left.every((id, at) => id === right[at]);
}
