import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AssertionError } from '../../src/base/assert.js';
import { Backlog } from '../../src/shard/backlog.js';

describe('backlog', () => {
  it('is a queue of any sizes', () => {
    const length = fc.oneof(fc.nat(50), fc.integer({ min: 60_000, max: 70_000 }), fc.nat(200_000));
    const step = fc.oneof(fc.record({ append: length }), fc.record({ shifts: fc.nat(6) }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), script => {
        const backlog = new Backlog();
        const expected: Buffer[] = [];
        let seq = 0;
        for (const action of script) {
          if ('append' in action) {
            const bytes = Buffer.alloc(action.append + 2, ++seq);
            backlog.append(bytes, 1, 1 + action.append);
            expected.push(bytes.subarray(1, 1 + action.append));
          } else {
            for (let i = 0; i < action.shifts && backlog.frames > 0; i++) {
              expect(expected.shift()!.compare(backlog.bytes, backlog.start, backlog.end)).toBe(0);
              backlog.shift();
            }
          }
          expect(backlog.frames).toBe(expected.length);
          expect(backlog.depthBytes).toBe(expected.reduce((sum, bytes) => sum + bytes.length + 4, 0));
        }
      }),
      { numRuns: 100 },
    );
  });

  it('keeps order over very many chunks', () => {
    const backlog = new Backlog();
    const bytes = Buffer.alloc(1000);
    for (let seq = 0; seq < 20_000; seq++) {
      bytes.writeUInt32LE(seq);
      backlog.append(bytes, 0, 1000);
    }
    for (let seq = 0; seq < 20_000; seq++) {
      if (backlog.bytes.readUInt32LE(backlog.start) !== seq) expect.fail(`frame ${seq} is out of order`);
      backlog.shift();
    }
    expect(backlog.depthBytes).toBe(0);
    expect(() => backlog.shift()).toThrow(AssertionError);
  });
});
