import { describe, expect, it } from 'vitest';
import { ROLE } from '../../../src/kv/raft/core.js';
import { MESSAGE } from '../../../src/kv/raft/message.js';
import { leaseMs, RAFT_LIMITS, RAFT_TIMING } from '../../../src/kv/raft/settings.js';
import { Bench, DATA, THREE } from './bench.js';

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

describe('a follower that lacks much', () => {
  it('is sent some of it in each ready, up to its window', () => {
    const bench = Bench.leading();
    bench.answer(2, 1);
    bench.answer(3, 1);
    bench.obey();
    const data = Buffer.alloc(100_000);
    for (let sequence = 1; sequence <= 60; sequence++) bench.raft.propose(1, sequence, data);
    const sent: number[] = [];
    for (let ready = bench.raft.ready(); ready; ready = bench.raft.ready()) {
      bench.write(ready);
      let bytes = 0;
      for (const message of [...ready.messages, ...ready.afterDurable])
        if (message.kind === MESSAGE.APPEND && message.to === 2)
          bytes += message.entries.reduce((sum, entry) => sum + entry.data.length, 0);
      sent.push(bytes);
      bench.raft.durable(ready.number);
    }
    const { burstBytesMax, appendBytesMax, windowBytesMax } = RAFT_LIMITS;
    expect(Math.max(...sent)).toBeLessThan(burstBytesMax + appendBytesMax);
    const all = sent.reduce((sum, bytes) => sum + bytes, 0);
    expect(all).toBeGreaterThan(windowBytesMax - appendBytesMax);
    expect(all).toBeLessThan(windowBytesMax + appendBytesMax);
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
