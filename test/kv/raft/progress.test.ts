import { describe, expect, it } from 'vitest';
import { FEED, Progress } from '../../../src/kv/raft/progress.js';
import { RAFT_LIMITS } from '../../../src/kv/raft/settings.js';

const limits = { ...RAFT_LIMITS, windowMessagesMax: 2, windowBytesMax: 100 };

function replicating(): Progress {
  const progress = new Progress(2, 11, 0);
  progress.matched(10);
  progress.replicate();
  return progress;
}

describe('Progress', () => {
  it('asks one question at a time while it probes', () => {
    const progress = new Progress(2, 11, 0);
    expect(progress.isPaused(limits)).toBe(false);
    progress.sent(12, 50, 0);
    expect(progress.isPaused(limits)).toBe(true);
    expect(progress.next).toBe(11);
    expect(progress.rejected(10, 4)).toBe(true);
    expect([progress.next, progress.isPaused(limits)]).toEqual([5, false]);
  });

  it('believes no answer to an older question', () => {
    const progress = new Progress(2, 11, 0);
    progress.rejected(10, 4);
    expect(progress.rejected(10, 2)).toBe(false);
    expect(progress.next).toBe(5);
    progress.matched(4);
    progress.replicate();
    expect(progress.rejected(3, 1)).toBe(false);
    expect(progress.next).toBe(5);
  });

  it('never goes below what is known to match', () => {
    const progress = replicating();
    progress.sent(12, 1, 0);
    expect(progress.rejected(12, 3)).toBe(true);
    expect([progress.feed, progress.next, progress.windowMessages]).toEqual([FEED.PROBE, 11, 0]);
  });

  it('has a window of messages and of bytes, which answers make free', () => {
    const progress = replicating();
    progress.sent(11, 10, 0);
    progress.sent(12, 10, 0);
    expect([progress.isPaused(limits), progress.next]).toEqual([true, 13]);
    expect(progress.matched(11)).toBe(true);
    expect([progress.isPaused(limits), progress.windowBytes]).toEqual([false, 10]);
    progress.sent(13, 90, 0);
    expect(progress.isPaused({ ...limits, windowMessagesMax: 9 })).toBe(true);
    expect(progress.matched(11)).toBe(false);
    progress.matched(13);
    expect([progress.windowMessages, progress.windowBytes]).toEqual([0, 0]);
  });

  it('keeps a window of thousands in order', () => {
    const progress = replicating();
    for (let i = 11; i <= 2_000; i++) {
      progress.sent(i, 1, 0);
      if (i > 80) progress.matched(i - 70);
    }
    expect([progress.windowMessages, progress.windowBytes, progress.match]).toEqual([70, 70, 1_930]);
  });

  it('sends nothing while the state is under way', () => {
    const progress = replicating();
    progress.sent(11, 1, 0);
    progress.awaitSnapshot();
    expect([progress.isPaused(limits), progress.windowMessages]).toEqual([true, 0]);
    expect(progress.rejected(11, 3)).toBe(false);
  });
});
