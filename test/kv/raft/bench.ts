import { expect } from 'vitest';
import type { Configuration, ReplicaId } from '../../../src/kv/raft/configuration.js';
import { MESSAGE, type Message } from '../../../src/kv/raft/message.js';
import { Raft } from '../../../src/kv/raft/raft.js';
import { ENTRY, type Entry, type Ready } from '../../../src/kv/raft/ready.js';
import { RAFT_LIMITS, RAFT_TIMING, type RaftTiming } from '../../../src/kv/raft/settings.js';
import { MemoryLog } from './stored-log.js';

export const THREE: Configuration = { voters: [1, 2, 3], outgoing: [], learners: [] };
export const ALONE: Configuration = { voters: [1], outgoing: [], learners: [] };
export const DATA = Buffer.from('x');

/** One replica, whose driver is the test. */
export class Bench {
  nowMs = 1_000;
  clockReads = 0;
  readonly log: MemoryLog;
  readonly raft: Raft;

  constructor(
    configuration: Configuration,
    prepare: (log: MemoryLog) => void = () => {},
    timing: Partial<RaftTiming> = {},
  ) {
    this.log = new MemoryLog(configuration);
    prepare(this.log);
    const silent = { debug() {}, info() {}, warn() {}, error() {} };
    const monotonicMs = () => {
      this.clockReads++;
      return this.nowMs;
    };
    const env = { clock: { wallMs: () => 0, monotonicMs }, random: { u32: () => 0 }, log: silent };
    this.raft = new Raft({
      id: 1,
      log: this.log,
      timing: { ...RAFT_TIMING, ...timing },
      limits: RAFT_LIMITS,
      env,
    });
  }

  /** Writes what a ready wants written, and does not say so. */
  write(ready: Ready): void {
    if (ready.snapshot) this.log.install(ready.snapshot);
    this.log.write(ready.entries);
    if (ready.hardState) this.log.hardState = ready.hardState;
    if (ready.committed.length > 0) this.log.applied = ready.committed.at(-1)!.index;
  }

  /** Obeys until there is nothing to do; gives all that was said. */
  obey(): Message[] {
    const said: Message[] = [];
    for (let ready = this.raft.ready(); ready; ready = this.raft.ready()) {
      this.write(ready);
      said.push(...ready.messages, ...ready.afterDurable);
      this.raft.durable(ready.number);
      if (ready.committed.length > 0) this.raft.applied(this.log.applied);
    }
    return said;
  }

  append(
    from: ReplicaId,
    term: number,
    previous: [number, number],
    terms: readonly number[],
    commit = 0,
  ): void {
    const entries = terms.map(
      (own, i): Entry => ({
        term: own,
        index: previous[0] + 1 + i,
        kind: ENTRY.COMMAND,
        session: 0,
        sequence: 0,
        data: DATA,
      }),
    );
    const [previousIndex, previousTerm] = previous;
    this.raft.step({ kind: MESSAGE.APPEND, from, to: 1, term, previousIndex, previousTerm, commit, entries });
  }

  /** Leads three, with an empty log. */
  static leading(timing: Partial<RaftTiming> = {}): Bench {
    const bench = new Bench(THREE, undefined, timing);
    bench.raft.campaign();
    bench.raft.step({ kind: MESSAGE.PRE_VOTE_ANSWER, from: 2, to: 1, term: 1, granted: true });
    bench.obey();
    bench.raft.step({ kind: MESSAGE.VOTE_ANSWER, from: 2, to: 1, term: 1, granted: true });
    bench.obey();
    expect(bench.raft.isLeader).toBe(true);
    return bench;
  }

  answer(from: ReplicaId, match: number): void {
    const none = { rejected: 0, hintIndex: 0, hintTerm: 0 };
    this.raft.step({ kind: MESSAGE.APPEND_ANSWER, from, to: 1, term: this.raft.term, match, ...none });
  }

  heard(from: ReplicaId, round: number): void {
    this.raft.step({ kind: MESSAGE.HEARTBEAT_ANSWER, from, to: 1, term: this.raft.term, round });
  }
}
