import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OP } from '../../src/contract/contract.js';
import { INSERT_RESULT } from '../../src/contract/inbox.js';
import { MemoryEngine } from '../../src/kv/memory-engine.js';
import {
  message,
  readAttached,
  readPushes,
  StoreHarness,
  writeAttach,
  writeInsert,
} from '../kv/store-harness.js';

type Step =
  | { kind: 'insert'; count: number; turn: boolean }
  | { kind: 'pull'; credit: number }
  | { kind: 'ack' | 'receive'; picks: number[] }
  | { kind: 'reattach'; restart: boolean }
  | { kind: 'congest'; on: boolean }
  | { kind: 'turn' };

const picks = fc.array(fc.nat(20), { maxLength: 5 });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant('insert' as const),
    count: fc.integer({ min: 1, max: 4 }),
    turn: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('pull' as const), credit: fc.nat(6) }),
  fc.record({ kind: fc.constantFrom('ack' as const, 'receive' as const), picks }),
  fc.record({ kind: fc.constant('reattach' as const), restart: fc.boolean() }),
  fc.record({ kind: fc.constant('congest' as const), on: fc.boolean() }),
  fc.record({ kind: fc.constant('turn' as const) }),
);

const LIMIT = 12;

/** One session against an array. */
class Model {
  private readonly engine = new MemoryEngine();
  private store = this.open();
  private instance = 0;
  private nextSeq = 1;
  /** Waiting or in flight. */
  private queue: number[] = [];
  private owed: number[] = [];
  private credit = 0;
  /** Next that may be pushed. */
  private cursor = 1;
  private pushed: number[] = [];

  constructor() {
    this.attach();
  }

  private open(): StoreHarness {
    return new StoreHarness({ engine: this.engine, inbox: { queueMessagesMax: LIMIT } });
  }

  private attach(): void {
    const reply = this.store.call(1, OP.INBOX_ATTACH, writer => writeAttach(writer, { clientId: 'c' }));
    const attached = readAttached(reply);
    if (this.instance !== 0) expect(attached.instance).toBe(this.instance);
    this.instance = attached.instance;
    expect(attached).toMatchObject({ nextSeq: this.nextSeq, owed: this.owed });
    this.credit = 0;
    this.pushed = [];
    // As the owner does: everything again from the oldest on.
    this.cursor = 1;
    this.store.ask(1, OP.INBOX_PULL, writer => writer.u53(this.instance).u53(1).u32(0), false);
  }

  run(action: Step): void {
    if (action.kind === 'insert') this.insert(action.count, action.turn);
    else if (action.kind === 'pull') {
      this.credit += action.credit;
      this.store.ask(1, OP.INBOX_PULL, writer => writer.u53(this.instance).u53(0).u32(action.credit), false);
    } else if (action.kind === 'ack' || action.kind === 'receive') this.finish(action.kind, action.picks);
    else if (action.kind === 'reattach') this.reattach(action.restart);
    else if (action.kind === 'congest') {
      if (action.on) this.store.congestedPeers.add(1);
      else this.store.congestedPeers.delete(1);
    } else this.store.store.endTurn();
    this.collect();
  }

  private insert(count: number, turn: boolean): void {
    const calls: number[] = [];
    for (let i = 0; i < count; i++)
      calls.push(
        this.store.ask(2, OP.INBOX_INSERT, writer =>
          writeInsert(writer, message('t', `${this.nextSeq + i}`), [{ clientId: 'c' }]),
        ),
      );
    // Removals that wait are applied before these, so the model's count is the store's.
    for (let i = 0; i < count; i++) if (this.queue.length < LIMIT) this.queue.push(this.nextSeq++);
    const room = calls.length;
    this.store.store.endTurn();
    const results = calls.map(callId => {
      const reply = this.store.reply(callId)!;
      reply.u8();
      reply.u32();
      return reply.u8();
    });
    expect(results).toHaveLength(room);
    const queued = results.filter(result => result === INSERT_RESULT.QUEUED).length;
    expect(results.slice(0, queued).every(result => result === INSERT_RESULT.QUEUED)).toBe(true);
    expect(results.slice(queued).every(result => result === INSERT_RESULT.DROPPED_NEWEST)).toBe(true);
    if (turn) this.store.store.endTurn();
  }

  private finish(kind: 'ack' | 'receive', picks: number[]): void {
    const of = kind === 'ack' ? [...this.pushed, ...this.owed] : this.pushed;
    const seqs = [
      ...new Set(picks.map(pick => of[pick % Math.max(of.length, 1)]).filter(seq => seq !== undefined)),
    ];
    const op = kind === 'ack' ? OP.INBOX_ACKED : OP.INBOX_RECEIVED;
    this.store.ask(
      1,
      op,
      writer => {
        writer.u53(this.instance).u32(seqs.length);
        for (const seq of seqs) writer.u53(seq);
      },
      kind === 'receive',
    );
    this.queue = this.queue.filter(seq => !seqs.includes(seq));
    this.pushed = this.pushed.filter(seq => !seqs.includes(seq));
    if (kind === 'ack') this.owed = this.owed.filter(seq => !seqs.includes(seq));
    else this.owed = [...this.owed, ...seqs].sort((a, b) => a - b);
  }

  private reattach(restart: boolean): void {
    if (restart) {
      // Commits what waits, so that the model need not know what a crash would undo.
      this.store.store.tick(0);
      this.store.store.endTurn();
      this.store = this.open();
      this.store.inbox.start(0);
    } else
      this.store.call(1, OP.INBOX_DETACH, writer =>
        writer.u53(this.instance).u32(1).u32(0xffff_ffff).u53(0).u8(0).u53(0),
      );
    this.attach();
  }

  private collect(): void {
    for (const {
      seq,
      message: { payload },
    } of readPushes(this.store.take(OP.INBOX_MESSAGES))) {
      const next = this.queue.find(waiting => waiting >= this.cursor);
      expect(seq).toBe(next);
      expect(Buffer.from(payload).toString()).toMatch(/^\d+$/);
      expect(this.credit).toBeGreaterThan(0);
      this.credit--;
      this.cursor = seq + 1;
      this.pushed.push(seq);
    }
  }

  /** With credit and room, everything that waits comes. */
  drain(): void {
    this.store.congestedPeers.clear();
    this.run({ kind: 'pull', credit: 1000 });
    for (let i = 0; i < 4; i++) this.run({ kind: 'turn' });
    expect(this.queue.filter(seq => seq >= this.cursor)).toEqual([]);
  }
}

describe('an inbox queue', () => {
  it('does what an array does, over turns, reconnects and restarts', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), steps => {
        const model = new Model();
        for (const action of steps) model.run(action);
        model.drain();
      }),
      { numRuns: 300 },
    );
  });
});
