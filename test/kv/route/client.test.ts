import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OUTCOME } from '../../../src/kv/replicated/commands.js';
import { ASK, type Attempt, KvClient, type NotDone } from '../../../src/kv/route/client.js';
import { type Place, Route } from '../../../src/kv/route/route.js';
import { between } from '../balance/model.js';

const NOTHING = new Uint8Array();
const KEY = Buffer.from('ab');

function place(more: Partial<Place> = {}): Place {
  const boundary = between('a', 'b');
  return {
    range: 1,
    epoch: 1,
    boundary,
    genesis: 7,
    pristine: false,
    term: 1,
    leader: 1,
    stores: [1, 2, 3],
    ...more,
  };
}

type Ending =
  | { readonly kind: 'done'; readonly output: Uint8Array | undefined }
  | { readonly kind: NotDone | 'unknown' };

class Desk {
  nowMs = 0;
  readonly route = new Route();
  readonly sent: { readonly store: number; readonly attempt: Attempt }[] = [];
  takes = true;
  readonly endings: Ending[] = [];
  readonly client: KvClient;

  constructor(draw: () => number = () => 0, callsMax = 100) {
    this.route.correct(place());
    this.client = new KvClient(
      9,
      this.route,
      {
        send: (store, attempt) => {
          if (this.takes) this.sent.push({ store, attempt });
          return this.takes;
        },
      },
      { clock: { monotonicMs: () => this.nowMs }, random: { u32: draw } },
      { callsMax, retryMinMs: 5, retryMaxMs: 500 },
    );
  }

  ask(ask: number = ASK.MUTATE, deadlineMs = 1000): boolean {
    return this.client.call(ask, KEY, Buffer.from('x'), deadlineMs, {
      done: output => this.endings.push({ kind: 'done', output }),
      notDone: kind => this.endings.push({ kind }),
      unknown: () => this.endings.push({ kind: 'unknown' }),
    });
  }

  /** To the time of the next deed, and does it. */
  pass(toMs = this.client.nextDeadlineMs): void {
    this.nowMs = Math.max(this.nowMs, toMs);
    this.client.tick();
  }

  last(): { readonly store: number; readonly attempt: Attempt } {
    return this.sent.at(-1)!;
  }
}

describe('KvClient', () => {
  it('tells all that is under way when it is closed, and whether it may have been done', () => {
    const desk = new Desk();
    desk.ask();
    desk.ask(ASK.QUERY);
    desk.takes = false;
    desk.ask();
    desk.client.close();
    expect(desk.endings.map(({ kind }) => kind)).toEqual(['unknown', 'deadline', 'deadline']);
    expect([desk.client.size, desk.client.nextDeadlineMs]).toEqual([0, Number.POSITIVE_INFINITY]);
  });

  it('asks the leader of the key’s range and hands on what it says', () => {
    const desk = new Desk();
    expect(desk.ask()).toBe(true);
    expect(desk.last()).toMatchObject({
      store: 1,
      attempt: { range: 1, epoch: 1, session: 9, sequence: 1, ask: ASK.MUTATE },
    });
    desk.client.answered(1, 1, OUTCOME.DONE, Buffer.from('y'));
    expect(desk.endings).toEqual([{ kind: 'done', output: Buffer.from('y') }]);
    expect(desk.client.size).toBe(0);
    desk.pass(2000);
    expect(desk.endings.length).toBe(1);
  });

  it('follows a correction, under the same number', () => {
    const desk = new Desk();
    desk.ask();
    const places = [place({ term: 2, leader: 3 })];
    desk.client.answered(1, 1, OUTCOME.NOT_LEADER, NOTHING, places);
    desk.pass();
    expect(desk.last()).toMatchObject({ store: 3, attempt: { sequence: 2 } });
    const halves = [
      place({ boundary: between('a', 'aa'), epoch: 2, term: 2, leader: 3 }),
      place({ range: 2, boundary: between('aa', 'b'), epoch: 2, leader: 2 }),
    ];
    desk.client.answered(3, 2, OUTCOME.WRONG_RANGE, NOTHING, halves);
    desk.pass();
    expect(desk.last()).toMatchObject({ store: 2, attempt: { range: 2, epoch: 2, sequence: 3 } });
  });

  it.each([OUTCOME.WRONG_RANGE, OUTCOME.MERGING, OUTCOME.NOT_LEADER, OUTCOME.OVERLOADED])(
    'after nothing but outcome %i it is certain that nothing was done',
    outcome => {
      const desk = new Desk();
      desk.ask();
      for (let i = 0; i < 40 && desk.endings.length === 0; i++) {
        desk.client.answered(1, desk.last().attempt.sequence, outcome, NOTHING);
        desk.pass();
      }
      expect(desk.endings).toEqual([{ kind: 'deadline' }]);
      // 5 ms doubled up to 500 ms, each at least halved by chance.
      expect(desk.sent.length).toBeLessThan(14);
    },
  );

  it('says unknown of a command that may be done, and never of a question', () => {
    const lost = (ask: number) => {
      const desk = new Desk();
      desk.ask(ask);
      desk.client.lost(1, () => true);
      desk.takes = false;
      desk.pass(1000);
      return desk.endings;
    };
    expect(lost(ASK.MUTATE)).toEqual([{ kind: 'unknown' }]);
    expect(lost(ASK.QUERY)).toEqual([{ kind: 'deadline' }]);
  });

  it('stays uncertain when a later attempt is refused', () => {
    const desk = new Desk();
    desk.ask();
    desk.client.answered(1, 1, OUTCOME.UNKNOWN, NOTHING);
    desk.pass();
    desk.client.answered(1, 1, OUTCOME.REFUSED, NOTHING);
    expect(desk.endings).toEqual([{ kind: 'unknown' }]);
  });

  it('keeps its number from when it may have been done', () => {
    const desk = new Desk();
    desk.ask();
    desk.client.answered(1, 1, OUTCOME.NOT_LEADER, NOTHING);
    desk.pass();
    desk.client.answered(1, 2, OUTCOME.UNKNOWN, NOTHING);
    desk.pass();
    desk.client.answered(1, 2, OUTCOME.NOT_LEADER, NOTHING);
    desk.pass();
    expect(desk.sent.map(({ attempt }) => attempt.sequence)).toEqual([1, 2, 2, 2]);
  });

  it('is over when nobody will ever know', () => {
    const desk = new Desk();
    desk.ask();
    desk.client.answered(1, 1, OUTCOME.FORGOTTEN, NOTHING);
    expect(desk.endings).toEqual([{ kind: 'unknown' }]);
  });

  it('hears of its own deed from an attempt that was given up', () => {
    const desk = new Desk();
    desk.ask();
    desk.client.lost(1, () => true);
    desk.client.answered(1, 1, OUTCOME.NOT_LEADER, NOTHING);
    desk.client.answered(1, 1, OUTCOME.DONE, Buffer.from('late'));
    expect(desk.endings).toEqual([{ kind: 'done', output: Buffer.from('late') }]);
  });

  it('is refused what can never be done, when nothing was', () => {
    const desk = new Desk();
    desk.ask();
    desk.client.answered(1, 1, OUTCOME.REFUSED, NOTHING);
    expect(desk.endings).toEqual([{ kind: 'refused' }]);
  });

  it('waits for a route, and goes on as soon as there is one', () => {
    const desk = new Desk();
    desk.route.correct(place({ boundary: between('a', 'aa'), epoch: 2 }));
    desk.ask();
    expect(desk.sent.length).toBe(0);
    desk.pass(300);
    desk.route.correct(place({ range: 2, boundary: between('aa', 'b'), epoch: 2, leader: 0, stores: [5] }));
    desk.client.routeChanged();
    desk.pass(300);
    expect(desk.last()).toMatchObject({ store: 5, attempt: { range: 2 } });
  });

  it('goes to a new leader as soon as one is known, and to the old one no sooner than it would', () => {
    const desk = new Desk();
    desk.ask(ASK.MUTATE, 10_000);
    for (let tries = 0; tries < 10; tries++) {
      desk.client.answered(1, desk.last().attempt.sequence, OUTCOME.NOT_LEADER, NOTHING);
      desk.pass();
    }
    desk.client.answered(1, desk.last().attempt.sequence, OUTCOME.NOT_LEADER, NOTHING);
    const sent = desk.sent.length;
    desk.route.correct(place({ term: 2, stores: [1, 2] }));
    desk.client.routeChanged();
    desk.pass(desk.nowMs + 1);
    expect(desk.sent.length).toBe(sent);
    desk.route.correct(place({ term: 3, leader: 2 }));
    desk.client.routeChanged();
    desk.pass(desk.nowMs + 1);
    expect(desk.last()).toMatchObject({ store: 2, attempt: { sequence: 12 } });
    expect(desk.sent.length).toBe(sent + 1);
  });

  it('says with each attempt which numbers have ended', () => {
    const desk = new Desk();
    for (let calls = 1; calls <= 4; calls++) desk.ask(ASK.MUTATE, 10_000);
    expect(desk.sent.map(({ attempt }) => attempt.lowest)).toEqual([1, 1, 1, 1]);
    desk.client.answered(1, 1, OUTCOME.DONE, NOTHING);
    desk.client.answered(1, 3, OUTCOME.DONE, NOTHING);
    desk.ask();
    expect(desk.last().attempt).toMatchObject({ sequence: 5, lowest: 2 });
    desk.client.answered(1, 2, OUTCOME.DONE, NOTHING);
    desk.client.answered(1, 4, OUTCOME.NOT_LEADER, NOTHING);
    desk.pass();
    expect(desk.last().attempt).toMatchObject({ sequence: 6, lowest: 5 });
  });

  it('takes no more than its bound', () => {
    const desk = new Desk(() => 0, 2);
    expect([desk.ask(), desk.ask(), desk.ask()]).toEqual([true, true, false]);
    desk.pass(1000);
    expect(desk.endings.length).toBe(2);
    expect(desk.ask(ASK.MUTATE, 2000)).toBe(true);
  });
});

describe('the answers of a KvClient', () => {
  /** What a store may do with an attempt: 0 applies and answers, 1 applies and the answer is lost, 2 refuses, 3 holds it. */
  const step = fc.record({ what: fc.nat(3), late: fc.boolean() });

  it('are true: done was done once, not done never will be', () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 40 }),
        fc.infiniteStream(fc.nat(0xffff_ffff)),
        (steps, chance) => {
          const draw = chance[Symbol.iterator]();
          const desk = new Desk(() => draw.next().value!);
          const applied = new Set<number>();
          let times = 0;
          const apply = (sequence: number) => {
            if (applied.has(sequence)) return OUTCOME.DONE_BEFORE;
            applied.add(sequence);
            times++;
            return OUTCOME.DONE;
          };
          const held: Attempt[] = [];
          desk.ask();
          let seen = 0;
          for (const { what, late } of steps) {
            if (desk.endings.length > 0) break;
            if (desk.sent.length > seen) {
              const { store, attempt } = desk.sent[seen++]!;
              const { sequence } = attempt;
              if (what === 0) desk.client.answered(store, sequence, apply(sequence), NOTHING);
              else if (what === 1) {
                apply(sequence);
                desk.client.lost(store, () => true);
              } else if (what === 2) desk.client.answered(store, sequence, OUTCOME.NOT_LEADER, NOTHING);
              else {
                held.push(attempt);
                if (late) desk.client.lost(store, () => true);
                else desk.client.answered(store, sequence, OUTCOME.UNKNOWN, NOTHING);
              }
            }
            desk.pass();
          }
          while (desk.endings.length === 0) desk.pass(desk.nowMs + 100);
          const [ending] = desk.endings;
          if (ending!.kind === 'done') expect(times).toBe(1);
          // What was held somewhere is applied after all.
          for (const { sequence } of held) apply(sequence);
          expect(times).toBeLessThanOrEqual(1);
          if (ending!.kind === 'deadline' || ending!.kind === 'refused') expect(times).toBe(0);
          expect(desk.endings.length).toBe(1);
        },
      ),
      { numRuns: 1000 },
    );
  });
});
