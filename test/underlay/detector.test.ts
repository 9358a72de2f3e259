import { describe, expect, it } from 'vitest';
import type { HostId } from '../../src/underlay/message.js';
import { Desk, record } from './desk.js';

const B = record('b').id;
const C = record('c').id;

const ack = (desk: Desk, target: HostId) => ({ kind: 'ack', sequence: desk.sequence, target }) as const;
const nack = (desk: Desk, target: HostId) => ({ kind: 'nack', sequence: desk.sequence, target }) as const;

/** What was said about probing; gossip left out. */
const probing = (lines: readonly string[]) => lines.filter(line => /ping|ack|mistaken/.test(line));

describe('a probe (SWIM, section 3.1)', () => {
  it('is over with a direct ack', () => {
    const desk = new Desk().know('b');
    desk.runUntil('ping b');
    expect(desk.take()).toEqual(['b -> ping b']);
    desk.nowMs += 20;
    desk.hear('b', ack(desk, B));
    desk.run(979);
    expect(desk.take()).toEqual([]);
    expect(desk.machine.hosts()[1]).toMatchObject({ roundTripMs: 20, oneWay: false });
    desk.run(1);
    expect(desk.take()).toEqual(['b -> ping b']);
    expect(desk.machine.counters).toMatchObject({ probes: 2, probeFailures: 0, indirectProbes: 0 });
  });

  it('goes through others, and by the stream, after the time-out; an ack through a relay is as good', () => {
    const desk = new Desk().know('b', 'c');
    desk.runUntil('ping b');
    expect(probing(desk.take())).toEqual(['b -> ping b']);
    desk.run(499);
    expect(probing(desk.take())).toEqual([]);
    desk.run(1);
    expect(probing(desk.take())).toEqual(['b -> ping b', 'b => ping b', 'c -> ping-request b']);
    desk.hear('c', ack(desk, B));
    desk.run(999);
    expect(desk.takeEvents().filter(line => line.includes('b@'))).toEqual([]);
  });

  it('suspects the target when nothing helps, and tells it so by the path that arrives', () => {
    const desk = new Desk().know('b');
    desk.runUntil('ping b').run(999);
    expect(desk.takeEvents()).toEqual([]);
    desk.take();
    desk.run(1);
    expect(desk.takeEvents()).toEqual(['suspected b@0']);
    const said = desk.take();
    expect(said).toContain('b => suspect b@0 by a');
    expect(said).toContain('b -> ping b suspected@0');
  });

  it('waits longer where answers take long, and goes on probing meanwhile', () => {
    const desk = new Desk().know('b', 'c');
    for (let probes = 0; probes < 40; probes++) {
      desk.runUntil(' -> ping ');
      const target = record(desk.take()[0]!.at(-1)!).id;
      desk.run(400).hear(target === B ? 'b' : 'c', ack(desk, target));
      desk.run(1).take();
    }
    desk.takeEvents();
    desk.runUntil('-> ping b');
    const { sequence } = desk;
    desk.run(599);
    expect(probing(desk.take())).toEqual(['b -> ping b']);
    desk.run(1);
    expect(probing(desk.take())).toEqual(['b -> ping b', 'b => ping b', 'c -> ping-request b']);
    desk.run(401);
    expect(probing(desk.take())).toHaveLength(1);
    desk.hear('c', { kind: 'ack', sequence, target: B });
    desk.run(900);
    expect(desk.takeEvents()).not.toContain('suspected b@0');
  });

  it('takes nothing for an answer that was not asked for', () => {
    const desk = new Desk().know('b');
    desk.runUntil('ping b');
    desk.hear('b', { kind: 'ack', sequence: desk.sequence + 1, target: B });
    desk.hear('b', { kind: 'ack', sequence: desk.sequence, target: C });
    desk.run(1_000);
    expect(desk.takeEvents()).toEqual(['suspected b@0']);
  });

  it('asks every host within two rounds', () => {
    const desk = new Desk().know('b', 'c', 'd', 'e', 'f');
    const asked = new Set<string>();
    for (let probes = 0; probes < 10; probes++) {
      desk.runUntil('ping ');
      const [line] = desk.take();
      const target = line!.at(-1)!;
      asked.add(target);
      desk.hear(target, ack(desk, record(target).id));
      desk.run(1);
    }
    expect([...asked].sort()).toEqual(['b', 'c', 'd', 'e', 'f']);
  });

  it('sees a link that works in one direction only', () => {
    const desk = new Desk().know('b', 'c');
    for (let rounds = 0; rounds < 8; rounds++) {
      desk.runUntil('ping ');
      const target = desk.take()[0]!.at(-1)!;
      desk.hear('b', { kind: 'ping', sequence: 9, target: 1, suspected: -1 });
      if (target === 'c') desk.hear('c', ack(desk, C));
      else {
        desk.run(500);
        desk.hear('c', ack(desk, B));
      }
      desk.run(2);
      desk.take();
    }
    expect(desk.machine.hosts().map(({ record: { name }, oneWay }) => [name, oneWay])).toEqual([
      ['a', false],
      ['b', true],
      ['c', false],
    ]);
  });
});

describe('being probed', () => {
  it('is answered to the address that the asker advertises, else where the datagram came from', () => {
    const desk = new Desk().know('b');
    const ping = { kind: 'ping', sequence: 7, target: 1, suspected: -1 } as const;
    desk.packet(record('b'), [ping], 'datagram', 'test', 'nat:1');
    expect(desk.take()).toContain('b -> ack a');
    desk.packet(record('c'), [ping], 'datagram', 'test', 'nat:2');
    expect(desk.take()).toContain('nat:2 -> ack a');
    desk.packet(record('d'), [ping], 'stream', 'test', 'd:51234');
    expect(desk.take()).toEqual([]);
  });

  it('for somebody else is answered with mistaken', () => {
    const desk = new Desk().know('b');
    desk.hear('b', { kind: 'ping', sequence: 7, target: C, suspected: -1 });
    expect(desk.take()).toEqual(['b -> mistaken c']);
  });

  it('while suspected is answered with a higher incarnation, and costs health (buddy piggyback)', () => {
    const desk = new Desk().know('b');
    desk.hear('b', { kind: 'ping', sequence: 7, target: 1, suspected: 0 });
    expect(desk.take()).toEqual(expect.arrayContaining(['b -> ack a', 'b -> alive a@1']));
    expect(desk.machine.self.incarnation).toBe(1);
    expect(desk.machine.healthScore()).toBe(1);
    expect(desk.machine.counters.refutations).toBe(1);
    desk.hear('b', { kind: 'ping', sequence: 8, target: 1, suspected: 0 });
    expect(desk.machine.self.incarnation).toBe(1);
  });
});

describe('a suspicion of others', () => {
  it('is looked into by a few hosts at once, all in a small cluster', () => {
    const confirmers = (hosts: number) => {
      let count = 0;
      for (let seed = 1; seed <= 40; seed++) {
        const desk = new Desk(seed).know('b', 'c');
        for (let at = 3; at < hosts; at++) {
          const other = record('c', { id: 1_000 + at, name: `x${at}`, address: `x${at}:4800` });
          desk.hear('c', { kind: 'alive', record: other });
        }
        desk.runUntil(' ping ');
        desk.hear('c', { kind: 'suspect', id: B, incarnation: 0, by: 20 }).take();
        desk.run(1_000);
        if (desk.take().includes('b -> ping b suspected@0')) count += 1;
      }
      return count;
    };
    expect(confirmers(4)).toBe(40);
    expect(confirmers(100)).toBeLessThan(12);
  });
});

describe('a relay (Lifeguard, section 4.1)', () => {
  const request = {
    kind: 'ping-request',
    sequence: 70,
    target: C,
    address: 'c:4800',
    nackAfterMs: 400,
  } as const;

  it('passes an ack on to the asker', () => {
    const desk = new Desk().know('b', 'c');
    desk.take();
    desk.hear('b', request);
    expect(probing(desk.take())).toEqual(['c -> ping c']);
    desk.hear('c', ack(desk, C));
    expect(probing(desk.take())).toEqual(['b -> ack c']);
    desk.run(400);
    expect(desk.take().filter(line => line.includes('nack'))).toEqual([]);
  });

  it('says nack in time when it heard nothing', () => {
    const desk = new Desk().know('b', 'c');
    desk.hear('b', request).run(399);
    expect(desk.take().filter(line => line.includes('nack'))).toEqual([]);
    desk.run(1);
    expect(desk.take()).toContain('b -> nack c');
  });

  it('passes on that somebody else lives there, and draws its own conclusion', () => {
    const desk = new Desk().know('b', 'c');
    desk.hear('b', request);
    desk.packet(record('d', { address: 'c:4800' }), [
      { kind: 'mistaken', sequence: desk.sequence, target: C },
    ]);
    expect(desk.take()).toContain('b -> mistaken c');
    expect(desk.takeEvents()).toEqual(['gone c@0 replaced']);
  });
});

describe('local health', () => {
  it('does not suffer when the relays say nack: it is the target that is silent', () => {
    const desk = new Desk().know('b', 'c');
    desk.runUntil('ping b').run(500);
    desk.hear('c', nack(desk, B));
    desk.run(500);
    expect(desk.takeEvents()).toEqual(['suspected b@0']);
    expect(desk.machine.healthScore()).toBe(0);
  });

  it('suffers from nacks that are missing, and stretches interval and time-out', () => {
    const desk = new Desk().know('b', 'c', 'd', 'e');
    desk.runUntil('ping ');
    const target = desk.take()[0]!.at(-1)!;
    desk.run(500);
    expect(probing(desk.take())).toHaveLength(5);
    const relay = target === 'b' ? 'c' : 'b';
    desk.hear(relay, nack(desk, record(target).id));
    desk.run(500);
    expect(desk.machine.healthScore()).toBe(1);
    desk.take();
    desk.run(999);
    expect(probing(desk.take())).toEqual([]);
    // By both paths, and through the two that are not suspected themselves.
    desk.run(1);
    expect(probing(desk.take())).toHaveLength(4);
  });

  it('suffers from a probe that fails without relays, up to a limit, and recovers with each success', () => {
    const desk = new Desk().know('b');
    for (let failures = 0; failures < 30; failures++) {
      desk.runUntil('ping b');
      desk.take();
      desk.run(500);
      // It says itself that it lives, so it is not taken for dead, but it answers no pings.
      const { incarnation } = desk.machine.hosts()[1]!.record;
      desk.hear('b', { kind: 'alive', record: record('b', { incarnation: incarnation + 1 }) });
      desk.take();
    }
    expect(desk.machine.healthScore()).toBe(8);
    desk.runUntil('b -> ping b');
    desk.hear('b', ack(desk, B));
    expect(desk.machine.healthScore()).toBe(7);
  });
});

describe('a host that was not awake', () => {
  it('accuses nobody for what it did not hear', () => {
    const desk = new Desk().know('b');
    desk.runUntil('ping b');
    desk.nowMs += 10_000;
    desk.machine.tick();
    desk.collect();
    expect(desk.takeEvents()).toEqual([]);
    expect(desk.machine.healthScore()).toBe(1);
    expect(probing(desk.take()).at(-1)).toBe('b -> ping b');
  });

  it('gives those under suspicion the time that it slept', () => {
    const desk = new Desk().know('b', 'c');
    desk.hear('c', { kind: 'suspect', id: B, incarnation: 0, by: C });
    desk.run(1_000);
    desk.nowMs += 60_000;
    desk.machine.tick();
    desk.collect();
    desk.run(2_500);
    expect(desk.view()).toContain('(b@0)');
    desk.hear('b', { kind: 'alive', record: record('b', { incarnation: 1 }) });
    expect(desk.view()).toContain('b@1');
  });
});
