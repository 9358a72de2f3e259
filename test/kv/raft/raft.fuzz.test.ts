import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeConfiguration } from '../../../src/kv/raft/configuration-codec.js';
import { MESSAGE, type Message } from '../../../src/kv/raft/message.js';
import { Raft } from '../../../src/kv/raft/raft.js';
import { ENTRY } from '../../../src/kv/raft/ready.js';
import { RAFT_LIMITS, RAFT_TIMING } from '../../../src/kv/raft/settings.js';
import { MemoryLog } from './stored-log.js';

/** Numbers are small, so that they often hit. */
const small = fc.nat(6);
const peer = fc.integer({ min: 1, max: 4 });
const envelope = { from: peer, to: fc.constant(1), term: small };
const voters = fc.subarray([1, 2, 3, 4], { minLength: 1 });

const append = fc
  .record({
    ...envelope,
    previousIndex: small,
    previousTerm: small,
    commit: small,
    steps: fc.array(fc.nat(1), { maxLength: 3 }),
    voters,
  })
  .map(({ steps, voters: some, ...message }): Message => {
    let term = message.previousTerm;
    const entries = steps.map((step, i) => {
      const kind = i === 2 ? ENTRY.CONFIGURATION : ENTRY.COMMAND;
      const data =
        kind === ENTRY.COMMAND
          ? Buffer.from('x')
          : encodeConfiguration({ voters: some, outgoing: [1, 2, 3], learners: [] });
      return {
        term: (term += step),
        index: message.previousIndex + 1 + i,
        kind,
        session: 0,
        sequence: 0,
        data,
      };
    });
    return { kind: MESSAGE.APPEND, ...message, term: Math.max(term, message.term), entries };
  });

const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ kind: fc.constant(MESSAGE.PRE_VOTE), ...envelope, lastIndex: small, lastTerm: small }),
  fc.record({ kind: fc.constant(MESSAGE.PRE_VOTE_ANSWER), ...envelope, granted: fc.boolean() }),
  fc.record({
    kind: fc.constant(MESSAGE.VOTE),
    ...envelope,
    lastIndex: small,
    lastTerm: small,
    force: fc.boolean(),
  }),
  fc.record({ kind: fc.constant(MESSAGE.VOTE_ANSWER), ...envelope, granted: fc.boolean() }),
  append,
  fc.record({
    kind: fc.constant(MESSAGE.APPEND_ANSWER),
    ...envelope,
    match: small,
    rejected: small,
    hintIndex: small,
    hintTerm: small,
  }),
  fc.record({
    kind: fc.constant(MESSAGE.HEARTBEAT),
    ...envelope,
    round: small,
    commit: small,
    quiesce: fc.boolean(),
  }),
  fc.record({ kind: fc.constant(MESSAGE.HEARTBEAT_ANSWER), ...envelope, round: small }),
  fc.record({ kind: fc.constant(MESSAGE.TIMEOUT_NOW), ...envelope }),
  fc.record({
    kind: fc.constant(MESSAGE.PROPOSE),
    ...envelope,
    proposals: fc.array(fc.record({ session: small, sequence: small, data: fc.constant(Buffer.from('y')) }), {
      maxLength: 3,
    }),
  }),
  fc.record({ kind: fc.constant(MESSAGE.READ), ...envelope, context: small, lease: fc.boolean() }),
  fc.record({ kind: fc.constant(MESSAGE.READ_ANSWER), ...envelope, context: small, index: small }),
  fc.record({
    kind: fc.constant(MESSAGE.REFUSE),
    ...envelope,
    what: fc.constantFrom('proposal' as const, 'read' as const),
    session: small,
    sequence: small,
    reason: fc.constant('overloaded' as const),
    leader: small,
  }),
);

const call = fc.oneof(
  { weight: 8, arbitrary: message },
  fc.record({ call: fc.constant('tick' as const), ms: fc.constantFrom(100, 500, 3_000) }),
  fc.record({ call: fc.constant('propose' as const) }),
  fc.record({ call: fc.constant('read' as const), lease: fc.boolean() }),
  fc.record({ call: fc.constant('change' as const), voters }),
  fc.record({ call: fc.constant('transfer' as const), to: peer }),
  fc.record({ call: fc.constant('campaign' as const) }),
  fc.record({ call: fc.constant('sent' as const), to: peer, index: small, ok: fc.boolean() }),
  fc.record({ call: fc.constant('received' as const), index: small, term: small, voters }),
  fc.record({ call: fc.constant('unreachable' as const), to: peer }),
  fc.record({ call: fc.constant('compact' as const) }),
);
type Call = typeof call extends fc.Arbitrary<infer T> ? T : never;

class Target {
  nowMs = 0;
  readonly log = new MemoryLog({ voters: [1, 2, 3], outgoing: [], learners: [] });
  readonly raft: Raft;
  private context = 0;

  constructor() {
    const silent = { debug() {}, info() {}, warn() {}, error() {} };
    const env = {
      clock: { wallMs: () => 0, monotonicMs: () => this.nowMs },
      random: { u32: () => 0 },
      log: silent,
    };
    this.raft = new Raft({ id: 1, log: this.log, timing: RAFT_TIMING, limits: RAFT_LIMITS, env });
  }

  run(one: Call): void {
    const { raft, log } = this;
    if ('kind' in one) raft.step(one);
    else if (one.call === 'tick') {
      this.nowMs += one.ms;
      raft.tick();
    } else if (one.call === 'propose') raft.propose(1, ++this.context, Buffer.from('z'));
    else if (one.call === 'read') raft.read(++this.context, one.lease ? 'lease' : 'index');
    else if (one.call === 'change') raft.change({ voters: one.voters, learners: [] }, 1, ++this.context);
    else if (one.call === 'transfer') raft.transfer(one.to);
    else if (one.call === 'campaign') raft.campaign();
    else if (one.call === 'sent') raft.snapshotSent(one.to, one.index, one.ok);
    else if (one.call === 'received')
      raft.snapshotReceived({
        index: one.index,
        term: one.term,
        configuration: { voters: one.voters, outgoing: [], learners: [] },
      });
    else if (one.call === 'unreachable') raft.unreachable(one.to);
    else if (log.applied > log.snapshot.index) {
      log.compact(log.applied, raft.configurationAt(log.applied));
      raft.compacted(log.applied);
    }
  }

  obey(): void {
    for (let ready = this.raft.ready(), i = 0; ready; ready = this.raft.ready(), i++) {
      expect(i).toBeLessThan(20);
      if (ready.snapshot) this.log.install(ready.snapshot);
      this.log.write(ready.entries);
      if (ready.hardState) this.log.hardState = ready.hardState;
      for (const entry of ready.committed) {
        expect(entry.index).toBe(this.log.applied + 1);
        this.log.applied = entry.index;
      }
      this.raft.durable(ready.number);
      this.raft.applied(this.log.applied);
    }
  }
}

describe('one replica among liars', () => {
  it('breaks nothing of its own: terms and commits go forward, and it starts again from its disk', () => {
    fc.assert(
      fc.property(fc.array(fc.array(call, { maxLength: 3 }), { maxLength: 40 }), turns => {
        const target = new Target();
        let term = 0;
        let commit = 0;
        for (const calls of turns) {
          for (const one of calls) target.run(one);
          target.obey();
          const { raft, log } = target;
          expect(raft.term).toBeGreaterThanOrEqual(term);
          expect(raft.commitIndex).toBeGreaterThanOrEqual(commit);
          expect(raft.commitIndex).toBeLessThanOrEqual(raft.lastIndex);
          expect(log.hardState.term).toBe(raft.term);
          expect(log.lastIndex).toBe(raft.lastIndex);
          ({ term, commitIndex: commit } = raft);
        }
        // Whatever happened, it starts again from its disk.
        new Raft({
          id: 1,
          log: target.log,
          timing: RAFT_TIMING,
          limits: RAFT_LIMITS,
          env: {
            clock: { wallMs: () => 0, monotonicMs: () => 0 },
            random: { u32: () => 0 },
            log: { debug() {}, info() {}, warn() {}, error() {} },
          },
        });
      }),
      { numRuns: 1_000 },
    );
  });
});
