import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Admission, admissionMemory, vacate } from '../../src/mqtt/admission.js';
import { PLACE, type Place } from '../../src/mqtt/transport.js';

const BUILT = new URL('../../dist/src/mqtt/admission.js', import.meta.url).href;

function threads(count: number, limits: { connectionsMax?: number; connectRatePerSecondMax?: number }) {
  const memory = admissionMemory(count);
  const clock = { nowNs: 5_000_000_000n };
  const whole = { connectionsMax: 10, connectRatePerSecondMax: 10, ...limits };
  const each = Array.from({ length: count }, (_, i) => new Admission(memory, i, whole, () => clock.nowNs, 2));
  return { memory, clock, each };
}

describe('places', () => {
  it('are counted for all threads together (property)', () => {
    const step = fc.record({ thread: fc.nat(2), takes: fc.boolean() });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8 }), fc.array(step, { maxLength: 80 }), (most, steps) => {
        const { each } = threads(3, { connectionsMax: most });
        const held: Place[][] = [[], [], []];
        for (const { thread, takes } of steps) {
          const seats = held.flat().filter(place => place === PLACE.SEAT).length;
          if (takes) {
            const place = each[thread]!.take();
            const refusals = held[thread]!.filter(other => other === PLACE.REFUSAL).length;
            expect(place).toBe(seats < most ? PLACE.SEAT : refusals < 2 ? PLACE.REFUSAL : PLACE.NONE);
            if (place !== PLACE.NONE) held[thread]!.push(place);
          } else if (held[thread]!.length > 0) each[thread]!.giveBack(held[thread]!.shift()!);
          expect(each[0]!.taken).toBe(held.flat().filter(place => place === PLACE.SEAT).length);
        }
      }),
    );
  });

  it('of a thread that died are free again', () => {
    const { memory, each } = threads(2, { connectionsMax: 3 });
    each[0]!.take();
    each[1]!.take();
    each[1]!.take();
    expect(each[0]!.take()).toBe(PLACE.REFUSAL);
    vacate(memory, 1);
    expect([each[0]!.take(), each[0]!.take(), each[0]!.take()]).toEqual([1, 1, 2]);
  });

  it('are never more than the limit, however many threads ask at once', async () => {
    const memory = admissionMemory(2);
    const source = `
      const { workerData: { memory, thread, built }, parentPort } = require('node:worker_threads');
      import(built).then(({ Admission }) => {
        const limits = { connectionsMax: 3, connectRatePerSecondMax: 1000 };
        const admission = new Admission(memory, thread, limits, process.hrtime.bigint);
        let most = 0;
        let seats = 0;
        for (let i = 0; i < 100_000; i++) {
          if (admission.take() === 1) seats++;
          most = Math.max(most, seats);
          if (i % 5 === 4) while (seats > 0) { admission.giveBack(1); seats--; }
        }
        let connects = 0;
        for (let i = 0; i < 100_000; i++) if (admission.takeConnect()) connects++;
        parentPort.postMessage({ most, connects });
      });`;
    const ends = await Promise.all(
      [0, 1].map(thread => {
        const worker = new Worker(source, { eval: true, workerData: { memory, thread, built: BUILT } });
        return new Promise<{ most: number; connects: number }>((done, fail) => {
          let said = { most: 0, connects: 0 };
          worker.once('message', message => {
            said = message;
          });
          worker.once('error', fail).once('exit', () => done(said));
        });
      }),
    );
    for (const { most } of ends) expect(most).toBeLessThanOrEqual(3);
    expect(new Admission(memory, 0, { connectionsMax: 1, connectRatePerSecondMax: 1 }, () => 0n).taken).toBe(
      0,
    );
    // A second's worth at once, and what a second or three of running brings.
    const connects = ends.reduce((sum, end) => sum + end.connects, 0);
    expect(connects).toBeGreaterThanOrEqual(1000);
    expect(connects).toBeLessThan(5000);
  });
});

describe('CONNECTs a second', () => {
  it('are shared by the threads as they come, a second’s worth at once', () => {
    const { each, clock } = threads(3, { connectRatePerSecondMax: 4 });
    const [first, second] = each as [Admission, Admission];
    expect([1, 2, 3, 4, 5].map(() => first.takeConnect())).toEqual([true, true, true, true, false]);
    expect(second.takeConnect()).toBe(false);
    clock.nowNs += 250_000_000n;
    expect(second.takeConnect()).toBe(true);
    expect(first.takeConnect()).toBe(false);
    clock.nowNs += 60_000_000_000n;
    expect([1, 2, 3, 4, 5].map(() => second.takeConnect())).toEqual([true, true, true, true, false]);
  });

  it('are let in where a thread’s part of them is less than one', () => {
    const { each, clock } = threads(8, { connectRatePerSecondMax: 1 });
    for (let second = 0; second < 5; second++) {
      expect(each.filter(thread => thread.takeConnect())).toHaveLength(1);
      clock.nowNs += 1_000_000_000n;
    }
  });
});
