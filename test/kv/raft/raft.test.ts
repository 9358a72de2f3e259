import { describe, expect, it } from 'vitest';
import { ROLE } from '../../../src/kv/raft/core.js';
import { type Append, MESSAGE } from '../../../src/kv/raft/message.js';
import { ALONE, Bench, DATA, THREE } from './bench.js';

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
