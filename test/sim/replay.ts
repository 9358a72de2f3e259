import { expect } from 'vitest';
import type { Outcome } from './played.js';

const TRACE_LINES_SHOWN = 100;

/** Fails with what went wrong, the command that plays it again, and the end of the trace. `flags`: of that command. */
export function mustHold({ failure, trace }: Outcome, flags: string): void {
  if (failure === undefined) return;
  expect.fail([failure, `again: npm run sim -- ${flags}`, ...trace().slice(-TRACE_LINES_SHOWN)].join('\n'));
}

/** The seed decides a run to the last line of its trace. */
export function mustRepeat(play: (seed: number) => Outcome): void {
  const lines = (seed: number) => play(seed).trace();
  expect(lines(3)).toEqual(lines(3));
  expect(lines(3)).not.toEqual(lines(4));
}
