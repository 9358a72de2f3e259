import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeadlineHeap, type Timed } from '../../src/underlay/deadline-heap.js';
import { IdTable } from '../../src/underlay/id-table.js';
import type { Message } from '../../src/underlay/message.js';
import { decodeRecord, encodeRecord } from '../../src/underlay/record-bytes.js';
import { Rumours, tellingsMax } from '../../src/underlay/rumours.js';
import { SortedIds } from '../../src/underlay/sorted-ids.js';
import { record } from './desk.js';

/** Few low ones, so that they meet, and some of any size. */
const id = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 2 ** 53 - 1 }));

describe('a table of hosts', () => {
  it('is a map', () => {
    const order = fc.tuple(fc.constantFrom('set', 'set', 'delete'), id);
    fc.assert(
      fc.property(fc.array(order, { maxLength: 400 }), orders => {
        const table = new IdTable<number>();
        const model = new Map<number, number>();
        orders.forEach(([what, key], at) => {
          if (what === 'set') {
            table.set(key, at);
            model.set(key, at);
          } else expect(table.delete(key)).toBe(model.delete(key));
          expect(table.size).toBe(model.size);
        });
        for (const [, key] of orders) expect(table.get(key)).toBe(model.get(key));
      }),
    );
  });
});

describe('a heap of deadlines', () => {
  it('gives what is due, the first first, however deadlines move', () => {
    const order = fc.tuple(
      fc.constantFrom('set', 'set', 'delete', 'take', 'postpone'),
      fc.nat(9),
      fc.nat(100),
    );
    fc.assert(
      fc.property(fc.array(order, { maxLength: 100 }), orders => {
        const heap = new DeadlineHeap<Timed>();
        const items: Timed[] = Array.from({ length: 10 }, () => ({ dueMs: 0, heapIndex: -1 }));
        const model = new Map<Timed, number>();
        for (const [what, at, ms] of orders) {
          const item = items[at]!;
          if (what === 'set') {
            heap.set(item, ms);
            model.set(item, ms);
          } else if (what === 'delete') {
            heap.delete(item);
            model.delete(item);
          } else if (what === 'postpone') {
            heap.postpone(at);
            for (const [one, dueMs] of model) model.set(one, dueMs + at);
          } else {
            const due = heap.takeDue(ms);
            const firstMs = Math.min(...model.values());
            if (due === undefined) expect(firstMs).toBeGreaterThan(ms);
            else {
              expect(model.get(due)).toBe(firstMs);
              model.delete(due);
            }
          }
          expect(heap.size).toBe(model.size);
          expect(heap.firstMs).toBe(Math.min(...model.values()));
        }
      }),
    );
  });
});

describe('ids in order', () => {
  it('stay so, each once', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat(30)), { maxLength: 100 }), orders => {
        const sorted = new SortedIds();
        const model = new Set<number>();
        for (const [isAdded, key] of orders) {
          if (isAdded) {
            sorted.add(key);
            model.add(key);
          } else {
            sorted.delete(key);
            model.delete(key);
          }
        }
        expect(sorted.ids).toEqual([...model].sort((a, b) => a - b));
      }),
    );
  });
});

describe('rumours', () => {
  const gone = (about: number) =>
    ({ kind: 'gone', id: about, incarnation: 0, reason: 'failed', by: 1 }) as const;
  const taken = (rumours: Rumours, bytes: number) => {
    const out: Message[] = [];
    rumours.take(99, bytes, 10, out);
    return out.map(message => (message as { id: number }).id);
  };

  it('are told a number of times that grows with the logarithm of the size', () => {
    expect([2, 9, 10, 99, 100, 1_000].map(tellingsMax)).toEqual([4, 4, 8, 8, 12, 16]);
    const rumours = new Rumours();
    rumours.add(5, gone(5), 10, false);
    for (let told = 0; told < 8; told++) expect(taken(rumours, 1_000)).toEqual([5]);
    expect(taken(rumours, 1_000)).toEqual([]);
    expect(rumours.size).toBe(0);
  });

  it('told least come first, and newer ones about the same host replace older ones', () => {
    const rumours = new Rumours();
    for (const about of [5, 6, 7]) rumours.add(about, gone(about), 10, false);
    expect(taken(rumours, 80)).toEqual([5, 6]);
    expect(taken(rumours, 80)).toEqual([7, 5]);
    rumours.add(5, gone(5), 10, false);
    expect(taken(rumours, 40)).toEqual([5]);
    expect(rumours.size).toBe(3);
  });

  it('are not told to a host about its own life, but about its death they are', () => {
    const rumours = new Rumours();
    rumours.add(2, { kind: 'alive', record: record('b') }, 10, false);
    const out: Message[] = [];
    rumours.take(2, 1_000, 10, out);
    expect(out).toEqual([]);
    rumours.add(2, gone(2), 10, false);
    rumours.take(2, 1_000, 10, out);
    expect(out).toHaveLength(1);
  });

  it('lose interest when many tell them', () => {
    const rumours = new Rumours();
    for (let about = 1; about <= 40; about++) rumours.add(about, gone(about), 1_000, false);
    for (let heard = 0; heard < 3; heard++) {
      expect(rumours.has(1)).toBe(true);
      rumours.heardAgain(1, 1_000);
    }
    expect(rumours.has(1)).toBe(false);
  });
});

describe('a record in the host map', () => {
  it('comes back as it was, and nothing else is one', () => {
    const whole = record('b', { agents: ['x', 'y'], incarnation: 3 });
    const bytes = encodeRecord(whole);
    expect(decodeRecord(bytes)).toBe(whole);
    expect(decodeRecord(Uint8Array.from(bytes))).toEqual(whole);
    expect(decodeRecord(bytes.subarray(0, 20))).toBeUndefined();
    expect(decodeRecord(encodeRecord(record('b', { address: '' })))).toBeUndefined();
  });
});
