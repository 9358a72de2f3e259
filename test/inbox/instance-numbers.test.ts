import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteReader, ByteWriter } from '../../src/base/bytes.js';
import { InstanceNumbers } from '../../src/inbox/instance-numbers.js';

const BASE = 2 ** 36;
const ALL = Number.MAX_SAFE_INTEGER - BASE - 1;

function stored(numbers: InstanceNumbers): InstanceNumbers {
  const record = numbers.write(new ByteWriter(64)).copy();
  const again = InstanceNumbers.read(new ByteReader(record));
  expect(again.write(new ByteWriter(64)).copy()).toEqual(record);
  return again;
}

describe('instance numbers', () => {
  it('go on behind those of a range of the time when it could not be divided', () => {
    const numbers = InstanceNumbers.read(new ByteReader(new ByteWriter(8).u53(41).copy()));
    expect([numbers.take(), numbers.take()]).toEqual([BASE + 42, BASE + 43]);
    expect(numbers.write(new ByteWriter(8)).copy()).toEqual(new ByteWriter(8).u53(43).copy());
    expect(InstanceNumbers.read(undefined).take()).toBe(BASE + 1);
  });

  it('are never given twice, by whichever range, and none is lost as long as there are few spans', () => {
    const step = fc.record({
      kind: fc.constantFrom('take', 'take', 'divide', 'absorb', 'store'),
      at: fc.nat(),
      other: fc.nat(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), steps => {
        const ranges = [InstanceNumbers.read(undefined)];
        const given = new Set<number>();
        let taken = 0;
        for (const { kind, at, other } of steps) {
          const index = at % ranges.length;
          const range = ranges[index]!;
          if (kind === 'take') {
            given.add(range.take());
            taken++;
          } else if (kind === 'divide' && ranges.length < 8) ranges.push(range.divide());
          else if (kind === 'absorb' && ranges.length > 1) {
            ranges.splice(index, 1);
            ranges[other % ranges.length]!.absorb(range);
          } else if (kind === 'store') ranges[index] = stored(range);
          expect(given.size).toBe(taken);
        }
        expect(ranges.reduce((sum, { left }) => sum + left, 0)).toBe(ALL - taken);
      }),
    );
  });

  it('allow 25 divisions one of another, and more where they are joined in between', () => {
    let numbers = InstanceNumbers.read(undefined);
    const former: InstanceNumbers[] = [];
    for (; numbers.canDivide; former.push(numbers)) numbers = numbers.divide();
    expect(former.length).toBe(24);
    expect(numbers.left).toBeGreaterThan(2 ** 28);
    former[0]!.absorb(numbers);
    expect(former[0]!.canDivide).toBe(true);
  });

  it('are in few spans, of which the largest are kept', () => {
    const whole = InstanceNumbers.read(undefined);
    const parts: InstanceNumbers[] = [];
    for (let i = 0; i < 40; i++) parts.push(whole.divide());
    const union = InstanceNumbers.read(new ByteReader(new ByteWriter(16).u53(0).u8(0).copy()));
    // Every second: none touches another.
    for (let i = 0; i < parts.length; i += 2) union.absorb(parts[i]!);
    expect(union.write(new ByteWriter(64)).length).toBe(9 + 16 * 16);
    const largest = [];
    for (let i = 0; i < 32; i += 2) largest.push(parts[i]!.left);
    expect(union.left).toBe(largest.reduce((sum, left) => sum + left, 0));
  });
});
