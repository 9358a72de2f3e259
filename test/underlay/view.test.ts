import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GoneReason, HostRecord, Message } from '../../src/underlay/message.js';
import { Desk, record } from './desk.js';

const B = record('b').id;

const alive = (changes: Partial<HostRecord> = {}, name = 'b'): Message => ({
  kind: 'alive',
  record: record(name, changes),
});
const suspect = (incarnation = 0, by = 3): Message => ({ kind: 'suspect', id: B, incarnation, by });
const gone = (incarnation = 0, reason: GoneReason = 'failed'): Message => ({
  kind: 'gone',
  id: B,
  incarnation,
  reason,
  by: 3,
});

/** Desk with b, c and d in the view; d is who speaks. */
const known = () => new Desk().know('b', 'c', 'd');

describe('accounts of a host (SWIM, section 4.2)', () => {
  it('suspicion, then refutation by a higher incarnation', () => {
    const desk = known();
    desk.hear('d', suspect());
    expect(desk.takeEvents()).toEqual(['suspected b@0']);
    desk.hear('d', alive());
    expect(desk.view()).toContain('(b@0)');
    desk.hear('d', alive({ incarnation: 1 }));
    expect(desk.takeEvents()).toEqual(['trusted b@1']);
    desk.hear('d', suspect(0));
    expect(desk.takeEvents()).toEqual([]);
    desk.run(500);
    expect(desk.view()).toContain('b@1');
  });

  it('a rumour is passed on, a known one is not begun again', () => {
    const desk = known();
    desk.hear('d', alive({}, 'e')).run(400);
    expect(desk.take()).toContain('b -> alive e@0');
    desk.run(10_000).take();
    desk.hear('d', alive({}, 'e')).run(5_000);
    expect(desk.take().filter(line => line.includes('alive e'))).toEqual([]);
  });

  it('a rumour rides in the space that is left in an answer', () => {
    const desk = known();
    desk.hear('d', alive({}, 'e'));
    desk.take();
    desk.hear('b', { kind: 'ping', sequence: 9, target: 1, suspected: -1 });
    expect(desk.take()).toEqual(expect.arrayContaining(['b -> ack a', 'b -> alive e@0']));
  });

  it('this host renews itself when its record has vanished from the host map', () => {
    const desk = known();
    const dropped = [1, 1, 1];
    desk.hear('d', { kind: 'crdt', map: '', message: { kind: 'delta', seq: 2, entries: [], dropped } });
    expect(desk.machine.self.incarnation).toBe(1);
    desk.run(1_000);
    expect(desk.take()).toContain('b -> alive a@1');
  });

  it('this host contradicts what is said of itself, at the incarnation that was claimed and one more', () => {
    const desk = known();
    desk.hear('d', { kind: 'suspect', id: 1, incarnation: 7, by: 3 });
    expect(desk.take()).toContain('d -> alive a@8');
    desk.hear('d', { kind: 'gone', id: 1, incarnation: 8, reason: 'failed', by: 3 });
    expect(desk.take()).toContain('d -> alive a@9');
    desk.hear('d', { kind: 'suspect', id: 1, incarnation: 8, by: 3 });
    expect(desk.machine.self.incarnation).toBe(9);
    expect(desk.machine.counters.refutations).toBe(2);
  });

  it('a leap of the incarnation is a lie', () => {
    const desk = known();
    desk.hear('d', suspect(4_000_000), gone(4_000_000), alive({ incarnation: 4_000_000 }));
    desk.hear('d', { kind: 'suspect', id: 1, incarnation: 4_000_000_000, by: 3 });
    expect(desk.takeEvents()).toEqual([]);
    expect(desk.machine.self.incarnation).toBe(0);
  });

  it('a change of the record is one event', () => {
    const desk = known();
    desk.hear('d', alive({ incarnation: 1, agents: ['x'] }));
    desk.hear('c', alive({ incarnation: 1, agents: ['x'] }));
    expect(desk.takeEvents()).toEqual(['updated b@1']);
  });

  it('an own change is told to others', () => {
    const desk = known();
    desk.machine.setAgents(['z', 'y']);
    desk.run(200);
    expect(desk.take()).toContain('b -> alive a@1');
    expect(desk.machine.self.agents).toEqual(['y', 'z']);
  });
});

describe('the time-out of a suspicion (Lifeguard, section 4.2)', () => {
  /** Milliseconds until b is gone, when so many more accuse it half a second after the first. */
  function lastsMs(confirmations: number): number {
    const desk = new Desk().know('b', 'c', 'd', 'e', 'f');
    desk.hear('d', suspect(0, 20));
    desk.run(500);
    for (let by = 21; by < 21 + confirmations; by++) desk.hear('d', suspect(0, by), suspect(0, by));
    const startMs = desk.nowMs - 500;
    while (desk.view().includes('(b@0)') && desk.nowMs < startMs + 60_000) {
      // All answer pings, so that no probe of this host confirms the suspicion at hand.
      for (const name of ['b', 'c', 'd', 'e', 'f']) {
        const { id } = record(name);
        desk.hear(name, { kind: 'ack', sequence: desk.sequence, target: id });
      }
      desk.run(100);
    }
    return desk.nowMs - startMs;
  }

  it('is shortened by each that confirms, the first most of all', () => {
    const [alone, one, two, three] = [lastsMs(0), lastsMs(1), lastsMs(2), lastsMs(3)];
    // 4 intervals at the least, six times that at most; one of two possible confirmations takes log 2 / log 3 off.
    expect([alone, one, two, three].map(ms => Math.floor(ms / 1_000))).toEqual([24, 11, 4, 4]);
  });

  it('ends in one event, one rumour, and a notice to the host', () => {
    const desk = known();
    desk.hear('d', suspect(0, 20), suspect(0, 21), suspect(0, 22));
    expect(desk.takeEvents()).toEqual(['suspected b@0']);
    desk.runUntil('notice b@0 failed');
    const events = desk.takeEvents().filter(line => line.includes('b@'));
    expect(events).toEqual(['gone b@0 failed']);
    desk.run(1_000);
    expect(desk.take()).toContain('d -> gone b@0 failed by a');
    desk.hear('d', gone(), suspect(), alive());
    desk.run(30_000);
    expect(desk.takeEvents().filter(line => line.includes('b@'))).toEqual([]);
    expect(desk.machine.lostHosts().map(({ record: { name } }) => name)).toContain('b');
  });

  it('does not end before the suspect was reminded', () => {
    const desk = known();
    desk.hear('d', suspect(0, 20), suspect(0, 21), suspect(0, 22));
    desk.take();
    desk.runUntil('notice b');
    const desk2 = known();
    desk2.hear('d', suspect(0, 20), suspect(0, 21), suspect(0, 22)).take();
    desk2.run(desk.nowMs - desk2.nowMs - 400);
    expect(desk2.take().filter(line => line === 'b -> ping b suspected@0').length).toBeGreaterThanOrEqual(2);
  });

  it('is confirmed by who reminds the suspect and hears nothing', () => {
    const others = 'cdefghijklmno'.split('');
    const desk = new Desk(2).know('b', ...others);
    desk.hear('d', suspect(0, 20)).take();
    for (let at = 0; at < 70; at++) {
      for (const name of others)
        desk.hear(name, { kind: 'ack', sequence: desk.sequence, target: record(name).id });
      desk.run(100);
    }
    const said = desk.take();
    expect(desk.machine.counters.probeFailures).toBe(0);
    expect(said).toContain('b -> ping b suspected@0');
    expect(said.filter(line => line.endsWith('suspect b@0 by a')).length).toBeGreaterThan(0);
  });

  it('a suspect that is heard is told so', () => {
    const desk = known();
    desk.hear('d', suspect()).take();
    desk.hear('b', { kind: 'ack', sequence: 99, target: B });
    expect(desk.take()).toContain('b -> suspect b@0 by a');
  });
});

describe('a host that is gone', () => {
  it('by the word of others is but a suspect while it is heard here: they may have been cut off from it', () => {
    const desk = known();
    desk.hear('b', { kind: 'ack', sequence: 99, target: B }).run(500).take();
    desk.takeEvents();
    desk.hear('d', gone());
    expect(desk.takeEvents()).toEqual(['suspected b@0']);
    expect(desk.take()).toContain('b -> suspect b@0 by a');
    desk.hear('b', alive({ incarnation: 1 }));
    expect(desk.takeEvents()).toEqual(['trusted b@1']);
    desk.hear('d', gone(1, 'left'));
    expect(desk.takeEvents()).toEqual(['gone b@1 left']);
  });

  it('is taken back at a higher incarnation only, and is told so once a second', () => {
    const desk = known();
    desk.hear('d', gone()).take();
    desk.takeEvents();
    desk.hear('b', { kind: 'ping', sequence: 5, target: 1, suspected: -1 });
    expect(desk.take()).toContain('b -> notice b@0 failed');
    desk.hear('b', { kind: 'ping', sequence: 6, target: 1, suspected: -1 });
    expect(desk.take().filter(line => line.includes('notice'))).toEqual([]);
    desk.hear('d', alive());
    expect(desk.takeEvents()).toEqual([]);
    desk.packet(record('b', { incarnation: 1 }), [
      {
        kind: 'join',
        record: record('b', { incarnation: 1 }),
        expected: 1,
        reply: true,
        environment: 'test',
      },
    ]);
    expect(desk.takeEvents()).toEqual(['joined b@1']);
    expect(desk.take()).toContain('b -> join a@0 to b');
    expect(desk.machine.counters.heals).toBe(1);
    expect(desk.machine.lostHosts()).toEqual([]);
  });

  it('is missed by none: who takes it for alive hears that it is not', () => {
    const desk = known();
    desk.hear('d', gone(0, 'left')).take();
    desk.hear('c', suspect());
    expect(desk.take()).toContain('c -> gone b@0 left by a');
  });

  it('left: no healing, no notice, and told apart from failure', () => {
    const desk = known();
    desk.hear('d', gone(0, 'left'));
    expect(desk.takeEvents()).toEqual(['gone b@0 left']);
    expect(desk.machine.lostHosts()).toEqual([]);
    desk.take();
    desk.hear('b', { kind: 'ping', sequence: 5, target: 1, suspected: -1 });
    expect(desk.take().filter(line => line.includes('notice'))).toEqual([]);
  });

  it('failed at first, said goodbye as it turns out: it is not looked for any more', () => {
    const desk = known();
    desk.hear('d', gone());
    expect(desk.machine.lostHosts()).toHaveLength(1);
    desk.hear('d', gone(0, 'left'));
    expect(desk.machine.lostHosts()).toHaveLength(0);
    expect(desk.takeEvents()).toEqual(['gone b@0 failed']);
  });
});

describe('two identities at one address', () => {
  const later = record('e', { address: 'b:4800', startedMs: record('b').startedMs + 1 });

  it('the earlier one is gone at once', () => {
    const desk = known();
    desk.hear('d', { kind: 'alive', record: later });
    expect(desk.takeEvents()).toEqual(['gone b@0 replaced', 'joined e@0']);
    desk.hear('d', alive());
    expect(desk.takeEvents()).toEqual([]);
    expect(desk.machine.lostHosts()).toEqual([]);
  });

  it('also when it is heard of second', () => {
    const desk = new Desk().know('d');
    desk.hear('d', { kind: 'alive', record: later });
    desk.hear('d', alive());
    expect(desk.takeEvents()).toEqual(['joined e@0']);
    expect(desk.view()).toBe('d@0 e@0');
  });

  it('a ping that finds somebody else is proof', () => {
    const desk = new Desk().know('b');
    desk.runUntil('ping b');
    desk.packet(later, [{ kind: 'mistaken', sequence: desk.sequence, target: B }]);
    expect(desk.takeEvents()).toEqual(['gone b@0 replaced']);
  });

  it('an older identity of this very address is gone; a later one makes this host show that it lives', () => {
    const desk = known();
    const own = desk.machine.self;
    desk.hear('d', { kind: 'alive', record: record('e', { address: own.address, startedMs: 1 }) });
    expect(desk.takeEvents()).toEqual([]);
    expect(desk.machine.self).toEqual(own);
    desk.run(200);
    expect(desk.take()).toContain('d -> gone e@0 replaced by a');
    const rival = record('f', { address: own.address, startedMs: own.startedMs + 5 });
    desk.hear('d', { kind: 'alive', record: rival });
    expect(desk.machine.self).toMatchObject({ incarnation: 1, startedMs: own.startedMs + 6 });
    expect(desk.view()).toBe('b@0 c@0 d@0');
  });

  it('the one with the wrong clock hears who is taken for it', () => {
    const desk = known();
    desk.hear('d', { kind: 'alive', record: later }).take();
    desk.hear('b', { kind: 'ping', sequence: 5, target: 1, suspected: -1 });
    expect(desk.take()).toEqual(expect.arrayContaining(['b -> notice b@0 replaced', 'b -> alive e@0']));
  });
});

describe('the order of arrival', () => {
  const reasons: readonly GoneReason[] = ['failed', 'left', 'replaced', 'evicted'];
  const account = fc.oneof(
    fc.record({ kind: fc.constant('alive' as const), incarnation: fc.nat(4) }),
    fc.record({
      kind: fc.constant('gone' as const),
      incarnation: fc.nat(4),
      reason: fc.constantFrom(...reasons),
    }),
  );
  const toMessage = (one: { kind: 'alive' | 'gone'; incarnation: number; reason?: GoneReason }) =>
    one.kind === 'alive'
      ? alive({ incarnation: one.incarnation })
      : gone(one.incarnation, one.reason ?? 'failed');

  function endState(messages: readonly Message[]): string {
    const desk = new Desk().know('d');
    for (const message of messages) desk.hear('d', message);
    desk.take();
    // What is held of a host that is gone shows in the notice that it gets.
    desk.run(10_000).take();
    desk.hear('b', { kind: 'ping', sequence: 1, target: 1, suspected: -1 });
    return `${desk.view()} ${desk.take().filter(line => line.includes('notice'))}`;
  }

  it('does not matter for who is in the view and who is gone for which reason', () => {
    fc.assert(
      fc.property(
        fc
          .array(account, { minLength: 2, maxLength: 6 })
          .chain(accounts =>
            fc.tuple(
              fc.constant(accounts),
              fc.shuffledSubarray(accounts, { minLength: accounts.length, maxLength: accounts.length }),
            ),
          ),
        ([accounts, shuffled]) => {
          expect(endState(shuffled.map(toMessage))).toBe(endState(accounts.map(toMessage)));
        },
      ),
      { numRuns: 300 },
    );
  });

  it('does not matter for suspicion of a host that is in the view', () => {
    const step = fc.tuple(fc.boolean(), fc.nat(4));
    const say = ([isSuspect, incarnation]: [boolean, number]) =>
      isSuspect ? suspect(incarnation) : alive({ incarnation });
    fc.assert(
      fc.property(
        fc.shuffledSubarray([0, 1, 2, 3, 4, 5]),
        fc.array(step, { minLength: 6, maxLength: 6 }),
        (order, steps) => {
          const view = (list: readonly [boolean, number][]) => {
            const desk = new Desk().know('b', 'd');
            for (const one of list) desk.hear('d', say(one));
            return desk.view();
          };
          const chosen = order.map(at => steps[at]!);
          expect(view(chosen)).toBe(view([...chosen].sort((x, y) => x[1] - y[1])));
        },
      ),
      { numRuns: 300 },
    );
  });

  it('events replayed give the view', () => {
    const message = fc.oneof(
      account.map(toMessage),
      fc.nat(4).map(incarnation => suspect(incarnation)),
      fc.nat(3).map(startedMs => alive({ startedMs }, 'e')),
      fc.constant<Message>({ kind: 'alive', record: record('f', { address: 'b:4800', startedMs: 9e12 }) }),
    );
    fc.assert(
      fc.property(fc.array(message, { maxLength: 12 }), messages => {
        const desk = new Desk();
        const seen = new Map<string, string>();
        for (const one of messages) {
          desk.hear('d', one);
          for (const line of desk.takeEvents()) {
            const [kind, host] = line.split(' ') as [string, string];
            const name = host[0]!;
            if (kind === 'joined') expect(seen.has(name)).toBe(false);
            else expect(seen.has(name)).toBe(true);
            if (kind === 'gone') seen.delete(name);
            else if (kind === 'suspected') seen.set(name, `(${host})`);
            else if (kind === 'updated' && seen.get(name)!.startsWith('(')) seen.set(name, `(${host})`);
            else seen.set(name, host);
          }
        }
        expect([...seen.values()].sort().join(' ')).toBe(desk.view());
      }),
      { numRuns: 300 },
    );
  });
});
