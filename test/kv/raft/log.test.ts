import { describe, expect, it } from 'vitest';
import { RaftLog } from '../../../src/kv/raft/log.js';
import { ENTRY, type Entry } from '../../../src/kv/raft/ready.js';
import { ENTRY_OVERHEAD_BYTES } from '../../../src/kv/raft/settings.js';
import { MemoryLog } from './stored-log.js';

const FIRST = { voters: [1], outgoing: [], learners: [] };

function command(index: number, term = 1, bytes = 8): Entry {
  return { index, term, kind: ENTRY.COMMAND, session: 0, sequence: 0, data: new Uint8Array(bytes) };
}

function filled(count: number): { stored: MemoryLog; log: RaftLog } {
  const stored = new MemoryLog(FIRST);
  const log = new RaftLog(stored);
  for (let i = 1; i <= count; i++) log.append(command(i));
  return { stored, log };
}

function writeAll(stored: MemoryLog, log: RaftLog): void {
  stored.write(log.handOut());
  log.durableIndex = log.lastIndex;
}

describe('RaftLog', () => {
  it('never takes back what is committed', () => {
    const { log } = filled(3);
    log.commitIndex = 2;
    expect(() => log.accept(1, 1, [command(2, 2)])).toThrow('never taken back');
    expect(log.accept(2, 1, [command(3, 2)])).toBe(true);
    expect(log.lastTerm).toBe(2);
  });

  it('has no gap, and terms that only grow', () => {
    const { log } = filled(2);
    expect(() => log.append(command(4))).toThrow('no gap');
    expect(() => log.append(command(3, 0))).toThrow('only grow');
  });

  it('gives out each entry once to be stored, and again from where it was cut off', () => {
    const { log } = filled(3);
    expect(log.handOut().map(({ index }) => index)).toEqual([1, 2, 3]);
    expect(log.handOut()).toEqual([]);
    log.accept(1, 1, [command(2, 2)]);
    expect(log.handOut().map(({ index, term }) => [index, term])).toEqual([[2, 2]]);
    expect(log.takeTruncation()).toBe(2);
    expect(log.takeTruncation()).toBe(Number.POSITIVE_INFINITY);
  });

  it('gives out what may be applied by the bytes, at least one', () => {
    const { log } = filled(5);
    const bytes = 2 * (ENTRY_OVERHEAD_BYTES + 8);
    expect(log.handOutApplicable(5, bytes)).toHaveLength(2);
    expect(log.handOutApplicable(5, 1)).toHaveLength(1);
    expect(log.handOutApplicable(4, bytes)).toHaveLength(1);
    expect(log.handOutApplicable(4, bytes)).toHaveLength(0);
  });

  it('keeps in memory what followers need, up to a limit', () => {
    const { stored, log } = filled(10);
    writeAll(stored, log);
    log.trim(10, 0);
    // Nothing is applied yet.
    expect(log.bytesBetween(1, 10)).toBe(10 * (ENTRY_OVERHEAD_BYTES + 8));
    log.handOutApplicable(8, 1e9);
    log.trim(5, 1e9);
    expect(log.bytesBetween(1, 10)).toBe(5 * (ENTRY_OVERHEAD_BYTES + 8));
    log.trim(5, 3 * (ENTRY_OVERHEAD_BYTES + 8));
    expect(log.bytesBetween(1, 10)).toBe(3 * (ENTRY_OVERHEAD_BYTES + 8));
    log.trim(5, 0);
    expect(log.bytesBetween(1, 10)).toBe(2 * (ENTRY_OVERHEAD_BYTES + 8));
    // Part from the store, part from memory, in one.
    expect(log.entries(3, 10, 1e9).map(({ index }) => index)).toEqual([3, 4, 5, 6, 7, 8, 9, 10]);
  });

  it('starts again behind a state that was received', () => {
    const { stored, log } = filled(3);
    writeAll(stored, log);
    const configuration = { voters: [4], outgoing: [], learners: [] };
    log.restore({ index: 7, term: 2, configuration });
    expect([log.lastIndex, log.lastTerm, log.commitIndex, log.durableIndex]).toEqual([7, 2, 7, 0]);
    expect(log.term(7)).toBe(2);
    expect(log.term(3)).toBeUndefined();
    expect(log.configurations.current).toEqual(configuration);
    expect(log.takeTruncation()).toBe(1);
    log.append(command(8, 2));
    expect(log.handOut().map(({ index }) => index)).toEqual([8]);
    expect(() => log.restore({ index: 7, term: 2, configuration })).toThrow('forward');
  });

  it('forgets only what is applied', () => {
    const { stored, log } = filled(3);
    writeAll(stored, log);
    expect(() => log.compact(1)).toThrow('applied');
  });
});
