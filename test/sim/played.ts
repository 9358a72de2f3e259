import type { Figure } from './underlay-story.js';
import type { World } from './world.js';

export interface Outcome {
  readonly figures: readonly Figure[];
  /** Why it failed, in words; undefined when all holds. */
  readonly failure: string | undefined;
  readonly trace: () => readonly string[];
  readonly virtualMs: number;
}

/** Plays a story to its end or its first failure, be it of a checker or an assertion in the product. */
export function played(time: World, live: () => readonly Figure[]): Outcome {
  const outcome = (figures: readonly Figure[], failure: string | undefined): Outcome => ({
    figures,
    failure,
    trace: () => time.trace.lines(),
    virtualMs: time.nowMs,
  });
  try {
    return outcome(live(), undefined);
  } catch (error) {
    const isCheck = error instanceof Error && error.name === 'CheckFailure';
    return outcome([], isCheck ? error.message : error instanceof Error ? error.stack : String(error));
  }
}
