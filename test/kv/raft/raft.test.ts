import { describe, expect, it } from 'vitest';
import type { Configuration, ReplicaId } from '../../../src/kv/raft/configuration.js';
import { ROLE } from '../../../src/kv/raft/core.js';
import { type Append, MESSAGE, type Message } from '../../../src/kv/raft/message.js';
import { Raft } from '../../../src/kv/raft/raft.js';
import { ENTRY, type Entry, type Ready } from '../../../src/kv/raft/ready.js';
import { leaseMs, RAFT_LIMITS, RAFT_TIMING, type RaftTiming } from '../../../src/kv/raft/settings.js';
import { MemoryLog } from './stored-log.js';

const THREE: Configuration = { voters: [1, 2, 3], outgoing: [], learners: [] };
const ALONE: Configuration = { voters: [1], outgoing: [], learners: [] };
const DATA = Buffer.from('x');

/** One replica, whose driver is the test. */
class Bench {
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

describe('what waits for the disk', () => {
  it('is the answer to an append, not the heartbeat’s in a term that is stored', () => {
    const bench = new Bench(THREE);
    bench.append(2, 1, [0, 0], [1]);
    bench.obey();
    bench.append(2, 1, [1, 1], [1]);
    bench.raft.step({
      kind: MESSAGE.HEARTBEAT,
      from: 2,
      to: 1,
      term: 1,
      round: 1,
      commit: 0,
      quiesce: false,
    });
    const ready = bench.raft.ready()!;
    expect(ready.messages.map(({ kind }) => kind)).toEqual([MESSAGE.HEARTBEAT_ANSWER]);
    expect(ready.afterDurable.map(({ kind }) => kind)).toEqual([MESSAGE.APPEND_ANSWER]);
  });

  it('is everything in a term that is not stored', () => {
    const bench = new Bench(THREE);
    bench.raft.step({
      kind: MESSAGE.HEARTBEAT,
      from: 2,
      to: 1,
      term: 7,
      round: 1,
      commit: 0,
      quiesce: false,
    });
    const ready = bench.raft.ready()!;
    expect(ready.hardState).toEqual({ term: 7, vote: 0, commit: 0 });
    expect([ready.messages, ready.afterDurable.length]).toEqual([[], 1]);
  });

  it('is nothing when there is nothing to write', () => {
    const bench = new Bench(THREE);
    bench.append(2, 1, [0, 0], [1]);
    bench.obey();
    bench.append(2, 1, [0, 0], [1]);
    const ready = bench.raft.ready()!;
    expect([ready.messages.length, ready.afterDurable.length]).toEqual([1, 0]);
  });

  it('answers once for the appends of a turn', () => {
    const bench = new Bench(THREE);
    bench.append(2, 1, [0, 0], [1]);
    bench.append(2, 1, [1, 1], [1, 1]);
    bench.append(2, 1, [3, 1], [1]);
    expect(bench.obey()).toMatchObject([{ kind: MESSAGE.APPEND_ANSWER, match: 4 }]);
  });

  it('a leader’s entry counts when it is durable, and an earlier ready is durable with a later one', () => {
    const bench = Bench.leading();
    bench.raft.propose(1, 1, DATA);
    const first = bench.raft.ready()!;
    bench.raft.propose(1, 2, DATA);
    const second = bench.raft.ready()!;
    bench.answer(2, 3);
    // The first entry of its term it has stored long ago.
    expect(bench.raft.ready()!.committed).toMatchObject([{ index: 1 }]);
    expect([first.number < second.number, bench.raft.commitIndex]).toEqual([true, 1]);
    bench.raft.durable(second.number);
    expect(bench.raft.commitIndex).toBe(3);
  });

  it('is not what was cut off in between, even if the same comes again', () => {
    const bench = new Bench(THREE);
    bench.append(2, 2, [0, 0], [2]);
    const first = bench.raft.ready()!;
    bench.append(3, 3, [0, 0], [3]);
    const second = bench.raft.ready()!;
    // The leader of term 4 has what the one of term 2 had, and commits it.
    bench.append(2, 4, [0, 0], [2], 1);
    const third = bench.raft.ready()!;
    expect(third.committed).toMatchObject([{ index: 1, term: 2 }]);
    bench.raft.applied(1);
    // The disk is behind: of the first it says that it is durable, and the second is being written.
    bench.write(first);
    bench.raft.durable(first.number);
    bench.write(second);
    bench.nowMs += 5_000;
    bench.raft.tick();
    bench.raft.step({ kind: MESSAGE.PRE_VOTE_ANSWER, from: 2, to: 1, term: 5, granted: true });
    bench.raft.step({ kind: MESSAGE.VOTE_ANSWER, from: 2, to: 1, term: 5, granted: true });
    bench.raft.ready();
    expect(bench.raft.isLeader).toBe(true);
    const none = { match: 0, rejected: 1, hintIndex: 0, hintTerm: 0 };
    bench.raft.step({ kind: MESSAGE.APPEND_ANSWER, from: 3, to: 1, term: 5, ...none });
    const said = bench.raft.ready()!.afterDurable;
    const sent = said.find((message): message is Append => message.kind === MESSAGE.APPEND);
    expect(sent!.entries.map(({ index, term }) => [index, term])).toEqual([
      [1, 2],
      [2, 5],
    ]);
  });
});

describe('a follower', () => {
  it('commits no further than it knows to agree with the leader', () => {
    const bench = new Bench(THREE);
    bench.append(2, 1, [0, 0], [1, 1, 1, 1]);
    bench.append(3, 2, [0, 0], [1], 4);
    bench.obey();
    expect(bench.raft.commitIndex).toBe(1);
  });

  it('answers an append of long ago, whose place is compacted, with what it has', () => {
    const bench = new Bench(THREE);
    bench.append(2, 1, [0, 0], [1, 1, 1], 3);
    bench.obey();
    bench.log.compact(3, THREE);
    bench.raft.compacted(3);
    bench.append(2, 1, [1, 1], [1]);
    expect(bench.obey()).toMatchObject([{ kind: MESSAGE.APPEND_ANSWER, match: 3, rejected: 0 }]);
  });

  it('confirms to a leader in its term, or not at all', () => {
    const bench = new Bench(THREE);
    bench.append(2, 1, [0, 0], [1]);
    bench.raft.step({ kind: MESSAGE.VOTE, from: 3, to: 1, term: 2, lastIndex: 9, lastTerm: 1, force: true });
    expect(bench.obey().filter(({ kind }) => kind === MESSAGE.APPEND_ANSWER)).toEqual([]);
  });

  it('without a vote does not campaign even when it is told to', () => {
    const bench = new Bench({ voters: [2, 3], outgoing: [], learners: [1] });
    bench.append(2, 1, [0, 0], [1]);
    bench.raft.step({ kind: MESSAGE.TIMEOUT_NOW, from: 2, to: 1, term: 1 });
    expect([bench.raft.role, bench.raft.term]).toEqual([ROLE.FOLLOWER, 1]);
  });
});

describe('a follower that is to get the state', () => {
  it('is fed from the log again if it turns out to have enough', () => {
    const bench = Bench.leading();
    bench.answer(3, 1);
    for (let i = 1; i <= 3; i++) bench.raft.propose(1, i, DATA);
    bench.obey();
    bench.answer(2, 4);
    bench.obey();
    bench.log.compact(3, THREE);
    bench.raft.compacted(3);
    bench.raft.step({
      kind: MESSAGE.APPEND_ANSWER,
      from: 3,
      to: 1,
      term: 1,
      match: 0,
      rejected: 4,
      hintIndex: 1,
      hintTerm: 1,
    });
    expect(bench.raft.ready()!.snapshotsWanted).toEqual([3]);
    // What it had been sent before arrives after all.
    bench.answer(3, 3);
    expect(bench.obey()).toMatchObject([{ kind: MESSAGE.APPEND, to: 3, previousIndex: 3 }]);
  });
});

describe('one voter', () => {
  it('stores, commits and applies in one ready, and has committed once that is durable', () => {
    const bench = new Bench(ALONE);
    bench.raft.campaign();
    bench.raft.propose(1, 1, DATA);
    const ready = bench.raft.ready()!;
    expect([ready.entries.length, ready.committed.length]).toEqual([2, 2]);
    expect([bench.raft.commitIndex, bench.raft.ready()]).toEqual([0, undefined]);
    bench.raft.durable(ready.number);
    expect(bench.raft.commitIndex).toBe(2);
  });
});

describe('starting', () => {
  it('takes up the term of a state that was put there', () => {
    const bench = new Bench(ALONE, log => {
      log.install({ index: 10, term: 5, configuration: ALONE });
    });
    expect(bench.raft.term).toBe(5);
    expect(bench.raft.campaign()).toBe(true);
    bench.raft.propose(1, 1, DATA);
    bench.obey();
    expect([bench.raft.term, bench.raft.commitIndex, bench.log.hardState.term]).toEqual([6, 12, 6]);
  });

  it('votes for nobody within the shortest election timeout, unless there never was a leader', () => {
    const vote = {
      kind: MESSAGE.VOTE,
      from: 2,
      to: 1,
      term: 9,
      lastIndex: 9,
      lastTerm: 8,
      force: false,
    } as const;
    const old = new Bench(THREE, log => {
      log.hardState = { term: 8, vote: 3, commit: 0 };
    });
    old.raft.step(vote);
    expect([old.obey(), old.raft.term]).toEqual([[], 8]);
    old.raft.step({ ...vote, force: true });
    expect(old.obey()).toMatchObject([{ kind: MESSAGE.VOTE_ANSWER, granted: true }]);
    const fresh = new Bench(THREE);
    fresh.raft.step(vote);
    expect(fresh.obey()).toMatchObject([{ kind: MESSAGE.VOTE_ANSWER, granted: true }]);
  });

  it('follows the term of a state that it receives', () => {
    const bench = new Bench({ voters: [], outgoing: [], learners: [] });
    expect(bench.raft.snapshotReceived({ index: 4, term: 3, configuration: THREE })).toBe(true);
    bench.obey();
    expect([bench.raft.term, bench.raft.lastIndex, bench.raft.configuration]).toEqual([3, 4, THREE]);
    expect(bench.raft.snapshotReceived({ index: 4, term: 3, configuration: THREE })).toBe(false);
  });
});

describe('votes', () => {
  it('go to one candidate a term, also after a restart', () => {
    const bench = new Bench(THREE);
    const vote = (from: number) =>
      bench.raft.step({ kind: MESSAGE.VOTE, from, to: 1, term: 4, lastIndex: 0, lastTerm: 0, force: false });
    vote(2);
    vote(3);
    vote(2);
    expect(bench.obey()).toMatchObject([
      { to: 2, granted: true },
      { to: 3, granted: false },
      { to: 2, granted: true },
    ]);
    const again = new Bench(THREE, log => {
      log.hardState = bench.log.hardState;
    });
    again.nowMs += RAFT_TIMING.electionTimeoutMinMs;
    again.raft.step({ kind: MESSAGE.VOTE, from: 3, to: 1, term: 4, lastIndex: 0, lastTerm: 0, force: false });
    expect(again.obey()).toMatchObject([{ to: 3, granted: false }]);
  });

  it('count once from each voter, and not from others', () => {
    const bench = new Bench({ voters: [1, 2, 3, 4, 5], outgoing: [], learners: [6] });
    bench.raft.campaign();
    for (const from of [2, 2, 2, 6, 7])
      bench.raft.step({ kind: MESSAGE.PRE_VOTE_ANSWER, from, to: 1, term: 1, granted: true });
    expect(bench.raft.role).toBe(ROLE.PRE_CANDIDATE);
    bench.raft.step({ kind: MESSAGE.PRE_VOTE_ANSWER, from: 3, to: 1, term: 1, granted: true });
    expect(bench.raft.role).toBe(ROLE.CANDIDATE);
  });

  it('for an earlier candidacy do not count', () => {
    const bench = new Bench(THREE);
    bench.raft.campaign();
    bench.raft.step({ kind: MESSAGE.PRE_VOTE_ANSWER, from: 2, to: 1, term: 9, granted: true });
    bench.raft.step({ kind: MESSAGE.VOTE_ANSWER, from: 2, to: 1, term: 0, granted: true });
    expect([bench.raft.role, bench.raft.term]).toEqual([ROLE.PRE_CANDIDATE, 0]);
  });
});

describe('a lease', () => {
  it('counts from when the round was sent, and is over before any voter may turn away, whatever the clocks', () => {
    const drift = 0.05;
    const bench = Bench.leading({ clockDriftMax: drift });
    bench.answer(2, 1);
    bench.obey();
    expect(bench.raft.hasLease).toBe(false);
    const sentMs = bench.nowMs;
    bench.nowMs += 400;
    bench.heard(2, 1);
    expect(bench.raft.hasLease).toBe(true);
    bench.nowMs = sentMs + leaseMs({ ...RAFT_TIMING, clockDriftMax: drift }) - 1;
    expect(bench.raft.hasLease).toBe(true);
    bench.nowMs += 1;
    expect(bench.raft.hasLease).toBe(false);
    const slowest = leaseMs({ ...RAFT_TIMING, clockDriftMax: drift }) / (1 - drift);
    expect(slowest).toBeLessThanOrEqual(RAFT_TIMING.electionTimeoutMinMs / (1 + drift));
  });

  it('is not given by rounds that are not known any more, or were never sent', () => {
    const bench = Bench.leading();
    bench.answer(2, 1);
    bench.obey();
    for (let i = 0; i < 70; i++) {
      bench.nowMs += 500;
      bench.answer(2, 1);
      bench.raft.tick();
      bench.obey();
    }
    for (let round = 1; round <= 7; round++) {
      bench.heard(2, round);
      expect(bench.raft.hasLease).toBe(false);
    }
    bench.heard(2, 1_000);
    expect(bench.raft.hasLease).toBe(false);
    bench.heard(2, 70);
    expect(bench.raft.hasLease).toBe(true);
  });

  it('does not survive a process that was stopped', () => {
    const bench = Bench.leading();
    bench.answer(2, 1);
    bench.heard(2, 1);
    bench.obey();
    bench.nowMs += 60_000;
    bench.raft.read(7, 'lease');
    expect(bench.raft.ready()!.reads).toEqual([]);
  });
});

describe('a quiet group', () => {
  const quiet = () => {
    const bench = Bench.leading({ quiesceAfterMs: 500 });
    for (const from of [2, 3]) bench.answer(from, 1);
    bench.obey();
    bench.nowMs += 500;
    for (const from of [2, 3]) bench.heard(from, 1);
    bench.raft.tick();
    return bench;
  };

  it('costs nothing: no tick reads the clock, and nothing is said', () => {
    const bench = quiet();
    expect(bench.obey()).toMatchObject([{ quiesce: true }, { quiesce: true }]);
    const { clockReads } = bench;
    for (let i = 0; i < 1_000; i++) bench.raft.tick();
    expect([bench.raft.isQuiescent, bench.clockReads - clockReads]).toEqual([true, 0]);
    expect(bench.raft.ready()).toBeUndefined();
  });

  it('is woken by a follower that does not agree', () => {
    const bench = quiet();
    bench.obey();
    bench.heard(3, 0);
    expect(bench.raft.isQuiescent).toBe(false);
    const follower = new Bench(THREE);
    follower.append(2, 1, [0, 0], [1, 1]);
    follower.obey();
    follower.raft.step({
      kind: MESSAGE.HEARTBEAT,
      from: 2,
      to: 1,
      term: 1,
      round: 0,
      commit: 1,
      quiesce: true,
    });
    expect(follower.raft.isQuiescent).toBe(false);
    expect(follower.obey()).toMatchObject([{ kind: MESSAGE.HEARTBEAT_ANSWER, round: 0 }]);
  });

  it('keeps its leader, which counts the silence against nobody when it wakes', () => {
    const bench = quiet();
    bench.obey();
    bench.nowMs += 1_000_000;
    bench.raft.propose(1, 1, DATA);
    bench.raft.tick();
    expect(bench.raft.isLeader).toBe(true);
    expect(bench.obey().map(({ kind }) => kind)).toContain(MESSAGE.APPEND);
  });
});

describe('memory', () => {
  it('lets go of entries that all followers have', () => {
    const bench = Bench.leading();
    for (let i = 1; i <= 100; i++) bench.raft.propose(1, i, DATA);
    bench.obey();
    for (const from of [2, 3]) bench.answer(from, 101);
    bench.obey();
    const { entries } = bench.log;
    let asked = 0;
    bench.log.entries = (...range) => {
      asked++;
      return entries.apply(bench.log, range);
    };
    const none = { match: 0, rejected: 102, hintIndex: 50, hintTerm: 1 };
    bench.raft.propose(1, 101, DATA);
    bench.obey();
    bench.raft.step({ kind: MESSAGE.APPEND_ANSWER, from: 3, to: 1, term: 1, ...none });
    // 3 had said that it has 101: it is believed, and asked there.
    bench.obey();
    expect([bench.raft.progress.get(3)!.match, asked]).toEqual([101, 0]);
    bench.raft.change({ voters: [1, 2, 3, 4], learners: [] }, 1, 102);
    bench.obey();
    bench.raft.step({
      kind: MESSAGE.APPEND_ANSWER,
      from: 4,
      to: 1,
      term: 1,
      match: 0,
      rejected: 102,
      hintIndex: 0,
      hintTerm: 0,
    });
    bench.obey();
    expect(asked).toBe(1);
  });
});

describe('a driver that cannot apply', () => {
  it('is handed nothing out, keeps little in memory, and gets everything later', () => {
    const bench = new Bench(THREE);
    bench.obey();
    bench.raft.isHeldBack = true;
    for (let from = 0; from < 40; from += 4) {
      bench.append(2, 1, [from, from === 0 ? 0 : 1], [1, 1, 1, 1], from + 4);
      bench.obey();
    }
    expect([bench.raft.commitIndex, bench.log.applied]).toEqual([40, 0]);
    bench.raft.isHeldBack = false;
    bench.obey();
    expect(bench.log.applied).toBe(40);
  });
});
