import { describe, expect, it } from 'vitest';
import { environmentHash } from '../../src/underlay/environment.js';
import { LOST_MAX } from '../../src/underlay/healer.js';
import { MEMBERS_MAX, TOMBSTONES_MAX } from '../../src/underlay/members.js';
import type { Message } from '../../src/underlay/message.js';
import { DATAGRAM_BUDGET_BYTES } from '../../src/underlay/outbox.js';
import { Pace } from '../../src/underlay/pace.js';
import { REFUSALS_MAX } from '../../src/underlay/refusals.js';
import { RUMOURS_MAX } from '../../src/underlay/rumours.js';
import { SEEDS_MAX } from '../../src/underlay/seeds.js';
import { Desk, record } from './desk.js';

const other = (at: number) =>
  record('b', { id: 1_000 + at, name: `x${at}`, address: `x${at}:1`, startedMs: at });

function hear(desk: Desk, messages: readonly Message[], from = 2): void {
  const packet = { environment: environmentHash('test'), from, incarnation: 0, hlc: 0, wallMs: 0, messages };
  desk.machine.receive(packet, 'b:4800', 'datagram');
}

describe('nothing grows without bound', () => {
  it('whoever is said to be alive, suspect or gone', () => {
    const desk = new Desk().know('b');
    for (let at = 0; at < MEMBERS_MAX + 500; at++) hear(desk, [{ kind: 'alive', record: other(at) }]);
    let entries = desk.machine.entries();
    expect(entries.members).toBe(MEMBERS_MAX);
    expect(entries.rumours).toBeLessThanOrEqual(RUMOURS_MAX);
    expect(entries.probeList).toBeLessThanOrEqual(2 * MEMBERS_MAX + 200);
    for (let at = 0; at < 6_000; at++)
      hear(desk, [{ kind: 'suspect', id: 1_000 + at, incarnation: 0, by: 2 }]);
    expect(desk.machine.entries().suspicions).toBeLessThanOrEqual(4_096);
    for (let at = 0; at < 2 * TOMBSTONES_MAX; at++)
      hear(desk, [{ kind: 'gone', id: 1_000 + at, incarnation: 0, reason: 'failed', by: 2 }]);
    entries = desk.machine.entries();
    expect(entries.tombstones).toBe(TOMBSTONES_MAX);
    expect(entries.lost).toBeLessThanOrEqual(LOST_MAX);
    expect(entries.suspicions).toBe(0);
  });

  it('whoever comes and goes within a round of probes', () => {
    const desk = new Desk().know('b');
    for (let incarnation = 0; incarnation < 3_000; incarnation++) {
      hear(desk, [{ kind: 'alive', record: { ...other(0), incarnation } }]);
      hear(desk, [{ kind: 'gone', id: 1_000, incarnation, reason: 'failed', by: 2 }]);
      desk.machine.ready();
    }
    expect(desk.machine.entries().probeList).toBeLessThan(200);
    expect(desk.machine.entries()).toMatchObject({ members: 1, lost: 1, tombstones: 1 });
  });

  it('whoever asks for probes, knocks, or is spoken for', () => {
    const desk = new Desk().know('b');
    for (let at = 0; at < 3_000; at++) {
      const id = 50_000 + at;
      hear(desk, [
        { kind: 'ping-request', sequence: at, target: id, address: `y${at}:1`, nackAfterMs: 1e12 },
      ]);
      hear(desk, [{ kind: 'ping', sequence: at, target: 1, suspected: -1 }], id);
      desk.machine.receiveSealed(`z${at}:1`, 'malformed');
      const join = {
        kind: 'join',
        record: other(at),
        expected: 0,
        reply: true,
        environment: 'e'.repeat(999),
      } as const;
      desk.packet(other(at), [join], 'stream', 'other', `z${at}:2`);
      desk.nowMs += 100;
    }
    const entries = desk.machine.entries();
    expect(entries.relays).toBeLessThanOrEqual(256);
    expect(entries.refusals).toBe(REFUSALS_MAX);
    expect(entries.paced).toBeLessThanOrEqual(3 * 1_024);
    expect(desk.machine.refusals().every(({ detail }) => detail.length <= 64)).toBe(true);
    // Forged senders do not fill the log: five minutes.
    expect(desk.warnings.length).toBeLessThanOrEqual(6 * 16);
    desk.run(20_000);
    expect(desk.machine.entries().relays).toBe(0);
  });

  it('whatever seeds are configured', () => {
    const desk = new Desk();
    desk.machine.setSeeds(Array.from({ length: 1_000 }, (_, at) => `s${at}:1`));
    expect(desk.machine.seedStates()).toHaveLength(SEEDS_MAX);
  });

  it('whatever is written into the host map', () => {
    const desk = new Desk().know('b');
    for (let at = 0; at < 500; at++) {
      const entries = [{ key: `h:${at}`, replica: 7, counter: at + 1, value: new Uint8Array(3) }];
      hear(desk, [{ kind: 'crdt', map: '', message: { kind: 'delta', seq: at + 1, entries, dropped: [] } }]);
    }
    desk.collect();
    expect(desk.view()).toBe('b@0');
    for (let at = 0; at < 400; at++) {
      hear(desk, [{ kind: 'alive', record: other(at) }]);
      desk.machine.evict(1_000 + at);
      desk.collect();
    }
    expect(desk.machine.entries().mapKeys).toBeLessThanOrEqual(500 + 256 + 1);
  });

  it('and no packet is fuller than a datagram may be', () => {
    const desk = new Desk().know('b', 'c', 'd');
    const agents = Array.from({ length: 40 }, (_, at) => `agent-with-a-long-name-${at}`);
    for (let at = 0; at < 200; at++)
      hear(desk, [{ kind: 'alive', record: at % 10 === 0 ? { ...other(at), agents } : other(at) }]);
    let large = 0;
    for (let turns = 0; turns < 2_000; turns++) {
      desk.nowMs = Math.max(desk.nowMs, Math.min(desk.machine.nextDeadlineMs(), desk.nowMs + 100));
      desk.machine.tick();
      for (const { path, messages, ...parcel } of desk.machine.ready().sends) {
        const bytes = (parcel as unknown as { bytes: number }).bytes;
        if (path === 'datagram') expect(bytes).toBeLessThanOrEqual(DATAGRAM_BUDGET_BYTES);
        else large += messages.filter(one => one.kind === 'alive' && one.record.agents.length > 0).length;
      }
    }
    expect(large).toBeGreaterThan(20);
  });
});

describe('pace', () => {
  it('allows each key once in a while, and all together at a rate', () => {
    const pace = new Pace<number>(1_000, 4);
    expect([1, 2, 3, 4, 5].map(key => pace.allows(key, 10_000))).toEqual([true, true, true, true, false]);
    expect(pace.allows(1, 10_500)).toBe(false);
    expect(pace.allows(5, 10_500)).toBe(true);
    expect(pace.allows(1, 11_000)).toBe(true);
  });
});
