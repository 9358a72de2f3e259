import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ReceiveMemory, sameWords } from '../../src/mqtt/receive-memory.js';

/** A read, and where it was put. */
interface Taken {
  readonly bytes: Buffer;
  readonly start: number;
  readonly text: Buffer;
}

let fills = 0;

function take(memory: ReceiveMemory, length: number): Taken {
  const text = Buffer.alloc(length, (fills = (fills + 1) % 251));
  const start = memory.take(Buffer.concat([text, Buffer.from('behind')]), length);
  return { bytes: memory.bytes, start, text };
}

function isIntact({ bytes, start, text }: Taken): boolean {
  return bytes.subarray(start, start + text.length).equals(text);
}

describe('receive memory', () => {
  it('puts what comes in a turn in a row, and begins anew in the next', () => {
    const memory = new ReceiveMemory();
    const first = [take(memory, 10), take(memory, 500), take(memory, 0), take(memory, 40)];
    expect(first.map(({ start }) => start)).toEqual([0, 10, 510, 510]);
    expect(first.every(isIntact)).toBe(true);
    memory.endTurn();
    const next = take(memory, 10);
    expect(next.bytes === first[0]!.bytes).toBe(true);
    expect(next.start).toBe(0);
  });

  it('goes on behind what is kept', () => {
    const memory = new ReceiveMemory();
    const kept = take(memory, 100);
    memory.keep();
    const later = take(memory, 50);
    memory.endTurn();
    expect(take(memory, 1).start).toBe(150);
    memory.endTurn();
    expect(take(memory, 1).start).toBe(150);
    expect(isIntact(kept) && isIntact(later)).toBe(true);
  });

  it('keeps for a write that is not done, if it is of this memory', () => {
    const memory = new ReceiveMemory();
    const sent = take(memory, 100);
    memory.pin(Buffer.from('elsewhere'));
    memory.endTurn();
    expect(take(memory, 100).start).toBe(0);
    memory.pin(sent.bytes.subarray(20, 30));
    memory.endTurn();
    expect(take(memory, 1).start).toBe(100);
  });

  it('uses the slabs of a busy turn again, in bounds', () => {
    const memory = new ReceiveMemory();
    const seen = new Set<Buffer>();
    for (let turn = 0; turn < 5; turn++) {
      for (let i = 0; i < 16; i++) seen.add(take(memory, 100_000).bytes); // two a slab
      memory.endTurn();
    }
    expect(seen.size).toBe(8);
    for (let i = 0; i < 64; i++) seen.add(take(memory, 100_000).bytes);
    memory.endTurn();
    expect(seen.size).toBe(32);
    for (let i = 0; i < 64; i++) seen.add(take(memory, 100_000).bytes);
    expect(seen.size).toBe(32 + 24); // of 32 no more than eight were left
  });

  it('never writes over what was kept, or came in the same turn', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('take' as const), length: fc.nat(100_000) }),
      fc.record({ kind: fc.constantFrom('keep' as const, 'pin' as const, 'end' as const), length: fc.nat() }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), steps => {
        const memory = new ReceiveMemory();
        const kept: Taken[] = [];
        let turn: Taken[] = [];
        let isKept = false;
        for (const { kind, length } of steps) {
          if (kind === 'take') turn.push(take(memory, length));
          else if (kind === 'keep') {
            memory.keep();
            isKept = true;
          } else if (kind === 'pin' && turn.length > 0) {
            const { bytes, start } = turn[length % turn.length]!;
            memory.pin(bytes.subarray(start, start + 1));
            isKept = true;
          } else if (kind === 'end') {
            memory.endTurn();
            if (isKept) kept.push(...turn);
            turn = [];
            isKept = false;
          }
          if (![...kept, ...turn].every(isIntact)) return false;
        }
        return true;
      }),
      { numRuns: 60 },
    );
  });

  it('has another page when what lay there may be written over', () => {
    const memory = new ReceiveMemory();
    const pages = [memory.page];
    memory.endTurn();
    pages.push(memory.page);
    for (let i = 0; i < 3; i++) take(memory, 100_000);
    pages.push(memory.page);
    memory.endTurn();
    pages.push(memory.page);
    expect(new Set(pages).size).toBe(4);
  });

  it('compares words as bytes would be', () => {
    const text = fc.uint8Array({ minLength: 4, maxLength: 40 });
    fc.assert(
      fc.property(text, fc.nat(200), fc.nat(39), fc.nat(255), (name, gap, at, byte) => {
        const memory = new ReceiveMemory();
        const other = Uint8Array.from(name);
        other[at % name.length] = byte;
        const a = memory.take(name, name.length);
        memory.take(Buffer.alloc(gap), gap);
        const b = memory.take(other, name.length);
        expect(sameWords(memory.words, a, b, name.length)).toBe(Buffer.from(name).equals(other));
      }),
    );
  });
});
